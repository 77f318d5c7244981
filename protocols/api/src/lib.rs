// SPDX-License-Identifier: Apache-2.0
//! What a protocol plugin implements, and the words it uses.
//!
//! A plugin is sans-io: it looks at bytes and makes bytes. Sockets, timers, pools and routing belong to the proxy.
//! Implement [`Protocol`], list the plugin in `src/plugins.rs` (or pass it to `Plugins::with_protocol` in a binary
//! of your own), give it ports under `protocols.<name>` of the configuration, and the proxy multiplexes, balances, times
//! out and drains it like the built-in ones.
//!
//! `examples/line_protocol.rs` is a whole plugin for a made-up line protocol, with tests.
#![forbid(unsafe_code)]

mod error;
mod frame;
mod print;
mod protocol;
mod reply;
mod route;

pub use bytes::{Bytes, BytesMut};
pub use error::{DecodeError, RouteKeysError};
pub use frame::{Decoded, Frame, FrameKind, StreamId};
pub use print::KeyPrint;
pub use protocol::{Pooling, Protocol, Sniff};
pub use reply::{LocalReply, Outcome};
pub use route::RouteKeys;
