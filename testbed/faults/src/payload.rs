// SPDX-License-Identifier: Apache-2.0
//! What a call says: who calls, which call it is, random bytes, what the provider shall do, and a checksum over all of it.
//!
//! ```text
//! filler ... | e 01500 | 0000002a | 00000000000c | 32 hexadecimal digits | checksum
//!              what, ms   client     number         random                 CRC-32 of all before it, 8 hexadecimal digits
//! ```
//! ASCII, so that it is one string of the same length in every serialization. The part behind the filler has a fixed length
//! and stands last, so that it is found without decoding.

/// What the provider shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Give the string back.
    Echo,
    /// Answer with an error.
    Error,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// What the provider shall do.
    pub wish: Wish,
    /// Milliseconds that the provider shall wait before.
    pub wait_ms: u32,
    /// Who calls.
    pub client: u32,
    /// Which call; none is made twice.
    pub number: u64,
    /// So that no two payloads are alike by accident.
    pub random: u128,
}

impl Payload {
    /// As text of `len` characters, or [`LEN`] if that is more.
    pub fn text(&self, len: usize) -> Vec<u8> {
        let wish = match self.wish {
            Wish::Echo => 'o',
            Wish::Error => 'e',
        };
        let mut text: Vec<u8> = (b'a'..=b'z').cycle().take(len.clamp(LEN, LEN_MAX) - LEN).collect();
        text.extend_from_slice(
            format!(
                "{wish}{:05}{:08x}{:012x}{:032x}",
                self.wait_ms.min(99_999),
                self.client,
                self.number & NUMBER_MASK,
                self.random
            )
            .as_bytes(),
        );
        let sum = crc32fast::hash(&text);
        text.extend_from_slice(format!("{sum:08x}").as_bytes());
        text
    }

    /// Reads a whole text; `None` if it is no payload, or not as it was written.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (summed, sum) = text.split_at_checked(text.len().checked_sub(SUM)?)?;
        let tail = summed.get(summed.len().checked_sub(LEN - SUM)?..)?;
        (u32::try_from(hex(sum)?).ok()? == crc32fast::hash(summed)).then_some(())?;
        Some(Self {
            wish: match tail.first()? {
                b'o' => Wish::Echo,
                b'e' => Wish::Error,
                _ => return None,
            },
            wait_ms: std::str::from_utf8(tail.get(1..6)?).ok()?.parse().ok()?,
            client: u32::try_from(hex(tail.get(6..14)?)?).ok()?,
            number: u64::try_from(hex(tail.get(14..26)?)?).ok()?,
            random: hex(tail.get(26..58)?)?,
        })
    }
}

fn hex(digits: &[u8]) -> Option<u128> {
    u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Characters of a payload without filler.
pub const LEN: usize = 58 + SUM;
/// One chunk of a string in hessian, with room to spare.
pub const LEN_MAX: usize = 32_000;
const SUM: usize = 8;
const NUMBER_MASK: u64 = 0xffff_ffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let payload = Payload {
            wish: Wish::Error,
            wait_ms: 1500,
            client: 42,
            number: 12,
            random: 7 << 100,
        };
        for len in [0, LEN, LEN + 1, 1000, LEN_MAX] {
            let mut text = payload.text(len);
            assert_eq!(text.len(), len.max(LEN));
            assert!(text.iter().all(u8::is_ascii_alphanumeric));
            assert_eq!(Payload::read(&text), Some(payload));
            let at = text.len() / 2;
            text[at] ^= 1;
            assert_eq!(Payload::read(&text), None, "a changed byte at {at} of {len}");
        }
        assert_eq!(Payload::read(b"short"), None);
    }
}
