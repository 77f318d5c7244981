// SPDX-License-Identifier: Apache-2.0
//! The jute binary encoding: big endian numbers, strings and buffers with a 4-byte length (-1 is null), vectors with a
//! 4-byte count.
//!
//! Source: ZooKeeper `BinaryInputArchive` and `BinaryOutputArchive`.
//! A vector is never unpacked: a [`Seq`] keeps its wire form, so that a count costs no memory.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;

/// Reads fields off the front of a frame.
#[derive(Debug, Clone)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Starts at the first byte of `input`.
    pub fn new(input: Bytes) -> Self {
        Self { rest: input }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Everything not read yet.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// A view of what is not read yet, without taking it.
    pub fn peek(&self) -> Bytes {
        self.rest.clone()
    }

    /// One byte, signed as jute has it.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn byte(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.need(field, 1)?;
        Ok(self.rest.get_u8())
    }

    /// A boolean: any byte but 0 is true.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, WireError> {
        Ok(self.byte(field)? != 0)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn int(&mut self, field: &'static str) -> Result<i32, WireError> {
        self.need(field, 4)?;
        Ok(self.rest.get_i32())
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn long(&mut self, field: &'static str) -> Result<i64, WireError> {
        self.need(field, 8)?;
        Ok(self.rest.get_i64())
    }

    /// A buffer; `None` is jute's null.
    ///
    /// # Errors
    /// `Truncated`; `Length` below -1.
    pub fn buffer(&mut self, field: &'static str) -> Result<Option<Bytes>, WireError> {
        let length = self.int(field)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| WireError::Length { field, length })?;
        self.need(field, length)?;
        Ok(Some(self.rest.split_to(length)))
    }

    /// A string; null reads as the empty one.
    ///
    /// # Errors
    /// `Truncated`; `Length` below -1; `Utf8`.
    pub fn text(&mut self, field: &'static str) -> Result<Text, WireError> {
        let bytes = self.buffer(field)?.unwrap_or_default();
        Text::from_utf8(bytes).ok_or(WireError::Utf8 { field })
    }

    /// A vector; null reads as the empty one. Every item is checked here, so that walking the [`Seq`] cannot fail.
    ///
    /// # Errors
    /// Whatever an item meets; `Length` for a count below -1.
    pub fn seq<T: Record>(&mut self, field: &'static str) -> Result<Seq<T>, WireError> {
        let length = self.int(field)?;
        if length < -1 {
            return Err(WireError::Length { field, length });
        }
        let count = usize::try_from(length).unwrap_or(0);
        // Each item takes at least its smallest form; a count beyond that cannot be true.
        let needed = count.saturating_mul(T::MIN_BYTES);
        self.need(field, needed)?;
        let start = self.rest.clone();
        for _ in 0..count {
            T::read(self)?;
        }
        let wire = start.slice(..start.len() - self.rest.len());
        Ok(Seq {
            count,
            wire,
            item: PhantomData,
        })
    }

    fn need(&self, field: &'static str, needed: usize) -> Result<(), WireError> {
        let left = self.rest.len();
        if left < needed {
            return Err(WireError::Truncated { field, needed, left });
        }
        Ok(())
    }
}

/// A jute record.
pub trait Record: Sized {
    /// Size of the smallest one on the wire.
    const MIN_BYTES: usize;

    /// Takes one off the front.
    ///
    /// # Errors
    /// See [`WireError`].
    fn read(input: &mut Reader) -> Result<Self, WireError>;

    /// Appends it.
    fn write(&self, out: &mut BytesMut);
}

/// A string that shares the frame's buffer.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Bytes);

impl Text {
    /// The empty string.
    pub const fn empty() -> Self {
        Self(Bytes::new())
    }

    /// `None` if `bytes` are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        // Checking again costs a few ns per path and keeps this crate free of unsafe code.
        std::str::from_utf8(&self.0).expect("checked when made")
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl Record for Text {
    const MIN_BYTES: usize = 4;

    fn read(input: &mut Reader) -> Result<Self, WireError> {
        input.text("string")
    }

    fn write(&self, out: &mut BytesMut) {
        put_text(out, self);
    }
}

/// A vector in its wire form. Made by [`Reader::seq`] or collected from records.
pub struct Seq<T> {
    count: usize,
    wire: Bytes,
    item: PhantomData<fn() -> T>,
}

impl<T: Record> Seq<T> {
    /// The empty vector.
    pub const fn empty() -> Self {
        Self {
            count: 0,
            wire: Bytes::new(),
            item: PhantomData,
        }
    }

    /// Items in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Walks the items.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<T> {
        let mut input = Reader::new(self.wire.clone());
        (0..self.count).map_while(move |_| T::read(&mut input).ok())
    }

    /// Appends count and items.
    pub fn write(&self, out: &mut BytesMut) {
        out.reserve(4 + self.wire.len());
        out.put_i32(i32::try_from(self.count).unwrap_or(i32::MAX));
        out.put_slice(&self.wire);
    }
}

impl Seq<Text> {
    /// A vector of these strings, each copied once.
    pub fn of_strs<'a, I>(strings: I) -> Self
    where
        I: IntoIterator<Item = &'a str>,
        I::IntoIter: Clone,
    {
        let strings = strings.into_iter();
        let bytes = strings.clone().map(|string| string.len() + Text::MIN_BYTES).sum();
        let mut wire = BytesMut::with_capacity(bytes);
        let mut count = 0;
        for string in strings {
            put_text(&mut wire, string);
            count += 1;
        }
        let wire = wire.freeze();
        let item = PhantomData;
        Self { count, wire, item }
    }
}

impl<T: Record> FromIterator<T> for Seq<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut wire = BytesMut::new();
        let mut count = 0;
        for item in items {
            item.write(&mut wire);
            count += 1;
        }
        Self {
            count,
            wire: wire.freeze(),
            item: PhantomData,
        }
    }
}

impl<T> Clone for Seq<T> {
    fn clone(&self) -> Self {
        Self {
            count: self.count,
            wire: self.wire.clone(),
            item: PhantomData,
        }
    }
}

impl<T: Record> Default for Seq<T> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T> PartialEq for Seq<T> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.wire == other.wire
    }
}

impl<T> Eq for Seq<T> {}

impl<T: Record + fmt::Debug> fmt::Debug for Seq<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Appends a string.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
    out.put_slice(text.as_bytes());
}

/// Appends a buffer; `None` as jute's null.
pub fn put_buffer(out: &mut BytesMut, buffer: Option<&[u8]>) {
    match buffer {
        None => out.put_i32(-1),
        Some(bytes) => {
            out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.put_slice(bytes);
        }
    }
}
