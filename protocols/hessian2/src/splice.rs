// SPDX-License-Identifier: Apache-2.0
//! Adding or replacing one attachment without touching the arguments.
//!
//! Safe because strings enter no table: no reference, class or type index behind the edit moves.

use crate::attachments::AttachmentsRange;
use crate::encode::Encoder;

/// The attachments cannot be changed in this body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// The range was located in another body.
    #[error("attachments end at byte {end}, but the body has {len} bytes; was another body walked?")]
    OtherBody {
        /// Where the attachments should end.
        end: usize,
        /// Bytes in the body.
        len: usize,
    },
    /// Null stands in the place of the map, and a map in its place would get an index that later references use.
    #[error("null stands in the place of the attachments at byte {at} and values follow it")]
    ValuesFollow {
        /// Offset of the null.
        at: usize,
    },
}

impl SpliceError {
    /// Metric label and log field.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherBody { .. } => "other_body",
            Self::ValuesFollow { .. } => "values_follow",
        }
    }
}

/// A copy of `body` with `key` set to `value` in its attachments. The frame around it must then announce the new length.
///
/// - A string that stands under `key` is replaced where it stands; the last one, if there are several.
/// - Otherwise the entry is put behind the others. When a value of another kind stands under `key` that one stays, and
///   the new one wins, as readers put entries into a map one after another.
/// - Null becomes a map with this entry.
///
/// # Errors
/// [`SpliceError`]; pass the body on unchanged then.
pub fn splice_attachment(
    body: &[u8],
    attachments: &AttachmentsRange,
    key: &str,
    value: &str,
) -> Result<Vec<u8>, SpliceError> {
    let (range, inside) = (attachments.range(), attachments.inside());
    let other_body = SpliceError::OtherBody {
        end: range.end,
        len: body.len(),
    };
    let dialect = attachments.dialect();
    let mut new = Encoder::new(dialect);
    let replaced = if attachments.is_null() {
        if range.end < body.len() {
            return Err(SpliceError::ValuesFollow { at: range.start });
        }
        new.map_begin(None);
        new.string(key).string(value).end();
        range
    } else {
        match attachments.entries(body).filter(|entry| entry.key == key).last() {
            Some(entry) if entry.value.is_some() => {
                new.string(value);
                entry.value_range
            }
            _ => {
                new.string(key).string(value);
                inside.end..inside.end
            }
        }
    };
    let new = new.finish();
    let before = body.get(..replaced.start).ok_or(other_body)?;
    let after = body.get(replaced.end..).ok_or(other_body)?;
    Ok([before, &new, after].concat())
}
