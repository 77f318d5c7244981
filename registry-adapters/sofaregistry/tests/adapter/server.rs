// SPDX-License-Identifier: Apache-2.0
//! A session server that does what the test says: an HTTP port that names it, and connections of which each frame is read
//! and answered by hand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use remora_bolt::frame::{Parts, Version};
use remora_bolt::{Reply, Request, heartbeat, heartbeat_ack};
use remora_protocol::{Decoded, Frame, FrameKind};
use remora_sofaregistry::client::Endpoint;
use remora_sofaregistry::wire::{
    DEFAULT_DATA_CENTER, EventType, Limits, Message, PublisherRegister, PushResult, ReceivedData, RegisterResponse,
    Registration, Scope, SubscriberRegister, SyncConfigResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Nothing that is waited for takes longer.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub struct Server {
    http: u16,
    /// `None` while it is away.
    bolt: Option<TcpListener>,
    /// What HTTP answers, by path.
    answers: Arc<Mutex<Vec<(String, u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Segments that count.
    pub segments: Vec<String>,
}

impl Server {
    pub async fn start() -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut this = Self {
            http: http.local_addr().unwrap().port(),
            bolt: None,
            answers: Arc::default(),
            asked: Arc::default(),
            segments: vec![DEFAULT_DATA_CENTER.to_owned()],
        };
        this.back().await;
        tokio::spawn(serve_http(http, Arc::clone(&this.answers), Arc::clone(&this.asked)));
        this
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".into(),
            port: self.http,
        }
    }

    pub fn address(&self) -> String {
        self.bolt.as_ref().unwrap().local_addr().unwrap().to_string()
    }

    /// No session server listens, and none is named. Connections stay.
    pub fn away(&mut self) {
        self.bolt = None;
        self.names(&[]);
    }

    /// A session server listens, at another port than before, and is named.
    pub async fn back(&mut self) {
        self.bolt = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
        self.names(&[&self.address()]);
    }

    /// The list of session servers; as in 6.3.0, it has no weights.
    pub fn names(&self, servers: &[&str]) {
        self.answer("/api/servers/query", 200, &servers.join(";"));
    }

    pub fn answer(&self, path: &str, status: u16, text: &str) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, ..)| known != path);
        answers.push((path.to_owned(), status, text.to_owned()));
    }

    /// Request lines that HTTP saw.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The next connection, on which the first question was answered.
    pub async fn accept(&self) -> Peer {
        let mut peer = self.accept_only().await;
        let first = peer.any_frame().await.expect("the client closed the connection");
        assert!(peer.answer_settings(&first).await, "the first frame asks for settings");
        peer
    }

    /// The next connection, untouched.
    pub async fn accept_only(&self) -> Peer {
        let accept = self.bolt.as_ref().unwrap().accept();
        let (stream, _) = timeout(DEADLINE, accept).await.expect("no connection").unwrap();
        Peer {
            stream,
            input: BytesMut::new(),
            put_back: VecDeque::new(),
            segments: self.segments.clone(),
            last_id: 0,
        }
    }
}

/// One connection, from the server's end.
pub struct Peer {
    stream: TcpStream,
    input: BytesMut,
    /// Requests that came while something else was waited for.
    put_back: VecDeque<(u32, Message)>,
    segments: Vec<String>,
    last_id: u32,
}

impl Peer {
    /// The next frame that is no question for settings; those are answered.
    pub async fn frame(&mut self) -> Frame {
        self.frame_or_end().await.expect("the client closed the connection")
    }

