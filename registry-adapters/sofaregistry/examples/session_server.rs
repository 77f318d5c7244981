// SPDX-License-Identifier: Apache-2.0
//! The front door alone, over a discovery in memory that shows what is published as it is:
//! `cargo run -p remora-sofaregistry --example session_server -- HTTP_ADDR SESSION_ADDR [sofaregistry HOST:PORT]`. With a
//! SOFARegistry it relays to it what is not SOFARPC's. For clients' test suites. Ends when its standard input does.

#[path = "../tests/support/memory.rs"]
mod memory;

use std::sync::Arc;

use memory::Memory;
use remora_registry::Facade;
use remora_sofaregistry::adapter::{self, SofaRegistry};
use remora_sofaregistry::client::Endpoint;
use remora_sofaregistry::facade::{Config, SofaRegistryFacade};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: session_server HTTP_ADDR SESSION_ADDR [SOFAREGISTRY_HOST:PORT]";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let config = Config {
        listen: args.next().ok_or(USAGE)?.parse()?,
        session: args.next().ok_or(USAGE)?.parse()?,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let relay = match args.next() {
            Some(address) => {
                let endpoints = Endpoint::parse_list(&address).ok_or(USAGE)?;
                Some(SofaRegistry::start(
                    "default",
                    endpoints,
                    adapter::Config::default(),
                    stop.clone(),
                ))
            }
            None => None,
        };
        let facade = SofaRegistryFacade::bind(config, relay, "default")?;
        println!("{}", facade.banner());
        let memory = Arc::new(Memory::default());
        let mut asked = memory.asked();
        let ended = stop.clone();
        tokio::spawn(async move {
            let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
            ended.cancel();
        });
        tokio::spawn(async move {
            let mut told = 0;
            while asked.changed().await.is_ok() {
                let all = asked.borrow_and_update();
                for one in all.get(told..).unwrap_or_default() {
                    println!("{one:?}");
                }
                told = all.len();
            }
        });
        Box::new(facade).serve(memory, stop).await?;
        Ok(())
    })
}
