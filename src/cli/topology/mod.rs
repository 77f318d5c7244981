// SPDX-License-Identifier: Apache-2.0
//! `remora topology`: who calls whom, of one Remora or of many.

mod dot;
mod graph;
mod text;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{AdminArgs, PageArgs};
use crate::admin::{Client, Filter, TopologyView};
use crate::config::{Address, Span};

/// What `remora topology` is asked.
#[derive(Debug, Args)]
pub(super) struct TopologyArgs {
    /// Admin address of a running proxy; several times for several. Default: as for `remora status`
    #[arg(long, value_name = "ADDR")]
    admin: Vec<Address>,
    /// What `remora topology --format json` printed on another host; several times for several
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    page: PageArgs,
    /// Also what was never called
    #[arg(long)]
    all: bool,
    /// How long each proxy may take
    #[arg(long, default_value = "10s")]
    timeout: Span,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For a terminal
    Text,
    /// Everything
    Json,
    /// For Graphviz: remora topology --format dot | dot -Tsvg > topology.svg
    Dot,
}

/// All that `--format json` prints.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Topology {
    remoras: Vec<Remora>,
}

/// One Remora's part.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Remora {
    /// Its admin address.
    admin: String,
    #[serde(flatten)]
    view: TopologyView,
}

pub(super) async fn topology(args: TopologyArgs) -> anyhow::Result<()> {
    let filter = Filter {
        all: args.all,
        ..args.page.into()
    };
    let mut topology = Topology::default();
    for file in &args.from {
        topology.remoras.extend(read(file)?.remoras);
    }
    let mut admins: Vec<SocketAddr> = args.admin.iter().map(|addr| addr.0).collect();
    if admins.is_empty() && args.from.is_empty() {
        admins.push(AdminArgs { admin: None }.addr());
    }
    let page = match filter.query().as_str() {
        "" => "/topology".to_owned(),
        query => format!("/topology?{query}"),
    };
    for admin in admins {
        topology.remoras.push(Remora {
            admin: admin.to_string(),
            view: Client::new(admin)
                .until(Instant::now() + args.timeout.0)
                .json(&page)
                .await?,
        });
    }
    let printed = match args.format {
        Format::Text => text::text(&topology),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&topology)?),
        Format::Dot => dot::dot(&graph::Graph::of(&topology)),
    };
    super::print(&printed)?;
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Topology> {
    let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let expected = || format!("{} is not what `remora topology --format json` prints", file.display());
    serde_json::from_slice(&bytes).with_context(expected)
}

#[cfg(test)]
mod tests;
