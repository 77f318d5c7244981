// SPDX-License-Identifier: Apache-2.0
//! What is followed.

use std::sync::Arc;
use std::time::Duration;

use remora_naming::sofa::Service;
use remora_registry::{Registry, Source, Target};
use remora_sofaregistry::adapter::Subject;
use remora_sofaregistry::wire::{
    Message, MultiReceivedData, MultiSegmentData, PushResult, ReceivedConfigData, ReceivedData, Scope,
};
use tokio::time::timeout;

use crate::server::{DEADLINE, Peer, Server, is_unregister, lines_of, message};
use crate::{LINE, NAME, shows, start, target};

const OTHER_LINE: &str = "10.0.0.6:12201?p=1&v=4.0";

#[tokio::test]
async fn a_list_is_unknown_until_it_is_pushed_and_an_empty_push_empties_it() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    assert_eq!(subscriber.base.data_id, "demo.Echo:1.0@DEFAULT");
    assert_eq!((subscriber.base.group.as_str(), subscriber.base.version), ("SOFA", 1));
    assert_eq!((subscriber.scope, subscriber.accept_multi), (Scope::Global, false));
    assert!(list.borrow().is_none());
    // A push without data says nothing.
    let nothing = Message::ReceivedData(ReceivedData {
        subscriber_regist_ids: vec![subscriber.base.regist_id.clone()],
        version: 9,
        ..ReceivedData::default()
    });
    peer.push(&nothing).await;
    assert!(list.borrow().is_none());
    peer.push_lines(&subscriber, 1, &[LINE, OTHER_LINE, LINE, ":what"])
        .await;
    let seen = shows(&mut list, &["10.0.0.5", "10.0.0.6"]).await;
    assert_eq!(
        (seen.source, seen.malformed.len(), seen.foreign.len()),
        (Source::Registry, 1, 0)
    );
    let instance = seen.instances.iter().find(|i| &*i.host == "10.0.0.5").unwrap();
    assert_eq!(instance.key.as_ref().unwrap().to_string(), "demo.Echo:1.0");
    assert_eq!(
        (&*instance.protocol, instance.port, instance.app_port()),
        ("bolt", 12201, Some(12200))
    );
    assert_eq!(&*instance.raw, LINE);
    peer.push_lines(&subscriber, 2, &[]).await;
    shows(&mut list, &[]).await;
}

#[tokio::test]
async fn older_pushes_change_nothing_and_unchanged_instances_stay_the_same() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    peer.push_lines(&subscriber, 5, &[LINE]).await;
    let first = shows(&mut list, &["10.0.0.5"]).await;
    peer.push_lines(&subscriber, 4, &[]).await;
    peer.push_lines(&subscriber, 5, &[OTHER_LINE]).await;
    assert!(!list.has_changed().unwrap());
    peer.push_lines(&subscriber, 6, &[OTHER_LINE, LINE]).await;
    let second = shows(&mut list, &["10.0.0.5", "10.0.0.6"]).await;
    assert!(second.instances.iter().any(|i| Arc::ptr_eq(i, &first.instances[0])));
}

#[tokio::test]
async fn zones_and_segments_that_count_are_united() {
    let mut server = Server::start().await;
    server.segments = vec!["east".into(), "west".into()];
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    let push = |segment: &str, zones: &[(&str, &str)]| {
        let zones = zones
            .iter()
            .map(|(zone, line)| ((*zone).to_owned(), vec![(*line).to_owned()]));
        Message::ReceivedData(ReceivedData {
            segment: Some(segment.into()),
            subscriber_regist_ids: vec![subscriber.base.regist_id.clone()],
            data: Some(zones.collect()),
            version: 1,
            ..ReceivedData::default()
        })
    };
    peer.push(&push("east", &[("RZ01", LINE), ("RZ02", OTHER_LINE)])).await;
    peer.push(&push("south", &[("RZ09", "10.0.0.9:1")])).await;
    peer.push(&push("west", &[("RZ11", "10.0.0.7:12201"), ("RZ12", LINE)]))
        .await;
    shows(&mut list, &["10.0.0.5", "10.0.0.6", "10.0.0.7"]).await;
}

