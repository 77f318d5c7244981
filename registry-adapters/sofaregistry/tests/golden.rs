// SPDX-License-Identifier: Apache-2.0
//! What real clients and a real server of SOFARegistry said, see `testbed/golden/sofaregistry/README.md`.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

use std::path::Path;

use bytes::BytesMut;
use remora_bolt::frame::Parts;
use remora_protocol::{Decoded, Frame, FrameKind};
use remora_sofaregistry::wire::{EventType, Kind, Limits, Message, ReceivedData, Scope};

const VERSIONS: [&str; 3] = ["5.2.0", "6.3.0", "6.5.6"];

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(byte).collect()
}

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/golden/sofaregistry");
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

fn frame(wire: &[u8]) -> Frame {
    let mut input = BytesMut::from(wire);
    match remora_bolt::decode(&mut input, 64 << 20).unwrap() {
        Decoded::Frame(frame) if input.is_empty() => frame,
        other => panic!("not one frame: {other:?}"),
    }
}

fn message(frame: &Frame) -> Message {
    let parts = Parts::of(&frame.wire).unwrap();
    let class = std::str::from_utf8(parts.class).unwrap();
    Message::decode(class, parts.content, &Limits::default()).unwrap_or_else(|e| panic!("{class}: {e}"))
}

fn golden(version: &str, name: &str) -> Message {
    message(&frame(&bytes(&read(&format!("{version}-{name}.hex")))))
}

fn push(version: &str, name: &str) -> ReceivedData {
    match golden(version, name) {
        Message::ReceivedData(push) => push,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_frame_of_every_connection_is_read_and_written_alike() {
    for version in VERSIONS {
        let mut kinds = Vec::new();
        for line in read(&format!("{version}-connection.hex")).lines() {
            let frame = frame(&bytes(line.trim_start_matches(['>', '<', ' '])));
            if matches!(frame.kind, FrameKind::Heartbeat | FrameKind::HeartbeatReply) {
                continue;
            }
            let message = message(&frame);
            let again = Message::decode(message.class(), &message.encode(), &Limits::default());
            assert_eq!(again.as_ref(), Ok(&message), "{version}");
            if !kinds.contains(&message.kind()) {
                kinds.push(message.kind());
            }
        }
        // All but the one that nobody asks for.
        assert_eq!(kinds.len(), Kind::ALL.len() - 1, "{version}: {kinds:?}");
    }
}

#[test]
fn registrations_say_what_the_client_was_told() {
    for version in VERSIONS {
        let Message::PublisherRegister(publisher) = golden(version, "publisher-register") else {
            panic!("{version}");
        };
        let base = &publisher.base;
        assert!(base.data_id.ends_with("@DEFAULT"), "{version}: {base:?}");
        assert_eq!((base.group.as_str(), &base.event), ("SOFA", &EventType::Register));
        assert_eq!((base.version, base.zone.as_deref()), (1, Some("DEFAULT_ZONE")));
        assert_eq!(base.regist_id.len(), 36);
        assert_eq!(publisher.data.len(), 1);
        assert!(publisher.data[0].contains("p=1&v=4.0"), "{:?}", publisher.data);

        let Message::PublisherRegister(gone) = golden(version, "publisher-unregister") else {
            panic!("{version}");
        };
        assert_eq!((gone.base.event, gone.data.len()), (EventType::Unregister, 0));
        assert!(gone.base.version > 1);

        let Message::SubscriberRegister(subscriber) = golden(version, "subscriber-register") else {
            panic!("{version}");
        };
        assert_eq!((subscriber.scope, subscriber.accept_multi), (Scope::Global, false));
        let Message::ConfiguratorRegister(configurator) = golden(version, "configurator-register") else {
            panic!("{version}");
        };
        assert_eq!(
            (configurator.base.group.as_str(), configurator.base.version),
            ("SOFA.CONFIG", 0)
        );
    }
}

#[test]
fn pushes_have_the_lines_by_zone() {
    for version in VERSIONS {
        let plain = push(version, "received-data");
        assert_eq!(plain.segment.as_deref(), Some("DefaultDataCenter"));
        assert_eq!(plain.subscriber_regist_ids.len(), 1);
        assert!(plain.version > 1 << 40, "{}", plain.version);
        let lines = |push: &ReceivedData| push.data.iter().flatten().map(|(_, lines)| lines.len()).sum::<usize>();
        assert_eq!(lines(&plain), 1, "{version}");
        assert_eq!(lines(&push(version, "received-data-two-lines")), 2, "{version}");
        assert_eq!(lines(&push(version, "received-data-many")), 300, "{version}");
        let empty = push(version, "received-data-empty");
        assert_eq!((empty.data, empty.version), (Some(vec![]), 1), "{version}");
        let foreign = push(version, "received-data-non-ascii").data.unwrap();
        let text = &foreign[0].1[0];
        assert!(
            text.contains('ü') && text.chars().any(|c| u32::from(c) > 0xffff),
            "{text}"
        );
    }
}

#[test]
fn a_configuration_may_be_without_text() {
    for version in VERSIONS {
        let Message::ReceivedConfigData(config) = golden(version, "received-config-data") else {
            panic!("{version}");
        };
        assert_eq!(config.data, None);
        assert_eq!(config.configurator_regist_ids.len(), 1);
    }
}

#[test]
fn a_line_longer_than_a_piece_of_a_string_is_read() {
    let Message::PublisherRegister(publisher) = golden("6.5.6", "publisher-register-long") else {
        panic!("not a publisher");
    };
    assert!(publisher.data[0].len() > 0x8000, "{}", publisher.data[0].len());
}
