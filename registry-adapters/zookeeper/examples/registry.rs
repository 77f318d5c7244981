// SPDX-License-Identifier: Apache-2.0
//! The embedded registry alone: `cargo run -p remora-zookeeper --example registry -- ADDR [DIR]`. Without a directory
//! it forgets everything at its end. Ends when its standard input does.

use std::path::Path;

use remora_zookeeper::embedded::{Options, Server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().ok_or("usage: registry ADDR [DIR]")?;
    let server = match args.next() {
        Some(dir) => Server::open(Path::new(&dir), Options::default())?,
        None => Server::in_memory(Options::default()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&listen).await?;
        println!("listening on {}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let ended = stop.clone();
        tokio::spawn(async move {
            let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
            ended.cancel();
        });
        server.serve(listener, stop).await;
        server.close().await;
        Ok(())
    })
}
