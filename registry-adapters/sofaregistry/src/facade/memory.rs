// SPDX-License-Identifier: Apache-2.0
//! What applications publish, remembered over a restart of Remora.
//!
//! A client whose session server is away for a second comes back after 5 to 10 s (`ClientConnection.RECONNECTING_DELAY`),
//! with thousands of registrations later still. A SOFARegistry behind has dropped what Remora published by then. So what
//! stood is published again at the start, if its port answers, and stays until the client is back or had time enough.
//! The file has a checksum; a damaged one is set aside, and the one before it is used.
//! Not here: subscribers, whose clients go on with the lists that they have; what is relayed as it is.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remora_naming::sofa::line;
use remora_registry::peers::is_this_machine;
use remora_registry::{Discovery, sealed};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::applications::Applications;
use super::session::{Session, Verdict};
use super::subject;
use crate::wire::{PublisherRegister, Registration};

/// The file.
pub(super) struct Memory {
    path: PathBuf,
    /// What was written, and when.
    revision: u64,
    written: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    /// When it was true, in milliseconds since the epoch.
    at_ms: u64,
    publishers: Vec<Publisher>,
}

#[derive(Serialize, Deserialize)]
struct Publisher {
    /// The user who registered it.
    owner: Option<u32>,
    application: Option<String>,
    data_id: String,
    group: String,
    regist_id: String,
    version: i64,
    data: Vec<String>,
}

impl Memory {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("sofaregistry.json"),
            revision: 0,
            written: None,
            writing: None,
        }
    }

    /// What is remembered, unless it is too old to be believed.
    pub(super) fn read(&self) -> Vec<(Option<u32>, PublisherRegister)> {
        let text = sealed::read(&self.path, super::NAME, |error| {
            warn!(registry = "sofaregistry", reason = error.reason(), %error, "former publications cannot be read; their clients will be back in some seconds");
        });
        let Some(text) = text else {
            return Vec::new();
        };
        let content: Content = match serde_json::from_slice(&text) {
            Ok(content) => content,
            Err(e) => {
                sealed::set_aside(&self.path);
                warn!(registry = "sofaregistry", reason = "damaged", cause = %e, "former publications make no sense; their clients will be back in some seconds");
                return Vec::new();
            }
        };
        if now_ms().saturating_sub(content.at_ms) > MAX_AGE_MS {
            return Vec::new();
        }
        content.publishers.into_iter().map(Publisher::register).collect()
    }

    /// Writes what changed, in the background; what did not is written now and then, to be believed later.
    pub(super) fn keep(&mut self, applications: &Applications) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let revision = applications.revision();
        let is_stale = self.written.is_none_or(|at| at.elapsed() > FRESHEN_EVERY);
        if revision != self.revision || (is_stale && revision > 0) {
            self.writing = Some(self.write(applications, revision));
        }
    }

    /// Writes what the applications published until now.
    pub(super) async fn keep_last(&mut self, applications: &Applications) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        let revision = applications.revision();
        if revision > 0 {
            let _ = self.write(applications, revision).await;
        }
    }

    fn write(&mut self, applications: &Applications, revision: u64) -> JoinHandle<()> {
        self.revision = revision;
        self.written = Some(Instant::now());
        let publishers = applications.publishers();
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            let content = Content {
                at_ms: now_ms(),
                publishers: publishers.into_iter().map(Publisher::of).collect(),
            };
            let text = match serde_json::to_vec(&content) {
                Ok(text) => text,
                Err(e) => return warn!(registry = "sofaregistry", cause = %e, "publications cannot be remembered"),
            };
            if let Err(error) = sealed::write(&path, super::NAME, &text) {
                warn!(registry = "sofaregistry", reason = error.reason(), %error, "publications cannot be remembered");
            }
        })
    }
}

/// Publishes again what is remembered and answers, in the place of clients that are not back yet.
pub(super) async fn bring_back(
    remembered: Vec<(Option<u32>, PublisherRegister)>,
    shared: Arc<Shared>,
    discovery: Arc<dyn Discovery>,
    drain: CancellationToken,
) {
    let back = async {
        let mut answers: HashMap<(String, u16), bool> = HashMap::new();
        // One session each, as each had one: their leases have names.
        let mut sessions: BTreeMap<(Option<u32>, Option<String>), Session> = BTreeMap::new();
        for (owner, register) in remembered {
            if !is_there(&register, &mut answers).await {
                debug!(
                    registry = "sofaregistry",
                    data_id = register.base.data_id,
                    "not published again, its port is closed"
                );
                continue;
            }
            if shared.applications.knows(&register.base.regist_id) {
                continue;
            }
            let session = sessions
                .entry((owner, register.base.app_name.clone()))
                .or_insert_with(|| {
                    Session::of_former_run(Arc::clone(&shared), Arc::clone(&discovery), PATIENCE, owner)
                });
            match session.publisher(&register) {
                Verdict::Taken => info!(
                    registry = "sofaregistry",
                    data_id = register.base.data_id,
                    "published again, its client is expected back"
                ),
                verdict => debug!(
                    registry = "sofaregistry",
                    data_id = register.base.data_id,
                    ?verdict,
                    "not published again"
                ),
            }
        }
    };
    drain.run_until_cancelled(back).await;
}

/// Whether each provider's port accepts connections at loopback, or at the address of this machine that it published.
async fn is_there(register: &PublisherRegister, answers: &mut HashMap<(String, u16), bool>) -> bool {
    let Some(service) = subject::service(&register.base) else {
        return false;
    };
    for line in &register.data {
        let Ok(instance) = line::parse(line, &service) else {
            continue;
        };
        let address = (instance.host.to_string(), instance.port);
        let is_open = match answers.get(&address) {
            Some(known) => *known,
            None => {
                let is_open = accepts(Ipv4Addr::LOCALHOST.into(), address.1).await
                    || match address.0.parse() {
                        Ok(ip) if is_this_machine(ip) => accepts(ip, address.1).await,
                        _ => false,
                    };
                answers.insert(address, is_open);
                is_open
            }
        };
        if !is_open {
            return false;
        }
    }
    true
}

async fn accepts(ip: IpAddr, port: u16) -> bool {
    let connected = timeout(PROBE_TIMEOUT, TcpStream::connect((ip, port))).await;
    matches!(connected, Ok(Ok(_)))
}

impl Publisher {
    fn of((owner, register): (Option<u32>, PublisherRegister)) -> Self {
        Self {
            owner,
            application: register.base.app_name,
            data_id: register.base.data_id,
            group: register.base.group,
            regist_id: register.base.regist_id,
            version: register.base.version,
            data: register.data,
        }
    }

    fn register(self) -> (Option<u32>, PublisherRegister) {
        let register = PublisherRegister {
            base: Registration {
                app_name: self.application,
                data_id: self.data_id,
                group: self.group,
                regist_id: self.regist_id,
                version: self.version,
                ..Registration::default()
            },
            data: self.data,
        };
        (self.owner, register)
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A client sleeps 5 s between rounds and up to 5 s within one.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so long another application may have the port.
const MAX_AGE_MS: u64 = 10 * 60 * 1_000;
const FRESHEN_EVERY: Duration = Duration::from_secs(60);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
