// SPDX-License-Identifier: Apache-2.0
//! MOSN's dubbod API, for Dubbo applications with an SDK of MOSN, and the variant of it with a heartbeat.
//!
//! POST `/pub /unpub /sub /unsub`, GET `/heartbeat`. Source: MOSN's `servicediscovery/dubbod`, and `httpregistry/dubbod` of
//! its fork symcn/mosn. Every answer to a well-formed request has status 200; the outcome is in the body.

mod api;

use std::path::Path;
use std::sync::Arc;

use remora_registry::{FacadeError, Ports};

use self::api::DubbodApi;
use crate::config::Settings;
use crate::door::{Door, Traits};
use crate::facade::HttpFacade;

/// Settings of the dubbod door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What both doors have.
    pub door: Settings,
    /// Where Dubbo's services are kept in the registry.
    pub namespace: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // 22222 is MOSN's own, 20880 is where Dubbo listens unless told otherwise.
            door: Settings::at(22222, 20882, "dubbo", 20880),
            namespace: "/dubbo".to_owned(),
        }
    }
}

/// Binds the door's ports, with the sockets of `ports`. What applications registered is kept as `dubbod.json` in `state_dir`.
///
/// # Errors
/// `Bind` with the key that changes the address.
pub fn bind(ports: &Ports, config: Config, state_dir: &Path, registry_name: &str) -> Result<HttpFacade, FacadeError> {
    let namespace = config.namespace;
    Ok(HttpFacade {
        door: Door::bind(TRAITS, ports, config.door, state_dir, registry_name)?,
        words: |addr| format!("dubbod {addr}; let the application's MOSN SDK call http://{addr}/pub and /sub"),
        api: Box::new(move |desk| Arc::new(DubbodApi::new(desk, &namespace))),
    })
}

const TRAITS: Traits = Traits {
    name: "dubbod",
    listen_setting: "facades.dubbod.listen",
    applications_setting: "facades.dubbod.applications",
    names_setting: "facades.dubbod.host_names",
    stamp: api::STAMP,
    is_egress_shared: true,
};
