// SPDX-License-Identifier: Apache-2.0
//! Where a request wants to go.
//!
//! The body is a row of values: protocol version, service, service version, method, parameter types, one value per
//! parameter, attachments. Consumers follow a service by interface, group and version; the group stands in the
//! attachments only, so the arguments are stepped over. Source: `DubboCodec.encodeRequestData`,
//! `DecodeableRpcInvocation` and `DubboProtocol.getInvoker` of Dubbo 2.6 to 3.3.
//! Not here: how the strings of each serialization are found (`hessian2_body.rs`, `fastjson2_body.rs`, `java_body.rs`).

use std::borrow::Cow;
use std::time::Duration;

use remora_protocol::{Frame, FrameKind, KeyPrint, RouteKeys, RouteKeysError};

use crate::head::Head;
use crate::serialization as id;
use crate::{fastjson2_body, hessian2_body, java_body, quick};

pub(crate) fn route_keys(request: &Frame) -> Result<RouteKeys<'_>, RouteKeysError> {
    if !matches!(request.kind, FrameKind::Request | FrameKind::Oneway) {
        return Err(RouteKeysError::Malformed {
            at: 0,
            what: "frame is no request",
        });
    }
    let head = Head::read(&request.wire).ok_or(RouteKeysError::Malformed {
        at: 0,
        what: "frame has no head",
    })?;
    let body = request.body();
    let serialization = head.serialization();
    let call = match serialization {
        unread if !id::is_read(unread) => None,
        id::HESSIAN2 | id::NATIVE_HESSIAN => Some(match quick::read(body) {
            Some(call) => call,
            None => hessian2_body::read(body)?,
        }),
        id::FASTJSON2 => fastjson2_body::read(body)?,
        id::JAVA | id::COMPACTED_JAVA | id::NATIVE_JAVA => java_body::read(serialization, body),
        _ => None,
    };
    match call {
        Some(call) => Ok(call.into_keys(id::name(serialization))),
        None => Err(RouteKeysError::Opaque {
            serialization: id::name_or_number(serialization),
            pins_connection: mentions_callback(body),
        }),
    }
}

/// Bodies in hessian2 of the usual shape: the values before the arguments, and all behind them.
pub(crate) fn print_keys(request: &Frame, print: &mut KeyPrint) -> bool {
    let Some(head) = Head::read(&request.wire) else {
        return false;
    };
    let is_hessian2 = matches!(head.serialization(), id::HESSIAN2 | id::NATIVE_HESSIAN);
    let Some(parts) = is_hessian2.then(|| quick::parts(request.body())).flatten() else {
        return false;
    };
    print.tag = tag(head, parts.arguments);
    print.front.clear();
    print.front.extend_from_slice(parts.front);
    print.back.clear();
    print.back.extend_from_slice(parts.back);
    true
}

pub(crate) fn has_keys(request: &Frame, print: &KeyPrint) -> bool {
    let Some(head) = Head::read(&request.wire) else {
        return false;
    };
    let arguments = print.tag >> 8;
    tag(head, arguments) == print.tag
        && request
            .body()
            .strip_prefix(&*print.front)
            .and_then(|rest| quick::behind_arguments(rest, arguments))
            .is_some_and(|back| back == print.back)
}

/// Flag and number of arguments; the flag says in which serialization they are.
fn tag(head: Head, arguments: u64) -> u64 {
    arguments << 8 | u64::from(head.flag)
}

/// What the values before the attachments, and the attachments, say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Call<'f> {
    pub(crate) service: Option<Cow<'f, str>>,
    pub(crate) version: Option<Cow<'f, str>>,
    pub(crate) method: Cow<'f, str>,
    pub(crate) is_generic: bool,
    pub(crate) attached: Attached<'f>,
}

