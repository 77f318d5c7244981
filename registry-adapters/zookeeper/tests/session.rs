// SPDX-License-Identifier: Apache-2.0
//! Remora's own session: over the embedded registry, and over scripted servers where it matters what is on the wire.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod line;
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use line::Line;
use remora_zookeeper::backend::{Backend, BackendError, BoxFuture, Duplex, Embedded};
use remora_zookeeper::client::{Client, ClientError, Options, SessionState, Watcher};
use remora_zookeeper::embedded::{self, Server};
use remora_zookeeper::wire::CreateMode::{Ephemeral, Persistent, PersistentSequential};
use remora_zookeeper::wire::request::Auth;
use remora_zookeeper::wire::{
    ConnectRequest, ConnectResponse, ErrorCode, OpCode, Reader, Record, Reply, ReplyHeader, RequestHeader, Stat,
    begin_frame, end_frame, reply, split_frame, xid,
};
use support::DEADLINE;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn server() -> Server {
    Server::in_memory(embedded::Options::default())
}

fn client(backend: impl Backend) -> Client {
    client_with(backend, Options::default())
}

fn client_with(backend: impl Backend, options: Options) -> Client {
    Client::start(Arc::new(backend), options, CancellationToken::new())
}

/// Waits for a state; gives what `pick` made of it.
async fn until<T>(client: &Client, what: &str, pick: impl Fn(&SessionState) -> Option<T>) -> T {
    let mut states = client.state();
    let found = timeout(DEADLINE, states.wait_for(|s| pick(s).is_some())).await;
    let found = found.unwrap_or_else(|_| panic!("not in time: {what}"));
    pick(&found.unwrap()).unwrap()
}

fn up(state: &SessionState) -> Option<(i64, u64)> {
    match state {
        SessionState::Up {
            session, connection, ..
        } => Some((*session, *connection)),
        _ => None,
    }
}

fn down(state: &SessionState) -> Option<Arc<str>> {
    match state {
        SessionState::Down { cause, .. } => Some(cause.clone()),
        _ => None,
    }
}

async fn fired(watcher: &Watcher) -> Vec<Arc<str>> {
    let fired = timeout(DEADLINE, watcher.fired()).await.expect("a watch fires in time");
    fired.into_iter().collect()
}

#[tokio::test]
async fn a_detached_session_goes_on_elsewhere_with_its_ephemerals() {
    let server = server();
    let former = client(Embedded::new(server.clone()));
    let (session, _) = until(&former, "connected", up).await;
    former.create("/mine", Bytes::new(), Ephemeral).await.unwrap();
    let ticket = timeout(DEADLINE, former.detach()).await.unwrap();
    assert!(matches!(
        former.create("/late", Bytes::new(), Persistent).await,
        Err(ClientError::Closed { .. })
    ));

    let options = Options {
        resume: ticket,
        ..Options::default()
    };
    let next = client_with(Embedded::new(server.clone()), options);
    assert_eq!(until(&next, "connected", up).await.0, session);
    let stat = next.exists("/mine", None).await.unwrap().expect("it stands");
    assert_eq!(stat.ephemeral_owner, session);
    // Who detaches before it is connected hands on what it was given.
    let unconnected = client_with(
        Embedded::new(server),
        Options {
            resume: next.detach().await,
            ..Options::default()
        },
    );
    assert_eq!(unconnected.detach().await.map(|t| t.session), Some(session));
}

#[tokio::test]
async fn operations_do_what_they_say() {
    let client = client(Embedded::new(server()));
    client.create_parents("/a/b/c").await.unwrap();
    client.create_parents("/a/b/d").await.unwrap();
    assert_eq!(client.create("/a/b/c", "x".into(), Persistent).await.unwrap(), "/a/b/c");
    let numbered = client
        .create("/a/b/n-", Bytes::new(), PersistentSequential)
        .await
        .unwrap();
    assert_eq!(numbered, "/a/b/n-0000000001");
    assert_eq!(client.data("/a/b/c", None).await.unwrap().0, "x");
    let stat = client.set_data("/a/b/c", "yy".into()).await.unwrap();
    assert_eq!(client.exists("/a/b/c", None).await.unwrap(), Some(stat));
    let mut names: Vec<String> = client
        .children("/a/b", None)
        .await
        .unwrap()
        .iter()
        .map(|n| n.to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["c", "n-0000000001"]);
    client.delete("/a/b/c").await.unwrap();
    assert!(client.delete("/a/b/c").await.unwrap_err().is_no_node());
    assert_eq!(client.exists("/a/b/c", None).await.unwrap(), None);
    let taken = client.create("/a", Bytes::new(), Persistent).await.unwrap_err();
    assert_eq!(taken.code(), Some(ErrorCode::NODE_EXISTS));
}

