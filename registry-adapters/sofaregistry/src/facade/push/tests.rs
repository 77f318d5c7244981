// SPDX-License-Identifier: Apache-2.0
//! The rules of pushes, with times of our own.

use super::*;

fn pace() -> Pace {
    Pace {
        first_wait: Duration::from_secs(10),
        debounce: Duration::from_millis(500),
        timeout: Duration::from_secs(2),
    }
}

fn key(data_id: &str, kind: Kind) -> Key {
    Key {
        subject: Subject {
            data_id: data_id.to_owned(),
            group: "SOFA".to_owned(),
            instance_id: None,
        },
        kind,
    }
}

fn echo() -> Key {
    key("demo.Echo:1.0@DEFAULT", Kind::List(Scope::Global))
}

fn list(lines: &[&str]) -> Content {
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    Content::List {
        zones: match lines.is_empty() {
            true => Zones::new(),
            false => vec![("DEFAULT_ZONE".to_owned(), lines)],
        },
        local_zone: "DEFAULT_ZONE".to_owned(),
    }
}

/// One client's feeds at a time that only moves when told.
struct Client {
    feeds: Feeds,
    clock: Clock,
    now: Instant,
}

impl Client {
    fn new() -> Self {
        Self {
            feeds: Feeds::new(pace()),
            clock: Clock::default(),
            now: Instant::now(),
        }
    }

    fn add(&mut self, key: &Key, name: &str) -> FeedId {
        self.feeds.add(key, &name.into(), Some(list(&[])), self.now).0
    }

    fn set(&mut self, id: FeedId, lines: &[&str]) {
        self.feeds.set(id, list(lines), self.now);
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// The push that is due now, as (id, names, lines, version).
    fn push(&mut self) -> Option<(u32, Vec<String>, Vec<String>, i64)> {
        let push = self.feeds.next(&self.clock, self.now)?;
        let Message::ReceivedData(data) = push.message else {
            panic!("another message: {:?}", push.message);
        };
        let lines = data.data.unwrap().into_iter().flat_map(|(_, lines)| lines).collect();
        Some((push.id, data.subscriber_regist_ids, lines, data.version))
    }

    fn taken(&mut self, id: u32) {
        assert!(self.feeds.answered(id, true, self.now));
    }
}

#[test]
fn a_new_subscriber_is_pushed_at_once_also_when_nobody_publishes() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    assert!(client.push().is_none(), "nothing is known yet");
    client.set(id, &[]);
    let (_, names, lines, _) = client.push().unwrap();
    assert_eq!((names, lines), (vec!["a".to_owned()], vec![]));
}

#[test]
fn a_list_that_stays_unknown_is_shown_empty_after_a_while_and_told_when_known() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.wait(9_999);
    assert!(client.push().is_none());
    client.wait(1);
    let (push, _, lines, first) = client.push().unwrap();
    assert!(lines.is_empty());
    client.taken(push);
    client.wait(500);
    client.set(id, &["h:1"]);
    let (_, _, lines, second) = client.push().unwrap();
    assert_eq!(lines, ["h:1"]);
    assert!(second > first);
}

#[test]
fn one_push_names_all_registrations_of_a_feed_and_a_late_one_gets_its_own() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.add(&echo(), "b");
    client.set(id, &["h:1"]);
    let (push, names, ..) = client.push().unwrap();
    assert_eq!(names, ["a", "b"]);
    client.add(&echo(), "c");
    assert!(client.push().is_none(), "the first is not answered yet");
    client.taken(push);
    let (push, names, ..) = client.push().unwrap();
    assert_eq!(names, ["c"], "the others have it");
    client.taken(push);
    client.wait(500);
    client.set(id, &["h:2"]);
    assert_eq!(client.push().unwrap().1, ["a", "b", "c"]);
}

#[test]
fn scopes_are_feeds_of_their_own() {
    let mut client = Client::new();
    let global = client.add(&echo(), "a");
    let zone = client.add(&key("demo.Echo:1.0@DEFAULT", Kind::List(Scope::Zone)), "b");
    assert_ne!(global, zone);
    client.set(global, &["h:1"]);
    client.set(zone, &["h:1"]);
    assert_eq!(client.push().unwrap().1, ["a"]);
    assert_eq!(client.push().unwrap().1, ["b"], "one does not wait for the other");
}

