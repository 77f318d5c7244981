// SPDX-License-Identifier: Apache-2.0
//! This host: the ports that a Remora of this configuration would listen on. Each is bound for a moment and let go; nothing
//! is accepted there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use hyper::Method;

use super::codes::Code;
use super::report::Findings;
use crate::admin;
use crate::config::{Checked, Config};

/// Every address of the configuration that is listened on, with its key.
pub(super) fn wanted(config: &Config) -> Vec<(String, SocketAddr)> {
    let mut wanted = vec![("admin.listen".to_owned(), config.admin.listen.0)];
    let entries = config.all_registries();
    for (at, entry) in entries.iter().enumerate() {
        let key = match config.registries.is_empty() {
            true => "facades".to_owned(),
            false => format!("registries[{at}].facades"),
        };
        let facades = &entry.facades;
        if let Some(door) = facades.zookeeper.on() {
            wanted.push((format!("{key}.zookeeper.listen"), door.listen.0));
            wanted.extend(door.raw.map(|raw| (format!("{key}.zookeeper.raw"), raw.0)));
        }
        let mesh = facades.mesh.on().map(|door| door.addresses()).unwrap_or_default();
        wanted.extend(mesh.into_iter().map(|addr| (format!("{key}.mesh.listen"), addr)));
        let dubbod = facades.dubbod.on().map(|door| door.addresses()).unwrap_or_default();
        wanted.extend(dubbod.into_iter().map(|addr| (format!("{key}.dubbod.listen"), addr)));
        if let Some(door) = facades.sofaregistry.on() {
            wanted.push((format!("{key}.sofaregistry.listen"), door.listen.0));
            wanted.push((format!("{key}.sofaregistry.session"), door.session.0));
        }
    }
    for (name, ports) in &config.protocols.0 {
        if let Some(ports) = ports.on() {
            wanted.push((format!("protocols.{name}.egress"), ports.egress.0));
            wanted.push((format!("protocols.{name}.ingress"), ports.ingress.0));
        }
    }
    wanted
}

/// Looks whether they can be had.
pub(super) async fn ports(checked: &Checked, findings: &mut Findings) {
    let admin = checked.config.admin.listen.0;
    if is_remora(admin).await {
        findings.add(Code::RemoraRuns, "this host", format!("its admin port is {admin}"));
        return;
    }
    for (key, addr) in wanted(&checked.config) {
        let Err(error) = TcpListener::bind(addr) else { continue };
        let is_of = |door: &&&str| key.strip_prefix(**door).is_some_and(|rest| rest.starts_with('.'));
        let code = match checked.optional.iter().find(is_of) {
            Some(_) => Code::OptionalPort,
            None => Code::PortTaken,
        };
        let why = match error.kind() {
            ErrorKind::AddrInUse => "something listens there".to_owned(),
            _ => error.to_string(),
        };
        findings.add(code, key, format!("{addr}: {why}"));
    }
}

/// Whether a Remora answers at an admin address.
async fn is_remora(admin: SocketAddr) -> bool {
    let answer = admin::Client::new(admin)
        .ask_within(ANSWER, Method::GET, "/metrics")
        .await;
    answer.is_ok_and(|answer| answer.body.windows(7).any(|w| w == b"remora_"))
}

const ANSWER: Duration = Duration::from_secs(1);
