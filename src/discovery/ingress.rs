// SPDX-License-Identifier: Apache-2.0
//! What discovery hands to the call path when an application's port gets an ingress port of its own.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// An ingress port, already bound and listening, and the application behind it.
#[derive(Debug)]
pub struct IngressListener {
    /// Protocol plugin that speaks on it.
    pub protocol: Arc<str>,
    /// The bound socket (non-blocking).
    pub listener: TcpListener,
    /// Where the application listens, `127.0.0.1:<its own port>`; `None` for the configured first ingress port while no
    /// application has published yet (calls are answered with "no route").
    pub app: Option<SocketAddr>,
}

/// A change of the ingress table, sent from discovery to the call path over a bounded channel.
#[derive(Debug)]
pub enum IngressChange {
    /// Serve this port from now on.
    Open(IngressListener),
    /// The port's application is now at this address (its first publication, or it moved).
    Assign {
        /// The ingress port's local address.
        ingress: SocketAddr,
        /// Where the application listens.
        app: SocketAddr,
    },
    /// The port's application has taken back all that it published there and is about to stop, or it is back.
    Leaving {
        /// The ingress port's local address.
        ingress: SocketAddr,
        /// False when it is back.
        is_leaving: bool,
    },
}