#[tokio::test]
async fn a_push_of_several_segments_is_read_unless_it_is_packed() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    let push = |zipped: Option<Vec<u8>>| {
        let segment = MultiSegmentData {
            segment: Some("DefaultDataCenter".into()),
            encoding: zipped.is_some().then(|| "gzip".into()),
            zipped,
            data: vec![("Z".into(), vec![LINE.into()])],
            version: 1,
        };
        Message::MultiReceivedData(MultiReceivedData {
            subscriber_regist_ids: vec![subscriber.base.regist_id.clone()],
            segments: vec![("DefaultDataCenter".into(), segment)],
            ..MultiReceivedData::default()
        })
    };
    let answer = message(&peer.push_frame(&push(Some(vec![1]))).await);
    let Message::PushResult(PushResult { success, message }) = answer else {
        panic!("{answer:?}");
    };
    assert!(!success && message.unwrap().contains("gzip"));
    peer.push(&push(None)).await;
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn the_list_stands_while_the_server_is_away_and_the_next_push_counts_whatever_its_version() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let mut list = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let first = peer.subscribed().await;
    peer.push_lines(&first, 500, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
    drop(peer);
    let mut peer = server.accept().await;
    let again = peer.subscribed().await;
    assert_eq!(
        (again.base.regist_id.as_str(), again.base.version),
        (first.base.regist_id.as_str(), 1)
    );
    assert!(!list.has_changed().unwrap(), "the list stands");
    // A registry that came back without anything.
    peer.push_lines(&again, 1, &[]).await;
    shows(&mut list, &[]).await;
    peer.push_lines(&again, 400, &[OTHER_LINE]).await;
    shows(&mut list, &["10.0.0.6"]).await;
}

#[tokio::test]
async fn a_list_that_nobody_follows_any_more_is_unregistered() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let list = registry.follow(target(NAME));
    let other = registry.follow(target(NAME));
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    drop(list);
    peer.heartbeat().await;
    drop(other);
    let gone = peer.subscribed().await;
    assert!(is_unregister(&gone.base));
    assert_eq!(
        (&gone.base.regist_id, gone.base.version),
        (&subscriber.base.regist_id, 2)
    );
    // A push that crossed it on the way is taken and forgotten.
    peer.push_lines(&subscriber, 9, &[LINE]).await;
    let mut list = registry.follow(target(NAME));
    let fresh = peer.subscribed().await;
    assert_ne!(fresh.base.regist_id, subscriber.base.regist_id);
    peer.push_lines(&fresh, 1, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn an_interface_is_its_usual_service_and_those_that_are_followed() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let interface = Service::parse("demo.Echo").unwrap().interface_target();
    let mut whole = registry.follow(interface);
    let mut peer = server.accept().await;
    let usual = peer.subscribed().await;
    assert_eq!(usual.base.data_id, "demo.Echo:1.0@DEFAULT");
    let mut blue = registry.follow(target("demo.Echo:2.0:blue"));
    let narrow = peer.subscribed().await;
    assert_eq!(narrow.base.data_id, "demo.Echo:2.0:blue@DEFAULT");
    // Another interface is none of its business.
    let _other = registry.follow(target("demo.Echoes:1.0"));
    let foreign = peer.subscribed().await;
    peer.push_lines(&foreign, 1, &["10.0.0.99:1"]).await;
    // Nothing is told before the usual service is known.
    peer.push_lines(&narrow, 1, &[LINE, "10.0.0.8:12200"]).await;
    shows(&mut blue, &["10.0.0.5", "10.0.0.8"]).await;
    assert!(whole.borrow().is_none());
    peer.push_lines(&usual, 1, &[LINE]).await;
    let seen = shows(&mut whole, &["10.0.0.5", "10.0.0.5", "10.0.0.8"]).await;
    let mut keys: Vec<_> = seen
        .instances
        .iter()
        .map(|i| i.key.as_ref().unwrap().to_string())
        .collect();
    keys.dedup();
    assert_eq!(keys, ["demo.Echo:1.0", "blue/demo.Echo:2.0"]);
    let mut ids: Vec<_> = seen.instances.iter().map(|i| &i.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "names in a list are unique");
    // The same service, followed for itself, is one subscription.
    let mut same = registry.follow(target(NAME));
    shows(&mut same, &["10.0.0.5"]).await;
    drop(blue);
    shows(&mut whole, &["10.0.0.5"]).await;
    assert!(is_unregister(&peer.subscribed().await.base));
}