#[tokio::test]
async fn watches_fire_once_and_tell_where() {
    let server = server();
    let (client, other) = (client(Embedded::new(server.clone())), client(Embedded::new(server)));
    let watcher = Watcher::new();
    assert_eq!(client.exists("/a", Some(&watcher)).await.unwrap(), None);
    other.create("/a", Bytes::new(), Persistent).await.unwrap();
    assert_eq!(fired(&watcher).await, ["/a".into()]);
    client.children("/a", Some(&watcher)).await.unwrap();
    client.data("/a", Some(&watcher)).await.unwrap();
    other.set_data("/a", "1".into()).await.unwrap();
    assert_eq!(fired(&watcher).await, ["/a".into()], "the data watch");
    other.set_data("/a", "2".into()).await.unwrap();
    other.create("/a/b", Bytes::new(), Persistent).await.unwrap();
    assert_eq!(fired(&watcher).await, ["/a".into()], "the child watch");
    other.delete("/a/b").await.unwrap();
    client.data("/a", None).await.unwrap();
    assert!(watcher.take().is_empty(), "both were one-shot");
    let absent = client.children("/none", Some(&watcher)).await.unwrap_err();
    assert!(absent.is_no_node());
}

#[tokio::test]
async fn lost_connection_resumes_the_session_and_fires_every_watch() {
    let server = server();
    let line = Line::to(&server);
    let client = client(line.clone());
    client.create("/e", Bytes::new(), Ephemeral).await.unwrap();
    let watcher = Watcher::new();
    client.data("/e", Some(&watcher)).await.unwrap();
    client.exists("/none", Some(&watcher)).await.unwrap();
    let (session, connection) = until(&client, "up", up).await;
    line.cut();
    assert_eq!(fired(&watcher).await, ["/e".into(), "/none".into()]);
    let (again, later) = until(&client, "up again", up).await;
    assert_eq!(again, session);
    assert!(later > connection);
    assert_eq!(
        client.exists("/e", None).await.unwrap().unwrap().ephemeral_owner,
        session
    );
}

#[tokio::test]
async fn expired_session_is_followed_by_a_new_one() {
    let line = Line::to(&server());
    let client = client(line.clone());
    let (session, _) = until(&client, "up", up).await;
    line.lead(Some(&server()));
    until(&client, "a new session", |s| up(s).filter(|(id, _)| *id != session)).await;
    client.create("/a", Bytes::new(), Ephemeral).await.unwrap();
}

#[tokio::test]
async fn operations_fail_at_once_while_there_is_no_connection() {
    let server = server();
    let line = Line::to(&server);
    line.lead(None);
    let client = client(line.clone());
    let cause = until(&client, "down", down).await;
    assert!(cause.contains("the line is cut"), "{cause}");
    let lost = client.data("/", None).await.unwrap_err();
    assert!(matches!(lost, ClientError::Lost { .. }), "{lost}");
    line.lead(Some(&server));
    until(&client, "up", up).await;
    client.data("/", None).await.unwrap();
}

#[tokio::test]
async fn thousands_of_reads_are_pipelined() {
    let client = client(Embedded::new(server()));
    client.create("/a", "x".into(), Persistent).await.unwrap();
    let mut reads = JoinSet::new();
    for _ in 0..5_000 {
        let client = client.clone();
        reads.spawn(async move { client.data("/a", None).await });
    }
    for read in reads.join_all().await {
        assert_eq!(read.unwrap().0, "x");
    }
}

#[tokio::test]
async fn chroot_stands_before_every_path_and_is_never_seen() {
    let server = server();
    let inside = client(Line::to(&server).with_chroot("/shop/a"));
    inside.create_parents("/dubbo/x").await.unwrap();
    assert_eq!(
        inside.create("/dubbo/x", Bytes::new(), Persistent).await.unwrap(),
        "/dubbo/x"
    );
    let watcher = Watcher::new();
    inside.children("/", Some(&watcher)).await.unwrap();
    let outside = client(Embedded::new(server));
    outside.data("/shop/a/dubbo/x", None).await.unwrap();
    outside.create("/shop/a/y", Bytes::new(), Persistent).await.unwrap();
    assert_eq!(fired(&watcher).await, ["/".into()]);
}

