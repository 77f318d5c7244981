// SPDX-License-Identifier: Apache-2.0
//! What can be set of the front door.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use remora_registry::peers::Access;

use crate::wire::DEFAULT_MAX_FRAME;

/// Settings of one door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where applications connect.
    pub listen: SocketAddr,
    /// A second port, relayed without takeover, for operators' tools and, with the embedded registry, for other Remoras.
    pub raw: Option<SocketAddr>,
    /// Who may use the door at all; not the second port, which is another registry's matter.
    pub access: Access,
    /// Roots below which services are taken over, such as `/dubbo`; `None`: any path of that shape.
    pub service_roots: Option<Vec<String>>,
    /// Roots of application-level lists. Curator's and Dubbo's default is `/services`.
    pub application_roots: Vec<String>,
    /// Sessions and nodes are the embedded registry's, but the one that lists come from is another, which speaks another
    /// protocol: what applications publish must be brought there, too.
    pub keeps_publications: bool,
    /// Applications that start while the registry is away are served from what is known.
    pub stand_in: bool,
    /// Such applications turn to the registry within this time after it is back, each at its own moment.
    pub return_spread: Duration,
    /// Longest request taken, in bytes; ZooKeeper's `jute.maxbuffer`.
    pub max_frame_bytes: usize,
    /// Longest reply of the registry passed on, in bytes. Java clients take 1 to 4 MiB.
    pub max_reply_bytes: usize,
    /// Requests of one connection under way; more wait in its socket. A server's global limit is 1,000.
    pub max_outstanding: usize,
    /// Bytes kept for a peer that does not read; more are not read from the other side.
    pub buffer_bytes: usize,
    /// Connections at a time, both ports together. Beyond it, those that have not asked for a session make way.
    pub max_connections: usize,
    /// Lists that one session is shown; further ones are relayed as they are.
    pub max_lists: usize,
    /// How long the first read of a list waits until it is known. Dubbo gives up an operation after 30 s at the earliest.
    pub first_list_wait: Duration,
    /// Time for a connection to send its first frame, and for the registry to answer it.
    pub greeting_timeout: Duration,
    /// A peer that takes no byte for so long is cut off.
    pub write_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 2181)),
            raw: None,
            access: Access::default(),
            service_roots: None,
            application_roots: vec!["/services".to_owned()],
            keeps_publications: false,
            stand_in: true,
            return_spread: Duration::from_secs(2),
            max_frame_bytes: DEFAULT_MAX_FRAME,
            max_reply_bytes: 16 << 20,
            max_outstanding: 1_000,
            buffer_bytes: 1 << 20,
            max_connections: 10_000,
            max_lists: 50_000,
            first_list_wait: Duration::from_secs(3),
            greeting_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
        }
    }
}
