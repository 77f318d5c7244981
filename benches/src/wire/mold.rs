// SPDX-License-Identifier: Apache-2.0
//! Frames of a captured call with another string in them: `echo(String)` of a Dubbo 3.1 application, `simple(String)` of a
//! SOFARPC 5.13 one, with all that such applications send along.

use std::ops::Range;

use super::{BOLT_REPLY, BOLT_REQUEST, DUBBO_HEAD, Kind, Protocol, bolt_head, text, u16_at, u32_at};

/// A captured frame, open at its string.
#[derive(Clone, Debug)]
pub struct Mold {
    protocol: Protocol,
    /// Everything in front of the string.
    lead: Vec<u8>,
    /// Everything behind it.
    trail: Vec<u8>,
    len_at: usize,
    /// Bytes of the frame that its length field does not count.
    uncounted: usize,
}

impl Mold {
    /// A request.
    pub fn request(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Dubbo => Self::of(protocol, DUBBO_REQUEST, DUBBO_SAMPLE),
            Protocol::Bolt => Self::of(protocol, SOFA_REQUEST, SOFA_SAMPLE),
        }
    }

    /// The reply to it.
    pub fn reply(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Dubbo => Self::of(protocol, DUBBO_REPLY, DUBBO_SAMPLE),
            Protocol::Bolt => Self::of(protocol, SOFA_REPLY, SOFA_SAMPLE),
        }
    }

    fn of(protocol: Protocol, hex: &str, sample: &str) -> Self {
        let wire = bytes(hex);
        let mut string = Vec::new();
        text::put(protocol, sample.as_bytes(), &mut string);
        let at = wire.windows(string.len()).rposition(|window| window == string);
        let at = at.expect("the capture holds the sample, a test looks");
        let (len_at, fixed) = match protocol {
            Protocol::Dubbo => (DUBBO_HEAD - 4, DUBBO_HEAD),
            Protocol::Bolt => (bolt_head(&wire) - 4, bolt_head(&wire)),
        };
        debug_assert!(fixed <= at);
        Self {
            protocol,
            uncounted: wire.len() - u32_at(&wire, len_at) as usize,
            lead: wire[..at].to_vec(),
            trail: wire[at + string.len()..].to_vec(),
            len_at,
        }
    }

    /// The frame with `payload`, which is ASCII, and where the payload's first characters stand in it.
    pub fn frame(&self, payload: &[u8]) -> (Vec<u8>, usize) {
        let mut string = Vec::with_capacity(payload.len() + payload.len() / 1000 + 8);
        text::put(self.protocol, payload, &mut string);
        let mut frame = Vec::with_capacity(self.lead.len() + string.len() + self.trail.len());
        self.pour_lead(0, string.len(), &mut frame);
        frame.extend_from_slice(&string);
        frame.extend_from_slice(&self.trail);
        (frame, self.lead.len() + text::lead_len(self.protocol, payload.len()))
    }

    /// Appends what stands in front of an encoded string of `string_len` bytes.
    pub fn pour_lead(&self, id: u64, string_len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.lead);
        let frame = &mut out[start..];
        self.protocol.set_id(frame, id);
        let len = (self.lead.len() + string_len + self.trail.len() - self.uncounted) as u32;
        frame[self.len_at..self.len_at + 4].copy_from_slice(&len.to_be_bytes());
    }

    /// What stands behind the string.
    pub fn trail(&self) -> &[u8] {
        &self.trail
    }
}

/// The provider's side: finds the string in a request and makes the reply that carries it.
#[derive(Clone, Debug)]
pub struct Answerer {
    protocol: Protocol,
    reply: Mold,
    /// Bolt: the content in front of the string. No proxy has a reason to touch it.
    content_lead: Vec<u8>,
}

impl Answerer {
    /// One for a protocol.
    pub fn new(protocol: Protocol) -> Self {
        let request = Mold::request(protocol).lead;
        let content_at = match protocol {
            Protocol::Dubbo => DUBBO_HEAD,
            Protocol::Bolt => bolt_content(&request),
        };
        Self {
            protocol,
            reply: Mold::reply(protocol),
            content_lead: request[content_at..].to_vec(),
        }
    }