#[tokio::test]
async fn credentials_guard_what_is_made() {
    let server = server();
    let auth = |secret: &'static str| Options {
        auth: Some(Auth {
            kind: 0,
            scheme: "digest".into(),
            auth: Some(Bytes::from_static(secret.as_bytes())),
        }),
        ..Options::default()
    };
    let owner = client_with(Embedded::new(server.clone()), auth("u:p"));
    owner.create("/mine", "x".into(), Persistent).await.unwrap();
    let stranger = client_with(Embedded::new(server.clone()), auth("u:wrong"));
    let refused = stranger.data("/mine", None).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NO_AUTH));
    assert_eq!(owner.data("/mine", None).await.unwrap().0, "x");
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_session() {
    let server = server();
    let one = client(Embedded::new(server.clone()));
    let two = one.clone();
    one.create("/e", Bytes::new(), Ephemeral).await.unwrap();
    let other = client(Embedded::new(server));
    let watcher = Watcher::new();
    drop(one);
    assert!(other.exists("/e", Some(&watcher)).await.unwrap().is_some());
    drop(two);
    assert_eq!(fired(&watcher).await, ["/e".into()]);
    assert_eq!(other.exists("/e", None).await.unwrap(), None);
}

/// Hands the server's end of each connection to the test.
struct Scripted(mpsc::UnboundedSender<DuplexStream>);

impl Backend for Scripted {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Duplex>, BackendError>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.0.send(theirs).unwrap();
        Box::pin(async move { Ok(Box::new(ours) as Box<dyn Duplex>) })
    }

    fn describe(&self) -> String {
        "script".to_owned()
    }
}

/// The server's end of a connection.
struct Peer {
    io: DuplexStream,
    input: BytesMut,
}

impl Peer {
    async fn next(peers: &mut mpsc::UnboundedReceiver<DuplexStream>) -> (Self, ConnectRequest) {
        let io = peers.recv().await.unwrap();
        let mut peer = Self {
            io,
            input: BytesMut::new(),
        };
        let greeting = ConnectRequest::read(&mut Reader::new(peer.frame().await)).unwrap();
        (peer, greeting)
    }

    async fn frame(&mut self) -> Bytes {
        loop {
            if let Some(frame) = split_frame(&mut self.input, 1 << 20).unwrap() {
                return frame;
            }
            assert_ne!(self.io.read_buf(&mut self.input).await.unwrap(), 0, "the client closed");
        }
    }

    async fn request(&mut self) -> RequestHeader {
        RequestHeader::read(&mut Reader::new(self.frame().await)).unwrap()
    }

    async fn welcome(&mut self, session: i64, timeout_ms: i32) {
        let mut out = BytesMut::new();
        let start = begin_frame(&mut out);
        let response = ConnectResponse {
            timeout_ms,
            session_id: session,
            ..ConnectResponse::expired(Some(false))
        };
        response.write(&mut out);
        end_frame(&mut out, start);
        self.io.write_all(&out).await.unwrap();
    }

    async fn answer(&mut self, xid: i32, zxid: i64, err: ErrorCode) {
        let mut out = BytesMut::new();
        reply::encode_error(ReplyHeader { xid, zxid, err }, &mut out);
        self.io.write_all(&out).await.unwrap();
    }
}

fn scripted(options: Options) -> (Client, mpsc::UnboundedReceiver<DuplexStream>) {
    let (sender, peers) = mpsc::unbounded_channel();
    (client_with(Scripted(sender), options), peers)
}

#[tokio::test(start_paused = true)]
async fn a_greeting_that_a_starting_server_lost_is_repeated_soon_and_a_slow_server_gets_its_time() {
    let (client, mut peers) = scripted(Options::default());
    let mut silent = Vec::new();
    let mut last = tokio::time::Instant::now();
    for waited in [0, 2, 4, 8, 10] {
        silent.push(Peer::next(&mut peers).await);
        let now = tokio::time::Instant::now();
        let pause = (now - last).checked_sub(Duration::from_secs(waited));
        assert!(
            pause.is_some_and(|pause| pause <= Duration::from_secs(2)),
            "{:?}",
            now - last
        );
        last = now;
    }
    let (mut peer, _) = Peer::next(&mut peers).await;
    // Longer than the first wait, not longer than an operation may take.
    tokio::time::sleep(Duration::from_secs(9)).await;
    peer.welcome(7, 30_000).await;
    assert_eq!(until(&client, "up", up).await.0, 7);
}

