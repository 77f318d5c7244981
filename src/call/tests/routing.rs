// SPDX-License-Identifier: Apache-2.0
//! Which instance a call goes to.

use super::peers::{Path, Peer, Provider, endpoint, text};
use super::wire::{frame, request, status};
use crate::call::Config;
use crate::discovery::ingress::IngressChange;
use crate::discovery::route_table::Endpoint;
use remora_protocol::{Frame, FrameKind};

/// A provider that answers every request with its name.
async fn named(name: &'static str) -> Endpoint {
    let provider = Provider::new().await;
    let addr = provider.addr;
    tokio::spawn(async move {
        loop {
            let mut peer = provider.accept().await;
            tokio::spawn(async move {
                while let Some(got) = peer.next().await {
                    if got.kind == FrameKind::Request {
                        peer.send(&frame(FrameKind::Reply, 0, got.stream_id.0, name.as_bytes()))
                            .await;
                    }
                }
            });
        }
    });
    endpoint(addr)
}

fn riddle(id: u64, text: &[u8]) -> Frame {
    frame(FrameKind::Request, 0, id, &[b"?", text].concat())
}

#[tokio::test]
async fn a_service_nobody_follows_is_named_with_its_near_misses() {
    let path = Path::start(Config::default());
    path.route_endpoints(vec![("demo.Echo:1.0.0", vec![named("echo").await])]);
    let mut client = Peer::connect(path.egress).await;
    let answer = client.call(&request(1, "service=demo.Echo;version=2.0.0", b"")).await;
    assert_eq!(status(&answer), 3, "nothing was sent");
    assert_eq!(
        text(&answer),
        "remora egress: no application here follows demo.Echo:2.0.0 (followed of that name: demo.Echo:1.0.0); see `remora \
         status` for the services that are followed"
    );
    let answer = client.call(&request(2, "service=demo.Echo;version=1.0.0", b"")).await;
    assert_eq!(text(&answer), "echo");
}

#[tokio::test]
async fn requests_that_a_connection_repeats_follow_the_routes() {
    let path = Path::start(Config::default());
    let (one, two, other) = (named("one").await, named("two").await, named("other").await);
    let mut client = Peer::connect(path.egress).await;
    path.route_endpoints(vec![("svc", vec![one]), ("other", vec![other])]);
    for id in 0..3 {
        assert_eq!(text(&client.call(&request(id, "svc", b"payload")).await), "one");
        assert_eq!(text(&client.call(&request(id, "other", b"payload")).await), "other");
    }
    path.route_endpoints(vec![("svc", vec![two])]);
    assert_eq!(text(&client.call(&request(4, "svc", b"payload")).await), "two");
    let answer = client.call(&request(5, "other", b"payload")).await;
    assert!(
        text(&answer).contains("no application here follows other"),
        "{}",
        text(&answer)
    );
}

