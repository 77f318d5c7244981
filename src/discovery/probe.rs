// SPDX-License-Identifier: Apache-2.0
//! Whether a provider that the registry lost is still there.
//!
//! A bare provider is there while its port accepts. The port of a taken-over one is a Remora's and accepts without the
//! application too: so it is sent a question that any Dubbo application answers with something, if only "unknown
//! service", and a Remora alone with "nothing was sent". So does a Remora whose application has withdrawn by itself what it
//! published: that one has not been lost, and soon closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use remora_dubbo::Dubbo;
use remora_protocol::{Outcome, Protocol};
use remora_registry::{BoxFuture, Instance};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::metadata_rpc;

/// Tells whether the provider at an address is there.
pub type Probe = Arc<dyn Fn(SocketAddr, Knock) -> BoxFuture<'static, bool> + Send + Sync>;

/// How to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// The port must accept a connection.
    Connect,
    /// The application must answer a call.
    Call,
}

impl Knock {
    /// What it takes for this instance.
    pub(super) fn at(instance: &Instance) -> Self {
        match instance.app_port() {
            Some(_) if &*instance.protocol == Dubbo.name() => Self::Call,
            _ => Self::Connect,
        }
    }
}

impl Knock {
    /// Whether the answer is the application's for sure, and not that of the Remora before it.
    pub(super) fn is_sure(self, instance: &Instance) -> bool {
        self == Self::Call || instance.app_port().is_none()
    }
}

/// The probe of real life; a slow answer counts as one.
pub fn probe() -> Probe {
    Arc::new(|addr, knock| {
        Box::pin(async move {
            match knock {
                Knock::Connect => matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await, Ok(Ok(_))),
                Knock::Call => match timeout(CALL_TIMEOUT, metadata_rpc::knock(addr)).await {
                    Ok(Ok(reply)) => Dubbo.outcome(&reply) != Outcome::NothingSent,
                    Ok(Err(_)) => false,
                    Err(_) => matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await, Ok(Ok(_))),
                },
            }
        })
    })
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use remora_protocol::LocalReply;

    #[tokio::test]
    async fn a_remora_without_its_application_is_nobody() {
        let request = metadata_rpc::tests::request();
        let alone = Dubbo
            .local_reply(&request, LocalReply::ConnectFailed, "nobody there")
            .unwrap();
        let unknown = Dubbo.local_reply(&request, LocalReply::UpstreamClosed, "x").unwrap();
        for (reply, is_there) in [(alone, false), (unknown, true)] {
            let addr = metadata_rpc::tests::provider(reply.to_vec()).await;
            assert_eq!(probe()(addr, Knock::Call).await, is_there);
        }
    }

    #[tokio::test]
    async fn a_bare_provider_is_there_while_its_port_accepts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(probe()(addr, Knock::Connect).await);
        drop(listener);
        assert!(!probe()(addr, Knock::Connect).await);
    }
}
