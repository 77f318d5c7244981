// SPDX-License-Identifier: Apache-2.0
//! Hot upgrade: a new process takes over from this one, in two acknowledged phases.
//!
//! ```text
//!  old (serves)                                  new (started by the old, the channel is its standard input)
//!   |  start ------------------------------------> |
//!   |  <------------------------------------ Hello |  which hand-over protocols it speaks, its version
//!   |  Ports (listening sockets, lock) ----------> |
//!   |  <--------------------------------- Prepared |  read and checked its configuration           1: prepare
//!   |  ............................................|............................................
//!   |  doors and registries let go                 |                                                2: commit
//!   |  Control ----------------------------------> |
//!   |  <------------------------------------ Ready |  everything is open, nothing is served
//!   |  the call path stops between two frames      |
//!   |  Connections* ConnectionsEnd --------------> |
//!   |  <------------------------------------ Taken |
//!   |  Go ---------------------------------------> |
//!   |  <---------------------------------- Serving |
//! ```
//! Up to `Go` every failure (an answer that does not come, `Refused`, the new process's end) makes the old one serve again
//! what it had, by the same steps with which the new one would have begun. Then it is over: the old process touches no
//! socket any more. Not here: what is handed over (`app::handover`, `call::handover`), known here as text, bytes and
//! descriptors only.

mod channel;
mod message;
mod predecessor;
mod request;
mod successor;
mod supervise;
#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelError, Letter};
pub use message::{Kind, Parcel};
pub use predecessor::{Offer, Predecessor};
pub use request::{Answer, Request, RequestError, Requests, ask};
pub use successor::{Binary, Successor};
pub use supervise::{Supervisor, adopt_orphans, become_supervisor, end_child, supervise};

/// Why an upgrade did not come about. The old process serves on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The new process could not be started.
    #[error("{binary} could not be started: {cause}")]
    Start {
        /// Its path.
        binary: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// It ended, or closed the channel.
    #[error("the new process ended when it had {step}{status}; its messages are in this Remora's log")]
    Ended {
        /// What it was expected to do.
        step: &'static str,
        /// How it ended, with a comma before it; empty if unknown.
        status: String,
    },
    /// It did not answer in time.
    #[error("the new process did not answer {step} within {seconds} s")]
    Late {
        /// What it was expected to do.
        step: &'static str,
        /// How long it had.
        seconds: u64,
    },
    /// It said why it cannot take over.
    #[error("the new process cannot take over: {why}")]
    Refused {
        /// Its words.
        why: String,
    },
    /// It speaks no hand-over protocol that we speak.
    #[error("the new process ({theirs}) does not understand how this one ({ours}) hands over; stop and start instead")]
    Version {
        /// Its version.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// The channel gave what is no message.
    #[error("the hand-over failed {step}: {cause}")]
    Channel {
        /// What was going on.
        step: &'static str,
        /// What was wrong.
        cause: ChannelError,
    },
    /// This process cannot hand over what it has.
    #[error("this process cannot hand over: {cause}")]
    Own {
        /// Why.
        cause: String,
    },
}

impl UpgradeError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Ended { .. } => "ended",
            Self::Late { .. } => "late",
            Self::Refused { .. } => "refused",
            Self::Version { .. } => "version",
            Self::Channel { .. } => "channel",
            Self::Own { .. } => "own",
        }
    }
}

/// The hand-over protocol of this build. It changes when an older process could misread a newer one, or the other way
/// round; fields that can be left out do not change it.
pub const PROTOCOL: u16 = 1;
