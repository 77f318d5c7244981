// SPDX-License-Identifier: Apache-2.0
//! What was pushed for one subject, segment by segment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use remora_naming::sofa::{Service, line};
use remora_registry::Instance;
use tracing::warn;

use crate::wire::Zones;

/// Everything that is published under a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// By data centre, those that count.
    pub segments: Vec<Arc<Segment>>,
}

/// What one data centre knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Name of the data centre.
    pub name: String,
    /// Version of the push.
    pub version: i64,
    /// The zone that we are in, as the server sees it.
    pub local_zone: Option<String>,
    /// Data by zone.
    pub zones: Zones,
}

/// The configuration of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedConfig {
    /// Version of the push.
    pub version: i64,
    /// The configuration; `None` if there is none.
    pub data: Option<String>,
}

/// The segments of one subject with the connections on which they came.
#[derive(Debug, Default)]
pub(super) struct Segments(BTreeMap<String, (u64, Arc<Segment>)>);

impl Segments {
    /// Takes a push in; says whether it counts. On one connection versions grow, as for Java clients. The first push on a
    /// new connection counts whatever its version: a registry that came back emptied, or with a clock that ran backwards,
    /// would not be believed for ever. What that does to a list is judged by the proxy's discovery. Nobody judges what is
    /// relayed (`is_relayed`): there, as for Java clients, a server that knows nothing of a subject changes nothing.
    pub(super) fn take(&mut self, connection: u64, segment: Arc<Segment>, is_relayed: bool) -> bool {
        let known = self.0.get(&segment.name);
        if is_relayed && known.is_some() && segment.version <= NOTHING_KNOWN {
            return false;
        }
        if known.is_some_and(|(on, known)| *on == connection && segment.version <= known.version) {
            return false;
        }
        let name = segment.name.clone();
        let is_news = known.is_none_or(|(_, known)| *known != segment);
        self.0.insert(name, (connection, segment));
        is_news
    }

    /// What counts: all of them, unless the server said which ones do.
    pub(super) fn received(&self, available: Option<&HashSet<String>>) -> Received {
        let counts = |name: &String| available.is_none_or(|available| available.contains(name));
        let segments = self.0.iter().filter(|(name, _)| counts(name));
        Received {
            segments: segments.map(|(_, (_, segment))| Arc::clone(segment)).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The lines of a service, read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_line: HashMap<Arc<str>, Option<Arc<Instance>>>,
}

impl Lines {
    /// Reads the lines of every segment and zone; a line that stands there twice is one instance. Those that were there
    /// before stay the same instances.
    pub(super) fn read(&mut self, service: &Service, received: &Received) {
        let zones = received.segments.iter().flat_map(|segment| &segment.zones);
        let mut now = HashMap::new();
        for line in zones.flat_map(|(_, lines)| lines) {
            if line.trim().is_empty() || now.contains_key(line.as_str()) {
                continue;
            }
            let (line, instance) = match self.by_line.remove_entry(line.as_str()) {
                Some(known) => known,
                None => (Arc::from(line.as_str()), read(service, line)),
            };
            now.insert(line, instance);
        }
        self.by_line = now;
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.by_line.values().flatten()
    }

    /// Lines that could not be read.
    pub(super) fn malformed(&self) -> impl Iterator<Item = &Arc<str>> {
        let odd = self.by_line.iter().filter(|(_, instance)| instance.is_none());
        odd.map(|(line, _)| line)
    }
}

/// Version of a push for a subject that the server has never heard of (`ValueConstants.DEFAULT_NO_DATUM_VERSION`).
const NOTHING_KNOWN: i64 = 1;

fn read(service: &Service, text: &str) -> Option<Arc<Instance>> {
    match line::parse(text, service) {
        Ok(mut instance) => {
            // Lists of an interface hold those of several dataIds, in which the same line may stand.
            instance.id = format!("{}/{text}", service.data_id()).into();
            Some(Arc::new(instance))
        }
        Err(error) => {
            warn!(registry = "sofaregistry", service = %service, reason = error.reason(), %error, "provider cannot be read, skipped");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(name: &str, version: i64, lines: &[&str]) -> Arc<Segment> {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Arc::new(Segment {
            name: name.into(),
            version,
            local_zone: None,
            zones: vec![("Z".into(), lines)],
        })
    }

    #[test]
    fn versions_grow_on_a_connection_and_start_again_on_the_next() {
        let mut segments = Segments::default();
        let take = |segments: &mut Segments, on, segment| segments.take(on, segment, false);
        assert!(take(&mut segments, 1, segment("dc", 5, &["a"])));
        assert!(!take(&mut segments, 1, segment("dc", 5, &["b"])), "same version");
        assert!(!take(&mut segments, 1, segment("dc", 4, &["b"])), "older");
        assert!(
            take(&mut segments, 1, segment("west", 1, &["c"])),
            "versions are each segment's own"
        );
        assert!(!take(&mut segments, 2, segment("dc", 5, &["a"])), "nothing new");
        assert!(take(&mut segments, 3, segment("dc", 1, &[])), "another connection");
        let names: Vec<_> = segments
            .received(None)
            .segments
            .into_iter()
            .map(|s| (s.name.clone(), s.version))
            .collect();
        assert_eq!(names, [("dc".to_owned(), 1), ("west".to_owned(), 1)]);
        let available = HashSet::from(["west".to_owned()]);
        assert_eq!(segments.received(Some(&available)).segments.len(), 1);
    }

    #[test]
    fn a_server_that_knows_nothing_takes_nothing_from_what_is_relayed() {
        let mut segments = Segments::default();
        assert!(segments.take(1, segment("dc", 1, &[]), true), "at first it counts");
        assert!(segments.take(1, segment("dc", 500, &["a"]), true));
        assert!(!segments.take(2, segment("dc", 1, &[]), true));
        assert!(
            segments.take(2, segment("dc", 400, &["b"]), true),
            "a real push on a new connection"
        );
    }

    #[test]
    fn lines_are_read_once_and_united() {
        let service = Service::parse("demo.Echo:1.0").unwrap();
        let good = "10.0.0.5:12200?p=1&app_name=größe";
        let received = Received {
            segments: vec![
                segment("dc", 1, &[good, "10.0.0.6:12200", ":bad", ""]),
                segment("west", 1, &[good]),
            ],
        };
        let mut lines = Lines::default();
        lines.read(&service, &received);
        assert_eq!(lines.instances().count(), 2);
        assert_eq!(lines.malformed().map(|l| &**l).collect::<Vec<_>>(), [":bad"]);
        let find = |lines: &Lines| lines.instances().find(|i| &*i.host == "10.0.0.5").cloned().unwrap();
        let before = find(&lines);
        assert_eq!(&*before.id, format!("demo.Echo:1.0@DEFAULT/{good}"));
        assert_eq!(before.params.get("app_name"), Some("größe"));
        let fewer = Received {
            segments: vec![segment("dc", 2, &[good])],
        };
        lines.read(&service, &fewer);
        assert_eq!(lines.instances().count(), 1);
        assert!(Arc::ptr_eq(&before, &find(&lines)));
    }
}
