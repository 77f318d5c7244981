// SPDX-License-Identifier: Apache-2.0
//! Calls a provider, directly or through proxies, and says what it cost: JSON lines on standard output.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use remora_bench::load::{IdlePlan, Plan, SlowPlan, calls, idle, slow};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Calls in a closed loop, or with --rate in an open one.
    Calls(Plan),
    /// Connections that are silent after one call.
    Idle(IdlePlan),
    /// A caller that reads its replies slowly.
    Slow(SlowPlan),
}

fn main() -> anyhow::Result<()> {
    let result = match Arguments::parse().what {
        What::Calls(plan) => calls(&plan)?.json(),
        What::Idle(plan) => idle(&plan)?,
        What::Slow(plan) => slow(&plan)?,
    };
    println!("{result}");
    Ok(())
}
