// SPDX-License-Identifier: Apache-2.0
//! `load HOST:PORT`: creates per second, one after another and many at once, and reads of a list of 2,000 providers.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use remora_zk_clients::Connection;
use remora_zookeeper::wire::request::Create;
use remora_zookeeper::wire::{Acl, OpCode, Request};

fn main() {
    let addr = std::env::args().nth(1).expect("usage: load HOST:PORT");
    let root = format!("/load-{}", std::process::id());
    let mut c = Connection::open(&addr, None);
    ask(&mut c, &create(&root, b""));
    rate("creates, one client, one at a time", 2_000, || {
        for i in 0..2_000 {
            ask(&mut c, &create(&format!("{root}/one-{i}"), &[7; 100]));
        }
    });
    rate("creates, one client, 100 at a time", 20_000, || {
        pipeline(&mut c, &root, "pipe", 20_000)
    });
    rate("creates, 20 clients, one at a time", 10_000, || {
        std::thread::scope(|scope| {
            for client in 0..20 {
                let (addr, root) = (&addr, &root);
                scope.spawn(move || {
                    let mut c = Connection::open(addr, None);
                    for i in 0..500 {
                        ask(&mut c, &create(&format!("{root}/c{client}-{i}"), &[7; 100]));
                    }
                });
            }
        });
    });
    let list = format!("{root}/providers");
    ask(&mut c, &create(&list, b""));
    for i in 0..2_000 {
        let name = format!(
            "{list}/dubbo%3A%2F%2F10.0.{}.{}%3A20880%2Fdemo.EchoService%3F{}",
            i / 250,
            i % 250,
            "x".repeat(350)
        );
        ask(&mut c, &create(&name, b""));
    }
    rate("getChildren2 of 2,000 provider URLs of 400 bytes", 1_000, || {
        let request = Request::GetChildren2 {
            path: list.as_str().into(),
            watch: true,
        };
        for _ in 0..1_000 {
            assert!(ask(&mut c, &request).len() > 800_000);
        }
    });
    rate("getData", 20_000, || {
        let request = Request::GetData {
            path: list.as_str().into(),
            watch: false,
        };
        for _ in 0..20_000 {
            ask(&mut c, &request);
        }
    });
}

fn rate(what: &str, count: u32, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    let took = start.elapsed();
    println!(
        "{what}: {:.0}/s, {:.3} ms each",
        f64::from(count) / took.as_secs_f64(),
        took.as_secs_f64() * 1e3 / f64::from(count)
    );
}

fn pipeline(c: &mut Connection, root: &str, name: &str, count: usize) {
    let mut sent = std::collections::VecDeque::new();
    for i in 0..count {
        let mut body = BytesMut::new();
        create(&format!("{root}/{name}-{i}"), &[7; 100]).encode(&mut body);
        sent.push_back(c.send(OpCode::Create.number(), &body).expect("sent"));
        if sent.len() == 100 {
            c.answer(sent.pop_front().expect("100 are sent")).expect("an answer");
        }
    }
    for number in sent {
        c.answer(number).expect("an answer");
    }
}

fn ask(c: &mut Connection, request: &Request) -> Bytes {
    let mut body = BytesMut::new();
    request.encode(&mut body);
    let (head, body) = c.ask(request.op().number(), &body).expect("an answer");
    assert!(head.err.is_ok(), "{:?}", head.err);
    body
}

fn create(path: &str, data: &[u8]) -> Request {
    Request::Create(Create {
        op: OpCode::Create,
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        acl: [Acl::open()].into_iter().collect(),
        flags: 0,
        ttl_ms: 0,
    })
}
