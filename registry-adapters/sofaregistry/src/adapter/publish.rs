// SPDX-License-Identifier: Apache-2.0
//! Publications: a registration for each line, until it is withdrawn; and registrations relayed for applications.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remora_naming::sofa::{Service, group_of, line, params};
use remora_registry::{Instance, RegistryError, Target};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::registration::{Keeping, Register, Registration};
use super::subject::Subject;
use crate::client::{ClientError, ClientState};
use crate::wire::PublisherRegister;

pub(super) struct Publications {
    keeping: Keeping,
    /// How long `publish` and `withdraw` wait for an answer.
    patience: Duration,
    by_line: Mutex<HashMap<(Subject, String), Arc<Registration>>>,
    /// Those of a former process, by data id and line: published again under the same id, they are the same to the server.
    former: Mutex<HashMap<(String, String), Standing>>,
}

/// A publication that stands in the registry, for the process that takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Of its subject.
    pub data_id: String,
    /// What is published.
    pub line: String,
    /// Its name at the server.
    pub regist_id: String,
    /// Grows with each change.
    pub version: i64,
}

impl Publications {
    pub(super) fn new(keeping: Keeping, patience: Duration, former: Vec<Standing>) -> Self {
        let by_place = |standing: Standing| ((standing.data_id.clone(), standing.line.clone()), standing);
        Self {
            keeping,
            patience,
            by_line: Mutex::default(),
            former: Mutex::new(former.into_iter().map(by_place).collect()),
        }
    }

    pub(super) fn standing(&self) -> Vec<Standing> {
        let all = self.lock();
        let standing = all.iter().map(|((subject, line), registration)| Standing {
            data_id: subject.data_id.to_string(),
            line: line.clone(),
            regist_id: registration.regist_id().to_string(),
            version: registration.version(),
        });
        standing.collect()
    }

    fn start(&self, subject: &Subject, line: String, register: Register) -> Arc<Registration> {
        let former = {
            let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
            former.remove(&(subject.data_id.to_string(), line))
        };
        Arc::new(match former {
            Some(former) => Registration::start_as(
                &self.keeping,
                register,
                former.regist_id.into(),
                former.version.saturating_add(1),
            ),
            None => Registration::start(&self.keeping, register),
        })
    }

    /// After an error other than `Unsupported` the publication is still wanted, and made as soon as that works.
    pub(super) async fn publish(&self, target: &Target, instance: &Instance) -> Result<(), RegistryError> {
        let (subject, line) = self.place(target, instance)?;
        let registration = {
            let mut all = self.lock();
            let registration = all.entry((subject.clone(), line.clone())).or_insert_with(|| {
                let options = self.keeping.client.options();
                let app_name = params::word(&instance.params, "appName").filter(|name| !name.is_empty());
                let base = subject.registration(&options.zone, app_name.unwrap_or(&options.app_name));
                let data = vec![line.clone()];
                self.start(&subject, line, Register::Publisher(PublisherRegister { base, data }))
            });
            registration.insist();
            Arc::clone(registration)
        };
        self.outcome(&subject, "publish", &registration).await
    }

    pub(super) async fn withdraw(&self, target: &Target, instance: &Instance) -> Result<(), RegistryError> {
        let place = self.place(target, instance)?;
        let Some(registration) = self.lock().remove(&place) else {
            // Not ours to take back.
            return Ok(());
        };
        // It goes on by itself if nobody waits any longer.
        registration.take_back();
        self.outcome(&place.0, "withdraw", &registration).await
    }

    async fn outcome(
        &self,
        subject: &Subject,
        operation: &str,
        registration: &Registration,
    ) -> Result<(), RegistryError> {
        let operation = format!("{operation} {}", subject.data_id);
        let unreachable = |cause: String| RegistryError::Unreachable {
            registry: self.keeping.registry.to_string(),
            cause: format!("{cause}; it is done once the registry can be reached"),
        };
        if let ClientState::Down { cause, .. } = &*self.keeping.client.state().borrow() {
            return Err(unreachable(cause.to_string()));
        }
        match timeout(self.patience, registration.answered()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ (ClientError::Lost { .. } | ClientError::Timeout { .. } | ClientError::Closed))) => {
                Err(unreachable(error.to_string()))
            }
            Ok(Err(error)) => Err(RegistryError::Refused {
                registry: self.keeping.registry.to_string(),
                operation,
                cause: error.to_string(),
            }),
            Err(_) => Err(unreachable(format!(
                "{operation} was not done within {:?}",
                self.patience
            ))),
        }
    }

    /// Subject and line. The service is the target's, or the instance's own where the target is an interface.
    fn place(&self, target: &Target, instance: &Instance) -> Result<(Subject, String), RegistryError> {
        let service = group_of(target).and_then(|group| {
            let of_target = Service::of_target(target);
            of_target.or_else(|| Service::of_instance(instance, group))
        });
        let service = service.ok_or_else(|| RegistryError::Unsupported {
            registry: self.keeping.registry.to_string(),
            operation: "publish anything but a provider of SOFARPC",
        })?;
        Ok((Subject::of_service(&service), line::print(instance)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Subject, String), Arc<Registration>>> {
        self.by_line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A publisher of an application, relayed as it is. Dropping it takes it back.
#[derive(Debug)]
pub struct RelayedPublisher {
    registration: Registration,
}

impl RelayedPublisher {
    pub(super) fn start(keeping: &Keeping, register: &PublisherRegister) -> Self {
        Self {
            registration: Registration::start(keeping, Register::Publisher(register.clone())),
        }
    }

    /// The application published something else under the same registration.
    pub fn update(&self, register: &PublisherRegister) {
        self.registration.replace(Register::Publisher(register.clone()));
    }

    /// Why it does not stand in the registry, if the last attempt failed; it is tried again.
    pub fn last_error(&self) -> Option<String> {
        self.registration.last().err().map(|error| error.to_string())
    }
}
