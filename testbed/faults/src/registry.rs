// SPDX-License-Identifier: Apache-2.0
//! An application's stay at a ZooKeeper: what it publishes, and the list that it follows.
//!
//! The session is resumed after a lost connection, and what it held is made again after an expired one, as Dubbo and SOFARPC
//! do. Sessions and lists are said on standard output as they change. Runs on a thread of its own.
//! Source of nodes and parameters: what Dubbo 2.7 and SOFARPC 5.13 write, see `testbed/golden/`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use remora_bench::load::unix_ms;
use remora_bench::wire::Protocol;
use remora_naming::dubbo_url::{decode_component, encode_component};
use remora_zookeeper::backend::Ensemble;
use remora_zookeeper::client::{Client, ClientError, Options, SessionState, Watcher};
use remora_zookeeper::wire::{CreateMode, ErrorCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// What an application does at its registry.
#[derive(Clone, Debug)]
pub enum Role {
    /// Publishes an address.
    Publish(String),
    /// Follows the list.
    Follow,
}

/// The stay of one application.
#[derive(Debug)]
pub struct Stay {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Stay {
    /// Begins it. Returns at once.
    ///
    /// # Errors
    /// When the registry's address cannot be read.
    pub fn begin(registry: &str, protocol: Protocol, role: Role, session: Duration) -> anyhow::Result<Self> {
        let backend = Arc::new(Ensemble::parse(registry).with_context(|| format!("no registry: {registry}"))?);
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let (shared, ending) = (addresses.clone(), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let options = Options {
                    session_timeout: session,
                    reconnect_max: Duration::from_secs(1),
                    ..Options::default()
                };
                let end_session = CancellationToken::new();
                let client = Client::start(backend, options, end_session.clone());
                tokio::select! {
                    () = ending.cancelled() => {}
                    () = stay(&client, protocol, &role, &shared) => {}
                }
                if let Role::Publish(address) = &role {
                    // Withdrawn by name: the list is right before the session has ended.
                    let _ = client.delete(&provider_node(protocol, address)).await;
                }
                end_session.cancel();
                let _ = tokio::time::timeout(Duration::from_secs(3), client.closed()).await;
            });
        });
        Ok(Self {
            addresses,
            stop,
            thread: Some(thread),
        })
    }

    /// The list as last seen; an empty one is not taken over a full one, as with Dubbo's consumers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Withdraws what is published, and ends the session.
    pub fn end(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// For ever: does again what must be done whenever the connection, the session or the list is another one.
async fn stay(client: &Client, protocol: Protocol, role: &Role, addresses: &Mutex<Vec<SocketAddr>>) {
    let mut states = client.state();
    let watcher = Watcher::new();
    let mut told = (0, 0);
    loop {
        if let SessionState::Up {
            session, connection, ..
        } = states.borrow_and_update().clone()
            && told != (session, connection)
        {
            told = (session, connection);
            println!(
                "{}",
                json!({"event": "session", "id": format!("{session:x}"), "connection": connection, "ms": unix_ms()})
            );
        }
        let done = match role {
            Role::Publish(address) => publish(client, &provider_node(protocol, address), &watcher).await,
            Role::Follow => follow(client, protocol, &watcher, addresses).await,
        };
        // What could not be done is tried again; what was done is looked at again when something changed.
        let pause = if done.is_ok() { LOOK_AGAIN } else { TRY_AGAIN };
        tokio::select! {
            _ = watcher.fired() => {}
            _ = states.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn publish(client: &Client, path: &str, watcher: &Watcher) -> Result<(), ClientError> {
    let SessionState::Up { session, .. } = client.state().borrow().clone() else {
        return Ok(());
    };
    match client.exists(path, Some(watcher)).await? {
        Some(stat) if stat.ephemeral_owner == session => return Ok(()),
        // Of a session before: it would leave with that one.
        Some(_) => client.delete(path).await?,
        None => client.create_parents(path).await?,
    }
    match client.create(path, Bytes::new(), CreateMode::Ephemeral).await {
        Err(e) if e.code() != Some(ErrorCode::NODE_EXISTS) => return Err(e),
        _ => {}
    }
    println!(
        "{}",
        json!({"event": "published", "session": format!("{session:x}"), "ms": unix_ms()})
    );
    client.exists(path, Some(watcher)).await.map(|_| ())
}

async fn follow(
    client: &Client,
    protocol: Protocol,
    watcher: &Watcher,
    addresses: &Mutex<Vec<SocketAddr>>,
) -> Result<(), ClientError> {
    let node = consumer_node(protocol);
    if client.exists(&node, None).await?.is_none() {
        client.create_parents(&node).await?;
        match client.create(&node, Bytes::new(), CreateMode::Ephemeral).await {
            Err(e) if e.code() != Some(ErrorCode::NODE_EXISTS) => return Err(e),
            _ => {}
        }
    }
    let folder = folder(protocol);
    let list = match client.children(&folder, Some(watcher)).await {
        Err(e) if e.is_no_node() => {
            client.exists(&folder, Some(watcher)).await?;
            return Ok(());
        }
        list => list?,
    };
    let found: Vec<SocketAddr> = list.iter().filter_map(|name| address(name.as_ref())).collect();
    let mut last = addresses.lock().unwrap_or_else(PoisonError::into_inner);
    if *last != found {
        println!(
            "{}",
            json!({"event": "list", "addresses": found.iter().map(ToString::to_string).collect::<Vec<_>>(), "ms": unix_ms()})
        );
        if !found.is_empty() {
            *last = found;
        }
    }
    Ok(())
}

/// Host and port of a provider's node; a host may be a decimal number.
fn address(name: &str) -> Option<SocketAddr> {
    let url = decode_component(name).ok()?;
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, port) = rest.get(..end)?.rsplit_once(':')?;
    let host = match host.parse::<u32>() {
        Ok(number) => Ipv4Addr::from(number),
        Err(_) => host.parse().ok()?,
    };
    Some(SocketAddr::from((host, port.parse().ok()?)))
}

fn folder(protocol: Protocol) -> String {
    match protocol {
        Protocol::Dubbo => "/dubbo/demo.EchoService/providers".to_owned(),
        Protocol::Bolt => "/sofa-rpc/demo.EchoService/providers".to_owned(),
    }
}

fn provider_node(protocol: Protocol, address: &str) -> String {
    let url = match protocol {
        Protocol::Dubbo => format!(
            "dubbo://{address}/demo.EchoService?anyhost=true&application=oracle-provider&deprecated=false&dubbo=2.0.2\
             &dynamic=true&generic=false&interface=demo.EchoService&methods=echo&pid=1&release=2.7.23&side=provider\
             &timestamp=1700000000000&warmup=0"
        ),
        Protocol::Bolt => format!(
            "bolt://{address}?version=1.0&accepts=100000&appName=oracle-provider&weight=100&language=java&pid=1\
             &interface=demo.EchoService&timeout=0&serialization=hessian2&protocol=bolt&delay=-1&dynamic=true\
             &startTime=1700000000000&id=null&uniqueId=&rpcVer=51302"
        ),
    };
    format!("{}/{}", folder(protocol), encode_component(&url))
}

fn consumer_node(protocol: Protocol) -> String {
    let pid = std::process::id();
    let (folder, url) = match protocol {
        Protocol::Dubbo => (
            "/dubbo/demo.EchoService/consumers",
            format!(
                "consumer://127.0.0.1/demo.EchoService?application=oracle-consumer&category=consumers&check=false&dubbo=2.0.2\
                 &interface=demo.EchoService&methods=echo&pid={pid}&release=2.7.23&side=consumer&timestamp=1700000000000"
            ),
        ),
        Protocol::Bolt => (
            "/sofa-rpc/demo.EchoService/consumers",
            format!("bolt://127.0.0.1/demo.EchoService?appName=oracle-consumer&interface=demo.EchoService&pid={pid}"),
        ),
    };
    format!("{folder}/{}", encode_component(&url))
}

const LOOK_AGAIN: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_nodes() {
        for protocol in [Protocol::Dubbo, Protocol::Bolt] {
            let node = provider_node(protocol, "10.0.0.7:20880");
            let name = node.rsplit('/').next().unwrap();
            assert_eq!(address(name), Some("10.0.0.7:20880".parse().unwrap()));
        }
        assert_eq!(
            address("dubbo%3A%2F%2F2130706433%3A20882%2Fa.B%3Fx%3D1"),
            Some("127.0.0.1:20882".parse().unwrap())
        );
        assert_eq!(address("rubbish"), None);
    }
}
