// SPDX-License-Identifier: Apache-2.0
//! Errors of a protocol plugin. Each has a `reason()`: short, fixed, a metric label and a log field.

/// The byte stream is not this protocol any more. Close the connection: the next frame cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame does not start as the protocol demands.
    #[error("{protocol} frame starts with {found:02x?}; is another protocol spoken on this port?")]
    Magic {
        /// The plugin's name.
        protocol: &'static str,
        /// The first bytes seen.
        found: [u8; 4],
    },
    /// A field of the head has a value that no peer sends.
    #[error("{protocol} head has {field} {value:#x}, which no peer sends")]
    Head {
        /// The plugin's name.
        protocol: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A frame whose checksum is that of other bytes.
    #[error("{protocol} frame has checksum {found:#010x}, its bytes have {computed:#010x}; it was damaged on the way")]
    Checksum {
        /// The plugin's name.
        protocol: &'static str,
        /// What the frame says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A frame in another dialect than the connection's first one, see `Protocol::dialect`.
    #[error("{protocol} connection began in dialect {first} and goes on in {found}; one connection takes one version")]
    Mixed {
        /// The plugin's name.
        protocol: &'static str,
        /// Dialect of the first frame.
        first: u8,
        /// Dialect of this one.
        found: u8,
    },
    /// A length that must not be buffered and cannot be skipped either.
    #[error("{protocol} frame of {announced} bytes is over the limit of {max} and cannot be skipped")]
    TooLong {
        /// The plugin's name.
        protocol: &'static str,
        /// Bytes that the head announced.
        announced: u64,
        /// The limit in bytes.
        max: u64,
    },
}

impl DecodeError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "bad_magic",
            Self::Head { .. } => "bad_head",
            Self::Checksum { .. } => "bad_checksum",
            Self::Mixed { .. } => "mixed_dialects",
            Self::TooLong { .. } => "too_long",
        }
    }
}

/// The route keys of a well-framed request could not be read. The connection stays: frame boundaries come from the head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteKeysError {
    /// The body is in a serialization whose strings the plugin cannot find. A route with a single candidate still works.
    #[error("body is {serialization}, whose service name cannot be read")]
    Opaque {
        /// Name or number of the serialization.
        serialization: &'static str,
        /// As `RouteKeys::pins_connection`, as far as it can be told without reading the body by its grammar.
        pins_connection: bool,
    },
    /// The body breaks the rules of its own serialization or a hard limit.
    #[error("request is malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in what `what` names, else in the body; in bytes.
        at: usize,
        /// What was expected or which limit was passed.
        what: &'static str,
    },
}

impl RouteKeysError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Opaque { .. } => "opaque_body",
            Self::Malformed { .. } => "malformed_body",
        }
    }
}
