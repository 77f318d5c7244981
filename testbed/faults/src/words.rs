// SPDX-License-Identifier: Apache-2.0
//! Frames that the benchmark does not have: requests with a limit of their own, replies of a provider that failed, a
//! provider's goodbye.

use remora_bench::wire::{Answerer, Kind, Mold, Protocol};

use crate::payload::Payload;

/// A request with `text` for its argument, that names `timeout_ms` as its limit.
pub fn request(mold: &Mold, protocol: Protocol, text: &[u8], timeout_ms: u32, id: u64) -> Vec<u8> {
    let (mut frame, _) = mold.frame(text);
    match protocol {
        Protocol::Dubbo => {
            // Behind the argument stand the attachments; this one is the last.
            if let Some(at) = frame.windows(DUBBO_LIMIT.len()).rposition(|part| part == DUBBO_LIMIT) {
                let digits = timeout_ms.to_string();
                let lead = at + DUBBO_LIMIT.len() - DUBBO_DIGITS - 1;
                let mut value = vec![digits.len() as u8];
                value.extend_from_slice(digits.as_bytes());
                frame.splice(lead..lead + 1 + DUBBO_DIGITS, value);
                let len = (frame.len() - DUBBO_HEAD) as u32;
                frame[12..16].copy_from_slice(&len.to_be_bytes());
            }
        }
        Protocol::Bolt => frame[10..14].copy_from_slice(&timeout_ms.to_be_bytes()),
    }
    protocol.set_id(&mut frame, id);
    frame
}

/// The payload of a whole request, when it is whole itself.
pub fn payload(answerer: &Answerer, request: &[u8]) -> Option<Payload> {
    let string = request.get(answerer.string(request)?)?;
    // The length in front of the characters: as short as it can be, see `remora_bench::wire`.
    let lead = match (answerer.protocol(), string.len()) {
        (Protocol::Dubbo, len) if len < 1026 => 2,
        _ => 3,
    };
    Payload::read(string.get(lead..)?)
}

/// A reply that says the provider failed: status 70 with the words in dubbo, status 1 without any in bolt.
pub fn error_reply(protocol: Protocol, id: u64, out: &mut Vec<u8>) {
    let start = out.len();
    match protocol {
        Protocol::Dubbo => {
            out.extend_from_slice(b"\xda\xbb\x02\x46........");
            out.extend_from_slice(&(DUBBO_WORDS.len() as u32 + 1).to_be_bytes());
            out.push(DUBBO_WORDS.len() as u8);
            out.extend_from_slice(DUBBO_WORDS);
        }
        Protocol::Bolt => out.extend_from_slice(b"\x01\0\0\x02\x01....\x01\0\x01\0\0\0\0\0\0\0\0"),
    }
    protocol.set_id(&mut out[start..], id);
}

/// A provider's goodbye: dubbo's readonly event. Bolt v1 has none.
pub fn goodbye(protocol: Protocol, out: &mut Vec<u8>) {
    if protocol == Protocol::Dubbo {
        out.extend_from_slice(b"\xda\xbb\xa2\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01R");
    }
}

/// Whether a whole frame is such a goodbye.
pub fn is_goodbye(protocol: Protocol, frame: &[u8]) -> bool {
    protocol == Protocol::Dubbo
        && protocol.kind(frame) == Kind::Other
        && frame.get(2).is_some_and(|flag| flag & 0xe0 == 0xa0)
        && frame.ends_with(b"R")
}

/// A provider's words when asked to fail.
pub const DUBBO_WORDS: &[u8] = b"asked to fail";
/// A bolt provider's status when asked to fail: `ERROR`.
pub const BOLT_FAILURE: u16 = 1;
/// The attachment `timeout`, a string of four digits in the capture.
const DUBBO_LIMIT: &[u8] = b"\x07timeout\x042500";
const DUBBO_DIGITS: usize = 4;
const DUBBO_HEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Wish;

    #[test]
    fn a_request_carries_its_payload_and_its_limit() {
        for protocol in [Protocol::Dubbo, Protocol::Bolt] {
            let (mold, answerer) = (Mold::request(protocol), Answerer::new(protocol));
            for (len, limit) in [(0, 800), (500, 2500), (5000, 30_000)] {
                let payload = Payload {
                    wish: Wish::Echo,
                    wait_ms: 3,
                    client: 1,
                    number: 9,
                    random: 5,
                };
                let frame = request(&mold, protocol, &payload.text(len), limit, 77);
                assert_eq!(protocol.frame_len(&frame), Ok(Some(frame.len())));
                assert_eq!((protocol.kind(&frame), protocol.id(&frame)), (Kind::Request, 77));
                assert_eq!(super::payload(&answerer, &frame), Some(payload), "{protocol:?} {len}");
                let limit = if protocol == Protocol::Dubbo {
                    limit.to_string().into_bytes()
                } else {
                    limit.to_be_bytes().to_vec()
                };
                assert!(frame.windows(limit.len()).any(|part| part == limit));
            }
        }
    }

    #[test]
    fn a_failure_is_a_reply_with_a_status() {
        for (protocol, status) in [(Protocol::Dubbo, 70), (Protocol::Bolt, 1)] {
            let mut frame = Vec::new();
            error_reply(protocol, 5, &mut frame);
            assert_eq!(protocol.frame_len(&frame), Ok(Some(frame.len())));
            assert_eq!(
                (protocol.kind(&frame), protocol.id(&frame), protocol.failure(&frame)),
                (Kind::Reply, 5, Some(status))
            );
        }
        let mut frame = Vec::new();
        goodbye(Protocol::Dubbo, &mut frame);
        assert_eq!(Protocol::Dubbo.frame_len(&frame), Ok(Some(frame.len())));
        assert!(is_goodbye(Protocol::Dubbo, &frame));
    }
}
