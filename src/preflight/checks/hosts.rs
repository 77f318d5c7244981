// SPDX-License-Identifier: Apache-2.0
//! Addresses: what would be dialled, ports that an application and a Remora beside it both want, who does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use remora_registry::Instance;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::codes::Code;
use super::super::machine;
use super::super::report::Findings;
use super::super::scene::{Scene, address_of, application_of};
use super::few;
use crate::config::Config;
use crate::discovery::forecast::{Forecast, is_enabled, is_nowhere};

pub(in super::super) async fn check(
    scene: &Scene<'_>,
    forecast: &mut Forecast,
    config: &Config,
    findings: &mut Findings,
) {
    let of_names = scene.providers().map(|(_, _, instance)| &instance.host);
    let names: BTreeSet<Arc<str>> = of_names
        .filter(|host| host.parse::<std::net::IpAddr>().is_err())
        .cloned()
        .collect();
    forecast.resolve(names, LOOKUP).await;
    for (listed, _, instance) in scene.providers() {
        if !forecast.speaks(&instance.protocol) || !is_enabled(&instance.params) {
            continue;
        }
        let subject = listed.subject(instance);
        let of = format!("{} of {}", address_of(instance), application_of(instance));
        match forecast.dial(&instance.host, instance.port) {
            Ok(_) => {}
            Err(_) if is_nowhere(&instance.host) => findings.add(Code::LoopbackPublished, &subject, &of),
            Err("unresolved") => {
                let why = forecast.failure(&instance.host).unwrap_or("not looked up").to_owned();
                findings.add(Code::NameUnknown, &*instance.host, format!("{why}; {subject}"));
            }
            Err(why) => findings.add(
                Code::AddressRefused,
                &subject,
                format!("{of}: {}", why.replace('_', " ")),
            ),
        }
    }
    own_ports(scene, config, findings);
    ranges(scene, forecast, findings);
}

/// Applications that listen where a Remora of this configuration would listen on their host.
fn own_ports(scene: &Scene<'_>, config: &Config, findings: &mut Findings) {
    let ours: BTreeMap<u16, String> = machine::wanted(config)
        .into_iter()
        .map(|(key, addr)| (addr.port(), key))
        .collect();
    for (listed, at, instance) in scene.providers() {
        // The port of a published one is a Remora's.
        let Some(Ok(published)) = listed.outward.get(at) else {
            continue;
        };
        if let Some(key) = ours.get(&published.app_port) {
            let seen = format!(
                "{} listens on {}, which is {key}",
                application_of(instance),
                published.app_port
            );
            findings.add(Code::AppOnOurPort, &*instance.host, seen);
        }
    }
}

fn ranges(scene: &Scene<'_>, forecast: &Forecast, findings: &mut Findings) {
    for ((host, protocol), ports) in scene.app_ports() {
        let settings = forecast.setup().protocols.iter().find(|p| p.name == protocol);
        let Some(range) = settings.map(|p| p.ingress_range) else {
            continue;
        };
        let room = usize::from(range.last - range.first) + 2;
        if ports.len() > room {
            let seen = format!(
                "{} applications with {protocol}, room for {room} (protocols.{protocol}.ingress_range {range})",
                ports.len()
            );
            findings.add(Code::RangeTooSmall, host, seen);
        }
    }
}

/// Connects to every address that would be dialled, and says which do not answer.
pub(in super::super) async fn knock(scene: &Scene<'_>, forecast: &mut Forecast, findings: &mut Findings) {
    let mut doors: BTreeMap<SocketAddr, BTreeSet<String>> = BTreeMap::new();
    for (listed, _, instance) in scene.providers() {
        let is_called = |i: &Instance| is_enabled(&i.params) && i.port != 0;
        if is_called(instance)
            && let Ok(addr) = forecast.dial(&instance.host, instance.port)
        {
            doors.entry(addr).or_default().insert(listed.subject(instance));
        }
    }
    let mut running = JoinSet::new();
    let mut left = doors.keys().copied().collect::<Vec<_>>().into_iter();
    loop {
        while running.len() < KNOCKS {
            let Some(addr) = left.next() else { break };
            running.spawn(async move {
                let answer = match timeout(ANSWER, TcpStream::connect(addr)).await {
                    Ok(Ok(_)) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some(format!("no answer within {ANSWER:?}")),
                };
                (addr, answer)
            });
        }
        let Some(done) = running.join_next().await else { break };
        if let Ok((addr, Some(why))) = done {
            let subjects = doors.get(&addr).map(few).unwrap_or_default();
            findings.add(Code::NobodyThere, addr.to_string(), format!("{why}; {subjects}"));
        }
    }
}

const LOOKUP: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(1);
/// Addresses knocked at, at a time.
const KNOCKS: usize = 128;
