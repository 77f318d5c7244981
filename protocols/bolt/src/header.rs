// SPDX-License-Identifier: Apache-2.0
//! Header maps: pairs of strings, each `length (4 bytes, -1 for null), UTF-8`, to the end of the block.
//!
//! Source: `SimpleMapSerializer` of sofa-rpc 5.6 to 5.13. Order is a Java map's; of a key that stands there twice the last
//! one counts; a pair with a null is no pair. Bolt used without SOFARPC may have any bytes here.

/// A header map, not copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header<'f>(&'f [u8]);

impl<'f> Header<'f> {
    /// The header map in these bytes; they are looked at when asked for.
    pub fn new(bytes: &'f [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(self) -> &'f [u8] {
        self.0
    }

    /// Its pairs, in order.
    pub fn pairs(self) -> Pairs<'f> {
        Pairs {
            rest: self.0,
            len: self.0.len(),
        }
    }

    /// The value of a key, if the map is readable up to its end.
    pub fn get(self, key: &str) -> Option<&'f [u8]> {
        let mut value = None;
        for pair in self.pairs() {
            let (found, of_it) = pair.ok()?;
            if found == key.as_bytes() {
                value = Some(of_it);
            }
        }
        value
    }
}

/// The pairs of a header map: key and value, or once that the rest is none.
#[derive(Clone, Debug)]
pub struct Pairs<'f> {
    rest: &'f [u8],
    len: usize,
}

/// A header map breaks off, or a length in it goes beyond its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header map breaks off at byte {at}")]
pub struct HeaderError {
    /// Offset in the header map, in bytes.
    pub at: usize,
}

impl HeaderError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        "bad_header"
    }
}

impl<'f> Iterator for Pairs<'f> {
    type Item = Result<(&'f [u8], &'f [u8]), HeaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let at = self.len - self.rest.len();
            match self.string().and_then(|key| Some((key, self.string()?))) {
                Some((Some(key), Some(value))) => return Some(Ok((key, value))),
                Some(_) => {}
                None => {
                    self.rest = &[];
                    return Some(Err(HeaderError { at }));
                }
            }
        }
        None
    }
}

impl<'f> Pairs<'f> {
    /// The next string, which may be null; `None` if it is not all there.
    fn string(&mut self) -> Option<Option<&'f [u8]>> {
        let (len, rest) = self.rest.split_first_chunk()?;
        let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
            self.rest = rest;
            return Some(None);
        };
        let (string, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(Some(string))
    }
}

/// Appends a pair to the bytes of a header map.
pub(crate) fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    for string in [key, value] {
        // Longer ones do not fit into a header map, which is refused then.
        let len = u32::try_from(string.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(string.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        pairs.iter().for_each(|(key, value)| push(&mut out, key, value));
        out
    }

    #[test]
    fn pairs_come_out_in_order_and_the_last_of_a_key_counts() {
        let bytes = map(&[("service", "a:1.0"), ("empty", ""), ("service", "b:1.0")]);
        let pairs: Vec<_> = Header::new(&bytes).pairs().map(Result::unwrap).collect();
        assert_eq!(
            pairs,
            [
                (&b"service"[..], &b"a:1.0"[..]),
                (b"empty", b""),
                (b"service", b"b:1.0")
            ]
        );
        assert_eq!(Header::new(&bytes).get("service"), Some(&b"b:1.0"[..]));
        assert_eq!(Header::new(&bytes).get("empty"), Some(&b""[..]));
        assert_eq!(Header::new(&bytes).get("other"), None);
    }

    #[test]
    fn a_pair_with_a_null_is_none() {
        let mut bytes = map(&[("a", "1")]);
        bytes.extend(b"\0\0\0\x01b\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01x");
        bytes.extend(map(&[("c", "3")]));
        let keys: Vec<_> = Header::new(&bytes).pairs().map(|pair| pair.unwrap().0).collect();
        assert_eq!(keys, [b"a", b"c"]);
    }

    #[test]
    fn a_map_cut_anywhere_says_so_once() {
        let bytes = map(&[("service", "a:1.0"), ("k", "v")]);
        let ends = [0, map(&[("service", "a:1.0")]).len(), bytes.len()];
        for cut in 0..=bytes.len() {
            let pairs: Vec<_> = Header::new(&bytes[..cut]).pairs().collect();
            let errors = pairs.iter().filter(|pair| pair.is_err()).count();
            assert_eq!(errors, usize::from(!ends.contains(&cut)), "cut at {cut}");
        }
        let error = Header::new(&bytes[..3]).pairs().next().unwrap().unwrap_err();
        assert_eq!((error.at, error.reason()), (0, "bad_header"));
    }
}
