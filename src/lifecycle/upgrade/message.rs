// SPDX-License-Identifier: Apache-2.0
//! The words of the hand-over.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::channel::{ChannelError, Letter};

/// What a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// New: I am here.
    Hello = 1,
    /// Old: listening sockets.
    Ports = 2,
    /// Old: that was all; the lock of the data directory.
    Prepare = 3,
    /// New: my configuration is good.
    Prepared = 4,
    /// Old: what doors and registries had.
    Control = 5,
    /// New: everything is open.
    Ready = 6,
    /// Old: connections of the call path.
    Connections = 7,
    /// Old: that was all.
    ConnectionsEnd = 8,
    /// New: I have them.
    Taken = 9,
    /// Old: serve.
    Go = 10,
    /// New: I do.
    Serving = 11,
    /// Either: no, because.
    Refused = 12,
    /// To the process that stands in for the serving one: this is the serving one now.
    Serves = 13,
}

impl Kind {
    pub(super) fn of(number: u16) -> Option<Self> {
        const ALL: [Kind; 13] = [
            Kind::Hello,
            Kind::Ports,
            Kind::Prepare,
            Kind::Prepared,
            Kind::Control,
            Kind::Ready,
            Kind::Connections,
            Kind::ConnectionsEnd,
            Kind::Taken,
            Kind::Go,
            Kind::Serving,
            Kind::Refused,
            Kind::Serves,
        ];
        ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// A piece of what is handed over, in words of the room that hands it over.
#[derive(Debug, Default)]
pub struct Parcel {
    /// JSON.
    pub text: Vec<u8>,
    /// Bytes that the text speaks of.
    pub bytes: Vec<u8>,
    /// Descriptors that the text speaks of.
    pub fds: Vec<OwnedFd>,
}

impl Parcel {
    /// One of text alone.
    ///
    /// # Errors
    /// What `T` cannot be written as.
    pub fn of<T: Serialize>(text: &T) -> Result<Self, ChannelError> {
        Ok(Self {
            text: json(text)?,
            ..Self::default()
        })
    }

    /// Reads the text.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ChannelError> {
        serde_json::from_slice(&self.text).map_err(|_| ChannelError::Malformed("its text is not what it should be"))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The lowest and the highest protocol it speaks.
    pub(super) speaks: (u16, u16),
    pub(super) version: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PortText {
    pub(super) name: String,
    pub(super) asked: SocketAddr,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Prepare {
    pub(super) version: String,
    /// Whether the lock's descriptor comes along.
    pub(super) has_lock: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Go {
    /// Whether the channel to the process that stands in for us comes along.
    pub(super) has_supervisor: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) why: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) count: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Serves {
    pub(super) pid: i32,
}

/// Nothing but the kind.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Nothing {}

impl Letter {
    pub(super) fn new<T: Serialize>(kind: Kind, text: &T) -> Result<Self, ChannelError> {
        Ok(Self {
            kind: kind as u16,
            text: json(text)?,
            ..Self::default()
        })
    }

    pub(super) fn of_parcel(kind: Kind, parcel: Parcel) -> Self {
        Self {
            kind: kind as u16,
            text: parcel.text,
            bytes: parcel.bytes,
            fds: parcel.fds,
        }
    }

    pub(super) fn parcel(self) -> Parcel {
        Parcel {
            text: self.text,
            bytes: self.bytes,
            fds: self.fds,
        }
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ChannelError> {
        serde_json::from_slice(&self.text).map_err(|_| ChannelError::Malformed("its text is not what it should be"))
    }
}

fn json<T: Serialize>(text: &T) -> Result<Vec<u8>, ChannelError> {
    serde_json::to_vec(text).map_err(|_| ChannelError::Malformed("it cannot be written as text"))
}
