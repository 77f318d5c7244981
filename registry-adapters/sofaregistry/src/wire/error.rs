// SPDX-License-Identifier: Apache-2.0
//! Why a message could not be read.

use remora_hessian2::WalkError;

/// A frame's content is no message that we know, or breaks a limit. The frame itself is whole: the connection can go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`Limits::max_content_bytes`](super::Limits::max_content_bytes); nothing was read.
    #[error("{class} of {len} bytes is over the limit of {max}")]
    TooLong {
        /// What the frame says it is.
        class: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Not one of the classes that registry clients and session servers exchange.
    #[error("class {class:?} is none that a SOFARegistry client and a session server exchange")]
    UnknownClass {
        /// Its name, cut to 100 characters.
        class: String,
    },
    /// The content is not hessian as SOFA writes it, or breaks a limit of its own.
    #[error("{class} cannot be read: {error}")]
    Hessian {
        /// What the frame says it is.
        class: &'static str,
        /// What is wrong with it.
        error: WalkError,
    },
    /// The content is something else than one object of the frame's class.
    #[error("the content of {class} is not one object of that class")]
    NotThatClass {
        /// What the frame says it is.
        class: &'static str,
    },
    /// A field holds another kind of value.
    #[error("field {field} of {class} is not {wanted}")]
    Field {
        /// Class of the message.
        class: &'static str,
        /// Name of the field.
        field: &'static str,
        /// What it should be: "a string".
        wanted: &'static str,
    },
    /// Values that are referred to again and again would take more memory than the content explains.
    #[error("{class} repeats what is in it beyond {max} {what}")]
    Repeats {
        /// Class of the message.
        class: &'static str,
        /// Of what there is too much: "values", "bytes".
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

impl WireError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::UnknownClass { .. } => "unknown_class",
            Self::Hessian { error, .. } => error.reason(),
            Self::NotThatClass { .. } => "not_that_class",
            Self::Field { .. } => "wrong_kind",
            Self::Repeats { .. } => "repeats",
        }
    }
}
