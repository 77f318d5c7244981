// SPDX-License-Identifier: Apache-2.0
//! Whole calls in hessian2 with strings for arguments and result: what `remora demo`, tests and Remora's own questions to
//! a provider need. Source: `DubboCodec` and the captures in `testbed/golden/dubbo/`.
//! Not here: calls with other values.

use std::time::Duration;

use remora_hessian2::{Body, Dialect, Encoder, Limits, Value, Walk, WalkError, argument_count, decode};
use remora_protocol::{Bytes, Frame, FrameKind, StreamId};

use crate::head::{self, FLAG_REQUEST, FLAG_TWO_WAY, Head};
use crate::serialization as id;
use crate::status;

/// A call to make.
#[derive(Clone, Debug, Default)]
pub struct StringCall<'a> {
    /// Interface name, such as `com.example.EchoService`.
    pub service: &'a str,
    /// Group; empty if none.
    pub group: &'a str,
    /// Version; empty if none.
    pub version: &'a str,
    /// Method. All its parameters are of type `java.lang.String`.
    pub method: &'a str,
    /// The arguments.
    pub arguments: &'a [&'a str],
    /// How long the caller waits; sent along if given.
    pub timeout: Option<Duration>,
    /// The calling application; sent along if not empty.
    pub application: &'a str,
}

impl StringCall<'_> {
    /// The request, as a Dubbo 2.7 or 3 consumer would send it.
    pub fn to_request(&self, id: StreamId) -> Bytes {
        let version = if self.version.is_empty() { "0.0.0" } else { self.version };
        let mut body = Encoder::default();
        body.string(PROTOCOL_VERSION)
            .string(self.service)
            .string(version)
            .string(self.method);
        body.string(&"Ljava/lang/String;".repeat(self.arguments.len()));
        for argument in self.arguments {
            body.string(argument);
        }
        body.map_begin(None);
        body.string("path")
            .string(self.service)
            .string("interface")
            .string(self.service);
        body.string("version").string(version);
        if !self.group.is_empty() {
            body.string("group").string(self.group);
        }
        if let Some(timeout) = self.timeout {
            body.string("timeout").string(&timeout.as_millis().to_string());
        }
        if !self.application.is_empty() {
            body.string("remote.application").string(self.application);
        }
        body.end();
        head::frame(FLAG_REQUEST | FLAG_TWO_WAY | id::HESSIAN2, 0, id, &body.finish())
    }
}

/// The arguments of a request, which must all be strings.
///
/// # Errors
/// `Unfit` for a frame that is no request in hessian2 with strings only, `Body` if its body is broken.
pub fn string_arguments(request: &Frame) -> Result<Vec<String>, CallError> {
    if !matches!(request.kind, FrameKind::Request | FrameKind::Oneway) || !is_hessian2(request) {
        return Err(CallError::Unfit {
            wanted: "a request in hessian2",
        });
    }
    let mut walk = Walk::new(request.body());
    walk.skip_many(4)?;
    let descriptor = walk.string()?;
    let count = argument_count(&descriptor.as_str()).map_err(|_| CallError::Unfit {
        wanted: "parameter types",
    })?;
    (0..count)
        .map(|_| match walk.string() {
            Ok(text) => Ok(text.as_str().into_owned()),
            Err(WalkError::Kind { .. }) => Err(CallError::Unfit {
                wanted: "an argument that is a string",
            }),
            Err(error) => Err(error.into()),
        })
        .collect()
}

/// A reply that carries a string. `None` for frames that get no reply, or are in another serialization than hessian2.
pub fn string_reply(request: &Frame, value: &str) -> Option<Bytes> {
    reply(request, 1, |body| _ = body.string(value))
}

/// A reply that carries null. `None` as for [`string_reply`].
pub fn null_reply(request: &Frame) -> Option<Bytes> {
    reply(request, 2, |_| {})
}

/// A reply in which the application throws `java.lang.RuntimeException`. `None` as for [`string_reply`].
pub fn exception_reply(request: &Frame, message: &str) -> Option<Bytes> {
    reply(request, 0, |body| {
        body.object_begin("java.lang.RuntimeException", &["detailMessage"]);
        body.string(message).end();
    })
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It returned a string, or null.
    Returned(Option<String>),
    /// The application threw.
    Threw {
        /// Class of the exception.
        class: String,
        /// Its message; empty if none.
        message: String,
    },
    /// It was not made, or its answer got lost.
    Failed {
        /// The status of the reply.
        status: u8,
        /// The text of the reply.
        message: String,
    },
}

/// Reads a reply in hessian2.
///
/// # Errors
/// `Unfit` for a frame that is no reply in hessian2 or carries neither a string nor null, `Body` if its body is broken.
pub fn answer(reply: &Frame) -> Result<Answer, CallError> {
    match open(reply)? {
        Opened::Failed { status, message } => Ok(Answer::Failed { status, message }),
        Opened::Threw { class, message } => Ok(Answer::Threw { class, message }),
        Opened::Null => Ok(Answer::Returned(None)),
        Opened::Value(body) => match body.values.get(1).map(Value::as_text) {
            Some(Some(text)) => Ok(Answer::Returned(Some(text.as_str().into_owned()))),
            _ => Err(CallError::Unfit {
                wanted: "a result that is a string",
            }),
        },
    }
}

