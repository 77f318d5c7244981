// SPDX-License-Identifier: Apache-2.0
//! The demo's acts, in their order. Each does something, checks that it came out right, and tells it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remora_dubbo::Answer;
use remora_registry::Instance;

use super::consumer::Consumer;
use super::load::{Load, expect_value};
use super::provider::{Provider, WANTS_EXCEPTION};
use super::remora::DemoRemora;
use super::story::{Story, grouped};
use super::zookeeper::Session;
use super::{DemoError, application, ports};
use crate::Plugins;

/// Calls over both providers, and then after one was killed.
const CALLS: u64 = 10_000;
const CALLS_AFTER_KILL: u64 = 5_000;
/// What has not happened by then will not happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts A, beside the providers, and B, beside the consumer.
pub(super) async fn two_remoras<W: Write>(
    story: &mut Story<W>,
    plugins: &Plugins,
    scratch: &Path,
    registry: SocketAddr,
) -> Result<(DemoRemora, DemoRemora), DemoError> {
    let (near_host, far_host) = ports::hosts();
    let near = DemoRemora::start(plugins, near_host, registry, &scratch.join("near"))?;
    let far = DemoRemora::start(plugins, far_host, registry, &scratch.join("far"))?;
    story.step("A registry, and a Remora on each of two hosts")?;
    story.fact("registry", &format!("ZooKeeper on {registry} (the embedded one)"))?;
    story.fact("Remora A", &format!("host {near_host}, beside the providers"))?;
    story.fact(
        "",
        &format!("door {} for registrations, ingress {}", near.door, near.ingress),
    )?;
    story.fact("Remora B", &format!("host {far_host}, beside the consumer"))?;
    story.fact(
        "",
        &format!("door {} for subscriptions, egress {}", far.door, far.egress),
    )?;
    until("both Remoras to be ready", || near.is_ready() && far.is_ready()).await?;
    Ok((near, far))
}

/// Two providers register at A's door.
pub(super) async fn providers<W: Write>(
    story: &mut Story<W>,
    registry: SocketAddr,
    near: &DemoRemora,
) -> Result<((Provider, Session), (Provider, Session)), DemoError> {
    story.step(&format!(
        "Two providers register; all they know is zookeeper://{}",
        near.door
    ))?;
    let looker = Session::open(registry).await?;
    let one = provider(story, "provider-1", near, &looker).await?;
    let two = provider(story, "provider-2", near, &looker).await?;
    looker.close().await?;
    Ok((one, two))
}

async fn provider<W: Write>(
    story: &mut Story<W>,
    name: &'static str,
    near: &DemoRemora,
    looker: &Session,
) -> Result<(Provider, Session), DemoError> {
    let provider = Provider::start(name, [127, 0, 0, 1].into()).await?;
    let session = Session::open(near.door).await?;
    // A real Dubbo registers its host's own address, so this one does.
    let own = application::provider_url(SocketAddr::new(near.ingress.ip(), provider.addr().port()));
    application::register(&session, &own).await?;
    let marker = format!("{}={}", Instance::MARKER, provider.addr().port());
    let is_published = |urls: &[String]| urls.iter().any(|url| url.contains(&marker));
    let listed = application::wait_listed(looker, "the provider in the registry", is_published).await?;
    let published = listed
        .iter()
        .find(|url| url.contains(&marker))
        .map_or("", String::as_str);
    let (kept, all) = application::kept(&own, published)?;
    if kept != all {
        return Err(DemoError::Unexpected(format!(
            "only {kept} of {all} parameters of {own} stand in {published}"
        )));
    }
    story.fact(name, &format!("listens on {}", provider.addr()))?;
    story.fact(" registers", &shortened(&own))?;
    story.fact(" published", &shortened(published))?;
    story.fact(
        "",
        &format!("(its {all} parameters kept, the port and a marker are new)"),
    )?;
    Ok((provider, session))
}

/// A consumer subscribes at B's door and dials what it is handed.
pub(super) async fn consumer<W: Write>(
    story: &mut Story<W>,
    far: &DemoRemora,
) -> Result<(Consumer, Session), DemoError> {
    story.step(&format!(
        "A consumer subscribes; all it knows is zookeeper://{}",
        far.door
    ))?;
    let session = Session::open(far.door).await?;
    application::register_consumer(&session).await?;
    let handed = application::wait_listed(&session, "the consumer's list", |urls| !urls.is_empty()).await?;
    let [url] = handed.as_slice() else {
        return Err(DemoError::Unexpected(format!("one entry was expected: {handed:?}")));
    };
    let instance = application::parse(url)?;
    let consumer = Consumer::dial(&instance.host, instance.port).await?;
    story.fact("is handed", &shortened(url))?;
    story.fact(
        "",
        &format!("one entry for both providers: Remora B's egress {}", consumer.peer()),
    )?;
    if instance.host.bytes().all(|b| b.is_ascii_digit()) {
        let dotted = consumer.peer().ip();
        story.fact(
            "",
            &format!("({} is {dotted}; Java Dubbo would not dial the", instance.host),
        )?;
        story.fact("", "dotted form, it takes another address of its host for it)")?;
    }
    // B reads the registry too; the second provider may still be on its way to its routes.
    let instances = || {
        far.catalog()
            .routes
            .iter()
            .map(|route| route.instances.len())
            .sum::<usize>()
    };
    until("routes to both providers", || instances() == 2).await?;
    Ok((consumer, session))
}

