// SPDX-License-Identifier: Apache-2.0
//! The SOFARPC mesh API: what SOFARPC's `mesh` registry calls.
//!
//! POST `/configs/application`, `/services/{publish,unpublish,subscribe,unsubscribe}` with JSON as `text/plain`; GET
//! `/heartbeat` is ours. Source: `MeshRegistry`, `MeshApiClient` of sofa-rpc 5.6 to 5.14, and captures in
//! `testbed/golden/mesh/`. The client reads a body only at status 200, and never asks twice: what cannot be accepted for
//! good is answered with 200 and `success: false`, everything else is accepted.

mod api;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remora_registry::{FacadeError, Ports};

use self::api::MeshApi;
use crate::config::Settings;
use crate::door::{Door, Traits};
use crate::facade::HttpFacade;

/// Settings of the mesh door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What both doors have.
    pub door: Settings,
    /// How long `/services/subscribe` waits for the first list; SOFARPC gives up after 15 s.
    pub first_list_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // 13330 and 12220 are SOFARPC's own, 12200 is where its bolt server listens unless told otherwise.
            door: Settings::at(13330, 12220, "bolt", 12200),
            first_list_wait: Duration::from_secs(2),
        }
    }
}

/// Binds the door's ports, with the sockets of `ports`. What applications registered is kept as `mesh.json` in `state_dir`.
///
/// # Errors
/// `Bind` with the key that changes the address.
pub fn bind(ports: &Ports, config: Config, state_dir: &Path, registry_name: &str) -> Result<HttpFacade, FacadeError> {
    let first_list_wait = config.first_list_wait;
    Ok(HttpFacade {
        door: Door::bind(TRAITS, ports, config.door, state_dir, registry_name)?,
        words: |addr| {
            format!("mesh {addr}; set the registry protocol mesh and its address http://{addr} in the application")
        },
        api: Box::new(move |desk| Arc::new(MeshApi::new(desk, first_list_wait))),
    })
}

const TRAITS: Traits = Traits {
    name: "mesh",
    listen_setting: "facades.mesh.listen",
    applications_setting: "facades.mesh.applications",
    names_setting: "facades.mesh.host_names",
    stamp: api::STAMP,
    is_egress_shared: false,
};
