// SPDX-License-Identifier: Apache-2.0
//! Keys `mode` and `takeover`.

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// Key `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Addresses are swapped, as `takeover` says.
    #[default]
    Takeover,
    /// Everything is relayed as it is; what would be taken over is counted and shown.
    Observe,
}

impl Mode {
    /// Its word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Observe => "observe",
        }
    }
}

/// Key `takeover`: what is taken over. The default is everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Only what one of these names. Empty: everything.
    pub allow: Vec<Rule>,
    /// Nothing that one of these names, whatever `allow` says.
    pub deny: Vec<Rule>,
    /// Only what applications publish here (`provider`), only the lists that they are shown here (`consumer`), or both.
    pub side: Sides,
    /// Share of instances that is taken over, 0 to 100. Chosen by each instance's own address, and on the consumer side by
    /// this machine's: the same ones after a restart, and a larger share has all of a smaller one.
    pub percent: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            side: Sides::Both,
            percent: 100,
        }
    }
}

/// One entry of `allow` or `deny`: all parts that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Name of the service; of an application's entry in an application-level list, that application's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Pattern>,
    /// Name of the application beside this Remora, which publishes or follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Pattern>,
    /// Group of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Pattern>,
    /// One side only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Sides>,
}

impl Rule {
    /// Whether it says nothing, and so would name everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("service", self.service.as_ref().map(|p| p.0.as_str())),
            ("application", self.application.as_ref().map(|p| p.0.as_str())),
            ("group", self.group.as_ref().map(|p| p.0.as_str())),
            ("side", self.side.map(Sides::label)),
        ];
        let mut is_first = true;
        for (name, value) in parts {
            let Some(value) = value else { continue };
            write!(f, "{}{name}: {value}", if is_first { "" } else { ", " })?;
            is_first = false;
        }
        Ok(())
    }
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sides {
    /// Both.
    #[default]
    Both,
    /// Lists that applications here are shown.
    Consumer,
    /// What applications here publish.
    Provider,
}

impl Sides {
    /// Its word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Consumer => "consumer",
            Self::Provider => "provider",
        }
    }
}

/// A name, or with `*` at its end every name that begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Whether it names `name`. A name that is not known is named by `*` only.
    pub fn fits(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(begin) => name.starts_with(begin),
            None => self.0 == name,
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.strip_suffix('*').unwrap_or(text);
        if text.is_empty() {
            return Err("a name is empty; leave the key out to name all");
        }
        if body.contains('*') {
            return Err("`*` may stand at the end of a name only");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