/// A call, hop by hop, and an exception.
pub(super) async fn first_calls<W: Write>(
    story: &mut Story<W>,
    consumer: &Consumer,
    near: &DemoRemora,
    far: &DemoRemora,
    providers: [&Provider; 2],
) -> Result<(), DemoError> {
    story.step("The first call, and one that throws")?;
    let said = expect_value(consumer.call("world").await.0)?;
    let answered = providers.into_iter().find(|provider| provider.calls() > 0);
    let provider = answered.ok_or_else(|| DemoError::Unexpected("no provider saw the call".to_owned()))?;
    let own = format!(":{}", provider.addr().port());
    let published = near.catalog().leases.into_iter().flat_map(|lease| lease.publishes);
    let ingress = published
        .filter(|p| p.own.ends_with(&own))
        .map(|p| p.published)
        .next()
        .unwrap_or_default();
    story.fact("consumer", &consumer.local().to_string())?;
    story.fact("-> egress", &format!("{} of Remora B", consumer.peer()))?;
    story.fact("-> ingress", &format!("{ingress} of Remora A"))?;
    story.fact("-> provider", &format!("{} of {}", provider.addr(), provider.name()))?;
    story.fact("<- reply", &format!("\"{said}\""))?;
    match consumer.call(WANTS_EXCEPTION).await.0 {
        Ok(Answer::Threw { class, message }) => {
            story.fact("<- throws", &format!("{class}: {message} (passed on untouched)"))?;
        }
        other => return Err(DemoError::Unexpected(format!("an exception was expected: {other:?}"))),
    }
    match (near.calls("ingress").await.all, far.calls("egress").await.all) {
        (2, 2) => Ok(()),
        counted => Err(DemoError::Unexpected(format!(
            "2 calls were made, the Remoras counted {counted:?}"
        ))),
    }
}

/// Many calls, the death of a provider, and what everybody counted.
pub(super) async fn load<W: Write>(
    story: &mut Story<W>,
    consumer: Consumer,
    near: &DemoRemora,
    far: &DemoRemora,
    one: &Provider,
    two: &Provider,
) -> Result<(), DemoError> {
    let consumer = Arc::new(consumer);
    story.step("Many calls, and a provider that dies")?;
    let both = Load::run(&consumer, CALLS).await;
    story.fact(&format!("{} calls", grouped(CALLS)), &both.text())?;
    let (by_one, by_two) = (grouped(one.calls()), grouped(two.calls()));
    story.fact(
        "",
        &format!("{by_one} answered by {}, {by_two} by {}", one.name(), two.name()),
    )?;
    two.kill();
    story.fact(
        "kill -9",
        &format!("{}; the registry still lists it for a while", two.name()),
    )?;
    let rest = Load::run(&consumer, CALLS_AFTER_KILL).await;
    story.fact(
        &format!("{} calls", grouped(CALLS_AFTER_KILL)),
        &format!("{}, all by {}", rest.text(), one.name()),
    )?;
    let direct = Arc::new(Consumer::dial("127.0.0.1", one.addr().port()).await?);
    let direct = Load::run(&direct, CALLS_AFTER_KILL).await;
    story.fact("direct", &format!("{}, without any Remora", direct.text()))?;

    story.step("What the Remoras counted")?;
    let (out, into) = (far.calls("egress").await, near.calls("ingress").await);
    story.fact(
        "Remora B",
        &format!(
            "{} calls out through its egress, {} errors",
            grouped(out.all),
            out.errors
        ),
    )?;
    story.fact(
        "Remora A",
        &format!("{} calls in through its ingress", grouped(into.all - into.errors)),
    )?;
    if into.errors > 0 {
        story.fact(
            "",
            &format!("and {} for the dead provider, which B sent to the other", into.errors),
        )?;
    }
    // The two first calls count too.
    let calls = 2 + CALLS + CALLS_AFTER_KILL;
    let failed = both.failed + rest.failed;
    story.line(&format!("\n{} calls through both, {failed} failed", grouped(calls)))?;
    match failed == 0 && out.all == calls && out.errors == 0 && into.all - into.errors == calls {
        true => Ok(()),
        false => Err(DemoError::Unexpected(format!(
            "{calls} calls were made; egress {out:?}, ingress {into:?}"
        ))),
    }
}

/// What to do now.
pub(super) fn next<W: Write>(story: &mut Story<W>) -> io::Result<()> {
    story.line("\nNext, beside an application of yours:")?;
    story.line("   remora run --registry zookeeper://YOUR-ZOOKEEPER:2181")?;
    story.line("then set its registry to zookeeper://127.0.0.1:2181, restart it, and look at")?;
    story.line("`remora status`.")
}

/// Waits for a fact.
async fn until(what: &'static str, is_so: impl Fn() -> bool) -> Result<(), DemoError> {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .map_err(|_| DemoError::Late(what))
}

/// A URL with all parameters but the last left out.
fn shortened(url: &str) -> String {
    match (url.split_once('?'), url.rsplit_once('&')) {
        (Some((front, _)), Some((_, last))) => format!("{front}?..&{last}"),
        _ => url.to_owned(),
    }
}
