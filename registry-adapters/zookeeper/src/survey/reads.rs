// SPDX-License-Identifier: Apache-2.0
//! The only door to the session here: it can ask, and nothing else.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use remora_registry::survey::{Cost, Unread};
use tokio::task::JoinSet;

use super::limits::{MAX_BYTES, WINDOW};
use crate::client::{Client, ClientError};
use crate::wire::{ErrorCode, Stat};

/// Reads on one session. Clones share the count and what could not be read.
#[derive(Clone)]
pub(super) struct Reads {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    reads: AtomicU64,
    bytes: AtomicU64,
    unread: Mutex<Vec<Unread>>,
    max_bytes: u64,
    /// Something was not read, because there was too much before it.
    is_cut: AtomicBool,
}

impl Reads {
    pub(super) fn new(client: Client) -> Self {
        Self::up_to(MAX_BYTES, client)
    }

    fn up_to(max_bytes: u64, client: Client) -> Self {
        let shared = Shared {
            max_bytes,
            ..Shared::default()
        };
        Self {
            client,
            shared: Arc::new(shared),
        }
    }

    /// Whether names or data were left out, because there was too much before them.
    pub(super) fn is_cut(&self) -> bool {
        self.shared.is_cut.load(Ordering::Relaxed)
    }

    /// Whether there is room for one more answer.
    fn has_room(&self) -> bool {
        let has_room = self.shared.bytes.load(Ordering::Relaxed) < self.shared.max_bytes;
        if !has_room {
            self.shared.is_cut.store(true, Ordering::Relaxed);
        }
        has_room
    }

    pub(super) fn server(&self) -> &str {
        self.client.server()
    }

    pub(super) fn cost(&self) -> Cost {
        Cost {
            reads: self.shared.reads.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
        }
    }

    /// What the registry refused so far.
    pub(super) fn unread(&self) -> Vec<Unread> {
        let unread = self.shared.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.clone()
    }

    /// Figures of a node; `None` if it is absent or may not be looked at.
    pub(super) async fn stat(&self, path: &str) -> Result<Option<Stat>, ClientError> {
        let read = self.client.exists(path, None).await;
        self.seen(path, 0, read.transpose())
    }

    /// Names below a node, sorted; none if it is absent or may not be read.
    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>, ClientError> {
        if !self.has_room() {
            return Ok(Vec::new());
        }
        let read = self.client.children(path, None).await.map(|children| {
            let mut names: Vec<String> = children.iter().map(|c| c.as_str().to_owned()).collect();
            names.sort_unstable();
            names
        });
        let bytes = read.as_ref().map_or(0, |names| bytes_of(names));
        Ok(self.seen(path, bytes, Some(read))?.unwrap_or_default())
    }

    /// Data of a node; `None` if it is absent or may not be read.
    pub(super) async fn data(&self, path: &str) -> Result<Option<(Bytes, Stat)>, ClientError> {
        if !self.has_room() {
            return Ok(None);
        }
        // A copy, so that the read buffer does not stay with it.
        let read = self.client.data(path, None).await;
        let read = read.map(|(data, stat)| (Bytes::copy_from_slice(&data), stat));
        let bytes = read.as_ref().map_or(0, |(data, _)| data.len());
        self.seen(path, bytes, Some(read))
    }

    /// Asks for all of them, so many at a time; answers in the order of the questions. The first one that breaks ends it.
    pub(super) async fn each<I, T, F, R>(&self, items: Vec<I>, ask: F) -> Result<Vec<T>, ClientError>
    where
        F: Fn(Self, I) -> R,
        R: Future<Output = Result<T, ClientError>> + Send + 'static,
        T: Send + 'static,
    {
        let mut answers: Vec<Option<T>> = Vec::new();
        answers.resize_with(items.len(), || None);
        let mut items = items.into_iter().enumerate();
        // Dropped when this future is: no read outlives it.
        let mut running = JoinSet::new();
        loop {
            while running.len() < WINDOW {
                let Some((at, item)) = items.next() else { break };
                let question = ask(self.clone(), item);
                running.spawn(async move { (at, question.await) });
            }
            let Some(done) = running.join_next().await else { break };
            let Ok((at, answer)) = done else { continue };
            let answer = answer?;
            if let Some(place) = answers.get_mut(at) {
                *place = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Counts an answer; one that the server refuses is noted, one that did not come is an error.
    fn seen<T>(
        &self,
        path: &str,
        bytes: usize,
        read: Option<Result<T, ClientError>>,
    ) -> Result<Option<T>, ClientError> {
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        match read {
            None => Ok(None),
            Some(Ok(answer)) => Ok(Some(answer)),
            Some(Err(error)) if error.is_no_node() => Ok(None),
            Some(Err(error)) => match error.code() {
                Some(code) => {
                    let mut unread = self.shared.unread.lock().unwrap_or_else(PoisonError::into_inner);
                    if unread.len() < MAX_UNREAD {
                        unread.push(Unread {
                            place: path.to_owned(),
                            is_forbidden: code == ErrorCode::NO_AUTH,
                            cause: words(code),
                        });
                    }
                    Ok(None)
                }
                None => Err(error),
            },
        }
    }
}

fn bytes_of(names: &[String]) -> usize {
    names.iter().map(|name| name.len() + 4).sum()
}

fn words(code: ErrorCode) -> String {
    match code {
        ErrorCode::NO_AUTH => "these credentials may not read it".to_owned(),
        code => format!("error {}", code.0),
    }
}

/// More say nothing new.
const MAX_UNREAD: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Embedded;
    use crate::client::{Options, SessionState};
    use crate::embedded::{self, Server};
    use crate::wire::CreateMode;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_registry_without_end_is_read_up_to_a_limit() {
        let server = Server::in_memory(embedded::Options::default());
        let stop = CancellationToken::new();
        let client = Client::start(Arc::new(Embedded::new(server)), Options::default(), stop.clone());
        let is_up = |state: &SessionState| matches!(state, SessionState::Up { .. });
        client.state().wait_for(is_up).await.unwrap();
        let data = Bytes::from(vec![b'x'; 1000]);
        for name in ["/a", "/b", "/c", "/d"] {
            client.create(name, data.clone(), CreateMode::Persistent).await.unwrap();
        }
        let reads = Reads::up_to(2500, client);
        let mut read = 0;
        for name in ["/a", "/b", "/c", "/d"] {
            read += usize::from(reads.data(name).await.unwrap().is_some());
            assert_eq!(reads.is_cut(), name == "/d");
        }
        assert_eq!(read, 3);
        assert!(reads.children("/").await.unwrap().is_empty());
        assert!(reads.cost().bytes <= 3500);
        stop.cancel();
    }
}