/// The attachments that matter for a route. Of a key that stands there twice the last one counts, as in Java.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Attached<'f> {
    interface: Option<Cow<'f, str>>,
    path: Option<Cow<'f, str>>,
    group: Option<Cow<'f, str>>,
    version: Option<Cow<'f, str>>,
    caller: Option<Cow<'f, str>>,
    timeout: Option<Duration>,
    has_callback: bool,
}

/// A value of an attachment, as far as it can matter.
#[derive(Debug)]
pub(crate) enum Value<'f> {
    Text(Cow<'f, str>),
    Number(i64),
    Other,
}

impl<'f> Attached<'f> {
    pub(crate) fn put(&mut self, key: Key, value: Value<'f>) {
        let text = |value| match value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Other => None,
        };
        match key {
            Key::Callback => self.has_callback = true,
            Key::Timeout => self.timeout = milliseconds(&value),
            Key::Interface => self.interface = text(value),
            Key::Path => self.path = text(value),
            Key::Group => self.group = text(value),
            Key::Version => self.version = text(value),
            Key::Caller => self.caller = text(value),
        }
    }

    /// Whether the map is surely the attachments of a request.
    pub(crate) fn names_a_service(&self) -> bool {
        self.path.is_some() || self.interface.is_some()
    }
}

impl<'f> Call<'f> {
    fn into_keys(self, serialization: Option<&'static str>) -> RouteKeys<'f> {
        let attached = self.attached;
        // The second value is the interface from 2.7 on but the path in 2.6, and a provider may have set another path.
        let service = attached
            .interface
            .or(self.service)
            .or(attached.path)
            .unwrap_or_default();
        let version = match attached.version.or(self.version) {
            Some(version) if version != NO_VERSION => version,
            _ => Cow::Borrowed(""),
        };
        RouteKeys {
            service,
            group: attached.group.unwrap_or_default(),
            version,
            method: self.method,
            is_generic: self.is_generic,
            timeout: attached.timeout,
            caller: attached.caller,
            pins_connection: attached.has_callback,
            serialization,
        }
    }
}

/// Whether a call goes through the generic interface: its first argument is then the name of the real method.
pub(crate) fn is_generic(method: &str, descriptor: &str) -> bool {
    matches!(method, "$invoke" | "$invokeAsync") && descriptor.starts_with("Ljava/lang/String;")
}

/// Keys of attachments that matter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Interface,
    Path,
    Group,
    Version,
    Caller,
    Timeout,
    /// A callback argument, or events for the consumer's stub: the provider will send requests on this connection.
    Callback,
}

impl Key {
    /// By its length first: nearly all keys are none of these.
    #[inline]
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        match key.len() {
            4 if key == b"path" => Some(Self::Path),
            5 if key == b"group" => Some(Self::Group),
            7 if key == b"version" => Some(Self::Version),
            7 if key == b"timeout" => Some(Self::Timeout),
            9 if key == b"interface" => Some(Self::Interface),
            16 if key == STUB_EVENT_KEY => Some(Self::Callback),
            18 if key == b"remote.application" => Some(Self::Caller),
            17.. if key.starts_with(CALLBACK_KEY) => Some(Self::Callback),
            _ => None,
        }
    }
}

/// The same for a body that cannot be walked.
fn mentions_callback(body: &[u8]) -> bool {
    [CALLBACK_KEY, STUB_EVENT_KEY]
        .iter()
        .any(|key| memchr::memmem::find(body, key).is_some())
}

fn milliseconds(value: &Value<'_>) -> Option<Duration> {
    let milliseconds = match value {
        Value::Text(text) => text.trim().parse().ok()?,
        Value::Number(number) => u64::try_from(*number).ok()?,
        Value::Other => return None,
    };
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// What Dubbo writes for a service without a version.
const NO_VERSION: &str = "0.0.0";
/// `CallbackServiceCodec`: followed by the index of the argument.
const CALLBACK_KEY: &[u8] = b"sys_callback_arg-";
const STUB_EVENT_KEY: &[u8] = b"dubbo.stub.event";
