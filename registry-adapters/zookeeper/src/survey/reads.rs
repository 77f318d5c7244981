// SPDX-License-Identifier: Apache-2.0
//! The only door to the session here: it can ask, and nothing else.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use remora_registry::survey::{Cost, Unread};
use tokio::task::JoinSet;

use super::limits::WINDOW;
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
}

impl Reads {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            shared: Arc::default(),
        }
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
