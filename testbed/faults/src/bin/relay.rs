// SPDX-License-Identifier: Apache-2.0
//! The fault relay: see `remora_faults::relay`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use clap::Parser;
use remora_faults::relay::{RouteSpec, serve};

#[derive(Parser)]
struct Arguments {
    /// Where to be steered, host:port.
    #[arg(long)]
    control: SocketAddr,
    /// name=listen,target; may be given several times.
    #[arg(long, required = true)]
    route: Vec<RouteSpec>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(arguments.control, &arguments.route)))
}