#[test]
fn changes_while_a_push_is_under_way_wait_and_the_newest_wins() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.set(id, &["h:1"]);
    let (push, ..) = client.push().unwrap();
    client.set(id, &["h:2"]);
    client.set(id, &["h:3"]);
    assert!(client.push().is_none());
    client.taken(push);
    assert!(client.push().is_none(), "not so soon after the last one");
    client.wait(500);
    let (push, _, lines, _) = client.push().unwrap();
    assert_eq!(lines, ["h:3"]);
    client.taken(push);
    client.wait(60_000);
    assert!(client.push().is_none());
    assert_eq!(client.feeds.due(), None);
}

#[test]
fn a_list_that_did_not_change_is_not_pushed_again() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.set(id, &["h:1"]);
    let (push, ..) = client.push().unwrap();
    client.taken(push);
    client.set(id, &["h:1"]);
    client.wait(10_000);
    assert!(client.push().is_none());
}

#[test]
fn a_push_without_an_answer_is_sent_again_later_each_time() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.set(id, &["h:1"]);
    let (first, _, _, version) = client.push().unwrap();
    client.wait(1_999);
    assert!(client.push().is_none());
    client.wait(1);
    assert!(client.push().is_none(), "it takes breath");
    assert_eq!(client.feeds.due(), Some(client.now + Duration::from_millis(500)));
    client.wait(500);
    client.set(id, &["h:2"]);
    let (second, _, lines, next) = client.push().unwrap();
    assert_eq!(lines, ["h:2"], "the newest content");
    assert!(next > version && second != first);
    assert!(
        !client.feeds.answered(first, true, client.now),
        "the late answer means nothing"
    );
    client.wait(2_000);
    assert!(client.push().is_none());
    client.wait(999);
    assert!(client.push().is_none());
    client.wait(1);
    let (third, ..) = client.push().unwrap();
    client.taken(third);
    client.wait(60_000);
    assert!(client.push().is_none());
}

#[test]
fn a_push_that_is_refused_is_sent_again() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.set(id, &["h:1"]);
    let (push, ..) = client.push().unwrap();
    assert!(client.feeds.answered(push, false, client.now));
    assert!(client.push().is_none());
    client.wait(500);
    assert_eq!(client.push().unwrap().1, ["a"]);
}

#[test]
fn a_subscriber_that_registers_again_is_not_pushed_what_it_has() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.set(id, &["h:1"]);
    let (push, ..) = client.push().unwrap();
    client.taken(push);
    client.add(&echo(), "a");
    client.wait(60_000);
    assert!(client.push().is_none());
}

#[test]
fn the_last_registration_ends_its_feed() {
    let mut client = Client::new();
    let id = client.add(&echo(), "a");
    client.add(&echo(), "b");
    client.set(id, &["h:1"]);
    let (push, ..) = client.push().unwrap();
    assert_eq!(client.feeds.remove(&echo(), "a", client.now), None);
    assert_eq!(client.feeds.remove(&echo(), "b", client.now), Some(id));
    assert!(
        !client.feeds.answered(push, true, client.now),
        "nobody waits for it any more"
    );
    client.set(id, &["h:2"]);
    assert!(client.push().is_none());
    assert_eq!(client.feeds.due(), None);
    assert_eq!(client.feeds.remove(&echo(), "b", client.now), None);
    let again = client.add(&echo(), "b");
    assert_ne!(again, id);
}

#[test]
fn a_configuration_is_pushed_as_one_text_or_none() {
    let mut client = Client::new();
    let key = key("demo.Echo:1.0@DEFAULT", Kind::Config);
    let (id, is_new) = client.feeds.add(&key, &"c".into(), None, client.now);
    assert!(is_new);
    for data in [None, Some("override://h:1?weight=5".to_owned())] {
        client.feeds.set(id, Content::Config(data.clone()), client.now);
        let push = client.feeds.next(&client.clock, client.now).unwrap();
        let Message::ReceivedConfigData(config) = push.message else {
            panic!("another message");
        };
        assert_eq!(
            (config.configurator_regist_ids, config.data),
            (vec!["c".to_owned()], data)
        );
        client.taken(push.id);
        client.wait(500);
    }
}

#[test]
fn thousands_of_feeds_are_each_pushed_once() {
    let mut client = Client::new();
    let ids: Vec<FeedId> = (0..5_000)
        .map(|n| {
            client.add(
                &key(&format!("demo.S{n}:1.0@DEFAULT"), Kind::List(Scope::Global)),
                &format!("r{n}"),
            )
        })
        .collect();
    for id in ids {
        client.set(id, &["h:1"]);
    }
    let mut seen = std::collections::HashSet::new();
    while let Some((push, names, ..)) = client.push() {
        client.taken(push);
        assert!(seen.insert(names));
    }
    assert_eq!(seen.len(), 5_000);
    assert_eq!(client.feeds.due(), None);
}
