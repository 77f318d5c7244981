// SPDX-License-Identifier: Apache-2.0
//! Readiness: epoll, level triggered, with numbers for keys.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

/// What is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The key it was added with.
    pub key: u64,
    /// Something can be read, or the connection ended.
    pub is_readable: bool,
    /// Something can be written.
    pub is_writable: bool,
}

/// An epoll instance.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// Rings once at a time that is set.
#[derive(Debug)]
pub struct Alarm(OwnedFd);

impl Alarm {
    /// Rings `after` that time from now on, and no more for what was set before.
    ///
    /// # Errors
    /// As timerfd_settime(2).
    pub fn set(&self, after: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            // Zero would switch it off.
            it_value: timespec(after.max(Duration::from_nanos(1))),
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

impl Poll {
    /// An empty one.
    ///
    /// # Errors
    /// As epoll_create(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Waits for `source` under `key` from now on.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn add(&self, source: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            epoll::EventData::new_u64(key),
            flags(interest),
        )?)
    }

    /// Waits for something else.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn modify(&self, source: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            source,
            epoll::EventData::new_u64(key),
            flags(interest),
        )?)
    }

    /// Is ready under `key` whenever the alarm rings, for as long as the alarm lives.
    ///
    /// # Errors
    /// As timerfd_create(2) and epoll_ctl(2).
    pub fn add_alarm(&self, key: u64) -> io::Result<Alarm> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(
            &self.epoll,
            &timer,
            epoll::EventData::new_u64(key),
            epoll::EventFlags::IN,
        )?;
        Ok(Alarm(timer))
    }

    /// Waits until something is ready or the time is over, and appends what is to `into`, which is emptied first.
    ///
    /// # Errors
    /// As epoll_wait(2); a signal is not one.
    pub fn wait(&mut self, timeout: Duration, into: &mut Vec<Ready>) -> io::Result<()> {
        into.clear();
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timespec(timeout))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (flags, data) = (event.flags, event.data);
            let ended = epoll::EventFlags::HUP | epoll::EventFlags::ERR | epoll::EventFlags::RDHUP;
            into.push(Ready {
                key: data.u64(),
                is_readable: flags.intersects(epoll::EventFlags::IN | ended),
                is_writable: flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR),
            });
        }
        Ok(())
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    match interest {
        Interest::Read => epoll::EventFlags::IN,
        Interest::Write => epoll::EventFlags::OUT,
        Interest::Both => epoll::EventFlags::IN | epoll::EventFlags::OUT,
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

const EVENTS: usize = 256;
