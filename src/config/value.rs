// SPDX-License-Identifier: Apache-2.0
//! Values that configuration keys have: sizes, durations, port ranges, doors that may be `off`.
//!
//! Each parses from its text and prints back to it; a parse error says what is allowed. Rooms use them in their own
//! `Config`. Not here: registry addresses (`registry_url.rs`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};

/// A value's text could not be read. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a size.
    #[error("`{0}` is not a size; allowed: a number of bytes, or a number with KiB, MiB or GiB, such as 8MiB")]
    Size(String),
    /// Not a duration.
    #[error("`{0}` is not a duration; allowed: a number with ms, s, m or h, such as 30s")]
    Duration(String),
    /// Not a port range.
    #[error("`{0}` is not a port range; allowed: FIRST-LAST with 1 <= FIRST <= LAST <= 65535, such as 20900-20999")]
    PortRange(String),
    /// Not a registry address.
    #[error(
        "`{0}` is not a registry; allowed: embedded, zookeeper://h1:2181,h2:2181/chroot, sofaregistry://h1:9603,h2:9603?zone=ZONE&dataCenter=DC, file:///path.yaml"
    )]
    Registry(String),
    /// Not an address.
    #[error("`{0}` is not an address; allowed: IP:PORT, such as 127.0.0.1:2181 or [::1]:2181")]
    Address(String),
}

impl ValueError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Size(_) => "bad_size",
            Self::Duration(_) => "bad_duration",
            Self::PortRange(_) => "bad_port_range",
            Self::Registry(_) => "bad_registry",
            Self::Address(_) => "bad_address",
        }
    }
}

/// A number of bytes, written `8MiB`, `64KiB` or `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a length; on 32-bit machines the largest one if it does not fit.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Size(text.to_owned());
        let (digits, unit) = SIZE_UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits, *unit)))
            .unwrap_or((text, 1));
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS
            .iter()
            .find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit))
        {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A length of time, written `500ms`, `30s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SPAN_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Duration(text.to_owned());
        let (digits, ms) = SPAN_UNITS
            .iter()
            .find_map(|(name, ms)| text.strip_suffix(name).map(|digits| (digits, *ms)))
            .ok_or_else(wrong)?;
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        let ms = number.checked_mul(ms).ok_or_else(wrong)?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (name, unit) = SPAN_UNITS
            .iter()
            .rev()
            .find(|(_, unit)| ms >= *unit && ms.is_multiple_of(*unit))
            .unwrap_or(&SPAN_UNITS[0]);
        write!(f, "{}{name}", ms / unit)
    }
}

/// Ports from `first` to `last`, both included, written `20900-20999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port, at least 1.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` lies in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::PortRange(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let first: u16 = first.trim().parse().map_err(|_| wrong())?;
        let last: u16 = last.trim().parse().map_err(|_| wrong())?;
        if first == 0 || first > last {
            return Err(wrong());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// An address to listen on or to dial, written `127.0.0.1:2181`. Names are not resolved: a door's host must be plain to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub std::net::SocketAddr);

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self).map_err(|_| ValueError::Address(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a `FromStr` value from a YAML string or number and prints it by `Display`.
macro_rules! text_value {
    ($type:ty, $expecting:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(crate) use text_value;

text_value!(ByteSize, "a size such as 8MiB");
text_value!(Span, "a duration such as 30s");
text_value!(PortRange, "a port range such as 20900-20999");
text_value!(Address, "an address such as 127.0.0.1:2181");

/// Something that listens and may be switched off: a map of its keys, or the word `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door<T> {
    /// Not opened.
    Off,
    /// Opened so.
    On(T),
}

impl<T> Door<T> {
    /// What is opened, if anything.
    pub fn on(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(door) => Some(door),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Door<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrMap<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OffOrMap<T> {
            type Value = Door<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off` or a map of the door's keys")
            }
            // YAML 1.1 readers take a bare `off` for false.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Door<T>, E> {
                match on {
                    false => Ok(Door::Off),
                    true => Err(E::invalid_value(de::Unexpected::Bool(true), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Door<T>, E> {
                match text {
                    "off" => Ok(Door::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Door<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Door::On)
            }
        }
        deserializer.deserialize_any(OffOrMap(std::marker::PhantomData))
    }
}

impl<T: Serialize> Serialize for Door<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(door) => door.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_print_as_they_are_written() {
        for text in ["8MiB", "64KiB", "1GiB", "100", "0"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["500ms", "30s", "5m", "1h", "90s", "0ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("8MiB".parse::<ByteSize>().unwrap(), ByteSize(8 << 20));
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        for text in ["8MB", "", "-1", "99999999999GiB", "1.5MiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["30", "s", "1d", "-1s", "18446744073709551615h"] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(
                error.to_string().contains("allowed: a number with ms, s, m or h"),
                "{text}"
            );
        }
        for text in ["20999-20900", "0-5", "1-70000", "20900", "a-b"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
        assert!("localhost:2181".parse::<Address>().is_err());
    }
}
