// SPDX-License-Identifier: Apache-2.0
//! One client's connection: frames in, outbox out.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Shared;
use super::core::Refusal;
use super::four_letter;
use super::outbox::Outbox;
use super::watch::ConnId;
use crate::wire::{FourLetterWord, four_letter_word, split_frame};

/// Serves one connection until either end closes it or `stop` is cancelled. The session stays.
pub(super) async fn serve(shared: Arc<Shared>, io: impl AsyncRead + AsyncWrite, peer: IpAddr, stop: CancellationToken) {
    let outbox = Arc::new(Outbox::default());
    let Some(id) = shared.lock().open_conn(outbox.clone(), peer) else {
        debug!(%peer, "connection refused, there are as many as allowed");
        return;
    };
    let (read, write) = tokio::io::split(io);
    let mut connection = Connection {
        shared,
        id,
        outbox,
        input: BytesMut::new(),
        output: BytesMut::new(),
        is_greeted: false,
    };
    match connection.run(read, write, stop).await {
        Ok(()) => debug!(%peer, "connection closed"),
        Err(End::Io(e)) => debug!(%peer, cause = %e, "connection closed"),
        Err(End::Refused(e)) => debug!(%peer, cause = %e, "connection closed"),
    }
}

struct Connection {
    shared: Arc<Shared>,
    id: ConnId,
    outbox: Arc<Outbox>,
    input: BytesMut,
    output: BytesMut,
    // Has sent its ConnectRequest.
    is_greeted: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().close_conn(self.id);
    }
}

enum End {
    Io(std::io::Error),
    Refused(Refusal),
}

impl From<std::io::Error> for End {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}

impl<E: Into<Refusal>> From<E> for End {
    fn from(e: E) -> Self {
        Self::Refused(e.into())
    }
}

impl Connection {
    async fn run<I: AsyncRead + AsyncWrite>(
        &mut self,
        mut read: ReadHalf<I>,
        mut write: WriteHalf<I>,
        stop: CancellationToken,
    ) -> Result<(), End> {
        let greeting = sleep_until(Instant::now() + self.shared.options.greeting_timeout);
        tokio::pin!(greeting);
        loop {
            let more = self.frames()?;
            self.collect();
            if self.outbox.is_cut() {
                return Ok(());
            }
            if self.outbox.is_finished() && self.output.is_empty() {
                write.shutdown().await?;
                return Ok(());
            }
            if more {
                // Others of this runtime first; then on with what has been read.
                tokio::task::yield_now().await;
                if self.output.is_empty() {
                    continue;
                }
            }
            let may_read = !more && !self.outbox.is_closing() && self.takes_more();
            // Each arm is cancel safe: reads and writes of a buffer take or give nothing until they are done.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = &mut greeting, if !self.is_greeted => return Ok(()),
                n = write.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if n? == 0 {
                        return Ok(());
                    }
                }
                n = read.read_buf(&mut self.input), if may_read => {
                    if n? == 0 {
                        return Ok(());
                    }
                    if !self.is_greeted && let Some(word) = four_letter_word(&self.input) {
                        return self.answer_word(word, write, stop).await;
                    }
                }
                () = self.outbox.changed() => {}
            }
        }
    }

    // Does the frames at hand; whether some are left for the next turn.
    fn frames(&mut self) -> Result<bool, End> {
        for _ in 0..FRAMES_PER_TURN {
            if self.outbox.is_closing() || !self.takes_more() {
                return Ok(false);
            }
            let Some(frame) = split_frame(&mut self.input, self.shared.options.max_frame_bytes)? else {
                return Ok(false);
            };
            self.shared.traffic.received();
            let mut core = self.shared.lock();
            if self.is_greeted {
                core.request(self.id, frame)?;
            } else {
                core.connect(self.id, frame)?;
                self.is_greeted = true;
            }
            if core.is_dirty() {
                self.shared.work.notify_one();
            }
        }
        Ok(true)
    }

    // A peer that does not read its replies is not read from either.
    fn takes_more(&self) -> bool {
        let (frames, bytes) = self.outbox.len();
        frames < self.shared.options.max_outstanding && bytes + self.output.len() < HIGH_WATER
    }

    // Takes over what may be sent.
    fn collect(&mut self) {
        while self.output.len() < WRITE_BYTES {
            let Some(ready) = self.shared.ready(&self.outbox) else {
                return;
            };
            self.shared.traffic.sent(ready.frames, ready.waited);
            if self.output.is_empty() {
                self.output = ready.bytes;
            } else {
                self.output.extend_from_slice(&ready.bytes);
            }
        }
    }

    async fn answer_word<I: AsyncWrite>(
        &mut self,
        word: FourLetterWord,
        mut write: WriteHalf<I>,
        stop: CancellationToken,
    ) -> Result<(), End> {
        let Some(answer) = four_letter::answer(&self.shared, word) else {
            return Ok(());
        };
        let deadline = Instant::now() + self.shared.options.greeting_timeout;
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep_until(deadline) => {}
            sent = async {
                write.write_all(answer.as_bytes()).await?;
                write.shutdown().await
            } => sent?,
        }
        Ok(())
    }
}

// One client's pipeline must not hold up the others of the runtime.
const FRAMES_PER_TURN: usize = 128;
// What is handed to the socket at once; the rest stays in the outbox, where it is counted.
const WRITE_BYTES: usize = 64 << 10;
// Replies beyond this: the peer does not read, so nothing is read from it.
const HIGH_WATER: usize = 1 << 20;
