// SPDX-License-Identifier: Apache-2.0
//! What is handed over as text, bytes and descriptors: some connections a part.
//!
//! The text says how many bytes belong to what, in order: of each connection the beginning of a frame, what was not yet
//! written, and what is kept of each call. Numbers from another process are checked before they are used.

use std::net::TcpStream;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::super::callback::handover::CallbackText;
use super::super::connection::handover::{DownstreamText, FrozenDownstream};
use super::super::dispatch::handover::CallText;
use super::super::upstream::connection::handover::{FrozenUpstream, UpstreamText};
use super::super::wire::handover::{FrozenWire, WireText};
use super::Frozen;

/// A message's worth of connections.
#[derive(Debug, Default)]
pub struct Part {
    /// JSON.
    pub text: Vec<u8>,
    /// What the text counts off.
    pub bytes: Vec<u8>,
    /// One for each connection, in order.
    pub fds: Vec<OwnedFd>,
}

/// A part cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Its text is of another build, or damaged.
    #[error("connections handed over cannot be read: {0}")]
    Text(serde_json::Error),
    /// The text speaks of more than there is, or of less.
    #[error("connections handed over have other {0} than they say")]
    Mismatch(&'static str),
}

impl HandoverError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Mismatch(_) => "mismatch",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct PartText {
    /// The worker that had them: what belongs together is on one.
    worker: usize,
    connections: Vec<ConnectionText>,
}

#[derive(Serialize, Deserialize)]
struct ConnectionText {
    is_connected: bool,
    rest_len: usize,
    out_len: usize,
    wire: WireText,
    which: Which,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Which {
    Downstream(DownstreamText, Vec<(CallbackText, usize)>),
    Upstream(UpstreamText, Vec<(CallText, usize)>),
}

/// Makes parts of what workers had.
///
/// # Errors
/// `Text`, which cannot happen with texts of ours.
pub fn into_parts(frozen: Vec<Frozen>) -> Result<Vec<Part>, HandoverError> {
    let mut parts = Vec::new();
    for (worker, frozen) in frozen.into_iter().enumerate() {
        let mut open = Open::new(worker);
        for one in frozen.downstreams {
            let mut bytes = Vec::new();
            let callbacks = one.callbacks.into_iter().map(|(text, kept)| {
                bytes.extend_from_slice(&kept);
                (text, kept.len())
            });
            let which = Which::Downstream(one.text, callbacks.collect());
            open.put(one.wire, which, &bytes, &mut parts)?;
        }
        for one in frozen.upstreams {
            let mut bytes = Vec::new();
            let calls = one.calls.into_iter().map(|(text, kept)| {
                bytes.extend_from_slice(&kept);
                (text, kept.len())
            });
            let which = Which::Upstream(one.text, calls.collect());
            open.put(one.wire, which, &bytes, &mut parts)?;
        }
        open.close(&mut parts)?;
    }
    Ok(parts)
}

/// A part that is being filled.
struct Open {
    text: PartText,
    part: Part,
}

impl Open {
    fn new(worker: usize) -> Self {
        Self {
            text: PartText {
                worker,
                connections: Vec::new(),
            },
            part: Part::default(),
        }
    }

    fn put(&mut self, wire: FrozenWire, which: Which, kept: &[u8], parts: &mut Vec<Part>) -> Result<(), HandoverError> {
        self.text.connections.push(ConnectionText {
            is_connected: wire.stream.is_some(),
            rest_len: wire.rest.len(),
            out_len: wire.out.len(),
            wire: wire.text,
            which,
        });
        for bytes in [&wire.rest[..], &wire.out, kept] {
            self.part.bytes.extend_from_slice(bytes);
        }
        self.part.fds.extend(wire.stream.map(OwnedFd::from));
        if self.text.connections.len() >= CONNECTIONS_MAX || self.part.bytes.len() >= BYTES_MAX {
            self.close(parts)?;
        }
        Ok(())
    }

    fn close(&mut self, parts: &mut Vec<Part>) -> Result<(), HandoverError> {
        let fresh = Self::new(self.text.worker);
        let mut full = std::mem::replace(self, fresh);
        if !full.text.connections.is_empty() {
            full.part.text = serde_json::to_vec(&full.text).map_err(HandoverError::Text)?;
            parts.push(full.part);
        }
        Ok(())
    }
}

/// Reads parts; gives what each worker of the other process had.
///
/// # Errors
/// See [`HandoverError`]; nothing is used then.
pub fn of_parts(parts: Vec<Part>) -> Result<Vec<Frozen>, HandoverError> {
    let mut workers: Vec<(usize, Frozen)> = Vec::new();
    for part in parts {
        let text: PartText = serde_json::from_slice(&part.text).map_err(HandoverError::Text)?;
        let (mut bytes, mut fds) = (&part.bytes[..], part.fds.into_iter());
        let at = workers.iter().position(|(worker, _)| *worker == text.worker);
        let at = at.unwrap_or_else(|| {
            workers.push((text.worker, Frozen::default()));
            workers.len() - 1
        });
        let frozen = &mut workers[at].1;
        for one in text.connections {
            let stream = match one.is_connected {
                true => Some(TcpStream::from(
                    fds.next().ok_or(HandoverError::Mismatch("descriptors"))?,
                )),
                false => None,
            };
            let wire = FrozenWire {
                text: one.wire,
                stream,
                rest: take(&mut bytes, one.rest_len)?,
                out: take(&mut bytes, one.out_len)?,
            };
            match one.which {
                Which::Downstream(text, callbacks) => {
                    let callbacks = callbacks
                        .into_iter()
                        .map(|(text, len)| Ok((text, take(&mut bytes, len)?)));
                    let callbacks = callbacks.collect::<Result<_, HandoverError>>()?;
                    frozen.downstreams.push(FrozenDownstream { text, wire, callbacks });
                }
                Which::Upstream(text, calls) => {
                    let calls = calls.into_iter().map(|(text, len)| Ok((text, take(&mut bytes, len)?)));
                    let calls = calls.collect::<Result<_, HandoverError>>()?;
                    frozen.upstreams.push(FrozenUpstream { text, wire, calls });
                }
            }
        }
        if !bytes.is_empty() || fds.next().is_some() {
            return Err(HandoverError::Mismatch("bytes"));
        }
    }
    Ok(workers.into_iter().map(|(_, frozen)| frozen).collect())
}

fn take(bytes: &mut &[u8], len: usize) -> Result<Vec<u8>, HandoverError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(HandoverError::Mismatch("bytes"))?;
    *bytes = rest;
    Ok(taken.to_vec())
}

/// Below what the system takes in one message.
const CONNECTIONS_MAX: usize = 100;
/// A part is closed above; one connection alone may have more.
const BYTES_MAX: usize = 4 << 20;
