// SPDX-License-Identifier: Apache-2.0
//! `remora preflight`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::RegistryParser;
use crate::Plugins;
use crate::config::{self, Overrides, RegistryUrl, Span};
use crate::preflight::{Detail, Only, Request, page, preflight};

/// Its arguments.
#[derive(Debug, Args)]
pub(super) struct PreflightArgs {
    /// The real registry, as zookeeper://user:password@h1:2181,h2:2181/chroot; default: those of the configuration
    #[arg(long, value_name = "URL", value_parser = RegistryParser)]
    registry: Option<RegistryUrl>,
    /// Configuration that Remora is to run with: its ports, registries, what is taken over; else $REMORA_CONFIG, else all
    /// defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only services and applications of this name; `com.example.*` for all that begin so. May be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Long lists whole
    #[arg(long)]
    all: bool,
    /// Connect to providers' addresses, too, and say which do not answer
    #[arg(long)]
    knock: bool,
    /// Remora is to run elsewhere: leave this host's ports alone
    #[arg(long)]
    no_host: bool,
    /// Time for reading one registry
    #[arg(long, default_value = "60s")]
    timeout: Span,
}

/// Prints the report. Its verdict is the exit code.
pub(super) async fn run(args: PreflightArgs, plugins: &Plugins) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        file: args.config,
        registry: args.registry,
        ..Overrides::default()
    };
    let loaded = config::load(&overrides, |name| std::env::var(name).ok())?;
    let checked = match config::check(&loaded, &plugins.served()) {
        Ok(checked) => checked,
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            bail!("{}", lines.join("\nremora: "));
        }
    };
    let request = Request {
        checked,
        only: Only::new(args.only),
        timeout: args.timeout.0,
        looks_at_host: !args.no_host,
        knocks: args.knock,
    };
    let report = preflight(&request, plugins).await?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => page(&report, if args.all { Detail::All } else { Detail::Short }),
    };
    super::print(&text)?;
    Ok(ExitCode::from(report.verdict.exit_code()))
}
