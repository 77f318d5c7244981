// SPDX-License-Identifier: Apache-2.0
//! A new connection shows that somebody is there before calls go over it.
//!
//! An application that is about to end still accepts connections, and closes each of them at once: Dubbo's server while it
//! closes (`AbstractServer.connected`), one that has as many as it takes (`accepts`), or the kernel for a process that is gone.
//! What had been written by then may have run, so its caller would hear of a failure. A heartbeat may be lost without harm.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Upstream;

impl Upstream {
    /// Sends a heartbeat, which greets where the protocol has greetings, and waits for the first byte, for a limited time: one that
    /// answers none gets calls all the same, and is not asked again. Nothing else was sent. True if the peer was greeted.
    ///
    /// # Errors
    /// Says in a few words how the connection ended.
    pub(super) async fn prove(&self, stream: &TcpStream) -> Result<bool, String> {
        if self.health.proves_nothing() {
            return Ok(false);
        }
        let id = self.table.borrow_mut().spare_id();
        let greeting = self.protocol.greeting(self.dialect);
        let is_greeted = greeting.is_some();
        let Some(heartbeat) = greeting.or_else(|| self.protocol.heartbeat(self.dialect, id)) else {
            return Ok(false);
        };
        match timeout(LIMIT, ask(stream, &heartbeat)).await {
            Ok(Ok(true)) => Ok(is_greeted),
            Ok(Ok(false)) => Err("accepted and closed at once".to_owned()),
            Ok(Err(error)) => Err(format!("accepted and closed at once: {error}")),
            Err(_) => {
                if !self.health.is_known_to_answer() {
                    self.health.has_proved_nothing();
                }
                Ok(is_greeted)
            }
        }
    }
}

/// Whether anything came.
async fn ask(stream: &TcpStream, heartbeat: &[u8]) -> std::io::Result<bool> {
    let mut rest = heartbeat;
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(stream.peek(&mut [0]).await? > 0)
}

/// Who closes does so at once; and whoever answers no heartbeats is not to wait long for his first call.
const LIMIT: Duration = Duration::from_millis(100);