    /// Where the encoded string stands in a whole request; `None` if it is not the call that is answered here.
    pub fn string(&self, request: &[u8]) -> Option<Range<usize>> {
        let mut at = match self.protocol {
            Protocol::Dubbo => DUBBO_HEAD,
            Protocol::Bolt => bolt_content(request),
        };
        match self.protocol {
            Protocol::Dubbo => {
                for _ in 0..DUBBO_STRINGS {
                    at = text::end(self.protocol, request, at)?;
                }
            }
            Protocol::Bolt => {
                request.get(at..)?.starts_with(&self.content_lead).then_some(())?;
                at += self.content_lead.len();
            }
        }
        Some(at..text::end(self.protocol, request, at)?)
    }

    /// Appends the reply to a whole request; false if it is not the call that is answered here.
    pub fn answer(&self, request: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(string) = self.string(request) else {
            return false;
        };
        self.reply.pour_lead(self.protocol.id(request), string.len(), out);
        out.extend_from_slice(&request[string]);
        out.extend_from_slice(self.reply.trail());
        true
    }

    /// The mold of replies.
    pub fn reply(&self) -> &Mold {
        &self.reply
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether a whole frame is to be answered with [`answer`](Self::answer).
    pub fn is_request(&self, frame: &[u8]) -> bool {
        self.protocol.kind(frame) == Kind::Request
    }
}

fn bolt_content(frame: &[u8]) -> usize {
    let fixed = if frame[1] == 0 { BOLT_REPLY } else { BOLT_REQUEST };
    fixed + usize::from(u16_at(frame, fixed - 8)) + usize::from(u16_at(frame, fixed - 6))
}

fn bytes(hex: &str) -> Vec<u8> {
    let rows = hex.lines().filter(|row| !row.starts_with('#'));
    let digits: Vec<u32> = rows.flat_map(str::chars).filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks_exact(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// Version of the protocol, service, version, method, parameter types; then the argument.
const DUBBO_STRINGS: usize = 5;
const DUBBO_REQUEST: &str = include_str!("../../../testbed/golden/dubbo/3.1.11-request-simple.hex");
const DUBBO_REPLY: &str = include_str!("../../../testbed/golden/dubbo/3.1.11-response-simple.hex");
const DUBBO_SAMPLE: &str = "text-0";
const SOFA_REQUEST: &str = include_str!("../../../testbed/golden/bolt/5.13.2-request-simple.hex");
const SOFA_REPLY: &str = include_str!("../../../testbed/golden/bolt/5.13.2-response-simple.hex");
const SOFA_SAMPLE: &str = "hello";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_in_the_mold_gives_the_captured_frame() {
        for (protocol, request, reply, sample) in [
            (Protocol::Dubbo, DUBBO_REQUEST, DUBBO_REPLY, DUBBO_SAMPLE),
            (Protocol::Bolt, SOFA_REQUEST, SOFA_REPLY, SOFA_SAMPLE),
        ] {
            for (mold, golden) in [(Mold::request(protocol), request), (Mold::reply(protocol), reply)] {
                let golden = bytes(golden);
                let (mut frame, at) = mold.frame(sample.as_bytes());
                protocol.set_id(&mut frame, protocol.id(&golden));
                assert_eq!(frame, golden);
                assert_eq!(&frame[at..at + sample.len()], sample.as_bytes());
            }
        }
    }

    #[test]
    fn a_request_is_answered_with_its_id_and_string() {
        for protocol in [Protocol::Dubbo, Protocol::Bolt] {
            for len in [1, 31, 32, 128, 1024, 40_000, 100_000] {
                let payload = vec![b'p'; len];
                let (mut request, _) = Mold::request(protocol).frame(&payload);
                protocol.set_id(&mut request, 0x8000_0007);
                assert_eq!(protocol.frame_len(&request), Ok(Some(request.len())));
                let mut reply = Vec::new();
                assert!(Answerer::new(protocol).answer(&request, &mut reply));
                let (mut expected, _) = Mold::reply(protocol).frame(&payload);
                protocol.set_id(&mut expected, 0x8000_0007);
                assert!(reply == expected, "{protocol:?}, {len}");
                assert_eq!(protocol.frame_len(&reply), Ok(Some(reply.len())));
                assert_eq!((protocol.kind(&reply), protocol.failure(&reply)), (Kind::Reply, None));
            }
        }
    }
}
