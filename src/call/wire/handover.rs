// SPDX-License-Identifier: Apache-2.0
//! A wire that changes hands: its socket, the frame it was cut in, what was not yet written.

use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::frame_reader::FrameReader;
use super::{CloseReason, Io, Wire};
use crate::metrics::call::CallShard;

/// What a wire leaves.
#[derive(Debug)]
pub(in crate::call) struct FrozenWire {
    pub(in crate::call) text: WireText,
    /// `None`: it was not connected yet.
    pub(in crate::call) stream: Option<TcpStream>,
    /// The beginning of a frame that is not yet whole.
    pub(in crate::call) rest: Vec<u8>,
    /// What was not yet written.
    pub(in crate::call) out: Vec<u8>,
}

/// Its figures.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::call) struct WireText {
    /// Bytes of a frame over the limit that are still to be dropped.
    skip: u64,
    /// Bytes that were written before; where the calls' frames begin is counted from there.
    written: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// To be closed when everything is written.
    is_closing: bool,
}

impl Wire {
    /// Takes everything out; `None` if it is closed. Nothing may be done with the wire afterwards.
    pub(in crate::call) fn freeze(&self) -> Option<FrozenWire> {
        if self.end.get().is_some() {
            return None;
        }
        let stream = match self.stream.take() {
            Some(stream) => Some(stream.into_std().ok()?),
            None => None,
        };
        let out = self.out.borrow();
        let (rest, skip) = self.frames.take().into_rest();
        self.io.half_reads.forget(self, self.io.config().half_read_cap.bytes());
        Some(FrozenWire {
            text: WireText {
                skip,
                written: out.written(),
                bytes_in: self.bytes_in.get(),
                bytes_out: self.bytes_out.get(),
                is_closing: self.close_when_flushed.get().is_some(),
            },
            stream,
            rest,
            out: out.unwritten(),
        })
    }

    /// A wire that goes on where another one stopped. Must be called inside the worker's runtime. Nothing is written before
    /// [`Wire::resume`].
    pub(in crate::call) fn thaw(
        io: &Rc<Io>,
        shard: Arc<CallShard>,
        frozen: FrozenWire,
        is_downstream: bool,
    ) -> Rc<Self> {
        let stream = frozen.stream.and_then(|stream| {
            stream.set_nonblocking(true).ok()?;
            tokio::net::TcpStream::from_std(stream).ok()
        });
        let wire = Self::new(io, shard, stream, is_downstream);
        let text = frozen.text;
        wire.bytes_in.set(text.bytes_in);
        wire.bytes_out.set(text.bytes_out);
        wire.frames
            .replace(FrameReader::of_rest(BytesMut::from(&*frozen.rest), text.skip));
        let is_mid_frame = wire.frames.borrow().is_mid_frame();
        wire.mid_frame_since.set(is_mid_frame.then(Instant::now));
        wire.mid_frame_bytes.set(text.bytes_in);
        let mut out = wire.out.borrow_mut();
        out.set_written(text.written);
        out.push_bytes(&io.store, &frozen.out);
        drop(out);
        if text.is_closing {
            wire.close_when_flushed.set(Some(CloseReason::Retired));
        }
        wire
    }

    /// Begins to write what was left.
    pub(in crate::call) fn resume(self: &Rc<Self>) {
        let kept = self.frames.borrow().kept();
        self.count_kept(kept, false);
        self.slow_down();
        self.list();
    }
}