    /// `None` when the client closed the connection.
    pub async fn frame_or_end(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any_frame().await?;
            if !self.answer_settings(&frame).await {
                return Some(frame);
            }
        }
    }

    async fn any_frame(&mut self) -> Option<Frame> {
        loop {
            match remora_bolt::decode(&mut self.input, 64 << 20).unwrap() {
                Decoded::Frame(frame) => return Some(frame),
                Decoded::Incomplete { .. } => {
                    let read = timeout(DEADLINE, self.stream.read_buf(&mut self.input));
                    match read.await.expect("nothing came") {
                        Ok(0) | Err(_) => return None,
                        Ok(_) => {}
                    }
                }
                Decoded::TooLong { .. } => panic!("a frame of more than 64 MiB"),
            }
        }
    }

    /// Whether the frame asks for settings.
    async fn answer_settings(&mut self, frame: &Frame) -> bool {
        if frame.kind != FrameKind::Request || !matches!(message(frame), Message::SyncConfigRequest(_)) {
            return false;
        }
        let settings = Message::SyncConfigResponse(SyncConfigResponse {
            success: true,
            available_segments: self.segments.clone(),
            ..SyncConfigResponse::default()
        });
        self.reply(id(frame), &settings).await;
        true
    }

    /// Waits until the client closes the connection.
    pub async fn ended(mut self) {
        while self.frame_or_end().await.is_some() {}
    }

    /// The next request, with its id.
    pub async fn request(&mut self) -> (u32, Message) {
        if let Some(request) = self.put_back.pop_front() {
            return request;
        }
        loop {
            let frame = self.frame().await;
            match frame.kind {
                FrameKind::Request => return (id(&frame), message(&frame)),
                FrameKind::Heartbeat => self.send(&heartbeat_ack(Version::V1, id(&frame))).await,
                other => panic!("{other:?} instead of a request"),
            }
        }
    }

    /// The next publisher, with the request's id.
    pub async fn publisher(&mut self) -> (u32, PublisherRegister) {
        match self.request().await {
            (id, Message::PublisherRegister(publisher)) => (id, publisher),
            other => panic!("{other:?} instead of a publisher"),
        }
    }

    /// The next publisher, acknowledged.
    pub async fn published(&mut self) -> PublisherRegister {
        let (id, publisher) = self.publisher().await;
        self.acknowledge(id, &publisher.base).await;
        publisher
    }

    /// The next subscriber, acknowledged.
    pub async fn subscribed(&mut self) -> SubscriberRegister {
        match self.request().await {
            (id, Message::SubscriberRegister(subscriber)) => {
                self.acknowledge(id, &subscriber.base).await;
                subscriber
            }
            other => panic!("{other:?} instead of a subscriber"),
        }
    }

    pub async fn acknowledge(&mut self, id: u32, base: &Registration) {
        self.answer(id, base, true, false).await;
    }

    pub async fn answer(&mut self, id: u32, base: &Registration, success: bool, refused: bool) {
        let answer = RegisterResponse {
            success,
            refused,
            regist_id: base.regist_id.clone(),
            version: base.version,
            message: Some("because".into()),
        };
        self.reply(id, &Message::RegisterResponse(answer)).await;
    }

    pub async fn reply(&mut self, id: u32, message: &Message) {
        let reply = Reply {
            id,
            class: message.class(),
            content: &message.encode(),
            ..Reply::default()
        };
        self.send(&reply.to_frame().unwrap()).await;
    }

    /// Pushes and waits for the answer's frame.
    pub async fn push_frame(&mut self, message: &Message) -> Frame {
        let content = message.encode();
        self.push_content(message.class(), &content).await
    }

    pub async fn push_content(&mut self, class: &str, content: &[u8]) -> Frame {
        self.last_id += 1;
        let request = Request {
            id: self.last_id,
            class,
            content,
            ..Request::default()
        };
        self.send(&request.to_frame().unwrap()).await;
        loop {
            let frame = self.frame().await;
            match frame.kind {
                FrameKind::Reply if id(&frame) == self.last_id => return frame,
                FrameKind::Request => self.put_back.push_back((id(&frame), message(&frame))),
                other => panic!("{other:?} instead of an answer to a push"),
            }
        }
    }

    /// Pushes; the client must take it.
    pub async fn push(&mut self, message: &Message) {
        let answer = self.push_frame(message).await;
        assert_eq!(self::message(&answer), Message::PushResult(PushResult::taken()));
    }

    /// Pushes lines of one zone to a subscriber.
    pub async fn push_lines(&mut self, to: &SubscriberRegister, version: i64, lines: &[&str]) {
        self.push(&lines_of(to, DEFAULT_DATA_CENTER, version, lines)).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // A client that went is found out when something is waited for.
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn heartbeat(&mut self) {
        self.send(&heartbeat(Version::V1, 77)).await;
        let ack = self.frame().await;
        assert_eq!((ack.kind, id(&ack)), (FrameKind::HeartbeatReply, 77));
    }
}

pub fn lines_of(to: &SubscriberRegister, segment: &str, version: i64, lines: &[&str]) -> Message {
    Message::ReceivedData(ReceivedData {
        data_id: to.base.data_id.clone(),
        group: to.base.group.clone(),
        segment: Some(segment.to_owned()),
        scope: Scope::Global,
        subscriber_regist_ids: vec![to.base.regist_id.clone()],
        data: Some(vec![(
            "DEFAULT_ZONE".to_owned(),
            lines.iter().map(|&line| line.to_owned()).collect(),
        )]),
        version,
        ..ReceivedData::default()
    })
}

pub fn is_unregister(base: &Registration) -> bool {
    base.event == EventType::Unregister
}

pub fn id(frame: &Frame) -> u32 {
    Parts::of(&frame.wire).unwrap().head.id
}

pub fn status(frame: &Frame) -> u16 {
    Parts::of(&frame.wire).unwrap().head.status
}

pub fn message(frame: &Frame) -> Message {
    let parts = Parts::of(&frame.wire).unwrap();
    let class = std::str::from_utf8(parts.class).unwrap();
    Message::decode(class, parts.content, &Limits::default()).unwrap()
}

async fn serve_http(
    listener: TcpListener,
    answers: Arc<Mutex<Vec<(String, u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = BytesMut::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read_buf(&mut head).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let line = String::from_utf8_lossy(&head)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        asked.lock().unwrap().push(line);
        let (status, text) = {
            let answers = answers.lock().unwrap();
            let known = answers.iter().find(|(known, ..)| *known == path);
            known.map_or((404, String::new()), |(_, status, text)| (*status, text.clone()))
        };
        let answer = format!(
            "HTTP/1.1 {status} x\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = stream.write_all(Bytes::from(answer).as_ref()).await;
    }
}
