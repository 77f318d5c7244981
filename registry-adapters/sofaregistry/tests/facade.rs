// SPDX-License-Identifier: Apache-2.0
//! The front door, seen by a client that says what real ones say.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use remora_naming::sofa::Service;
use remora_protocol::{Frame, FrameKind};
use remora_sofaregistry::facade::Config;
use remora_sofaregistry::wire::{Message, Scope, SyncConfigRequest};
use support::memory::Asked;
use support::*;

#[tokio::test]
async fn what_real_clients_sent_is_taken_with_version_and_id_echoed() {
    for version in ["5.2.0", "6.3.0", "6.5.6"] {
        let door = Door::open();
        let mut client = door.client().await;
        let frames = golden(&format!("{version}-connection.hex"));
        let mut awaited = HashMap::new();
        for (_, bytes) in frames.iter().filter(|(is_clients, _)| *is_clients) {
            let mut input = bytes::BytesMut::from(&bytes[..]);
            let remora_protocol::Decoded::Frame(frame) = remora_bolt::decode(&mut input, 1 << 20).unwrap() else {
                panic!("not a frame");
            };
            // Answers to pushes of the real server mean nothing here.
            if frame.kind == FrameKind::Reply {
                continue;
            }
            client.send_raw(bytes).await;
            awaited.insert(frame.stream_id, frame);
        }
        let mut answers = 0;
        while !awaited.is_empty() {
            let frame = client.frame().await.expect("the door closed");
            if frame.kind == FrameKind::Request {
                client.answer(u32::try_from(frame.stream_id.0).unwrap(), true).await;
                continue;
            }
            let asked = awaited.remove(&frame.stream_id).expect("an answer to nothing");
            answers += 1;
            check_answer(version, &asked, &frame);
        }
        assert!(answers > 12, "{version}: {answers}");
        assert_eq!(door.stats.malformed.load(Ordering::Relaxed), 0);
        assert_eq!(door.stats.unreadable.load(Ordering::Relaxed), 0);
    }
}

fn check_answer(version: &str, asked: &Frame, answer: &Frame) {
    if asked.kind == FrameKind::Heartbeat {
        assert_eq!(answer.kind, FrameKind::HeartbeatReply);
        return;
    }
    match (message(asked), message(answer)) {
        (Message::SyncConfigRequest(_), Message::SyncConfigResponse(response)) => {
            assert!(response.success);
            assert_eq!(
                (response.available_segments.join(" "), response.retry_interval),
                ("DefaultDataCenter".to_owned(), 0)
            );
        }
        (mut register, Message::RegisterResponse(response)) => {
            let is_foreign = of(&mut register).group == "DEFAULT_GROUP";
            let base = of(&mut register);
            assert!(response.success, "{version}: {response:?}");
            assert_eq!((&response.regist_id, response.version), (&base.regist_id, base.version));
            assert_eq!(response.refused, is_foreign, "{version}: {response:?}");
        }
        other => panic!("{version}: {other:?}"),
    }
}

#[tokio::test]
async fn long_lines_of_real_clients_are_taken() {
    let door = Door::open();
    let mut client = door.client().await;
    client.send_raw(&golden("6.5.6-publisher-register-long.hex")[0].1).await;
    let answer = client.frame().await.unwrap();
    assert!(matches!(message(&answer), Message::RegisterResponse(response) if response.success && !response.refused));
    client.register(&subscriber("demo.LongService:1.0@DEFAULT", "s")).await;
    let list = client.list().await;
    assert!(list[0].len() > 33_000 && list[0].ends_with('ü'), "{}", list[0].len());
}

