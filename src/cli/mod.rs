// SPDX-License-Identifier: Apache-2.0
//! The command line.
//!
//! Exit codes: 0 done; 1 failed, with the reason on standard error; 2 the command line itself is wrong.

mod ask;
mod check;
mod exec;
mod page;
mod preflight;
mod registry;
mod rollback;
mod run;
mod status;
mod supervisor;
mod topology;
mod upgrade;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::admin::{Client, Filter};
use crate::config::{Address, AdminAddress, Overrides, RegistryUrl, Span, admin_address};
use crate::views::counted;
use crate::{Config, Plugins};

/// Takes over an application's service discovery: the application changes its registry address, nothing else.
#[derive(Debug, Parser)]
#[command(
    name = "remora",
    version,
    disable_help_subcommand = true,
    // Before a command they would go unheard: `remora --admin ADDR stop` must not stop another one.
    args_conflicts_with_subcommands = true,
    after_help = AFTER_HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

const AFTER_HELP: &str = "Without a command: run.\n\
    Exit codes: 0 done; 1 failed, with the reason on standard error; 2 wrong command line. preflight, rollback --wait and\n\
    exec have others, see their --help.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (also without a command)
    Run(RunArgs),
    /// Validate the configuration and print it as it takes effect; exit 1 with file, line, key and reason
    Check(RunArgs),
    /// What takeover would do with a registry, and what stands in its way; nothing is written there. Exit codes: 0 ready,
    /// 3 ready with warnings, 4 not ready, 1 could not look
    Preflight(preflight::PreflightArgs),
    /// A provider, a consumer and two Remoras on this machine; shows each step with real addresses
    Demo,
    /// The embedded registry alone, for several Remoras
    Registry {
        /// Where it listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2181")]
        listen: Address,
        /// Its nodes are kept in the folder `registry` of DIR; default: data_dir of $REMORA_CONFIG, else /var/lib/remora, else
        /// ~/.local/state/remora
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Who publishes, who follows, connections, calls, errors, registry state
    Status {
        #[command(flatten)]
        admin: AdminArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// How long it may take
        #[arg(long, value_name = "TIME", default_value = "10s")]
        timeout: Span,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Who calls whom: applications, services, instances, calls, errors; also as a graph
    Topology(topology::TopologyArgs),
    /// Exit 0 once the proxy is ready, 1 after the timeout: for start scripts and init containers
    Wait {
        #[command(flatten)]
        admin: AdminArgs,
        /// How long to wait
        #[arg(long, value_name = "TIME", default_value = "30s")]
        timeout: Span,
        /// Until no application is here any more instead: for preStop hooks of sidecars that are told to end first
        #[arg(long)]
        gone: bool,
    },
    /// Read the configuration again; exit 1 if it is refused, and nothing changes then
    Reload {
        #[command(flatten)]
        admin: AdminArgs,
        /// How long it may take; a door that has to close takes up to 5s
        #[arg(long, value_name = "TIME", default_value = "60s")]
        timeout: Span,
    },
    /// Take everything that leads here out of the registries and wait for the calls in flight; the proxy goes on serving.
    /// The step before an application is ended
    Withdraw {
        #[command(flatten)]
        admin: AdminArgs,
        /// How long to wait
        #[arg(long, value_name = "TIME", default_value = "30s")]
        timeout: Span,
        /// And then until no application is here any more: for sidecars that are told to end together with it
        #[arg(long)]
        gone: bool,
    },
    /// Give everything back to the applications: their own addresses in the registry, real addresses in their lists. The proxy
    /// serves on whoever still calls through it. Holds over restarts
    Rollback {
        #[command(flatten)]
        admin: AdminArgs,
        /// Take everything over again instead, as mode and takeover say
        #[arg(long)]
        forward: bool,
        /// Until nobody calls through here any more (--forward: until everything stands as decided, and alone); exit 3 after
        /// the timeout
        #[arg(long)]
        wait: bool,
        /// How long it may take; default: 60s with --wait, else 10s
        #[arg(long, value_name = "TIME")]
        timeout: Option<Span>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the proxy and an application beside it: start after ready, forward signals, reap, withdraw before the end. Exits
    /// with the application's status
    Exec {
        #[command(flatten)]
        run: RunArgs,
        /// How long the proxy may take to be ready
        #[arg(long, value_name = "TIME", default_value = "60s")]
        ready_timeout: Span,
        /// The application and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Withdraw, drain and end the running proxy for good; returns when it has gone
    Stop {
        #[command(flatten)]
        admin: AdminArgs,
        /// How long to wait for its end
        #[arg(long, value_name = "TIME", default_value = "30s")]
        timeout: Span,
    },
    /// Hand everything over to a new process, without losing a connection or a call; returns when it serves
    Upgrade {
        /// The new program; default: the running one, or what stands in its place by now
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Stands in for a serving process after an upgrade
    #[command(hide = true)]
    Supervise {
        /// Its process id
        pid: u32,
    },
}

#[derive(Debug, Args, Default)]
struct RunArgs {
    /// Configuration file (YAML); else $REMORA_CONFIG, else all defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The real registry: embedded, zookeeper://h1:2181,h2:2181/chroot, sofaregistry://h1:9603,h2:9603, file:///path.yaml
    #[arg(long, value_name = "URL", value_parser = RegistryParser)]
    registry: Option<RegistryUrl>,
    /// Published host; default: the one that the application registered
    #[arg(long, value_name = "IP")]
    advertise: Option<IpAddr>,
    /// Where state is kept; default: /var/lib/remora, else ~/.local/state/remora
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Admin address; default: 127.0.0.1:15020
    #[arg(long, value_name = "ADDR")]
    admin: Option<Address>,
    /// Take over from the process at the other end of standard input; `remora upgrade` starts us so
    #[arg(long, hide = true)]
    take_over: bool,
}

/// Which services are shown.
#[derive(Debug, Args)]
struct PageArgs {
    /// Only services with this text in their name
    #[arg(long, value_name = "TEXT")]
    service: Option<String>,
    /// Only what this application has to do with
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// At most so many services
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// Leave so many out first: the next page
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    offset: usize,
}

impl From<PageArgs> for Filter {
    fn from(args: PageArgs) -> Self {
        Self {
            service: args.service,
            application: args.application,
            limit: args.limit,
            offset: args.offset,
            all: false,
        }
    }
}

#[derive(Debug, Args)]
struct AdminArgs {
    /// Admin address of the running proxy; default: admin.listen of $REMORA_CONFIG, else 127.0.0.1:15020
    #[arg(long, value_name = "ADDR")]
    admin: Option<Address>,
}

/// Clap's own message repeats a wrong value, with its password.
#[derive(Clone)]
struct RegistryParser;

impl TypedValueParser for RegistryParser {
    type Value = RegistryUrl;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<RegistryUrl, clap::Error> {
        value.to_string_lossy().parse().map_err(|error| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("--registry: {error}\n")).with_cmd(command)
        })
    }
}

impl RunArgs {
    /// The same arguments for a process of its own.
    fn task(self, ready_timeout: Span, command: Vec<OsString>) -> exec::Task {
        let mut run = Vec::new();
        let mut put = |name: &str, value: Option<OsString>| {
            run.extend(value.into_iter().flat_map(|value| [name.into(), value]));
        };
        put("--config", self.config.clone().map(Into::into));
        // With its password, which a display leaves out.
        put("--registry", self.registry.as_ref().map(|url| url.written().into()));
        put("--advertise", self.advertise.map(|ip| ip.to_string().into()));
        put("--data-dir", self.data_dir.clone().map(Into::into));
        put("--admin", self.admin.map(|addr| addr.to_string().into()));
        exec::Task {
            run,
            overrides: self.into(),
            command,
            ready_timeout: ready_timeout.0,
        }
    }
}

impl From<RunArgs> for Overrides {
    fn from(args: RunArgs) -> Self {
        Self {
            file: args.config,
            registry: args.registry,
            advertise: args.advertise,
            data_dir: args.data_dir,
            admin: args.admin,
        }
    }
}

/// Reads the process's arguments and does what they say. Also the whole `main` of a custom binary.
pub fn main(plugins: Plugins) -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => {
            let takes_over = args.take_over;
            block_on(run::run(args.into(), &plugins, takes_over))
        }
        Command::Supervise { pid } => return supervise(pid),
        Command::Upgrade { binary, admin } => {
            block_on(async { upgrade::upgrade(admin.client_to_change()?, binary).await })
        }
        Command::Check(args) => check::check(&args.into(), &plugins),
        Command::Preflight(args) => match block_on(preflight::run(args, &plugins)) {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
        Command::Demo => block_on(async { Ok(crate::demo::run(&plugins).await?) }),
        Command::Registry { listen, data_dir } => block_on(registry::serve(listen, data_dir)),
        Command::Status {
            admin,
            json,
            page,
            timeout,
        } => block_on(status::status(within(timeout, &admin), json, page.into())),
        Command::Topology(args) => block_on(topology::topology(args)),
        Command::Wait { admin, timeout, gone } => match gone {
            true => block_on(ask::wait_gone(admin.client(), timeout.0)),
            false => block_on(ask::wait(admin.client(), timeout.0)),
        },
        Command::Stop { admin, timeout } => block_on(async { ask::stop(admin.client_to_change()?, timeout.0).await }),
        Command::Reload { admin, timeout } => {
            block_on(async { ask::reload(admin.client_to_change()?, timeout.0).await })
        }
        Command::Withdraw { admin, timeout, gone } => {
            block_on(async { withdraw(admin.client_to_change()?, timeout, gone).await })
        }
        Command::Rollback {
            admin,
            forward,
            wait,
            timeout,
            json,
        } => {
            let wanted = rollback::Wanted {
                forward,
                wait,
                timeout: timeout.map(|limit| limit.0),
                json,
            };
            match block_on(async { rollback::rollback(admin.client_to_change()?, wanted).await }) {
                Ok(status) => return status,
                Err(error) => Err(error),
            }
        }
        Command::Exec {
            run,
            ready_timeout,
            command,
        } => match block_on(exec::exec(run.task(ready_timeout, command))) {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Ends as the serving process does.
fn supervise(pid: u32) -> ExitCode {
    let mut code = ExitCode::FAILURE;
    let supervised = block_on(async {
        code = crate::lifecycle::upgrade::supervise(pid).await?;
        Ok(())
    });
    if let Err(error) = supervised {
        complain(&format!("{error:#}"));
    }
    code
}

/// Prints `text` on standard output. A reader that has seen enough (`remora check | head`) is no failure.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(page::harmless(text).as_bytes())
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Says what is wrong on standard error; nobody may be listening there.
fn complain(text: &str) {
    // There is no third place to say it.
    let _ = writeln!(std::io::stderr().lock(), "remora: {}", page::harmless(text));
}

async fn withdraw(client: Client, timeout: Span, is_gone_wanted: bool) -> anyhow::Result<()> {
    let begin = tokio::time::Instant::now();
    let left = ask::withdraw(client, timeout.0).await?;
    print(&format!(
        "{} withdrawn, {} in flight\n",
        counted(left.withdrawn, "entry", "entries"),
        counted(left.in_flight, "call", "calls")
    ))?;
    if left.left > 0 {
        anyhow::bail!(
            "{} here, their registry is away or did not answer: Remora takes them out when it is back, and without Remora \
             they end with its session; ask again before the application is ended",
            counted(left.left, "entry still leads", "entries still lead")
        );
    }
    if is_gone_wanted {
        ask::wait_gone(client, timeout.0.saturating_sub(begin.elapsed())).await?;
    }
    Ok(())
}

/// Asks until then.
fn within(timeout: Span, admin: &AdminArgs) -> Client {
    let client = admin.client();
    client.until(tokio::time::Instant::now() + timeout.0)
}

/// Runs a command on this thread, the control thread.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

impl AdminArgs {
    fn client(&self) -> Client {
        Client::new(self.addr())
    }

    /// For what changes something: not at an address that is a guess, where another Remora may listen.
    ///
    /// # Errors
    /// When no address is named and the configuration that is named cannot be read.
    fn client_to_change(&self) -> anyhow::Result<Client> {
        if self.admin.is_none() {
            let found = Self::found();
            if found.is_guess {
                anyhow::bail!(
                    "{}; nothing is changed at an address that is a guess",
                    found.warning.unwrap_or_default()
                );
            }
        }
        Ok(self.client())
    }

    fn addr(&self) -> SocketAddr {
        match self.admin {
            Some(addr) => addr.0,
            None => {
                let found = Self::found();
                if let Some(warning) = found.warning {
                    complain(&format!("warning: {warning}"));
                }
                found.addr
            }
        }
    }

    fn found() -> AdminAddress {
        admin_address(|name| std::env::var(name).ok())
    }
}

/// The effective configuration as YAML, secrets hidden.
fn yaml(config: &Config) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(config)?)
}
