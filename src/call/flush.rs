// SPDX-License-Identifier: Apache-2.0
//! Writes once at the end of the scheduler's turn.
//!
//! Whoever appends to a wire puts it on the worker's list. One task empties the list; it was woken behind all readers that
//! were ready in this turn, so that what they send to one peer leaves in one write.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;

use super::wire::Wire;
use super::write_buffer::WriteBuffer;

/// The wires of one worker that have something to write.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    dirty: RefCell<Vec<Rc<Wire>>>,
    spare: RefCell<Vec<Rc<Wire>>>,
    waker: RefCell<Option<Waker>>,
    is_woken: Cell<bool>,
}

impl Flusher {
    /// Has `wire` flushed at the end of this turn.
    pub(super) fn add(&self, wire: Rc<Wire>) {
        self.dirty.borrow_mut().push(wire);
        if !self.is_woken.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// The task; ends with the worker's runtime.
    pub(super) async fn run(self: Rc<Self>) {
        // It gives way by itself: it waits after each round. The budget of tokio's cooperation would look like a full
        // socket in the middle of a round.
        unconstrained(poll_fn(|cx| self.round(cx))).await
    }

    fn round(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_woken.set(false);
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        let mut round = self.dirty.replace(self.spare.take());
        for wire in round.drain(..) {
            wire.flush_at_end_of_turn();
        }
        self.spare.replace(round);
        Poll::Pending
    }
}

/// Hands what waits to the socket, in one call.
pub(super) fn poll_write(stream: &mut TcpStream, out: &WriteBuffer, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = out.slices(&mut slices);
    let stream = Pin::new(stream);
    match &slices[..count] {
        [one] => stream.poll_write(cx, one),
        several => stream.poll_write_vectored(cx, several),
    }
}

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 32;
