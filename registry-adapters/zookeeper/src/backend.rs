// SPDX-License-Identifier: Apache-2.0
//! Where the relay's requests go: a real ensemble, or the embedded registry. Both speak ZooKeeper frames.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::embedded::Server;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Two-way bytes.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Something that answers as a ZooKeeper.
pub trait Backend: Send + Sync + 'static {
    /// Opens one connection; the first bytes on it are the caller's `ConnectRequest`.
    ///
    /// # Errors
    /// `Unreachable` when nobody took it.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Duplex>, BackendError>>;

    /// What it is, for logs: `zookeeper://h1:2181,h2:2181`, `embedded`.
    fn describe(&self) -> String;

    /// Whether it can be out of reach while this process runs.
    fn can_be_away(&self) -> bool {
        false
    }

    /// Path that stands before every path of ours there, without a trailing slash; empty for none.
    fn chroot(&self) -> &str {
        ""
    }
}

/// No connection to the backend, or none can be made of its address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackendError {
    /// None of the servers took the connection.
    #[error("no connection to {servers}: {cause}; is a ZooKeeper listening there and reachable from this host?")]
    Unreachable {
        /// All that were tried.
        servers: String,
        /// The last failure.
        cause: String,
    },
    /// Not an address.
    #[error("{url} is no ZooKeeper address: {cause}; write zookeeper://host:2181,host:2181/chroot")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The embedded registry is shutting down or has as many connections as it takes.
    #[error("the embedded registry takes no connection: {cause}")]
    Refused {
        /// Why.
        cause: String,
    },
}

impl BackendError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "zookeeper_unreachable",
            Self::Address { .. } => "zookeeper_bad_address",
            Self::Refused { .. } => "embedded_refused",
        }
    }
}

/// A real ensemble: its servers are tried from a random one on.
#[derive(Debug, Clone)]
pub struct Ensemble {
    servers: Vec<String>,
    chroot: String,
    connect_timeout: Duration,
}

impl Ensemble {
    /// Time for one server to take a connection. Java's client gives a third of the session timeout divided by the
    /// servers: 4 s to 13 s; 3 s leaves room to try all three of a common ensemble within one session.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

    /// Reads `zookeeper://h1:2181,h2:2181/chroot`; the port defaults to 2181; Dubbo's form
    /// `zookeeper://h1:2181?backup=h2:2181,h3:2181` too, other parameters are ignored. The scheme may be left out.
    ///
    /// # Errors
    /// `Address` with what is wrong.
    pub fn parse(url: &str) -> Result<Self, BackendError> {
        let fail = |cause: String| BackendError::Address {
            url: without_user(url),
            cause,
        };
        let rest = match url.split_once("://") {
            None => url,
            Some(("zookeeper" | "zk", rest)) => rest,
            Some((scheme, _)) => return Err(fail(format!("its scheme is {scheme}"))),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, chroot) = match rest.find('/') {
            None => (rest, ""),
            Some(at) => rest.split_at(at),
        };
        let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
        let backup = query.split('&').filter_map(|pair| pair.strip_prefix("backup="));
        let servers = std::iter::once(hosts)
            .chain(backup)
            .flat_map(|list| list.split([',', ';']))
            .map(|host| server(host.trim()).map_err(&fail))
            .collect::<Result<Vec<_>, _>>()?;
        let chroot = chroot.trim_end_matches('/');
        if !chroot.is_empty() {
            crate::wire::check_path(chroot).map_err(|e| fail(format!("chroot {chroot}: {e}")))?;
        }
        Ok(Self {
            servers,
            chroot: chroot.to_owned(),
            connect_timeout: Self::CONNECT_TIMEOUT,
        })
    }

    /// Waits no longer than this for one server to take a connection.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Its servers, as `host:port`.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }
}