#[tokio::test(start_paused = true)]
async fn server_with_lower_zxids_does_not_lock_us_out() {
    let (client, mut peers) = scripted(Options::default());
    let (mut peer, greeting) = Peer::next(&mut peers).await;
    assert_eq!((greeting.session_id, greeting.last_zxid_seen), (0, 0));
    peer.welcome(7, 30_000).await;
    let asking = client.clone();
    let asked = tokio::spawn(async move { asking.exists("/a", None).await });
    let request = peer.request().await;
    peer.answer(request.xid, 99, ErrorCode::NO_NODE).await;
    assert_eq!(asked.await.unwrap().unwrap(), None);
    // It comes back emptied and refuses, as real ones do, whoever saw more than it has.
    drop(peer);
    let (refusing, greeting) = Peer::next(&mut peers).await;
    assert_eq!((greeting.session_id, greeting.last_zxid_seen), (7, 99));
    drop(refusing);
    let (mut peer, greeting) = Peer::next(&mut peers).await;
    assert_eq!(
        (greeting.session_id, greeting.last_zxid_seen),
        (7, 0),
        "the session may still be there"
    );
    peer.welcome(0, 0).await;
    let (mut peer, greeting) = Peer::next(&mut peers).await;
    assert_eq!((greeting.session_id, greeting.last_zxid_seen), (0, 0));
    peer.welcome(8, 30_000).await;
    until(&client, "a new session", |s| up(s).filter(|(id, _)| *id == 8)).await;
}

#[tokio::test(start_paused = true)]
async fn silent_server_is_pinged_and_then_left() {
    let (client, mut peers) = scripted(Options::default());
    let (mut peer, _) = Peer::next(&mut peers).await;
    peer.welcome(7, 6_000).await;
    let start = tokio::time::Instant::now();
    let ping = peer.request().await;
    assert_eq!((ping.xid, ping.op), (xid::PING, OpCode::Ping.number()));
    assert_eq!(start.elapsed().as_secs(), 2, "a third of the session timeout");
    let (_again, greeting) = Peer::next(&mut peers).await;
    assert_eq!(greeting.session_id, 7);
    assert_eq!(start.elapsed().as_secs(), 4, "two thirds of the session timeout");
    let cause = until(&client, "down", down).await;
    assert!(cause.contains("nothing was heard"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn answered_pings_keep_the_connection() {
    let (client, mut peers) = scripted(Options::default());
    let (mut peer, _) = Peer::next(&mut peers).await;
    peer.welcome(7, 6_000).await;
    for _ in 0..10 {
        assert_eq!(peer.request().await.xid, xid::PING);
        peer.answer(xid::PING, 5, ErrorCode::OK).await;
    }
    assert_eq!(until(&client, "up", up).await, (7, 1));
}

#[tokio::test(start_paused = true)]
async fn operation_without_an_answer_ends_in_time() {
    let (client, mut peers) = scripted(Options::default());
    let (mut peer, _) = Peer::next(&mut peers).await;
    peer.welcome(7, 60_000).await;
    let asked = tokio::spawn(async move { (client.exists("/a", None).await, client) });
    let request = peer.request().await;
    let (answer, client) = asked.await.unwrap();
    assert!(matches!(answer, Err(ClientError::Timeout { .. })), "{answer:?}");
    // The late answer is nobody's, and the next one finds its question.
    peer.answer(request.xid, 5, ErrorCode::NO_NODE).await;
    let asked = tokio::spawn(async move { client.exists("/b", None).await });
    let request = loop {
        let request = peer.request().await;
        if request.op != OpCode::Ping.number() {
            break request;
        }
        peer.answer(xid::PING, 5, ErrorCode::OK).await;
    };
    let mut out = BytesMut::new();
    Reply::Stat(Stat::default()).encode_frame(request.xid, 6, &mut out);
    peer.io.write_all(&out).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), Some(Stat::default()));
}

#[tokio::test(start_paused = true)]
async fn answer_out_of_order_ends_the_connection() {
    let (client, mut peers) = scripted(Options::default());
    let (mut peer, _) = Peer::next(&mut peers).await;
    peer.welcome(7, 60_000).await;
    let asked = tokio::spawn(async move { client.exists("/a", None).await });
    let request = peer.request().await;
    peer.answer(request.xid + 1, 5, ErrorCode::OK).await;
    let answer = asked.await.unwrap();
    assert!(matches!(answer, Err(ClientError::Lost { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn stop_says_goodbye_and_does_not_wait_for_ever() {
    let (sender, mut peers) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let client = Client::start(Arc::new(Scripted(sender)), Options::default(), stop.clone());
    let (mut peer, _) = Peer::next(&mut peers).await;
    peer.welcome(7, 60_000).await;
    until(&client, "up", up).await;
    stop.cancel();
    assert_eq!(peer.request().await.op, OpCode::CloseSession.number());
    let start = tokio::time::Instant::now();
    client.closed().await;
    assert!(start.elapsed() <= Duration::from_secs(3));
    assert!(matches!(client.data("/", None).await, Err(ClientError::Closed { .. })));
}
