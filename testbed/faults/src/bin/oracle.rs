// SPDX-License-Identifier: Apache-2.0
//! Callers, a provider and a judge that miss nothing; crowds of badly behaved clients. JSON lines on standard output.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use remora_faults::caller::{CallPlan, call};
use remora_faults::crowd::{CrowdPlan, crowd};
use remora_faults::journal::judge;
use remora_faults::provider::{ProvidePlan, provide};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Calls, and says of each how it ended.
    Call(CallPlan),
    /// Serves calls.
    Provide(ProvidePlan),
    /// Holds the journals of callers and providers against each other.
    Judge {
        /// The journals.
        #[arg(required = true)]
        journals: Vec<PathBuf>,
    },
    /// Many badly behaved clients.
    Crowd(CrowdPlan),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Call(plan) => println!("{}", call(&plan)?),
        What::Provide(plan) => provide(&plan)?,
        What::Judge { journals } => println!("{}", judge(&journals)?),
        What::Crowd(plan) => println!("{}", crowd(&plan)?),
    }
    Ok(())
}
