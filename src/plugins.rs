// SPDX-License-Identifier: Apache-2.0
//! The one list of protocols and registries that are compiled in.
//!
//! A binary of your own adds to it and is otherwise the same:
//!
//! ```no_run
//! use std::{process::ExitCode, sync::Arc};
//! # use remora_dubbo::Dubbo as MyProtocol;
//!
//! fn main() -> ExitCode {
//!     remora::cli::main(remora::Plugins::default().with_protocol(Arc::new(MyProtocol)))
//! }
//! ```

use std::sync::Arc;

use remora_protocol::Protocol;

use crate::config::Served;

/// What this build speaks.
#[derive(Clone, Debug)]
pub struct Plugins {
    protocols: Vec<Arc<dyn Protocol>>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            protocols: vec![Arc::new(remora_dubbo::Dubbo), Arc::new(remora_bolt::Bolt)],
        }
    }
}

impl Plugins {
    /// Adds a protocol; its ports stand under `protocols.<name>` of the configuration. A second one of the same name
    /// replaces the first.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Arc<dyn Protocol>) -> Self {
        self.protocols.retain(|known| known.name() != protocol.name());
        self.protocols.push(protocol);
        self
    }

    /// Every protocol.
    pub fn protocols(&self) -> &[Arc<dyn Protocol>] {
        &self.protocols
    }

    /// Names, for checking a configuration.
    pub fn served(&self) -> Served {
        Served {
            protocols: self.protocols.iter().map(|protocol| protocol.name()).collect(),
            registries: vec!["embedded", "zookeeper", "sofaregistry", "file"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remora_protocol::{Sniff, StreamId};

    #[test]
    fn no_two_protocols_claim_the_same_first_bytes() {
        let plugins = Plugins::default();
        for speaker in plugins.protocols() {
            for dialect in 0..=u8::MAX {
                let Some(first) = speaker.heartbeat(dialect, StreamId(1)) else {
                    continue;
                };
                for protocol in plugins.protocols() {
                    let expected = if protocol.name() == speaker.name() {
                        Sniff::Yes
                    } else {
                        Sniff::No
                    };
                    let (told, teller) = (speaker.name(), protocol.name());
                    assert_eq!(protocol.sniff(&first), expected, "{told} dialect {dialect} to {teller}");
                }
            }
        }
        for byte in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let first = [byte, second, 0, 0, 0, 0, 0, 0];
                let claims = plugins.protocols().iter().filter(|p| p.sniff(&first) == Sniff::Yes);
                assert!(claims.count() <= 1, "{first:02x?}");
            }
        }
    }
}