#[tokio::test]
async fn a_provider_is_published_and_shown_to_subscribers() {
    let door = Door::open();
    let mut provider = door.client().await;
    provider.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut consumer = door.client().await;
    consumer.register(&subscriber(ECHO, "s")).await;
    let pushed = consumer.pushed().await;
    consumer.answer(pushed.id, true).await;
    let push = &pushed.data;
    assert_eq!((push.data_id.as_str(), push.group.as_str()), (ECHO, "SOFA"));
    assert_eq!(push.instance_id.as_deref(), Some("DEFAULT_INSTANCE_ID"));
    assert_eq!(
        (push.segment.as_deref(), push.scope),
        (Some("DefaultDataCenter"), Scope::Global)
    );
    assert_eq!(
        (push.local_zone.as_deref(), &push.subscriber_regist_ids[..]),
        (Some("DEFAULT_ZONE"), &["s".to_owned()][..])
    );
    assert_eq!(
        push.data,
        Some(vec![("DEFAULT_ZONE".to_owned(), vec![LINE.to_owned()])])
    );
    let asked = door
        .until(|all| all.iter().any(|a| matches!(a, Asked::Followed { .. })))
        .await;
    let opened = Asked::Opened {
        lease: 1,
        application: "demo-app".to_owned(),
    };
    let published = Asked::Published {
        lease: 1,
        target: ECHO_TARGET.to_owned(),
        id: "p#0".to_owned(),
        address: "10.77.0.3:12200".to_owned(),
    };
    assert_eq!(asked[..2], [opened, published]);
}

#[tokio::test]
async fn nobody_publishing_is_an_empty_map_at_once() {
    let door = Door::open();
    let mut consumer = door.client().await;
    consumer.register(&subscriber(ECHO, "s")).await;
    let pushed = consumer.pushed().await;
    assert_eq!(
        pushed.data.data,
        Some(Vec::new()),
        "a client ignores a push without a map"
    );
    assert!(
        pushed.data.version > 1_i64 << 50,
        "higher than what a real server pushed before"
    );
}

#[tokio::test]
async fn a_list_that_goes_empty_clears_the_addresses() {
    let door = Door::open();
    let mut provider = door.client().await;
    let register = publisher(ECHO, "p", &[LINE]);
    provider.register(&register).await;
    let mut consumer = door.client().await;
    consumer.register(&subscriber(ECHO, "s")).await;
    assert_eq!(consumer.list().await, [LINE]);
    provider.register(&end(register)).await;
    assert!(consumer.list().await.is_empty());
}

#[tokio::test]
async fn republished_data_replaces_line_by_line() {
    let door = Door::open();
    let mut client = door.client().await;
    let other = LINE.replace("12200", "12201");
    let moved = LINE.replace("10.77.0.3", "10.77.0.9");
    let register = publisher(ECHO, "p", &[LINE, &other]);
    client.register(&register).await;
    let mut register = again(register);
    if let Message::PublisherRegister(register) = &mut register {
        register.data = vec![moved.clone()];
    }
    client.register(&register).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.9:12200"]);
    let asked = door.memory.asked().borrow().clone();
    let ids = |asked: &[Asked]| -> Vec<String> {
        let of_ids = asked.iter().filter_map(|a| match a {
            Asked::Published { id, .. } => Some(format!("+{id}")),
            Asked::Withdrawn { id, .. } => Some(format!("-{id}")),
            _ => None,
        });
        of_ids.collect()
    };
    assert_eq!(
        ids(&asked),
        ["+p#0", "+p#1", "+p#0", "-p#1"],
        "the new one comes before the old one goes"
    );
    // A late copy of the first: acknowledged, and nothing else.
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.9:12200"]);
}

#[tokio::test]
async fn a_publisher_that_ends_and_another_of_the_same_service_do_not_meet() {
    let door = Door::open();
    let mut client = door.client().await;
    let first = publisher(ECHO, "first", &[LINE]);
    client.register(&first).await;
    client.register(&end(first.clone())).await;
    client.register(&publisher(ECHO, "second", &[LINE])).await;
    // A client sends the end of a publisher again if our answer came late.
    client.register(&end(first)).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
}

#[tokio::test]
async fn other_protocols_unique_ids_and_groups_are_targets_of_their_own() {
    let door = Door::open();
    let mut client = door.client().await;
    let mut register = publisher("demo.EchoService:2.0:blue@rest", "p", &["10.77.0.3:8341?x=1"]);
    of(&mut register).group = "SHOP".to_owned();
    client.register(&register).await;
    assert_eq!(
        door.memory
            .published("service /sofa-rpc@SHOP/demo.EchoService:2.0:blue@rest"),
        ["10.77.0.3:8341"]
    );
}

#[tokio::test]
async fn lines_that_are_no_providers_are_left_out() {
    let door = Door::open();
    let mut client = door.client().await;
    client
        .register(&publisher(ECHO, "p", &[LINE, ":1", "10.77.0.4:99999"]))
        .await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
    let answer = client.ask(&publisher("demo.Other:1.0@DEFAULT", "q", &[":1"])).await;
    assert!(answer.success && answer.refused);
    assert!(
        answer
            .message
            .unwrap()
            .contains("none of its lines begins with host:port")
    );
}

