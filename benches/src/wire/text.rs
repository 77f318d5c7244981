// SPDX-License-Identifier: Apache-2.0
//! One ASCII string in hessian: Hessian 2.0 in dubbo, the older draft in bolt. They differ in long ones only.

use super::Protocol;

/// Appends `text`, which is ASCII, as Java's writers do.
pub(super) fn put(protocol: Protocol, text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while rest.len() > CHUNK {
        let (chunk, tail) = rest.split_at(CHUNK);
        out.push(more(protocol));
        out.extend_from_slice(&(CHUNK as u16).to_be_bytes());
        out.extend_from_slice(chunk);
        rest = tail;
    }
    let len = (rest.len() as u16).to_be_bytes();
    match rest.len() {
        0..=31 => out.push(len[1]),
        32..=1023 if protocol == Protocol::Dubbo => out.extend_from_slice(&[SHORT + len[0], len[1]]),
        _ => out.extend_from_slice(&[LAST, len[0], len[1]]),
    }
    out.extend_from_slice(rest);
}

/// Offset behind the string at `at`; `None` if there is none.
pub(super) fn end(protocol: Protocol, input: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let lead = *input.get(at)?;
        let second = || input.get(at + 1).copied().map(usize::from);
        let long = || Some(second()? << 8 | usize::from(*input.get(at + 2)?));
        let (len, is_last) = match lead {
            0..=31 => (1 + usize::from(lead), true),
            SHORT..=SHORT_MAX if protocol == Protocol::Dubbo => {
                (2 + (usize::from(lead - SHORT) << 8 | second()?), true)
            }
            LAST => (3 + long()?, true),
            lead if lead == more(protocol) => (3 + long()?, false),
            _ => return None,
        };
        at += len;
        if is_last {
            return (at <= input.len()).then_some(at);
        }
    }
}

/// Bytes in front of the first character.
pub(super) fn lead_len(protocol: Protocol, len: usize) -> usize {
    match len {
        0..=31 => 1,
        32..=1023 if protocol == Protocol::Dubbo => 2,
        _ => 3,
    }
}

/// Lead of a chunk that others follow.
fn more(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Dubbo => b'R',
        Protocol::Bolt => b's',
    }
}

/// Characters of a chunk that others follow.
const CHUNK: usize = 0x8000;
/// Lead of up to 1023 characters.
const SHORT: u8 = 0x30;
const SHORT_MAX: u8 = 0x33;
/// Lead of the last chunk.
const LAST: u8 = b'S';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_form_end_where_they_were_written_to() {
        for protocol in [Protocol::Dubbo, Protocol::Bolt] {
            for len in [0, 1, 31, 32, 1023, 1024, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
                let mut out = b"##".to_vec();
                put(protocol, &vec![b'x'; len], &mut out);
                let whole = out.len();
                assert_eq!(out.iter().filter(|byte| **byte == b'x').count(), len);
                assert_eq!(
                    out[2..].iter().position(|byte| *byte == b'x').unwrap_or(1),
                    lead_len(protocol, len)
                );
                out.push(b'N');
                assert_eq!(end(protocol, &out, 2), Some(whole), "{protocol:?}, {len}");
                assert_eq!(end(protocol, &out[..whole - 1], 2), None, "{protocol:?}, {len} cut");
            }
        }
    }
}
