// SPDX-License-Identifier: Apache-2.0
//! Settings that change while calls are under way.

use std::time::Duration;

use remora_protocol::FrameKind;

use super::peers::{Path, Peer, Provider};
use super::wire::{reply, request, status};
use crate::call::Config;
use crate::config::{ByteSize, Span};

#[tokio::test]
async fn new_settings_hold_for_new_calls_and_old_calls_go_on() {
    let path = Path::with_workers(Config::default(), 2);
    let provider = Provider::new().await;
    path.route(&[("svc", &[provider.addr])]);
    let mut client = Peer::connect(path.egress).await;
    client.send(&request(1, "svc", b"before")).await;
    let mut upstream = provider.accept().await;
    let before = upstream.expect(FrameKind::Request).await;

    let config = Config {
        max_frame: ByteSize(1024),
        default_timeout: Span(Duration::from_millis(50)),
        timeout_slack: Span(Duration::ZERO),
        ..Config::default()
    };
    path.handle
        .as_ref()
        .unwrap()
        .configure(config, Duration::from_secs(1))
        .await;
    // The worker has them once it has answered.
    path.handle.as_ref().unwrap().connections().await;
    client.send(&request(2, "svc", &[0; 2000])).await;
    let refused = client.expect(FrameKind::Reply).await;
    assert_ne!(status(&refused), 0, "longer than the new limit");
    client.send(&request(3, "svc", b"after")).await;
    upstream.expect(FrameKind::Request).await;
    let timed_out = client.expect(FrameKind::Reply).await;
    assert_eq!(timed_out.stream_id.0, 3);
    upstream.send(&reply(&before, b"late but in time")).await;
    assert_eq!(client.expect(FrameKind::Reply).await.body(), b"late but in time");
}
