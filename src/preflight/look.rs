// SPDX-License-Identifier: Apache-2.0
//! Reads one registry, by its adapter's own survey.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora_sofaregistry::client::Endpoint;
use remora_zookeeper::survey::{self, Options};

use super::PreflightError;
use super::scene::Looked;
use crate::app::{adapter_config, ensemble, sofaregistry_config};
use crate::config::{RegistryEntry, RegistryUrl};

/// Reads it all.
///
/// # Errors
/// When it cannot be looked at.
pub(super) async fn look(entry: &RegistryEntry, deadline: Duration) -> Result<Looked, PreflightError> {
    let begin = Instant::now();
    let shown = shown(entry);
    let entry = shown.as_ref().unwrap_or(entry);
    let url = entry.registry.to_string();
    let nothing = |why: &str| PreflightError::NothingToLookAt {
        name: entry.name.clone(),
        url: url.clone(),
        why: why.to_owned(),
    };
    let survey = match entry.registry.scheme() {
        "zookeeper" => {
            let ensemble = ensemble(entry)?;
            let door = entry.facades.zookeeper.on().map(|door| door.settings());
            let door = door.unwrap_or_default();
            let mut session = adapter_config(&entry.registry).session;
            session.session_timeout = SESSION;
            let options = Options {
                session,
                servers: ensemble.servers().to_vec(),
                service_roots: door.service_roots,
                application_roots: door.application_roots,
                deadline,
            };
            let survey = survey::survey(ensemble as Arc<_>, options).await;
            survey.map_err(|cause| PreflightError::Zookeeper {
                name: entry.name.clone(),
                url: url.clone(),
                cause,
            })?
        }
        "sofaregistry" => {
            let RegistryUrl::Url { hosts, .. } = &entry.registry else {
                return Err(nothing("it names no hosts"));
            };
            let endpoints = Endpoint::parse_list(hosts).ok_or_else(|| nothing("it names no hosts"))?;
            let config = sofaregistry_config(&entry.registry);
            let survey = remora_sofaregistry::survey::survey(endpoints, config, deadline).await;
            survey.map_err(|cause| PreflightError::SofaRegistry {
                name: entry.name.clone(),
                url: url.clone(),
                cause,
            })?
        }
        "embedded" => {
            let why = "the embedded registry lives in its Remora and shows itself at no port; set facades.zookeeper.raw (such as \
                       127.0.0.1:2182) there and in this configuration, or name a `remora registry` as --registry \
                       zookeeper://HOST:PORT";
            return Err(nothing(why));
        }
        "file" => {
            let RegistryUrl::Url { path, .. } = &entry.registry else {
                return Err(nothing("it names no file"));
            };
            let entries = remora_file::FileRegistry::read(Path::new(path)).map_err(PreflightError::File)?;
            let why = format!(
                "{} instances, its operator's own words: nobody publishes in a file, so there is nothing that takeover would \
                 rewrite in it; run remora with it and see what is handed out (remora status)",
                entries.len()
            );
            return Err(nothing(&why));
        }
        _ => return Err(nothing("this version cannot look at such a registry")),
    };
    Ok(Looked {
        name: entry.name.clone(),
        url,
        survey,
        elapsed_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The embedded registry by the port at which its Remora shows it.
fn shown(entry: &RegistryEntry) -> Option<RegistryEntry> {
    if entry.registry.scheme() != "embedded" {
        return None;
    }
    let mut raw = entry.facades.zookeeper.on()?.raw?.0;
    if raw.ip().is_unspecified() {
        raw.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Some(RegistryEntry {
        registry: format!("zookeeper://{raw}").parse().ok()?,
        ..entry.clone()
    })
}

/// Nothing is held by the session, so it may end soon when we do not say so ourselves.
const SESSION: Duration = Duration::from_secs(10);