/// A grace that no slow machine outlasts.
fn patient() -> Config {
    Config {
        grace: PATIENCE,
        ..config()
    }
}

#[tokio::test]
async fn a_lost_connection_that_comes_back_in_time_withdraws_nothing() {
    let door = Door::with(patient(), None);
    let register = publisher(ECHO, "p", &[LINE]);
    let mut first = door.client().await;
    first.register(&register).await;
    drop(first);
    let mut second = door.client().await;
    second.register(&register).await;
    // The first lease ends when all it had has moved.
    let asked = door.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    let seen: Vec<&Asked> = asked.iter().filter(|a| !matches!(a, Asked::Opened { .. })).collect();
    let published = |lease| Asked::Published {
        lease,
        target: ECHO_TARGET.to_owned(),
        id: "p#0".to_owned(),
        address: "10.77.0.3:12200".to_owned(),
    };
    let withdrawn = Asked::Withdrawn {
        lease: 1,
        target: ECHO_TARGET.to_owned(),
        id: "p#0".to_owned(),
    };
    assert_eq!(
        seen,
        [&published(1), &published(2), &withdrawn, &Asked::Closed { lease: 1 }],
        "it stood all the time"
    );
    assert_eq!(door.stats.resumed.load(Ordering::Relaxed), 1);
    assert_eq!(door.stats.expired.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_lost_connection_that_does_not_come_back_is_withdrawn_after_the_grace() {
    let door = Door::open();
    let mut client = door.client().await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut consumer = door.client().await;
    consumer.register(&subscriber(ECHO, "s")).await;
    assert_eq!(consumer.list().await, [LINE]);
    drop(client);
    assert!(consumer.list().await.is_empty());
    door.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    assert_eq!(door.stats.expired.load(Ordering::Relaxed), 1);
    assert_eq!(door.stats.publishers.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_a_returning_client_registers_no_more_goes() {
    let door = Door::with(
        Config {
            grace: Duration::from_secs(2),
            ..config()
        },
        None,
    );
    let mut first = door.client().await;
    first.register(&publisher(ECHO, "kept", &[LINE])).await;
    first
        .register(&publisher("demo.Gone:1.0@DEFAULT", "gone", &[LINE]))
        .await;
    drop(first);
    let mut second = door.client().await;
    second.register(&publisher(ECHO, "kept", &[LINE])).await;
    door.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
    assert!(door.memory.published("service /sofa-rpc/demo.Gone:1.0").is_empty());
}

#[tokio::test]
async fn a_client_that_connects_anew_takes_its_publishers_from_a_connection_that_is_still_open() {
    let door = Door::open();
    let mut first = door.client().await;
    first.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut second = door.client().await;
    second.register(&publisher(ECHO, "p", &[LINE])).await;
    drop(first);
    door.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
}

#[tokio::test]
async fn a_late_copy_on_the_connection_that_a_client_left_takes_nothing_from_the_new_one() {
    let door = Door::open();
    let mut old = door.client().await;
    old.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut new = door.client().await;
    new.register(&publisher(ECHO, "p", &[LINE])).await;
    old.register(&publisher(ECHO, "p", &[LINE])).await;
    drop(old);
    door.until(|all| all.contains(&Asked::Closed { lease: 1 })).await;
    assert_eq!(door.memory.published(ECHO_TARGET), ["10.77.0.3:12200"]);
    drop(new);
}

#[tokio::test]
async fn subscribers_of_one_service_share_a_push_and_scopes_do_not() {
    let door = Door::open();
    let mut client = door.client().await;
    client.register(&subscriber(ECHO, "a")).await;
    let first = client.pushed().await;
    client.answer(first.id, true).await;
    client.register(&subscriber(ECHO, "b")).await;
    let second = client.pushed().await;
    assert_eq!(second.data.subscriber_regist_ids, ["b"]);
    client.answer(second.id, true).await;
    client.register(&scoped(ECHO, "c", Scope::Zone)).await;
    let third = client.pushed().await;
    assert_eq!(
        (third.data.scope, &third.data.subscriber_regist_ids[..]),
        (Scope::Zone, &["c".to_owned()][..])
    );
    client.answer(third.id, true).await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    let mut named: Vec<Vec<String>> = Vec::new();
    for _ in 0..2 {
        let push = client.pushed().await;
        assert!(push.data.version > third.data.version);
        client.answer(push.id, true).await;
        named.push(push.data.subscriber_regist_ids);
    }
    named.sort();
    assert_eq!(named, [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
}

#[tokio::test]
async fn a_push_that_is_not_taken_comes_again() {
    let door = Door::open();
    let mut client = door.client().await;
    client.register(&subscriber(ECHO, "s")).await;
    let first = client.pushed().await;
    client.answer(first.id, false).await;
    let second = client.pushed().await;
    assert!(second.data.version > first.data.version);
    client.answer(second.id, true).await;
    assert_eq!(door.stats.push_failures.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_slow_upstream_delays_no_answer_and_the_list_comes_when_it_is_known() {
    let door = Door::open();
    door.memory.forget(ECHO_TARGET);
    let mut client = door.client().await;
    client.register(&subscriber(ECHO, "s")).await;
    // After a while nobody knows more than that nobody is known.
    assert!(client.list().await.is_empty());
    let target = Service::parse(ECHO).unwrap().target();
    let service = Service::parse(ECHO).unwrap();
    door.memory
        .tell(&target, vec![remora_naming::sofa::line::parse(LINE, &service).unwrap()]);
    assert_eq!(client.list().await, [LINE]);
}

#[tokio::test]
async fn configurators_of_services_are_acknowledged_and_not_told_that_there_is_nothing() {
    let door = Door::open();
    let mut client = door.client().await;
    let register = configurator(ECHO, "c");
    client.register(&register).await;
    client.register(&subscriber(ECHO, "s")).await;
    let first = client.frame().await.unwrap();
    assert!(
        matches!(message(&first), Message::ReceivedData(_)),
        "SOFARPC trips over a configuration pushed meanwhile"
    );
    client.register(&end(register)).await;
    assert_eq!(door.stats.configurators.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_subscriber_sent_again_because_our_answer_was_late_is_pushed_once() {
    let door = Door::open();
    let mut client = door.client().await;
    client.register(&subscriber(ECHO, "s")).await;
    assert!(client.list().await.is_empty());
    client.register(&subscriber(ECHO, "s")).await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    assert_eq!(client.list().await, [LINE], "the next push is the next list");
}

#[tokio::test]
async fn the_last_subscriber_of_a_service_ends_the_follow() {
    let door = Door::open();
    let mut client = door.client().await;
    for (id, scope) in [("a", Scope::Global), ("b", Scope::Zone)] {
        client.register(&scoped(ECHO, id, scope)).await;
        client.list().await;
    }
    client.register(&end(scoped(ECHO, "a", Scope::Global))).await;
    assert!(
        !door
            .memory
            .asked()
            .borrow()
            .iter()
            .any(|a| matches!(a, Asked::Unfollowed { .. }))
    );
    client.register(&end(scoped(ECHO, "b", Scope::Zone))).await;
    door.until(|all| all.iter().any(|a| matches!(a, Asked::Unfollowed { .. })))
        .await;
}

#[tokio::test]
async fn settings_name_the_segment_that_pushes_are_of() {
    let door = Door::open();
    let mut client = door.client().await;
    let id = client
        .send(&Message::SyncConfigRequest(SyncConfigRequest::default()))
        .await;
    let frame = client.reply(id).await;
    let Message::SyncConfigResponse(response) = message(&frame) else {
        panic!("another answer");
    };
    client.register(&subscriber(ECHO, "s")).await;
    let pushed = client.pushed().await;
    assert_eq!(response.available_segments, [pushed.data.segment.unwrap()]);
}

#[tokio::test]
async fn the_application_is_named_as_soon_as_its_name_is_known() {
    let door = Door::open();
    let mut client = door.client().await;
    let mut register = subscriber(ECHO, "s");
    of(&mut register).app_name = None;
    client.register(&register).await;
    client.register(&publisher(ECHO, "p", &[LINE])).await;
    let named = Asked::Named {
        lease: 1,
        application: "demo-app".to_owned(),
    };
    let asked = door.until(|all| all.contains(&named)).await;
    assert!(asked.contains(&Asked::Opened {
        lease: 1,
        application: String::new()
    }));
}
