// SPDX-License-Identifier: Apache-2.0
//! Last known copies of nodes that are not discovery's: mappings, metadata, settings and rules that applications read.
//!
//! While the registry is there they are noted as replies pass. When it is away, the stand-in answers reads of a new session
//! from them; sessions of the registry still wait. What such a session writes is owed to the registry (`owed.rs`).
//! Kept of what anybody may read only: a session that authenticated leaves no copies.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use remora_naming::dubbo_url;
use remora_registry::sealed;
use tracing::warn;

use super::owed::Owed;
use super::stats::Stats;
use crate::wire::{ErrorCode, Reply};

/// A node as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Copy {
    /// Its data; `None` when nobody read that.
    pub(super) data: Option<Bytes>,
    /// Its children; `None` when nobody listed them.
    pub(super) children: Option<Vec<String>>,
    /// When it was last seen so, in seconds since 1970.
    at: u64,
}

/// The copies of one door, and what is owed to its registry.
#[derive(Default)]
pub(super) struct Copies {
    file: Option<PathBuf>,
    /// Which registry they are of.
    identity: String,
    stats: Arc<Stats>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    nodes: BTreeMap<String, Copy>,
    bytes: usize,
    owed: BTreeMap<String, Owed>,
    /// Not on disk yet.
    is_dirty: bool,
    is_full: bool,
}

impl Copies {
    pub(super) fn new(identity: &str, stats: &Arc<Stats>) -> Self {
        Self {
            identity: identity.to_owned(),
            stats: Arc::clone(stats),
            ..Self::default()
        }
    }

    /// Takes in what a former run left in `dir`, and writes there from now on.
    pub(super) fn remember_in(&mut self, dir: &Path, registry: &str) {
        let file = dir.join(format!("{FILE}-{}", dubbo_url::encode_component(registry)));
        let told = |error: &sealed::FileError| {
            warn!(registry, reason = error.reason(), %error, "last known copies of nodes cannot be read");
        };
        if let Some(content) = sealed::read(&file, FILE, told) {
            match Now::read(&content, &self.identity) {
                Some(now) => self.now = Mutex::new(now),
                None => warn!(
                    registry,
                    "last known copies of nodes are another registry's, and are not used"
                ),
            }
        }
        self.file = Some(file);
        self.count(&self.lock());
    }

    /// What is known of a node.
    pub(super) fn get(&self, path: &str) -> Option<Copy> {
        self.lock().nodes.get(path).cloned()
    }

    /// Notes what the registry answered to a read.
    pub(super) fn note(&self, path: &str, err: ErrorCode, reply: Option<&Reply>) {
        let mut now = self.lock();
        match reply {
            Some(Reply::Data { data, .. }) => {
                // The frame's buffer would stay for as long as the copy does.
                let data = Bytes::copy_from_slice(data.as_deref().unwrap_or_default());
                now.update(path, |copy| copy.data = Some(data));
            }
            Some(Reply::Children(children) | Reply::Children2 { children, .. }) => {
                let names: Vec<String> = children.iter().map(|name| name.to_string()).collect();
                now.only(path, &names);
                now.update(path, |copy| copy.children = Some(names));
            }
            _ if err == ErrorCode::NO_NODE => now.forget(path),
            _ => {}
        }
        self.count(&now);
    }

    /// A write of a stand-in's session that the registry is to be told.
    pub(super) fn owe(&self, path: &str, data: &Bytes) {
        let mut now = self.lock();
        let before = match now.owed.get(path) {
            Some(owed) => owed.before.clone(),
            None => now
                .nodes
                .get(path)
                .and_then(|copy| copy.data.clone())
                .unwrap_or_default(),
        };
        let owed = Owed {
            before,
            data: Bytes::copy_from_slice(data),
        };
        let others = now.owed.iter().filter(|(other, _)| *other != path);
        let (number, bytes) = others.fold((0, 0), |(number, bytes), (path, owed)| {
            (number + 1, bytes + owed.size(path))
        });
        let size = owed.size(path);
        if number >= MAX_OWED || size > MAX_NODE_BYTES || bytes + size > MAX_OWED_BYTES {
            return warn!(
                path,
                "what an application wrote is not kept for the registry, there is too much"
            );
        }
        now.owed.insert(path.to_owned(), owed);
        now.is_dirty = true;
        self.count(&now);
    }

