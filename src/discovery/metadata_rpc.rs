// SPDX-License-Identifier: Apache-2.0
//! Asks an instance for the metadata of its revision, the way a Dubbo 3 consumer does: one call over `dubbo://` on a
//! connection of its own. Not here: who is asked how often (`metadata_fetch.rs`); `MetadataServiceV2`, which is spoken
//! over `tri://`.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use remora_dubbo::{Dubbo, greeting, metadata_reply, metadata_request};
use remora_protocol::{Decoded, Frame, FrameKind, Protocol, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::metadata::{MetadataCall, MetadataError};

/// The call of real life. The caller sets the limit on its time.
pub fn metadata_call() -> MetadataCall {
    Arc::new(|addr, application, revision| {
        Box::pin(async move {
            let reply = ask(addr, &application, &revision).await?;
            metadata_reply(&reply).map_err(|error| MetadataError::Unreadable {
                addr,
                cause: error.to_string(),
            })
        })
    })
}

/// Asks, and gives whatever reply comes.
pub(super) async fn ask(addr: SocketAddr, application: &str, revision: &str) -> Result<Frame, MetadataError> {
    exchange(addr, &metadata_request(application, revision, ID)).await
}

/// Asks whether the application is there, and gives whatever reply comes. A Remora before it is told that one asks, and
/// answers in its place when it has withdrawn all that it published there.
pub(super) async fn knock(addr: SocketAddr) -> Result<Frame, MetadataError> {
    let mut out = BytesMut::from(&*greeting());
    out.extend_from_slice(&metadata_request("remora", "0", ID));
    exchange(addr, &out).await
}

async fn exchange(addr: SocketAddr, request: &[u8]) -> Result<Frame, MetadataError> {
    let no_answer = |cause: String| MetadataError::NoAnswer { addr, cause };
    let broken = |error: std::io::Error| no_answer(error.to_string());
    let mut stream = TcpStream::connect(addr).await.map_err(broken)?;
    stream.write_all(request).await.map_err(broken)?;
    let mut input = BytesMut::new();
    loop {
        match Dubbo.decode(&mut input, MAX_REPLY_BYTES) {
            Ok(Decoded::Frame(frame)) if frame.kind == FrameKind::Reply && frame.stream_id == ID => return Ok(frame),
            Ok(Decoded::Frame(_)) => continue,
            Ok(Decoded::Incomplete { .. }) => {}
            Ok(Decoded::TooLong { body_len, .. }) => {
                return Err(no_answer(format!(
                    "a reply of {body_len} bytes, over the limit of {MAX_REPLY_BYTES}"
                )));
            }
            Err(error) => return Err(no_answer(error.to_string())),
        }
        if stream.read_buf(&mut input).await.map_err(broken)? == 0 {
            return Err(no_answer("it closed the connection".into()));
        }
    }
}

/// The only call on its connection.
const ID: StreamId = StreamId(1);
/// Dubbo's own default limit (`payload`).
const MAX_REPLY_BYTES: usize = 8 << 20;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A provider that answers `reply` to whatever comes, with the stream id of the question.
    pub(in crate::discovery) async fn provider(mut reply: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut input = BytesMut::new();
            while !matches!(Dubbo.decode(&mut input, 1 << 20), Ok(Decoded::Frame(_))) {
                assert_ne!(
                    stream.read_buf(&mut input).await.unwrap(),
                    0,
                    "the question comes whole"
                );
            }
            let head = reply.get_mut(..16).unwrap_or_default();
            Dubbo.restamp(head, ID);
            stream.write_all(&reply).await.unwrap();
        });
        addr
    }

    pub(in crate::discovery) fn request() -> Frame {
        let mut input = BytesMut::from(&metadata_request("a", "r", ID)[..]);
        match Dubbo.decode(&mut input, 1 << 20) {
            Ok(Decoded::Frame(frame)) => frame,
            other => panic!("not a frame: {other:?}"),
        }
    }

    #[tokio::test]
    async fn the_document_of_a_real_provider_is_read() {
        let reply = golden("3.3.6-response-metadata-info.hex");
        let addr = provider(reply).await;
        let json = metadata_call()(addr, "demo-provider".into(), "r".into()).await.unwrap();
        assert!(
            !remora_naming::metadata::services(json.as_bytes()).unwrap().is_empty(),
            "{json}"
        );
    }

    #[tokio::test]
    async fn a_provider_that_fails_closes_or_talks_nonsense_is_an_error() {
        let nonsense = metadata_call()(
            provider(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await,
            "a".into(),
            "r".into(),
        );
        assert_eq!(nonsense.await.unwrap_err().reason(), "metadata_no_answer");
        let closes = metadata_call()(provider(Vec::new()).await, "a".into(), "r".into());
        assert_eq!(closes.await.unwrap_err().reason(), "metadata_no_answer");
        let mut not_found = vec![0xda, 0xbb, 0x02, 60];
        not_found.extend([0; 8]);
        not_found.extend([0, 0, 0, 2, 0x01, b'x']);
        let fails = metadata_call()(provider(not_found).await, "a".into(), "r".into());
        assert_eq!(fails.await.unwrap_err().reason(), "metadata_unreadable");
    }

    fn golden(name: &str) -> Vec<u8> {
        let path = format!("{}/testbed/golden/dubbo/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let digits: Vec<u8> = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .flat_map(|l| l.bytes().filter(u8::is_ascii_hexdigit))
            .collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
