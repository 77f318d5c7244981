// SPDX-License-Identifier: Apache-2.0
//! Large lists through a real Remora, with figures.
//!
//! ```text
//! cargo build --release && cargo run --release -p remora-scale -- [--remora BIN] [--registry HOST:PORT] [--count 2000]
//! ```
//! Starts `BIN run` against a registry (`BIN registry`, the embedded one, unless a ZooKeeper is named) and looks at it as
//! an application does, by a ZooKeeper session through its front door:
//! one service with `count` providers, then `count` services with one provider each; each time all are replaced one after
//! the other. Every figure is printed; a list that is wrong, or not right within a minute, ends the run with an error.
//! Everything listens on 127.0.0.1, on free ports, in a directory that is removed.
#![forbid(unsafe_code)]

mod remora;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use remora_zookeeper::client::Watcher;

use self::remora::Remora;
use self::world::{Providers, parallel};

/// How the run was asked for.
struct Arguments {
    binary: String,
    registry: Option<String>,
    count: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    let directory = tempfile::tempdir()?;
    let registry = match &arguments.registry {
        Some(address) => remora::Registry::named(address.clone()),
        None => remora::Registry::start(&arguments.binary, directory.path()).await?,
    };
    println!(
        "registry {} ({}), {} at a time",
        registry.address,
        if arguments.registry.is_some() {
            "named"
        } else {
            "embedded"
        },
        arguments.count
    );
    one_service(&arguments, &registry, directory.path()).await?;
    many_services(&arguments, &registry, directory.path()).await?;
    Ok(())
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        binary: "target/release/remora".to_owned(),
        registry: None,
        count: 2_000,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(flag) = rest.next() {
        let value = rest.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--remora" => found.binary = value,
            "--registry" => found.registry = Some(value),
            "--count" => found.count = value.parse().context("--count is a number")?,
            _ => anyhow::bail!("unknown {flag}; known are --remora, --registry, --count"),
        }
    }
    ensure!((1..=20_000).contains(&found.count), "--count is 1 to 20000");
    Ok(found)
}

async fn one_service(
    arguments: &Arguments,
    registry: &remora::Registry,
    directory: &std::path::Path,
) -> anyhow::Result<()> {
    let count = arguments.count;
    println!("\n{count} providers of one service");
    let mut providers = Providers::connect(&registry.address).await?;
    let timer = Instant::now();
    providers
        .create((0..count).map(|i| ("scale.One".to_owned(), i)).collect())
        .await?;
    figure("registered, written to the registry directly", timer.elapsed());

    let remora = Remora::start(&arguments.binary, &registry.address, &directory.join("one")).await?;
    figure("start-up until ready", remora.started_in);
    let application = remora.application().await?;
    let watcher = Watcher::new();
    let timer = Instant::now();
    let shown = application
        .children("/dubbo/scale.One/providers", Some(&watcher))
        .await?;
    figure("first read of the list by an application", timer.elapsed());
    ensure!(
        shown.len() == 1,
        "an application is shown {} entries instead of one",
        shown.len()
    );
    remora
        .wait_for("instances known", |view| view.providers("scale.One") == count)
        .await?;
    figure("until all are known", timer.elapsed());
    let timer = Instant::now();
    for _ in 0..READS {
        application.children("/dubbo/scale.One/providers", None).await?;
    }
    figure("one read of the list, mean of 200", timer.elapsed() / READS);

    let cpu = remora.cpu()?;
    let timer = Instant::now();
    for i in 0..count {
        providers.replace("scale.One", i, count + i).await?;
    }
    figure("rolling replacement of all, one after the other", timer.elapsed());
    let written = Instant::now();
    remora
        .wait_for("replacements known", |view| {
            view.has_only("scale.One", count..2 * count)
        })
        .await?;
    figure("until the last is known, after it was written", written.elapsed());
    println!(
        "  {:<56} {:>10.2} s",
        "CPU of Remora meanwhile",
        (remora.cpu()? - cpu).as_secs_f64()
    );
    println!(
        "  {:<56} {:>10}",
        "times the application was told of a change",
        watcher.take().len()
    );
    ensure!(
        watcher.take().is_empty(),
        "the shown list did not change, yet the application was told so"
    );
    println!("  {:<56} {:>10.1} MiB", "resident memory", remora.resident_mib()?);
    Ok(())
}

async fn many_services(
    arguments: &Arguments,
    registry: &remora::Registry,
    directory: &std::path::Path,
) -> anyhow::Result<()> {
    let count = arguments.count;
    println!("\n{count} services with one provider each");
    let mut providers = Providers::connect(&registry.address).await?;
    let name = |i: usize| format!("scale.Many{i}");
    let timer = Instant::now();
    providers.create((0..count).map(|i| (name(i), i)).collect()).await?;
    figure("registered, written to the registry directly", timer.elapsed());

    let remora = Remora::start(&arguments.binary, &registry.address, &directory.join("many")).await?;
    figure("start-up until ready", remora.started_in);
    let application = remora.application().await?;
    let watcher = Watcher::new();
    let timer = Instant::now();
    let shown = parallel((0..count).collect(), |i| {
        let (application, watcher) = (application.clone(), watcher.clone());
        async move {
            let path = format!("/dubbo/scale.Many{i}/providers");
            Ok(application.children(&path, Some(&watcher)).await?.len())
        }
    })
    .await?;
    figure("an application follows all, each list read", timer.elapsed());
    let wrong = shown.iter().filter(|entries| **entries != 1).count();
    ensure!(
        wrong == 0,
        "{wrong} of {count} lists were not shown with their one entry"
    );

    let cpu = remora.cpu()?;
    let timer = Instant::now();
    for i in 0..count {
        providers.replace(&name(i), i, count + i).await?;
    }
    figure("rolling replacement of all, one after the other", timer.elapsed());
    let written = Instant::now();
    remora
        .wait_for("replacements known", |view| {
            (0..count).all(|i| view.has_only(&name(i), count + i..count + i + 1))
        })
        .await?;
    figure("until the last is known, after it was written", written.elapsed());
    println!(
        "  {:<56} {:>10.2} s",
        "CPU of Remora meanwhile",
        (remora.cpu()? - cpu).as_secs_f64()
    );
    println!(
        "  {:<56} {:>10}",
        "times the application was told of a change",
        watcher.take().len()
    );
    println!("  {:<56} {:>10.1} MiB", "resident memory", remora.resident_mib()?);

    let restarted = remora.restart().await?;
    figure("restart with last known lists until ready", restarted.started_in);
    Ok(())
}

fn figure(what: &str, took: Duration) {
    println!("  {what:<56} {:>10.1} ms", took.as_secs_f64() * 1e3);
}

const READS: u32 = 200;