    /// It is not owed any more, if it is still what was told.
    pub(super) fn paid(&self, path: &str, owed: &Owed) {
        let mut now = self.lock();
        if now.owed.get(path) == Some(owed) {
            now.owed.remove(path);
            now.is_dirty = true;
        }
        self.count(&now);
    }

    /// It was taken back before the registry heard of it.
    pub(super) fn forgive(&self, path: &str) {
        let mut now = self.lock();
        now.is_dirty |= now.owed.remove(path).is_some();
        self.count(&now);
    }

    /// All that is owed, those above before those below.
    pub(super) fn owed(&self) -> Vec<(String, Owed)> {
        let now = self.lock();
        now.owed
            .iter()
            .map(|(path, owed)| (path.clone(), owed.clone()))
            .collect()
    }

    /// What is to be written, if there is news; the caller writes it where it may block.
    pub(super) fn draft(&self) -> Option<Draft> {
        let file = self.file.clone()?;
        let mut now = self.lock();
        if !std::mem::take(&mut now.is_dirty) {
            return None;
        }
        let content = now.text(&self.identity).into_bytes();
        Some(Draft { file, content })
    }

    /// It could not be written: there is still news.
    pub(super) fn not_written(&self, error: &sealed::FileError) {
        warn!(reason = error.reason(), %error, "last known copies of nodes are not on disk");
        self.lock().is_dirty = true;
    }

