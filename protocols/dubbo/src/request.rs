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

use remora_protocol::{Frame, FrameKind, RouteKeys, RouteKeysError};

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
    /// Whether the value of this key matters; asked before it is turned into a string.
    #[inline]
    pub(crate) fn wants(key: &[u8]) -> bool {
        Key::of(key).is_some()
    }

    pub(crate) fn put(&mut self, key: &[u8], value: Value<'f>) {
        let text = |value| match value {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Other => None,
        };
        match Key::of(key) {
            Some(Key::Callback) => self.has_callback = true,
            Some(Key::Timeout) => self.timeout = milliseconds(&value),
            Some(Key::Interface) => self.interface = text(value),
            Some(Key::Path) => self.path = text(value),
            Some(Key::Group) => self.group = text(value),
            Some(Key::Version) => self.version = text(value),
            Some(Key::Caller) => self.caller = text(value),
            None => {}
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
enum Key {
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
    fn of(key: &[u8]) -> Option<Self> {
        let (known, found): (&[u8], _) = match key.len() {
            4 => (b"path", Self::Path),
            5 => (b"group", Self::Group),
            7 if key.first() == Some(&b'v') => (b"version", Self::Version),
            7 => (b"timeout", Self::Timeout),
            9 => (b"interface", Self::Interface),
            16 => (STUB_EVENT_KEY, Self::Callback),
            18 if key.first() == Some(&b'r') => (b"remote.application", Self::Caller),
            17.. => return key.starts_with(CALLBACK_KEY).then_some(Self::Callback),
            _ => return None,
        };
        (key == known).then_some(found)
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
