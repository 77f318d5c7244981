// SPDX-License-Identifier: Apache-2.0
//! One TCP connection, whichever side opened it: reading with pauses, the write buffer and its flush, liveness, close.
//!
//! Not here: what the frames mean (`connection.rs` downstream, `upstream/connection.rs`).

mod half;
pub(super) mod handover;
mod liveness;

use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use remora_protocol::{DecodeError, Frame, Protocol, StreamId};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(super) use super::close_reason::CloseReason;
use super::config::Config;
use super::flush::{Flusher, poll_write};
use super::frame_reader::{FrameReader, Input, Piece};
use super::half_read::{Half, HalfReads, Totals};
use super::kept::Kept;
use super::write_buffer::{BufferStore, WriteBuffer};
use crate::metrics::call::CallShard;

/// What all connections of one worker share.
#[derive(Debug)]
pub(super) struct Io {
    config: RefCell<Arc<Config>>,
    pub(super) flusher: Rc<Flusher>,
    pub(super) store: BufferStore,
    /// What every connection reads into.
    pub(super) read_buffer: RefCell<BytesMut>,
    pub(super) half_reads: HalfReads,
}

impl Io {
    pub(super) fn new(config: Arc<Config>, half_read: Arc<Totals>) -> Self {
        Self {
            config: RefCell::new(config),
            flusher: Rc::default(),
            store: BufferStore::default(),
            read_buffer: RefCell::new(BytesMut::new()),
            half_reads: HalfReads::new(half_read),
        }
    }

    /// The settings as they are now. Not to be kept over an `.await`.
    pub(super) fn config(&self) -> Ref<'_, Config> {
        Ref::map(self.config.borrow(), |config| &**config)
    }

    /// Other settings from now on.
    pub(super) fn configure(&self, config: Arc<Config>) {
        *self.config.borrow_mut() = config;
    }
}

/// One TCP connection.
#[derive(Debug)]
pub(super) struct Wire {
    /// `None` before it is connected and after it is closed.
    stream: RefCell<Option<TcpStream>>,
    /// Cuts what is read.
    frames: RefCell<FrameReader>,
    out: RefCell<WriteBuffer>,
    flush: Cell<Flush>,
    close_when_flushed: Cell<Option<CloseReason>>,
    end: Cell<Option<CloseReason>>,
    reader: RefCell<Option<Waker>>,
    /// The task that waits for a full socket, while there is one.
    writer: RefCell<Option<Waker>>,
    /// How many wires this one waits for before it reads on.
    pauses: Cell<u32>,
    /// Wires that wait until this one has written.
    waiters: RefCell<Vec<Rc<Wire>>>,
    stalled_since: Cell<Option<Instant>>,
    /// Since when the frame that has begun has not grown by [`FRAME_PROGRESS`], and the bytes that had been read then.
    mid_frame_since: Cell<Option<Instant>>,
    mid_frame_bytes: Cell<u64>,
    /// What it holds of a long frame that is not whole.
    pub(super) half: Cell<Half>,
    last_read: Cell<Instant>,
    /// Reads since there was nothing to read.
    reads: Cell<u32>,
    probes: Cell<u32>,
    probed_at: Cell<Instant>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    is_downstream: bool,
    pub(super) shard: Arc<CallShard>,
    io: Rc<Io>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    Clean,
    /// On the flusher's list.
    Listed,
    /// The socket took no more; a task of its own waits for it.
    Blocked,
}

/// What a read gave.
#[derive(Debug)]
pub(super) enum Read {
    Input(Input),
    /// The peer will send no more.
    Eof,
    /// This side closed, or the connection broke.
    Closed,
}

impl Wire {
    /// The wire of a connection that came to us.
    pub(super) fn downstream(io: &Rc<Io>, shard: Arc<CallShard>, stream: TcpStream) -> Rc<Self> {
        Self::new(io, shard, Some(stream), true)
    }

