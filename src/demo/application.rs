// SPDX-License-Identifier: Apache-2.0
//! What the demo's applications register and read, in the form in which Dubbo 2.7 does.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remora_naming::dubbo_url::{decode_component, encode_component, parse_child};
use remora_registry::Instance;
use remora_zookeeper::wire::CreateMode;

use super::zookeeper::{Session, SessionError};
use super::{DemoError, SERVICE, VERSION};

/// Where Dubbo keeps its providers.
fn providers() -> String {
    format!("/dubbo/{SERVICE}/providers")
}

/// The URL that a provider at `addr` registers.
pub(super) fn provider_url(addr: SocketAddr) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    format!(
        "dubbo://{addr}/{SERVICE}?anyhost=true&application=demo-provider&dubbo=2.0.2&generic=false\
         &interface={SERVICE}&methods=sayHello&pid={}&release=2.7.23&revision={VERSION}&side=provider\
         &timestamp={now}&version={VERSION}&warmup=0",
        std::process::id()
    )
}

/// Registers a URL, for as long as the session lives.
pub(super) async fn register(session: &Session, url: &str) -> Result<(), SessionError> {
    let path = format!("{}/{}", providers(), encode_component(url));
    session.create(&path, CreateMode::Ephemeral).await
}

/// Registers a consumer, as Dubbo does before it asks for providers.
pub(super) async fn register_consumer(session: &Session) -> Result<(), SessionError> {
    let url = format!(
        "consumer://127.0.0.1/{SERVICE}?application=demo-consumer&category=consumers&check=false&dubbo=2.0.2\
         &interface={SERVICE}&methods=sayHello&pid={}&release=2.7.23&side=consumer&version={VERSION}",
        std::process::id()
    );
    let path = format!("/dubbo/{SERVICE}/consumers/{}", encode_component(&url));
    session.create(&path, CreateMode::Ephemeral).await?;
    session.create(&providers(), CreateMode::Persistent).await
}

/// The provider URLs in the list now, decoded.
pub(super) async fn listed(session: &Session) -> Result<Vec<String>, DemoError> {
    let mut urls = Vec::new();
    for child in session.children(&providers()).await? {
        let url = decode_component(&child).map_err(|error| DemoError::Unexpected(error.to_string()))?;
        urls.push(url);
    }
    urls.sort();
    Ok(urls)
}

/// Waits until the list is as wanted.
pub(super) async fn wait_listed(
    session: &Session,
    what: &'static str,
    wanted: impl Fn(&[String]) -> bool,
) -> Result<Vec<String>, DemoError> {
    let mut events = session.events();
    let waiting = async {
        loop {
            events.borrow_and_update();
            let urls = listed(session).await?;
            if wanted(&urls) {
                return Ok(urls);
            }
            if events.changed().await.is_err() {
                return Err(DemoError::Unexpected("the registry session ended".to_owned()));
            }
        }
    };
    match tokio::time::timeout(LIST_TIMEOUT, waiting).await {
        Ok(urls) => urls,
        Err(_) => Err(DemoError::Late(what)),
    }
}

/// A list that has not come by then will not come.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// Reads a URL from the list.
pub(super) fn parse(url: &str) -> Result<Instance, DemoError> {
    parse_child(&encode_component(url)).map_err(|error| DemoError::Unexpected(error.to_string()))
}

/// How many parameters of a provider's URL stand unchanged, and in the same order, in another one; and how many it has.
pub(super) fn kept(own: &str, published: &str) -> Result<(usize, usize), DemoError> {
    let (own, published) = (parse(own)?, parse(published)?);
    let mut rest = published.params.iter();
    let kept = own
        .params
        .iter()
        .filter(|param| rest.any(|other| other == *param))
        .count();
    Ok((kept, own.params.iter().count()))
}
