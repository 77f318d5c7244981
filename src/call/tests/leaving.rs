// SPDX-License-Identifier: Apache-2.0
//! An application that stops: what reaches its ingress by another Remora goes to another instance, over both hops and in the
//! protocols that are really spoken. Nobody but another Remora is refused anything.

use std::net::SocketAddr;
use std::sync::Arc;

use remora_bolt::frame::{Parts, Version};
use remora_bolt::{Bolt, Reply, Request, status};
use remora_dubbo::{Dubbo, StringCall, greeting, string_reply};
use remora_protocol::{BytesMut, Decoded, Frame, FrameKind, Outcome, Protocol, StreamId};

use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::peers::{Path, Peer, Provider, dead_port, soon, until};
use crate::call::Config;
use crate::discovery::ingress::IngressChange;

const CALLS: u32 = 50;

/// A protocol as applications speak it.
#[derive(Clone, Copy)]
struct Words {
    protocol: fn() -> Arc<dyn Protocol>,
    /// As the route table has it.
    service: &'static str,
    call: fn(u32) -> Frame,
    answer: fn(&Frame) -> Frame,
}

const BOLT: Words = Words {
    protocol: || Arc::new(Bolt),
    service: "demo.Echo:1.0",
    call: |id| {
        let request = Request {
            version: Version::V1,
            id,
            class: "com.alipay.sofa.rpc.core.request.SofaRequest",
            header: &[("service", "demo.Echo:1.0"), ("sofa_head_method_name", "echo")],
            content: b"x",
            ..Request::default()
        };
        frame(&Bolt, &request.to_frame().unwrap())
    },
    answer: |request| {
        let reply = Reply {
            id: Parts::of(&request.wire).unwrap().head.id,
            class: "com.alipay.sofa.rpc.core.response.SofaResponse",
            ..Reply::default()
        };
        frame(&Bolt, &reply.to_frame().unwrap())
    },
};

const DUBBO: Words = Words {
    protocol: || Arc::new(Dubbo),
    service: "demo.Echo:1.0",
    call: |id| {
        let call = StringCall {
            service: "demo.Echo",
            version: "1.0",
            method: "echo",
            arguments: &["x"],
            ..StringCall::default()
        };
        frame(&Dubbo, &call.to_request(StreamId(id.into())))
    },
    answer: |request| frame(&Dubbo, &string_reply(request, "x").unwrap()),
};