    fn count(&self, now: &Now) {
        let set = |gauge: &std::sync::atomic::AtomicU64, value: usize| {
            gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        set(&self.stats.copies, now.nodes.len());
        set(&self.stats.owed, now.owed.len());
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of the file.
pub(super) struct Draft {
    file: PathBuf,
    content: Vec<u8>,
}

impl Draft {
    /// Blocks until it is on disk.
    pub(super) fn write(&self) -> Result<(), sealed::FileError> {
        sealed::write(&self.file, FILE, &self.content)
    }
}

impl Now {
    fn update(&mut self, path: &str, change: impl FnOnce(&mut Copy)) {
        let before = self.nodes.get(path).cloned();
        let mut copy = before.clone().unwrap_or_default();
        change(&mut copy);
        let (was, is) = (before.as_ref().map_or(0, |old| size(path, old)), size(path, &copy));
        let is_too_big = is > MAX_NODE_BYTES || self.bytes.saturating_sub(was).saturating_add(is) > MAX_BYTES;
        if is_too_big || (before.is_none() && self.nodes.len() >= MAX_NODES) {
            if !std::mem::replace(&mut self.is_full, true) {
                warn!(path, "there are more nodes than are kept for an outage of the registry");
            }
            // One that changed is not known any more.
            return self.forget(path);
        }
        // That it is still the same is written down now and then only.
        let is_same = before
            .as_ref()
            .is_some_and(|old| old.data == copy.data && old.children == copy.children);
        copy.at = now_s();
        self.is_dirty |= !is_same || before.is_some_and(|old| copy.at.saturating_sub(old.at) > SEEN_AGAIN.as_secs());
        self.bytes = self.bytes.saturating_sub(was).saturating_add(is);
        self.nodes.insert(path.to_owned(), copy);
    }

    /// There is no such node, and none below it.
    fn forget(&mut self, path: &str) {
        let below = format!("{path}/");
        let gone: Vec<String> = self
            .nodes
            .range(path.to_owned()..)
            .map(|(at, _)| at)
            .take_while(|at| at.starts_with(path))
            .filter(|at| *at == path || at.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            if let Some(copy) = self.nodes.remove(&path) {
                self.bytes = self.bytes.saturating_sub(size(&path, &copy));
                self.is_dirty = true;
            }
        }
    }

    /// These are all children of a node.
    fn only(&mut self, path: &str, names: &[String]) {
        let former = self.nodes.get(path).and_then(|copy| copy.children.clone());
        // There may be ten thousand on either side.
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        for name in former
            .into_iter()
            .flatten()
            .filter(|name| !names.contains(name.as_str()))
        {
            self.forget(&format!("{path}/{name}"));
        }
    }

    fn text(&self, identity: &str) -> String {
        let code = dubbo_url::encode_component;
        let mut text = format!("of {}\n", code(identity));
        for (path, copy) in &self.nodes {
            let data = copy.data.as_deref().map_or("-".to_owned(), hex);
            let children = match &copy.children {
                None => "-".to_owned(),
                Some(names) => format!("[{}", names.iter().map(|name| code(name)).collect::<Vec<_>>().join(",")),
            };
            text.push_str(&format!("node {} {} {data} {children}\n", copy.at, code(path)));
        }
        for (path, owed) in &self.owed {
            text.push_str(&format!(
                "owed {} {} {}\n",
                code(path),
                hex(&owed.before),
                hex(&owed.data)
            ));
        }
        text
    }

    /// `None` when it is of another registry. Its checksum is right, so lines that cannot be read are a newer version's.
    fn read(content: &[u8], identity: &str) -> Option<Self> {
        let content = String::from_utf8_lossy(content);
        let mut lines = content.lines();
        let of = lines.next()?.strip_prefix("of ")?;
        if dubbo_url::decode_component(of).ok()? != identity {
            return None;
        }
        let mut now = Self::default();
        let oldest = now_s().saturating_sub(MAX_AGE.as_secs());
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["node", at, path, data, children] => {
                    if let Some((path, copy)) = node(at, path, data, children).filter(|(_, copy)| copy.at >= oldest)
                        && now.nodes.len() < MAX_NODES
                    {
                        now.bytes = now.bytes.saturating_add(size(&path, &copy));
                        now.nodes.insert(path, copy);
                    }
                }
                ["owed", path, before, data] => {
                    if let (Ok(path), Some(before), Some(data)) =
                        (dubbo_url::decode_component(path), unhex(before), unhex(data))
                    {
                        now.owed.insert(path, Owed { before, data });
                    }
                }
                _ => {}
            }
        }
        Some(now)
    }
}

fn node(at: &str, path: &str, data: &str, children: &str) -> Option<(String, Copy)> {
    let decoded = |text: &str| dubbo_url::decode_component(text).ok();
    let copy = Copy {
        at: at.parse().ok()?,
        data: match data {
            "-" => None,
            data => Some(unhex(data)?),
        },
        children: match children.strip_prefix('[') {
            None => None,
            Some("") => Some(Vec::new()),
            Some(names) => Some(names.split(',').map(decoded).collect::<Option<_>>()?),
        },
    };
    Some((decoded(path)?, copy))
}

fn size(path: &str, copy: &Copy) -> usize {
    let data = copy.data.as_ref().map_or(0, Bytes::len);
    let names: usize = copy.children.iter().flatten().map(|name| name.len() + NAME_BYTES).sum();
    path.len().saturating_add(data).saturating_add(names)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    let mut text = String::with_capacity(bytes.len() * 2 + 1);
    // A mark before it, so that no data is a word, too.
    text.push('x');
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
    text
}

fn unhex(text: &str) -> Option<Bytes> {
    let digits = text.strip_prefix('x')?.as_bytes();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

const FILE: &str = "zookeeper-copies";
/// A shop with 2,000 interfaces has as many mappings, and rules for some of them.
const MAX_NODES: usize = 10_000;
const MAX_BYTES: usize = 8 << 20;
/// ZooKeeper's own limit of a node's data.
const MAX_NODE_BYTES: usize = 1 << 20;
const MAX_OWED: usize = 2_000;
/// As for what is known: a few kilobytes a node.
const MAX_OWED_BYTES: usize = 8 << 20;
/// What a name costs beside its bytes.
const NAME_BYTES: usize = 24;
/// A copy that nobody has seen for so long is another time's.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How exactly it is known on disk when a node was last seen.
const SEEN_AGAIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