    /// The wire of a connection that we open; what is appended before [`Wire::attach`] waits.
    pub(super) fn upstream(io: &Rc<Io>, shard: Arc<CallShard>) -> Rc<Self> {
        Self::new(io, shard, None, false)
    }

    fn new(io: &Rc<Io>, shard: Arc<CallShard>, stream: Option<TcpStream>, is_downstream: bool) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            stream: RefCell::new(stream),
            frames: RefCell::default(),
            out: RefCell::default(),
            flush: Cell::new(Flush::Clean),
            close_when_flushed: Cell::new(None),
            end: Cell::new(None),
            reader: RefCell::default(),
            writer: RefCell::default(),
            pauses: Cell::new(0),
            waiters: RefCell::default(),
            stalled_since: Cell::new(None),
            mid_frame_since: Cell::new(None),
            mid_frame_bytes: Cell::new(0),
            half: Cell::default(),
            last_read: Cell::new(now),
            reads: Cell::new(0),
            probes: Cell::new(0),
            probed_at: Cell::new(now),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            is_downstream,
            shard,
            io: io.clone(),
        })
    }

    /// Gives a wire that was waiting for its connection the connection; what was appended meanwhile is written.
    pub(super) fn attach(self: &Rc<Self>, stream: TcpStream) {
        if self.end.get().is_none() {
            self.stream.replace(Some(stream));
            self.last_read.set(Instant::now());
            self.list();
        }
    }

    /// Reads once, unless paused.
    pub(super) async fn read(&self) -> Read {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Read> {
        if self.end.get().is_some() {
            return Poll::Ready(Read::Closed);
        }
        if self.pauses.get() == 0
            && let Some(stream) = &mut *self.stream.borrow_mut()
        {
            let filled = if self.half.get().bytes() > 0 && !self.may_grow() {
                match stream.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        self.io.half_reads.wait(self);
                        Poll::Pending
                    }
                    other => other.map_ok(|()| None),
                }
            } else {
                self.frames.borrow_mut().poll_fill(cx, stream, &self.io.read_buffer)
            };
            match filled {
                Poll::Pending => self.reads.set(0),
                Poll::Ready(Ok(Some(input))) => {
                    self.reads.set(self.reads.get() + 1);
                    self.last_read.set(Instant::now());
                    self.probes.set(0);
                    self.bytes_in.set(self.bytes_in.get() + input.read as u64);
                    if self.is_downstream {
                        self.shard.bytes_in.add(input.read as u64);
                    }
                    return Poll::Ready(Read::Input(input));
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(Read::Eof),
                Poll::Ready(Err(_)) => {
                    // Whoever waits for this wire must be let go.
                    self.close(CloseReason::Broken);
                    return Poll::Ready(Read::Closed);
                }
            }
        }
        let mut waker = self.reader.borrow_mut();
        if waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Lets others have their turn when this one had its share of reads.
    pub(super) async fn give_way(&self) {
        if self.reads.get() >= TURN_READS {
            self.reads.set(0);
            tokio::task::yield_now().await;
        }
    }

    /// The next frame of an input; see [`FrameReader::next`].
    pub(super) fn next(
        &self,
        input: &mut Input,
        protocol: &dyn Protocol,
        max_frame_bytes: usize,
    ) -> Result<Option<Piece>, DecodeError> {
        self.frames.borrow_mut().next(input, protocol, max_frame_bytes)
    }

    /// Gives the rest of an input back.
    pub(super) fn put_back(self: &Rc<Self>, input: Input) {
        let read = input.read;
        let mut reader = self.frames.borrow_mut();
        reader.put_back(input, &self.io.read_buffer);
        let is_same = reader.is_same_frame(read);
        self.mark_progress(&reader, is_same);
        let kept = reader.kept();
        drop(reader);
        self.count_kept(kept, is_same);
    }

    /// A byte now and then is no progress: a frame must get somewhere.
    fn mark_progress(&self, reader: &FrameReader, is_same: bool) {
        let is_same = is_same && self.mid_frame_since.get().is_some();
        let grown = self.bytes_in.get().saturating_sub(self.mid_frame_bytes.get());
        if !is_same || grown >= FRAME_PROGRESS {
            let since = reader.is_mid_frame().then(|| self.last_read.get());
            self.mid_frame_since.set(since);
            self.mid_frame_bytes.set(self.bytes_in.get());
        }
    }

    /// Waits until this wire is closed from elsewhere; for readers with nothing left to read.
    pub(super) async fn closed(&self) {
        poll_fn(|cx| {
            if self.end.get().is_some() {
                return Poll::Ready(());
            }
            self.reader.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Appends a frame under another stream id.
    pub(super) fn send_frame(self: &Rc<Self>, protocol: &dyn Protocol, frame: &Frame, id: StreamId) {
        if self.end.get().is_none() {
            self.out.borrow_mut().push_frame(&self.io.store, protocol, frame, id);
            self.list();
        }
    }

    /// Appends bytes as they are.
    pub(super) fn send_bytes(self: &Rc<Self>, bytes: &[u8]) {
        if self.end.get().is_none() {
            self.out.borrow_mut().push_bytes(&self.io.store, bytes);
            self.list();
        }
    }

    /// Whether there is a socket.
    pub(super) fn is_connected(&self) -> bool {
        self.stream.borrow().is_some()
    }

    /// Bytes waiting to be written.
    pub(super) fn queued(&self) -> usize {
        self.out.borrow().queued()
    }

    /// Where the next frame will begin, counted from the first byte ever written.
    pub(super) fn position(&self) -> u64 {
        self.out.borrow().position()
    }

    /// The request that was appended at `position`, under its caller's id again; `None` if the socket took some of it.
    pub(super) fn unsent(&self, protocol: &dyn Protocol, position: u64, kept: &Kept) -> Option<Vec<u8>> {
        let wire = self.out.borrow().unsent(position, kept.len)?;
        let head = kept.head();
        let sent = Frame {
            wire: wire.into(),
            ..head
        };
        let mut back = WriteBuffer::default();
        back.push_frame(&self.io.store, protocol, &sent, kept.stream_id);
        back.unsent(0, kept.len)
    }

    /// Bytes that the socket took.
    pub(super) fn written(&self) -> u64 {
        self.out.borrow().written()
    }

    /// Bytes read and written so far.
    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.bytes_in.get(), self.bytes_out.get())
    }

    /// When the peer was last heard.
    pub(super) fn last_read(&self) -> Instant {
        self.last_read.get()
    }

    /// Reads nothing more from this wire until `other` has written what it has (or is closed).
    pub(super) fn pause_for(self: &Rc<Self>, other: &Rc<Self>) {
        let mut waiters = other.waiters.borrow_mut();
        if other.end.get().is_none() && !waiters.iter().any(|w| Rc::ptr_eq(w, self)) {
            waiters.push(self.clone());
            self.pauses.set(self.pauses.get() + 1);
        }
    }

    /// A peer that reads slowly what it asked for is not read either.
    pub(super) fn slow_down(self: &Rc<Self>) {
        self.slow_down_for(self);
    }

    /// While `other` reads slowly what comes from here, here is not read.
    pub(super) fn slow_down_for(self: &Rc<Self>, other: &Rc<Self>) {
        if other.queued() > self.io.config().write_pause.bytes() {
            self.pause_for(other);
        }
    }

    /// Closes at once; what was not yet written is dropped. The first reason stays.
    pub(super) fn close(&self, reason: CloseReason) {
        if self.end.get().is_none() {
            self.end.set(Some(reason));
            self.release_waiters();
            for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
                waker.wake();
            }
        }
    }

    /// Closes as soon as everything appended so far is written.
    pub(super) fn close_when_flushed(&self, reason: CloseReason) {
        if self.out.borrow().queued() == 0 {
            self.close(reason);
        } else {
            self.close_when_flushed.set(Some(reason));
        }
    }

    /// Why it is closed, once it is.
    pub(super) fn end(&self) -> Option<CloseReason> {
        self.end.get()
    }

    /// Closes the socket and frees the buffers; the reader's last act.
    pub(super) fn shut(&self, reason: CloseReason) -> CloseReason {
        self.close(reason);
        self.stream.take();
        self.out.borrow_mut().clear(&self.io.store);
        self.frames.take();
        self.io.half_reads.forget(self, self.io.config().half_read_cap.bytes());
        self.end.get().unwrap_or(reason)
    }

    fn list(self: &Rc<Self>) {
        if self.flush.get() == Flush::Clean {
            self.flush.set(Flush::Listed);
            self.io.flusher.add(self.clone());
        }
        let queued = self.queued();
        if queued > self.io.config().write_cap.bytes() {
            self.close(CloseReason::WriteCap);
        } else if queued >= FLUSH_EARLY && self.flush.get() == Flush::Listed {
            // Still in the processor's cache, and the peer may begin. If the socket is full, the flusher sees to it.
            let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// The flusher's turn. What the socket does not take is left to a task of this wire, so that one slow peer costs the
    /// others nothing.
    pub(super) fn flush_at_end_of_turn(self: &Rc<Self>) {
        let mut nobody = Context::from_waker(Waker::noop());
        // A context that wakes nobody is fine: when the socket is full, the task below registers itself.
        if self.poll_flush(&mut nobody).is_ready() {
            self.flush.set(Flush::Clean);
            return;
        }
        self.flush.set(Flush::Blocked);
        let wire = self.clone();
        tokio::task::spawn_local(async move {
            // Ends when all is written, or with the wire, which a stalled write closes.
            poll_fn(|cx| {
                wire.writer.replace(Some(cx.waker().clone()));
                wire.poll_flush(cx)
            })
            .await;
            wire.writer.take();
            wire.flush.set(Flush::Clean);
        });
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.end.get().is_some() {
                return Poll::Ready(());
            }
            let mut stream = self.stream.borrow_mut();
            let mut out = self.out.borrow_mut();
            let Some(stream) = stream.as_mut().filter(|_| out.queued() > 0) else {
                break;
            };
            match poll_write(stream, &out, cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    out.advance(&self.io.store, n);
                    self.bytes_out.set(self.bytes_out.get() + n as u64);
                    if self.is_downstream {
                        self.shard.bytes_out.add(n as u64);
                    }
                    self.stalled_since.set(None);
                    let is_low = out.queued() <= self.io.config().write_pause.bytes() / 2;
                    drop(out);
                    if is_low {
                        self.release_waiters();
                    }
                }
                Poll::Ready(_) => {
                    drop(out);
                    self.close(CloseReason::Broken);
                }
                Poll::Pending => {
                    if self.stalled_since.get().is_none() {
                        self.stalled_since.set(Some(Instant::now()));
                    }
                    return Poll::Pending;
                }
            }
        }
        if let Some(reason) = self.close_when_flushed.get()
            && self.stream.borrow().is_some()
        {
            self.close(reason);
        }
        Poll::Ready(())
    }

    fn release_waiters(&self) {
        for waiter in self.waiters.take() {
            waiter.pauses.set(waiter.pauses.get().saturating_sub(1));
            waiter.read_on(Instant::now());
        }
    }

    /// It was not read; from now on it is, unless there is another reason not to.
    pub(super) fn read_on(&self, now: Instant) {
        if self.mid_frame_since.get().is_some() {
            self.mid_frame_since.set(Some(now));
        }
        if self.pauses.get() == 0
            && let Some(waker) = &*self.reader.borrow()
        {
            waker.wake_by_ref();
        }
    }
}

/// Reads of one connection in one turn before others have theirs; 64 KiB each.
const TURN_READS: u32 = 4;
/// Bytes after which is not waited for the end of the turn.
const FLUSH_EARLY: usize = 64 << 10;
/// Bytes that a frame must grow by within `frame_stall`: 34 bytes a second with the default, less than any real link has.
const FRAME_PROGRESS: u64 = 1024;
