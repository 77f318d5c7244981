// SPDX-License-Identifier: Apache-2.0
//! Replies in the provider's place, and what a reply says about its call.
//!
//! | reason | a reply to SOFARPC | to others |
//! |---|---|---|
//! | overloaded, draining | status 4: the consumer tries again if it may | the same |
//! | timeout | status 7: the same, as `SofaTimeOutException` | the same |
//! | upstream closed | status 0x10: a network error, not tried again | the same |
//! | all others | a `SofaResponse` with the text as its error | status 2, an `RpcServerException` with the text |
//!
//! A status has no room for a text that Java would read. Seen with SOFARPC 5.6.5 and 5.13.2 alike (sync, future, callback,
//! generic, hessian2, protobuf, fury2) and with bolt 1.5.6 and 1.6.10: the text is the message of a `SofaRpcException` of
//! type 199, or of the `RpcServerException` that caused bolt's `InvokeServerException`; sync calls give type 100 for
//! status 4, 200 for 7, 250 for 0x10.

use remora_hessian2::{Dialect, Encoder};
use remora_protocol::{Bytes, Frame, FrameKind, LocalReply, Outcome};

use crate::frame::{Head, Parts};
use crate::sofa::{REQUEST_CLASS, RESPONSE_CLASS, RESPONSE_ERROR, RESPONSE_FIELDS};
use crate::write::Reply;
use crate::{codec, status};

/// Longest text of a local reply, in bytes; the rest of it is cut off.
const MAX_TEXT_BYTES: usize = 1024;

/// Key in the header map of a local reply when nothing was sent to the application; its value is the reason. A contract
/// between Remoras of any two versions: it may never change.
const NOTHING_SENT: &str = "remora.nothing_sent";

/// Class of what a bolt server answers when it threw; every bolt client has it.
const SERVER_EXCEPTION_CLASS: &str = "com.alipay.remoting.rpc.exception.RpcServerException";

pub(crate) fn local_reply(request: &Frame, reason: LocalReply, message: &str) -> Option<Bytes> {
    if request.kind != FrameKind::Request {
        return None;
    }
    let parts = Parts::of(&request.wire)?;
    let mut header = Vec::with_capacity(2);
    if reason.nothing_sent() {
        header.push((NOTHING_SENT, reason.reason()));
    }
    let mut reply = Reply {
        version: parts.head.version,
        id: parts.head.id,
        ..Reply::default()
    };
    let content;
    if let Some(status) = status_of(reason) {
        reply.status = status;
    } else {
        let text = text(reason, message);
        if parts.class == REQUEST_CLASS.as_bytes() {
            header.push((RESPONSE_ERROR, "true"));
            reply.class = RESPONSE_CLASS;
            // In protobuf the text is the content; the others are not written here, but every consumer reads hessian2.
            if parts.head.codec == codec::PROTOBUF {
                reply.codec = codec::PROTOBUF;
                content = text.into_bytes();
            } else {
                content = object(RESPONSE_CLASS, &RESPONSE_FIELDS, |body| {
                    body.bool(true).string(&text).null().null();
                });
            }
        } else {
            reply.status = status::SERVER_EXCEPTION;
            reply.class = SERVER_EXCEPTION_CLASS;
            content = object(SERVER_EXCEPTION_CLASS, &["detailMessage"], |body| {
                body.string(&text);
            });
        }
        reply.content = &content;
    }
    reply.header = &header;
    // Without a CRC, as Java's own exceptions; its parts are bounded above.
    reply.to_frame().ok()
}

fn status_of(reason: LocalReply) -> Option<u16> {
    match reason {
        LocalReply::Overloaded | LocalReply::Draining => Some(status::SERVER_THREADPOOL_BUSY),
        LocalReply::Timeout => Some(status::TIMEOUT),
        LocalReply::UpstreamClosed => Some(status::CONNECTION_CLOSED),
        LocalReply::NoRoute
        | LocalReply::NoInstance
        | LocalReply::ConnectFailed
        | LocalReply::TooLong
        | LocalReply::ReplyTooLong
        | LocalReply::Malformed => None,
    }
}

fn text(reason: LocalReply, message: &str) -> String {
    let mut text = format!("remora[{}]: {message}", reason.reason());
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

fn object(class: &str, fields: &[&str], fill: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut body = Encoder::new(Dialect::Sofa);
    body.object_begin(class, fields);
    fill(&mut body);
    body.end();
    body.finish()
}

pub(crate) fn outcome(reply: &Frame) -> Outcome {
    let Ok(Some(head)) = Head::read(&reply.wire) else {
        return Outcome::Failed(u8::MAX);
    };
    if head.status == status::SUCCESS && head.header_len == 0 {
        return Outcome::Ok;
    }
    let Some(parts) = Parts::of(&reply.wire) else {
        return Outcome::Failed(u8::MAX);
    };
    let (mut nothing_sent, mut is_error) = (false, false);
    for (key, value) in parts.header.pairs().map_while(Result::ok) {
        nothing_sent |= key == NOTHING_SENT.as_bytes();
        is_error |= key == RESPONSE_ERROR.as_bytes() && value == b"true";
    }
    match head.status {
        _ if nothing_sent => Outcome::NothingSent,
        status::SUCCESS if !is_error => Outcome::Ok,
        status::SUCCESS if is_framework_error(&parts) => Outcome::Failed(0),
        status::SUCCESS => Outcome::AppException,
        status::SERVER_THREADPOOL_BUSY => Outcome::Refused,
        status => Outcome::Failed(u8::try_from(status).unwrap_or(u8::MAX)),
    }
}

/// Whether a `SofaResponse` in hessian2 has its first field `isError` set: SOFARPC could not call the application. `false`
/// if that cannot be seen.
fn is_framework_error(parts: &Parts<'_>) -> bool {
    let definition_len = CLASS_DEFINITION.len() + RESPONSE_CLASS.len();
    parts.head.codec == codec::HESSIAN2
        && parts.content.starts_with(CLASS_DEFINITION)
        && parts
            .content
            .get(definition_len..)
            .is_some_and(|fields| fields.starts_with(FIRST_FIELD))
        && parts
            .content
            .get(definition_len..)
            .and_then(|rest| rest.get(FIRST_VALUE_AT))
            == Some(&b'T')
}

/// `O` and the length of the class name, 46.
const CLASS_DEFINITION: &[u8] = b"O\xbe";
/// Four fields, the first of which is this.
const FIRST_FIELD: &[u8] = b"\x94\x07isError";
/// Behind the other names, `o` and the number of the class.
const FIRST_VALUE_AT: usize = FIRST_FIELD.len() + 9 + 12 + 14 + 2;
