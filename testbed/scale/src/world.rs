// SPDX-License-Identifier: Apache-2.0
//! Bare providers, as nodes in the registry: nothing listens at their addresses, nobody calls them here.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use remora_zookeeper::backend::Ensemble;
use remora_zookeeper::client::{Client, Options};
use remora_zookeeper::wire::CreateMode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A session that registers providers; its nodes go with it.
pub struct Providers {
    client: Client,
}

impl Providers {
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let client = connect(address)?;
        Ok(Self { client })
    }

    /// Registers provider `number` of each service, many at a time.
    pub async fn create(&mut self, providers: Vec<(String, usize)>) -> anyhow::Result<()> {
        let services: BTreeSet<String> = providers.iter().map(|(service, _)| service.clone()).collect();
        let client = self.client.clone();
        parallel(services.into_iter().collect(), |service| {
            let client = client.clone();
            async move { Ok(client.create_parents(&node(&service, 0)).await?) }
        })
        .await?;
        parallel(providers, |(service, number)| {
            let client = client.clone();
            async move {
                let path = node(&service, number);
                client.create(&path, Bytes::new(), CreateMode::Ephemeral).await?;
                Ok(())
            }
        })
        .await?;
        Ok(())
    }

    /// A rolling restart: the new one comes, the old one goes.
    pub async fn replace(&mut self, service: &str, old: usize, new: usize) -> anyhow::Result<()> {
        let path = node(service, new);
        self.client.create(&path, Bytes::new(), CreateMode::Ephemeral).await?;
        self.client.delete(&node(service, old)).await?;
        Ok(())
    }
}

/// A session at a ZooKeeper address.
pub fn connect(address: &str) -> anyhow::Result<Client> {
    let backend = Arc::new(Ensemble::parse(address)?);
    Ok(Client::start(backend, Options::default(), CancellationToken::new()))
}

/// Address of a provider; 198.18.0.0/15 is set aside for tests and leads nowhere.
pub fn address(number: usize) -> String {
    format!("198.18.{}.{}:20880", number / 250, number % 250 + 1)
}

// The parameters that a 2.7 provider has.
fn node(service: &str, number: usize) -> String {
    let url = format!(
        "dubbo://{}/{service}?anyhost=true&application=scale&deprecated=false&dubbo=2.0.2&dynamic=true&generic=false\
         &interface={service}&metadata-type=remote&methods=echo,put&pid=1&release=2.7.23&revision=1.0.0&side=provider\
         &timestamp=1700000000000&version=1.0.0",
        address(number)
    );
    let encoded: String = url
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("/dubbo/{service}/providers/{encoded}")
}

/// Does all of `items`, 200 at a time, and gives the results in no order.
pub async fn parallel<I, T, F>(items: Vec<I>, work: impl Fn(I) -> F) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut running = JoinSet::new();
    let mut done = Vec::with_capacity(items.len());
    for item in items {
        if running.len() >= AT_A_TIME
            && let Some(result) = running.join_next().await
        {
            done.push(result??);
        }
        running.spawn(work(item));
    }
    while let Some(result) = running.join_next().await {
        done.push(result??);
    }
    Ok(done)
}

const AT_A_TIME: usize = 200;
