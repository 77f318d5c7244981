// SPDX-License-Identifier: Apache-2.0
//! `remora demo`: two providers, a consumer and two Remoras on this machine, with nothing else installed.
//!
//! The applications are what they would be without Remora: a ZooKeeper session, Dubbo's URLs, dubbo frames. All they are
//! told is a registry's address. The Remoras are whole ones. Only the hosts are pretended: each is a loopback address.

mod acts;
mod application;
mod consumer;
mod load;
mod ports;
mod provider;
mod remora;
mod story;
#[cfg(test)]
mod tests;
mod zookeeper;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use remora_zookeeper::embedded::{Options, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::story::Story;
use self::zookeeper::SessionError;
use crate::config::ValueError;
use crate::{AppError, Plugins};

/// The demo's service.
const SERVICE: &str = "demo.Echo";
/// Asked for by the consumer and published by the providers.
const VERSION: &str = "1.0.0";

/// The demo went wrong.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The story could not be told, or a port could not be had.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A Remora did not start.
    #[error("a Remora did not start")]
    App(#[from] AppError),
    /// Our own configuration.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The registry or a Remora's door.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Something did not happen in time.
    #[error("waited in vain for {0}")]
    Late(&'static str),
    /// Something else happened than what the demo is to show.
    #[error("{0}")]
    Unexpected(String),
}

impl DemoError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::App(error) => error.reason(),
            Self::Value(error) => error.reason(),
            Self::Session(error) => error.reason(),
            Self::Late(_) => "late",
            Self::Unexpected(_) => "unexpected",
        }
    }
}

/// Runs the demo and tells it on standard output.
///
/// # Errors
/// As soon as anything is not as it should be: a call that failed, a counter that does not add up.
pub async fn run(plugins: &Plugins) -> Result<(), DemoError> {
    let scratch = Scratch::new()?;
    let stop = CancellationToken::new();
    let _stops = stop.clone().drop_guard();
    tell(&mut Story::new(io::stdout()), plugins, &scratch.0, stop).await
}

async fn tell<W: Write>(
    story: &mut Story<W>,
    plugins: &Plugins,
    scratch: &Path,
    stop: CancellationToken,
) -> Result<(), DemoError> {
    story.line("Remora demo: applications that know nothing of Remora, and a Remora beside each.")?;
    let registry = registry(stop).await?;
    let (near, far) = acts::two_remoras(story, plugins, scratch, registry).await?;
    let (one, two) = acts::providers(story, registry, &near).await?;
    let (consumer, session) = acts::consumer(story, &far).await?;
    acts::first_calls(story, &consumer, &near, &far, [&one.0, &two.0]).await?;
    acts::load(story, consumer, &near, &far, &one.0, &two.0).await?;
    acts::next(story)?;
    // As it was killed, so it stays: no good-bye.
    drop(two);
    session.close().await?;
    one.1.close().await?;
    far.stop().await;
    near.stop().await;
    Ok(())
}

/// The embedded registry on a port, as `remora registry` serves it.
async fn registry(stop: CancellationToken) -> Result<SocketAddr, DemoError> {
    let server = Server::in_memory(Options::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move { server.serve(listener, stop).await });
    Ok(addr)
}

/// A directory of our own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let name = format!("remora-demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