#[tokio::test]
async fn more_kinds_of_requests_than_are_remembered_all_go_where_they_should() {
    let path = Path::start(Config::default());
    let names: [&'static str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut routes = Vec::new();
    for name in names {
        routes.push((name, vec![named(name).await]));
    }
    path.route_endpoints(routes);
    let mut client = Peer::connect(path.egress).await;
    for id in 0..600 {
        let name = names[(id * 7 % 13 % 12) as usize];
        assert_eq!(text(&client.call(&request(id, name, b"payload")).await), name);
    }
}

#[tokio::test]
async fn an_empty_list_is_said_to_be_empty() {
    let path = Path::start(Config::default());
    path.route(&[("svc", &[])]);
    let mut client = Peer::connect(path.egress).await;
    let answer = client.call(&request(1, "svc", b"")).await;
    assert!(
        text(&answer).starts_with("remora egress: no instance of svc is registered"),
        "{}",
        text(&answer)
    );
    assert_eq!(path.sum(|s| s.local_replies("no_instance")), 1);
}

#[tokio::test]
async fn an_unreadable_body_goes_where_only_one_service_is_possible() {
    let path = Path::start(Config::default());
    let mut client = Peer::connect(path.egress).await;
    path.route_endpoints(vec![("demo.Echo", vec![named("echo").await])]);
    assert_eq!(
        text(&client.call(&riddle(1, b"what am I")).await),
        "echo",
        "only one is followed"
    );

    path.route_endpoints(vec![
        ("demo.Echo", vec![named("echo").await]),
        ("demo.EchoService", vec![named("service").await]),
        ("demo.Two:1", vec![named("two 1").await]),
        ("demo.Two:2", vec![named("two 2").await]),
    ]);
    assert_eq!(text(&client.call(&riddle(2, b"\x00\x09demo.Echo\x05")).await), "echo");
    assert_eq!(
        text(&client.call(&riddle(3, b"\x10demo.EchoService0")).await),
        "service",
        "the longer name"
    );
    assert_eq!(
        text(&client.call(&riddle(4, b"\x01demo.EchoServic\xe5\x01")).await),
        "service",
        "as kryo writes it"
    );
    let two = text(&client.call(&riddle(5, b"demo.Two")).await);
    assert!(
        two.contains("2 of the 4 services followed here could be meant"),
        "{two}"
    );
    let none = text(&client.call(&riddle(6, b"nothing")).await);
    assert!(none.contains("0 of the 4 services"), "{none}");
    let malformed = text(&client.call(&frame(FrameKind::Request, 0, 7, b"no newline")).await);
    assert!(malformed.contains("malformed at byte 10"), "{malformed}");
}

#[tokio::test]
async fn instances_that_announce_the_serialization_go_first() {
    let path = Path::start(Config::default());
    let says = |mut endpoint: Endpoint, words: &[&str]| {
        endpoint.serializations = words.iter().map(|w| (*w).into()).collect();
        endpoint
    };
    path.route_endpoints(vec![(
        "svc",
        vec![
            named("silent").await,
            says(named("kryo").await, &["kryo", "hessian2"]),
            says(named("hessian").await, &["hessian2"]),
        ],
    )]);
    let mut client = Peer::connect(path.egress).await;
    for id in 0..30 {
        assert_eq!(
            text(&client.call(&request(id, "service=svc;serialization=kryo", b"")).await),
            "kryo"
        );
    }
    let mut seen = std::collections::BTreeSet::new();
    for id in 0..200 {
        seen.insert(text(
            &client
                .call(&request(id, "service=svc;serialization=hessian2", b""))
                .await,
        ));
    }
    assert_eq!(
        seen.len(),
        3,
        "an instance that says nothing reads the default: {seen:?}"
    );

    path.route_endpoints(vec![("svc", vec![says(named("hessian").await, &["hessian2"])])]);
    let answer = client.call(&request(99, "service=svc;serialization=kryo", b"")).await;
    assert_eq!(text(&answer), "hessian", "nobody announces it: all are asked");
}

#[tokio::test]
async fn endpoints_of_another_protocol_are_left_out() {
    let path = Path::start(Config::default());
    let mut other = named("other").await;
    other.protocol = "tri".into();
    path.route_endpoints(vec![("svc", vec![other])]);
    let mut client = Peer::connect(path.egress).await;
    assert!(text(&client.call(&request(1, "svc", b"")).await).contains("no instance of svc"));
}

#[tokio::test]
async fn an_ingress_without_an_application_says_so_until_one_is_there() {
    let path = Path::start(Config::default());
    let ingress = path.open_ingress(None).await;
    let mut remote = Peer::connect(ingress).await;
    let answer = remote.call(&request(1, "whatever", b"")).await;
    assert_eq!(status(&answer), 3);
    assert!(
        text(&answer).starts_with("remora ingress: no application is published on ingress"),
        "{}",
        text(&answer)
    );

    for name in ["first", "moved"] {
        let app = named(name).await.addr;
        path.ingress.send(IngressChange::Assign { ingress, app }).await.unwrap();
        // The change travels by itself: asked until it has arrived.
        let mut id = 2;
        while text(&remote.call(&request(id, "whatever", b"")).await) != name {
            id += 1;
        }
    }
}

#[tokio::test]
async fn a_service_list_that_names_our_own_ingress_is_no_loop() {
    let path = Path::start(Config::default());
    let ingress = path.open_ingress(None).await;
    // Asked once, so that the port is known to be open.
    Peer::connect(ingress).await.call(&request(1, "x", b"")).await;
    path.route(&[("svc", &[ingress, path.egress])]);
    let mut client = Peer::connect(path.egress).await;
    let answer = text(&client.call(&request(1, "svc", b"")).await);
    assert!(
        answer.contains("2 tried: ") && answer.contains("would be a loop"),
        "{answer}"
    );
}