impl Backend for Ensemble {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Duplex>, BackendError>> {
        Box::pin(async move {
            let start = fastrand::usize(..self.servers.len().max(1));
            let mut cause = String::from("it has no servers");
            for server in self.servers.iter().cycle().skip(start).take(self.servers.len()) {
                match tokio::time::timeout(self.connect_timeout, TcpStream::connect(server.as_str())).await {
                    Ok(Ok(stream)) => {
                        // Replies are small and waited for.
                        let _ = stream.set_nodelay(true);
                        return Ok(Box::new(stream) as Box<dyn Duplex>);
                    }
                    Ok(Err(e)) => cause = format!("{server}: {e}"),
                    Err(_) => cause = format!("{server}: not taken within {:?}", self.connect_timeout),
                }
            }
            let servers = self.servers.join(",");
            Err(BackendError::Unreachable { servers, cause })
        })
    }

    fn can_be_away(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("zookeeper://{}{}", self.servers.join(","), self.chroot)
    }

    fn chroot(&self) -> &str {
        &self.chroot
    }
}

/// The registry inside this process.
#[derive(Clone)]
pub struct Embedded {
    server: Server,
}

impl Embedded {
    /// Speaks to `server`.
    pub fn new(server: Server) -> Self {
        Self { server }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl Backend for Embedded {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Duplex>, BackendError>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            self.server
                .attach(theirs)
                .map_err(|e| BackendError::Refused { cause: e.to_string() })?;
            Ok(Box::new(ours) as Box<dyn Duplex>)
        })
    }

    fn describe(&self) -> String {
        "embedded".to_owned()
    }
}

// As a socket's usual send buffer.
const PIPE_BYTES: usize = 64 * 1024;

fn server(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("a host is empty".to_owned());
    }
    let after_bracket = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    match after_bracket.rsplit_once(':') {
        None => Ok(format!("{host}:2181")),
        Some((_, port)) if port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(host.to_owned()),
        Some((_, port)) => Err(format!("{port} is no port")),
    }
}

// An address may carry user:password@ (Dubbo does); it must not reach a log.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.rsplit_once('@').map_or(url, |(_, rest)| rest).to_owned();
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_dubbo_and_zookeeper_write_them() {
        let servers = |url: &str| Ensemble::parse(url).map(|e| e.servers().join(" ")).ok();
        assert_eq!(
            servers("zookeeper://h1:2181,h2:2182").as_deref(),
            Some("h1:2181 h2:2182")
        );
        assert_eq!(
            servers("zookeeper://h1?backup=h2:2182,h3").as_deref(),
            Some("h1:2181 h2:2182 h3:2181")
        );
        assert_eq!(
            servers("zookeeper://u:p@h1:2181?timeout=3&backup=h2:1").as_deref(),
            Some("h1:2181 h2:1")
        );
        assert_eq!(servers("h1:2181").as_deref(), Some("h1:2181"));
        assert_eq!(servers("zookeeper://[::1]:2181").as_deref(), Some("[::1]:2181"));
        assert_eq!(servers("zookeeper://h1:x"), None);
        assert_eq!(servers("nacos://h1:8848"), None);
        assert_eq!(servers("zookeeper://"), None);
    }

    #[test]
    fn chroot_is_kept_apart_from_the_servers() {
        let ensemble = Ensemble::parse("zookeeper://h1:2181,h2:2181/shop/a/").unwrap();
        assert_eq!(ensemble.chroot(), "/shop/a");
        assert_eq!(ensemble.describe(), "zookeeper://h1:2181,h2:2181/shop/a");
        assert_eq!(Ensemble::parse("zookeeper://h1:2181/").unwrap().chroot(), "");
        assert!(Ensemble::parse("zookeeper://h1:2181//x").is_err());
    }

    #[test]
    fn password_in_an_address_is_not_in_the_error() {
        let error = Ensemble::parse("zookeeper://user:secret@h1:port")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn next_server_is_tried_when_one_refuses() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "zookeeper://{},{}",
            closed.local_addr().unwrap(),
            open.local_addr().unwrap()
        );
        drop(closed);
        let ensemble = Ensemble::parse(&url).unwrap();
        for _ in 0..8 {
            ensemble.connect().await.unwrap();
        }
        let none = Ensemble::parse("127.0.0.1:1").unwrap();
        assert!(matches!(none.connect().await, Err(BackendError::Unreachable { .. })));
    }
}
