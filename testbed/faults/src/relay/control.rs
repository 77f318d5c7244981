// SPDX-License-Identifier: Apache-2.0
//! How a relay is steered: lines over TCP, each answered with a line of JSON.
//!
//! ```text
//! ROUTE hold [up|down]         bytes stay where they are, connections too; one direction or both
//! ROUTE swallow [up|down]      bytes are read and lost
//! ROUTE delay MS [up|down]     each byte arrives later
//! ROUTE rate BYTES [up|down]   bytes a second
//! ROUTE reset                  all connections are reset (RST); new ones are taken
//! ROUTE close                  all connections are closed (FIN)
//! ROUTE end up|down            one direction of all connections is closed (half a close)
//! ROUTE cut BYTES              reset after so many more bytes of either direction, the last of them still delivered
//! ROUTE refuse                 new connections are closed at once; those that are open stay
//! ROUTE heal                   no rule any more; connections that lost bytes to `swallow` are reset
//! ROUTE stats                  figures
//! ```
//! `*` in place of a route means all.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::route::{Direction, Route, RouteSpec, Rules};

/// Opens the routes and obeys; says `ready` on standard output. Ends with the process. Inside a `LocalSet`.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(control: SocketAddr, specs: &[RouteSpec]) -> anyhow::Result<()> {
    let listener = TcpListener::bind(control)
        .await
        .with_context(|| format!("cannot listen on {control}"))?;
    println!(
        "{}",
        json!({"event": "ready", "control": listener.local_addr()?.to_string()})
    );
    serve_at(listener, specs).await
}

/// As [`serve`], with a listener that is there.
///
/// # Errors
/// When a route cannot listen.
pub async fn serve_at(listener: TcpListener, specs: &[RouteSpec]) -> anyhow::Result<()> {
    let routes: Rc<Vec<Route>> = Rc::new(specs.iter().map(Route::open).collect::<Result<_, _>>()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let routes = routes.clone();
        tokio::task::spawn_local(async move {
            // The end of a connection is no matter.
            let _ = obey(stream, &routes).await;
        });
    }
}

async fn obey(stream: TcpStream, routes: &[Route]) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match told(&line, routes) {
            Ok(answer) => json!({"ok": true, "routes": answer}),
            Err(error) => json!({"ok": false, "error": format!("{error:#}")}),
        };
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

fn told(line: &str, routes: &[Route]) -> anyhow::Result<Vec<Value>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, verb, rest) = match words.as_slice() {
        [name, verb, rest @ ..] => (*name, *verb, rest),
        _ => bail!("a route and a word"),
    };
    let meant: Vec<&Route> = routes
        .iter()
        .filter(|route| name == "*" || route.name == name)
        .collect();
    ensure!(!meant.is_empty(), "no route {name}");
    for route in &meant {
        obey_word(route, verb, rest)?;
    }
    Ok(meant.iter().map(|route| route.json()).collect())
}

fn obey_word(route: &Route, verb: &str, rest: &[&str]) -> anyhow::Result<()> {
    let number = || -> anyhow::Result<u64> { Ok(rest.first().context("how many?")?.parse()?) };
    match verb {
        "hold" => both(route, rest.first(), |way| way.is_held = true)?,
        "swallow" => both(route, rest.first(), |way| way.is_swallowed = true)?,
        "delay" => {
            let delay = Duration::from_millis(number()?);
            both(route, rest.get(1), |way| way.delay = delay)?;
        }
        "rate" => {
            let rate = number()?;
            both(route, rest.get(1), |way| way.rate = Some(rate))?;
        }
        "reset" => route.change(|rules| rules.resets += 1),
        "close" => route.change(|rules| rules.closes += 1),
        "end" => match rest {
            ["up"] => route.change(|rules| rules.ends_up += 1),
            ["down"] => route.change(|rules| rules.ends_down += 1),
            _ => bail!("up or down?"),
        },
        "cut" => route
            .figures
            .cut_after
            .store(i64::try_from(number()?)?, Ordering::Relaxed),
        "refuse" => route.change(|rules| rules.is_refusing = true),
        "heal" => route.heal(),
        "stats" => {}
        other => bail!("unknown word {other}"),
    }
    Ok(())
}

fn both(route: &Route, way: Option<&&str>, change: impl Fn(&mut Direction)) -> anyhow::Result<()> {
    let (up, down) = match way.copied() {
        None | Some("both") => (true, true),
        Some("up") => (true, false),
        Some("down") => (false, true),
        Some(other) => bail!("{other} is neither up nor down"),
    };
    route.change(|rules: &mut Rules| {
        if up {
            change(&mut rules.up);
        }
        if down {
            change(&mut rules.down);
        }
    });
    Ok(())
}
