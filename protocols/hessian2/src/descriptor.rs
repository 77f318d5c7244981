// SPDX-License-Identifier: Apache-2.0
//! How many arguments a Dubbo call has: its parameter descriptor, counted.
//!
//! Source: dubbo `ReflectUtils.getDesc`: `Z B C D F I J S V`, `Lpkg/Name;`, and `[` before any of them, one after
//! another without a separator. Not here: what the arguments are.

/// The parameter descriptor of a call cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("parameter descriptor breaks off or goes wrong at byte {at}")]
pub struct DescriptorError {
    /// Offset in the descriptor, in bytes.
    pub at: usize,
}

impl DescriptorError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        "bad_descriptor"
    }
}

/// Counts the parameters of a descriptor such as `Ljava/lang/String;I[J` (3) or the empty one (0).
///
/// # Errors
/// A letter that names no type, an array without an element type, or a class name that is empty or not closed by `;`.
pub fn argument_count(descriptor: &str) -> Result<usize, DescriptorError> {
    let bytes = descriptor.as_bytes();
    let mut at = 0;
    let mut count = 0;
    while let Some(&letter) = bytes.get(at) {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        at += match letter {
            b'[' if !rest.is_empty() => {
                at += 1;
                continue;
            }
            b'L' => match memchr::memchr(b';', rest) {
                Some(len @ 1..) => len + 2,
                _ => return Err(DescriptorError { at }),
            },
            b'Z' | b'B' | b'C' | b'D' | b'F' | b'I' | b'J' | b'S' | b'V' => 1,
            _ => return Err(DescriptorError { at }),
        };
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::{DescriptorError, argument_count};

    #[test]
    fn counts_what_java_writes() {
        for (descriptor, count) in [
            ("", 0),
            ("V", 1),
            ("Ljava/lang/String;", 1),
            ("Ljava/lang/String;I[J", 3),
            ("[[Ljava/util/Map$Entry;ZBCDFIJS", 9),
            ("Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;", 3),
            ("Lдемо/Заказ;", 1),
        ] {
            assert_eq!(argument_count(descriptor), Ok(count), "{descriptor}");
        }
    }

    #[test]
    fn names_the_byte_where_it_goes_wrong() {
        for (descriptor, at) in [
            ("X", 0),
            ("IL", 1),
            ("L;", 0),
            ("Ljava/lang/String", 0),
            ("I[", 1),
            ("[[", 1),
        ] {
            assert_eq!(argument_count(descriptor), Err(DescriptorError { at }), "{descriptor}");
        }
    }
}