fn frame(protocol: &dyn Protocol, wire: &[u8]) -> Frame {
    match protocol.decode(&mut BytesMut::from(wire), 1 << 20) {
        Ok(Decoded::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// An application that answers every call, and what closes its port: connections stay.
async fn stoppable(words: Words) -> (SocketAddr, AbortHandle) {
    let provider = Provider::new().await;
    let addr = provider.addr;
    let listening = tokio::spawn(async move {
        loop {
            let stream = provider.accept().await.stream;
            tokio::spawn(async move {
                let mut peer = Peer::speaking((words.protocol)(), stream);
                while let Some(frame) = peer.next().await {
                    if frame.kind == FrameKind::Request {
                        peer.send(&(words.answer)(&frame)).await;
                    }
                }
            });
        }
    });
    (addr, listening.abort_handle())
}

async fn application(words: Words) -> SocketAddr {
    stoppable(words).await.0
}

fn start(words: Words) -> Path {
    Path::speaking((words.protocol)(), Config::default(), 1)
}

async fn leave(path: &Path, ingress: SocketAddr, is_leaving: bool) {
    let change = IngressChange::Leaving { ingress, is_leaving };
    soon("told", path.ingress.send(change)).await.unwrap();
}

/// Calls by two hops, to two instances; every call must be answered.
async fn call_all(words: Words, consumers: &Path, instances: &[SocketAddr]) {
    consumers.route(&[(words.service, instances)]);
    let protocol = (words.protocol)();
    let mut client = Peer::connect_speaking(protocol.clone(), consumers.egress).await;
    for id in 0..CALLS {
        let reply = client.call(&(words.call)(id)).await;
        assert_eq!(protocol.outcome(&reply), Outcome::Ok, "call {id}: {reply:?}");
    }
}

#[tokio::test]
async fn calls_to_an_application_that_stops_are_answered_by_another() {
    let (consumers, leaving, staying) = (start(BOLT), start(BOLT), start(BOLT));
    let app = application(BOLT).await;
    let one = leaving.open_ingress(Some(app)).await;
    let two = staying.open_ingress(Some(application(BOLT).await)).await;
    call_all(BOLT, &consumers, &[one, two]).await;
    leave(&leaving, one, true).await;
    call_all(BOLT, &consumers, &[one, two]).await;
    until("it is refused", || leaving.sum(|s| s.local_replies("leaving")) > 0).await;
    assert!(consumers.sum(|s| s.retries.get()) > 0);
}

/// SOFARPC's order: the port closes, the connections stay and nothing by them is answered, then the rest.
#[tokio::test]
async fn calls_to_an_application_that_closed_only_its_port_are_answered_by_another() {
    let (consumers, leaving, staying) = (start(BOLT), start(BOLT), start(BOLT));
    let (app, port) = stoppable(BOLT).await;
    let one = leaving.open_ingress(Some(app)).await;
    let two = staying.open_ingress(Some(application(BOLT).await)).await;
    call_all(BOLT, &consumers, &[one, two]).await;
    port.abort();
    soon("the port is closed", async {
        while TcpStream::connect(app).await.is_ok() {}
    })
    .await;
    call_all(BOLT, &consumers, &[one, two]).await;
    until("it is refused", || leaving.sum(|s| s.local_replies("leaving")) > 0).await;
    assert_eq!(leaving.sum(|s| s.local_replies("upstream_closed")), 0);
}

/// SOFARPC's threads end before its port closes, and a pool that is full says the same.
#[tokio::test]
async fn calls_that_no_thread_took_are_answered_by_another() {
    let (consumers, leaving, staying) = (start(BOLT), start(BOLT), start(BOLT));
    let busy = Words {
        answer: |request| {
            let reply = Reply {
                id: Parts::of(&request.wire).unwrap().head.id,
                status: status::SERVER_THREADPOOL_BUSY,
                ..Reply::default()
            };
            frame(&Bolt, &reply.to_frame().unwrap())
        },
        ..BOLT
    };
    let one = leaving.open_ingress(Some(application(busy).await)).await;
    let two = staying.open_ingress(Some(application(BOLT).await)).await;
    call_all(BOLT, &consumers, &[one, two]).await;
    assert!(consumers.sum(|s| s.retries.get()) > 0);
    // Where there is no other, the caller hears it as it was said.
    consumers.route(&[(BOLT.service, &[one])]);
    let mut client = Peer::connect_speaking((BOLT.protocol)(), consumers.egress).await;
    assert_eq!(Bolt.outcome(&client.call(&(BOLT.call)(1)).await), Outcome::Refused);
}

/// Java's bolt says "busy" also of a request in which a user's own processor gave work to a full pool: some of it may be done.
#[tokio::test]
async fn a_call_of_bare_bolt_that_was_refused_is_not_made_twice() {
    let own = |id| Request {
        id,
        class: "com.example.Order",
        content: b"x",
        ..Request::default()
    };
    let busy = Words {
        answer: |request| {
            let reply = Reply {
                id: Parts::of(&request.wire).unwrap().head.id,
                status: status::SERVER_THREADPOOL_BUSY,
                ..Reply::default()
            };
            frame(&Bolt, &reply.to_frame().unwrap())
        },
        ..BOLT
    };
    let path = start(BOLT);
    path.route(&[(BOLT.service, &[application(busy).await, application(busy).await])]);
    let mut client = Peer::connect_speaking((BOLT.protocol)(), path.egress).await;
    for id in 0..CALLS {
        let reply = client.call(&frame(&Bolt, &own(id).to_frame().unwrap())).await;
        assert_eq!(Bolt.outcome(&reply), Outcome::Refused);
    }
    assert_eq!(path.sum(|s| s.retries.get()), 0);
}

#[tokio::test]
async fn calls_to_a_port_that_is_closed_behind_the_ingress_are_answered_by_another() {
    for words in [BOLT, DUBBO] {
        let (consumers, closed, open) = (start(words), start(words), start(words));
        let one = closed.open_ingress(Some(dead_port())).await;
        let two = open.open_ingress(Some(application(words).await)).await;
        call_all(words, &consumers, &[one, two]).await;
        assert!(closed.sum(|s| s.local_replies("unreachable")) > 0, "it was asked");
        assert!(consumers.sum(|s| s.retries.get()) > 0);
    }
}

/// Dubbo's server while it closes: connections that stand are told, a new one is accepted and closed. What was written on it
/// by then would be lost.
#[tokio::test]
async fn calls_to_an_application_that_closes_new_connections_are_answered_by_another() {
    for words in [BOLT, DUBBO] {
        let (consumers, closing, open) = (start(words), start(words), start(words));
        let app = Provider::new().await;
        let one = closing.open_ingress(Some(app.addr)).await;
        tokio::spawn(async move {
            loop {
                let peer = Peer::speaking((words.protocol)(), app.accept().await.stream);
                // It closes only when something came, as late as it can.
                let _ = peer.stream.readable().await;
            }
        });
        let two = open.open_ingress(Some(application(words).await)).await;
        call_all(words, &consumers, &[one, two]).await;
        assert_eq!(closing.sum(|s| s.local_replies("upstream_closed")), 0);
        assert!(consumers.sum(|s| s.retries.get()) > 0);
    }
}

#[tokio::test]
async fn only_another_remora_is_refused_and_only_until_the_application_is_back() {
    let path = start(BOLT);
    let ingress = path.open_ingress(Some(application(BOLT).await)).await;
    let protocol = (BOLT.protocol)();
    let mut remora = Peer::connect_speaking(protocol.clone(), ingress).await;
    let mut java = Peer::connect_speaking(protocol.clone(), ingress).await;
    remora.send(&frame(&Bolt, &Bolt.greeting(0).unwrap())).await;
    remora.expect(FrameKind::HeartbeatReply).await;
    assert_eq!(Bolt.outcome(&remora.call(&(BOLT.call)(1)).await), Outcome::Ok);
    leave(&path, ingress, true).await;
    soon("refused", async {
        let mut id = 2;
        while Bolt.outcome(&remora.call(&(BOLT.call)(id)).await) != Outcome::NothingSent {
            id += 1;
        }
    })
    .await;
    assert_eq!(Bolt.outcome(&java.call(&(BOLT.call)(1)).await), Outcome::Ok);
    leave(&path, ingress, false).await;
    soon("served again", async {
        let mut id = 1_000;
        while Bolt.outcome(&remora.call(&(BOLT.call)(id)).await) != Outcome::Ok {
            id += 1;
        }
    })
    .await;
}

/// Whoever asks whether the application is there gets the Remora's word for it; calls are the application's to answer.
#[tokio::test]
async fn who_asks_after_an_application_that_withdrew_is_told_and_who_calls_it_is_served() {
    let path = start(DUBBO);
    let ingress = path.open_ingress(Some(application(DUBBO).await)).await;
    let protocol = (DUBBO.protocol)();
    let mut asking = Peer::connect_speaking(protocol.clone(), ingress).await;
    let mut calling = Peer::connect_speaking(protocol.clone(), ingress).await;
    asking.send(&frame(&Dubbo, &greeting())).await;
    asking.expect(FrameKind::HeartbeatReply).await;
    let heartbeat = Dubbo.heartbeat(0, StreamId(7)).unwrap();
    calling.send(&frame(&Dubbo, &heartbeat)).await;
    calling.expect(FrameKind::HeartbeatReply).await;
    assert_eq!(Dubbo.outcome(&asking.call(&(DUBBO.call)(1)).await), Outcome::Ok);
    leave(&path, ingress, true).await;
    soon("told", async {
        let mut id = 2;
        while Dubbo.outcome(&asking.call(&(DUBBO.call)(id)).await) != Outcome::NothingSent {
            id += 1;
        }
    })
    .await;
    assert_eq!(Dubbo.outcome(&calling.call(&(DUBBO.call)(1)).await), Outcome::Ok);
}
