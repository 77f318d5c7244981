// SPDX-License-Identifier: Apache-2.0
//! What can be set of the front door.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use remora_registry::peers::Access;

/// Settings of one door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients ask for the session servers, over HTTP. SOFARPC's registry address.
    pub listen: SocketAddr,
    /// The session server. A client is told this port, at the address that it asked on if this one is the unspecified.
    pub session: SocketAddr,
    /// Who may use the door at all.
    pub access: Access,
    /// How long what a lost connection published stays. Clients come back within 0.5 s as long as the port listens.
    pub grace: Duration,
    /// A connection that sends nothing for so long is closed. Clients probe after 15 s; a real session server waits 45 s.
    pub idle_limit: Duration,
    /// How long a subscriber waits for a list that is not known yet before it is shown an empty one. A real session server
    /// pushes nothing until it knows; SOFARPC waits up to 30 s at its start, and goes on with an empty list.
    pub first_list_wait: Duration,
    /// Least time between two pushes of one list to one client. A real session server's is 0.5 to 1 s.
    pub debounce: Duration,
    /// How long a client may take to answer a push, then it is pushed again. A real session server's is 2 s.
    pub push_timeout: Duration,
    /// A peer that takes no byte for so long is cut off.
    pub write_timeout: Duration,
    /// Connections at a time, each port by itself. Beyond it, those that registered nothing make way.
    pub max_connections: usize,
    /// Registrations of one connection. SOFARPC makes one for a provider and two for a consumer.
    pub max_registrations: usize,
    /// Bytes of data that the publishers of one connection may hold.
    pub max_data_bytes: usize,
    /// Longest frame taken, in bytes. Clients send one registration a frame.
    pub max_frame_bytes: usize,
    /// Bytes kept for a peer that does not read; no more is pushed or read from it then.
    pub buffer_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9603)),
            session: SocketAddr::from((Ipv4Addr::LOCALHOST, 9600)),
            access: Access::default(),
            grace: Duration::from_secs(3),
            idle_limit: Duration::from_secs(45),
            first_list_wait: Duration::from_secs(10),
            debounce: Duration::from_millis(500),
            push_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(30),
            max_connections: 1_000,
            max_registrations: 50_000,
            max_data_bytes: 16 << 20,
            max_frame_bytes: 4 << 20,
            buffer_bytes: 1 << 20,
        }
    }
}