/// A frame could not be read as a call or its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The frame is something else.
    #[error("frame does not hold {wanted}")]
    Unfit {
        /// What was looked for.
        wanted: &'static str,
    },
    /// The body breaks the rules of hessian2.
    #[error("body is malformed: {0}")]
    Body(#[from] WalkError),
    /// The provider answered with an error.
    #[error("provider answered with status {status}: {message}")]
    Failed {
        /// The status.
        status: u8,
        /// Its text.
        message: String,
    },
    /// The provider's code threw.
    #[error("provider threw {class}: {message}")]
    Threw {
        /// Class of the exception.
        class: String,
        /// Its message.
        message: String,
    },
}

impl CallError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unfit { .. } => "unfit_frame",
            Self::Body(error) => error.reason(),
            Self::Failed { .. } => "failed",
            Self::Threw { .. } => "threw",
        }
    }
}

/// A reply, taken apart.
pub(crate) enum Opened<'f> {
    Null,
    /// The value is the second of the body, behind the type.
    Value(Body<'f>),
    Threw {
        class: String,
        message: String,
    },
    Failed {
        status: u8,
        message: String,
    },
}

pub(crate) fn open(reply: &Frame) -> Result<Opened<'_>, CallError> {
    let head = Head::read(&reply.wire).filter(|_| reply.kind == FrameKind::Reply && is_hessian2(reply));
    let head = head.ok_or(CallError::Unfit {
        wanted: "a reply in hessian2",
    })?;
    if head.status != status::OK {
        let message = Walk::new(reply.body()).string()?.as_str().into_owned();
        return Ok(Opened::Failed {
            status: head.status,
            message,
        });
    }
    let body = decode(
        reply.body(),
        Dialect::Hessian2,
        Limits {
            max_decoded_bytes: MAX_DECODED_BYTES,
            ..Limits::default()
        },
    )?;
    match body.values.first() {
        Some(Value::Int(0 | 3, _)) => Ok(thrown(&body)),
        Some(Value::Int(1 | 4, _)) => Ok(Opened::Value(body)),
        Some(Value::Int(2 | 5, _)) => Ok(Opened::Null),
        _ => Err(CallError::Unfit {
            wanted: "a type of result",
        }),
    }
}

fn thrown(body: &Body<'_>) -> Opened<'static> {
    let Some(Value::Object(object)) = body.values.get(1).map(Value::bare) else {
        return Opened::Threw {
            class: String::new(),
            message: String::new(),
        };
    };
    let class = body.class_of(object).map(|class| class.name.as_str().into_owned());
    let message = body
        .field(object, "detailMessage")
        .and_then(Value::as_text)
        .map(|text| text.as_str().into_owned());
    Opened::Threw {
        class: class.unwrap_or_default(),
        message: message.unwrap_or_default(),
    }
}

/// A reply of type `kind` (0 exception, 1 value, 2 null), with attachments if the caller can read them.
fn reply(request: &Frame, kind: i32, value: impl FnOnce(&mut Encoder)) -> Option<Bytes> {
    let head = Head::read(&request.wire).filter(|_| request.kind == FrameKind::Request && is_hessian2(request))?;
    let version = Walk::new(request.body()).string().ok()?;
    let with_attachments = reads_reply_attachments(&version.as_str());
    let mut body = Encoder::default();
    body.int(if with_attachments { kind + 3 } else { kind });
    value(&mut body);
    if with_attachments {
        body.map_begin(None);
        body.string("dubbo").string(PROTOCOL_VERSION).end();
    }
    Some(head::frame(head.serialization(), status::OK, head.id, &body.finish()))
}

/// Whether a caller of this protocol version takes types 3 to 5. Up to 2.6.2 the field held the version of the library,
/// and 2.8 was dubbox. Source: `Version.isSupportResponseAttachment`.
fn reads_reply_attachments(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (
        parts.next().flatten(),
        parts.next().flatten(),
        parts.next().flatten().unwrap_or(0),
    ) {
        (Some(2), Some(0), patch) => (2..10).contains(&patch),
        (Some(2), Some(6), patch) => patch >= 3,
        (Some(2), Some(minor), _) => minor > 6 && minor != 8,
        (Some(major), ..) => major > 2,
        _ => false,
    }
}

fn is_hessian2(frame: &Frame) -> bool {
    Head::read(&frame.wire).is_some_and(|head| head.serialization() == id::HESSIAN2)
}

/// What Dubbo has sent since 2.6.3.
pub(crate) const PROTOCOL_VERSION: &str = "2.0.2";
/// Memory for the values of one reply.
const MAX_DECODED_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::reads_reply_attachments;

    #[test]
    fn old_callers_get_no_attachments() {
        for (version, reads) in [
            ("2.0.2", true),
            ("2.0.1", false),
            ("2.0.10", false),
            ("2.5.3", false),
            ("2.6.1", false),
            ("2.6.3", true),
            ("2.7.0", true),
            ("2.8.4", false),
            ("3.3.6", true),
            ("2.5.4-SNAPSHOT", false),
            ("", false),
            ("x", false),
        ] {
            assert_eq!(reads_reply_attachments(version), reads, "{version}");
        }
    }
}
