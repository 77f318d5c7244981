// SPDX-License-Identifier: Apache-2.0
//! The front door alone, with a discovery that shows every list as it is and publishes nothing:
//! `cargo run -p remora-zookeeper --example door -- ADDR [zookeeper://HOST:PORT]`. Without a registry it has one inside.
//! For clients' test suites. Ends when its standard input does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remora_registry::{
    BoxFuture, Client, Discovery, Facade, Instance, LeaseId, LeaseInfo, Outward, PublishError, Registry, Snapshot,
    Target, UnappliedRule,
};
use remora_zookeeper::adapter::{self, ZookeeperRegistry};
use remora_zookeeper::backend::{Backend, Embedded, Ensemble};
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::facade::{Config, ZookeeperFacade};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct AsItIs {
    registry: Arc<ZookeeperRegistry>,
    leases: AtomicU64,
}

impl Discovery for AsItIs {
    fn open_lease(&self, _: LeaseInfo) -> LeaseId {
        LeaseId(self.leases.fetch_add(1, Ordering::Relaxed))
    }

    fn name_lease(&self, _: LeaseId, _: &str) {}

    fn close_lease(&self, _: LeaseId) {}

    fn publish(&self, _: LeaseId, _: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        Err(PublishError::Protocol {
            protocol: instance.protocol.to_string(),
        })
    }

    fn publish_kept(&self, lease: LeaseId, target: &Target, instance: &Instance) -> Result<Outward, PublishError> {
        self.publish(lease, target, instance)
    }
    fn cannot_hold(&self, _: &Target) -> Option<String> {
        None
    }
    fn withdraw(&self, _: LeaseId, _: &Target, _: &Instance) {}

    fn follow(&self, _: LeaseId, target: &Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.registry.follow(target.clone())
    }

    fn inward(&self, _: LeaseId, snapshot: &Snapshot, _: Client) -> Vec<Instance> {
        snapshot.instances.iter().map(|one| Instance::clone(one)).collect()
    }

    fn inward_metadata<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }

    fn rules_not_applied(&self, _: &str, _: Vec<UnappliedRule>) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listen: SocketAddr = args.next().ok_or("usage: door ADDR [zookeeper://HOST:PORT]")?.parse()?;
    let backend: Arc<dyn Backend> = match args.next() {
        Some(url) => Arc::new(Ensemble::parse(&url)?),
        None => Arc::new(Embedded::new(Server::in_memory(Options::default()))),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let config = Config {
            listen,
            ..Config::default()
        };
        let facade = ZookeeperFacade::bind(config, Arc::clone(&backend), "default")?;
        println!("listening on {}", facade.local_addr());
        let registry = ZookeeperRegistry::start("default", backend, adapter::Config::default(), stop.clone());
        let discovery = Arc::new(AsItIs {
            registry,
            leases: AtomicU64::new(0),
        });
        let ended = stop.clone();
        tokio::spawn(async move {
            let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
            ended.cancel();
        });
        Box::new(facade).serve(discovery, stop).await?;
        Ok(())
    })
}