#[tokio::test]
async fn a_root_of_zookeeper_in_front_is_the_same_list() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let rooted = Target::Service {
        namespace: "/shop/sofa-rpc@GRAY".into(),
        name: "demo.Echo".into(),
    };
    let mut list = registry.follow(rooted);
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    assert_eq!(subscriber.base.group, "GRAY");
    peer.push_lines(&subscriber, 1, &[LINE]).await;
    shows(&mut list, &["10.0.0.5"]).await;
}

#[tokio::test]
async fn relayed_subjects_are_shown_as_they_are() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let subject = Subject {
        data_id: "shop.prices".into(),
        group: "DEFAULT_GROUP".into(),
        instance_id: Some("gray".into()),
    };
    let mut pushes = registry.relay_subscribe(&subject, Scope::Zone);
    let mut peer = server.accept().await;
    let subscriber = peer.subscribed().await;
    assert_eq!(
        (subscriber.scope, subscriber.base.instance_id.as_deref()),
        (Scope::Zone, Some("gray"))
    );
    peer.push(&lines_of(&subscriber, "DefaultDataCenter", 3, &["a", "größe", "a"]))
        .await;
    timeout(DEADLINE, pushes.changed()).await.unwrap().unwrap();
    let received = pushes.borrow_and_update().clone().unwrap();
    let segment = &received.segments[0];
    assert_eq!((segment.name.as_str(), segment.version), ("DefaultDataCenter", 3));
    assert_eq!(
        segment.zones,
        [(
            "DEFAULT_ZONE".to_owned(),
            vec!["a".to_owned(), "größe".into(), "a".into()]
        )]
    );
    // Other scopes are other subscriptions, the same one is shared.
    let same = registry.relay_subscribe(&subject, Scope::Zone);
    assert!(same.borrow().is_some());
    let _global = registry.relay_subscribe(&subject, Scope::Global);
    assert_eq!(peer.subscribed().await.scope, Scope::Global);
}

#[tokio::test]
async fn configurations_are_relayed() {
    let server = Server::start().await;
    let registry = start(&[&server]);
    let subject = Subject {
        data_id: "demo.Echo:1.0@DEFAULT".into(),
        group: "SOFA.CONFIG".into(),
        instance_id: None,
    };
    let mut configs = registry.relay_configure(&subject);
    let mut peer = server.accept().await;
    let regist_id = configurator(&mut peer).await;
    let push = |version: i64, data: Option<&str>| {
        Message::ReceivedConfigData(ReceivedConfigData {
            data_id: subject.data_id.clone(),
            group: subject.group.clone(),
            configurator_regist_ids: vec![regist_id.clone()],
            data: data.map(str::to_owned),
            version,
            ..ReceivedConfigData::default()
        })
    };
    for (version, data) in [
        (1, None),
        (3, Some("override://10.0.0.5:12200?weight=0")),
        (2, Some("old")),
    ] {
        peer.push(&push(version, data)).await;
    }
    let is_last = |c: &Option<Arc<remora_sofaregistry::adapter::ReceivedConfig>>| {
        c.as_ref()
            .is_some_and(|c| c.data.as_deref() == Some("override://10.0.0.5:12200?weight=0"))
    };
    timeout(Duration::from_secs(5), configs.wait_for(is_last))
        .await
        .unwrap()
        .unwrap();
    drop(configs);
    let (_, gone) = peer.request().await;
    let Message::ConfiguratorRegister(gone) = gone else {
        panic!("{gone:?}");
    };
    assert!(is_unregister(&gone.base));
}

async fn configurator(peer: &mut Peer) -> String {
    match peer.request().await {
        (id, Message::ConfiguratorRegister(configurator)) => {
            assert_eq!(configurator.base.version, 0);
            peer.acknowledge(id, &configurator.base).await;
            configurator.base.regist_id
        }
        other => panic!("{other:?}"),
    }
}
