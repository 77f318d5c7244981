// SPDX-License-Identifier: Apache-2.0
//! Why a body could not be walked.
//!
//! Not here: errors of the encoder and of the splice, which stand beside their functions.

/// A body breaks the rules of its dialect, or a hard limit of [`Limits`](crate::Limits).
///
/// Every variant says at which byte of the body (`at`, counted from 0). A frame whose body fails here is still a whole
/// frame: forward it unchanged if nothing in it was needed, or answer with an error; the connection need not close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The body is over although a value has begun, or none has where one was asked for.
    #[error("body ends at byte {at} although {wanted} more were announced")]
    EndOfBody {
        /// Offset at which bytes are missing.
        at: usize,
        /// How many more bytes were needed there, at least.
        wanted: usize,
    },
    /// A byte that starts no value in this dialect, or an end marker where a value must stand.
    #[error("byte {at} is {lead:#04x}, which starts no value here; is the body in another dialect?")]
    UnusedLead {
        /// Offset of the lead byte.
        at: usize,
        /// The lead byte.
        lead: u8,
    },
    /// The value is of another kind than the caller asked for.
    #[error("value at byte {at} starts with {lead:#04x}, which is not {wanted}")]
    Kind {
        /// Offset of the value.
        at: usize,
        /// The kind asked for: "a string", "a map", "an int".
        wanted: &'static str,
        /// The lead byte found.
        lead: u8,
    },
    /// A byte inside a string that starts no character.
    #[error("byte {at} inside a string is {byte:#04x}, which starts no character")]
    BadText {
        /// Offset of the byte.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A count, length or index that is negative or larger than what the rest of the body can hold.
    #[error("count {count} at byte {at} does not fit into the {left} bytes that are left")]
    BadCount {
        /// Offset of the value that carries the count.
        at: usize,
        /// The count.
        count: i64,
        /// Bytes left in the body.
        left: usize,
    },
    /// An object of a class that was not defined before it.
    #[error("object at byte {at} is of class {index}, but only {defined} classes were defined before it")]
    UnknownClass {
        /// Offset of the object.
        at: usize,
        /// Index that the object names.
        index: i64,
        /// Classes defined so far.
        defined: usize,
    },
    /// A reference to a value or a type that did not occur before it. Seen by `decode` only: a walk keeps no tables of them.
    #[error("byte {at} refers to {what} {index}, but only {defined} occurred before it")]
    UnknownRef {
        /// Offset of the reference.
        at: usize,
        /// What it refers to: "value", "type".
        what: &'static str,
        /// The index.
        index: u32,
        /// How many there are.
        defined: usize,
    },
    /// Values nest deeper than [`Limits::max_depth`](crate::Limits::max_depth).
    #[error("values nest deeper than {max} at byte {at}")]
    TooDeep {
        /// Offset of the value that is one too deep.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// More of something than [`Limits`](crate::Limits) allows in one body.
    #[error("more than {max} {what} at byte {at}")]
    TooMany {
        /// Offset where the limit was passed.
        at: usize,
        /// What there is too much of: "classes", "values", "chunks", "bytes", "decoded bytes".
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

impl WalkError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::EndOfBody { .. } => "end_of_body",
            Self::UnusedLead { .. } => "unused_lead",
            Self::Kind { .. } => "wrong_kind",
            Self::BadText { .. } => "bad_text",
            Self::BadCount { .. } => "bad_count",
            Self::UnknownClass { .. } => "unknown_class",
            Self::UnknownRef { .. } => "unknown_ref",
            Self::TooDeep { .. } => "too_deep",
            Self::TooMany { .. } => "too_many",
        }
    }

    /// Offset in the body at which the rule was broken, in bytes.
    pub fn at(&self) -> usize {
        match *self {
            Self::EndOfBody { at, .. }
            | Self::UnusedLead { at, .. }
            | Self::Kind { at, .. }
            | Self::BadText { at, .. }
            | Self::BadCount { at, .. }
            | Self::UnknownClass { at, .. }
            | Self::UnknownRef { at, .. }
            | Self::TooDeep { at, .. }
            | Self::TooMany { at, .. } => at,
        }
    }
}
