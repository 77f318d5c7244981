// SPDX-License-Identifier: Apache-2.0
//! `remora preflight`: what takeover would do with a registry, found out without writing to it.
//!
//! ```text
//! look.rs    each registry -> Survey (the adapters' own reading, no write)
//! scene.rs   each list beside what takeover would make of it (discovery::forecast: the very decisions of takeover)
//! checks/    what would break or behave otherwise: findings with codes (codes.rs)
//! rows.rs    applications and services, before -> after
//! report.rs, page.rs   for programs, for people
//! ```
//! Not here: the decisions themselves.

mod checks;
pub mod codes;
mod error;
mod look;
mod machine;
mod only;
mod page;
pub mod report;
mod rows;
mod scene;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use remora_registry::Ports;

use self::codes::Code;
pub use self::error::PreflightError;
pub use self::only::Only;
pub use self::page::{Detail, page};
use self::report::{Findings, Report};
use self::scene::Scene;
use crate::config::Checked;
use crate::discovery::forecast::Forecast;
use crate::discovery::policy::Mode;
use crate::discovery::{Egress, Setup};
use crate::plugins::Plugins;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Ports, registries, what is taken over.
    pub checked: Checked,
    /// Which services.
    pub only: Only,
    /// Time for one registry.
    pub timeout: Duration,
    /// Whether Remora is to run on this host, so that its ports are looked at.
    pub looks_at_host: bool,
    /// Whether providers' addresses are dialled.
    pub knocks: bool,
}

/// Looks at every registry of the configuration.
///
/// # Errors
/// When one cannot be looked at, or a name asked for is not there.
pub async fn preflight(request: &Request, plugins: &Plugins) -> Result<Report, PreflightError> {
    let config = &request.checked.config;
    let mut looked = Vec::new();
    for entry in config.all_registries() {
        looked.push(look::look(&entry, request.timeout).await?);
    }
    let names = looked
        .iter()
        .flat_map(|l| l.survey.lists.iter().map(|list| &**list.snapshot.target.name()));
    let unknown = request.only.unknown(names.clone());
    if !unknown.is_empty() {
        return Err(PreflightError::unknown(unknown, names.count()));
    }
    let setup = Setup {
        advertise: config.advertise,
        data_dir: None,
        protocols: crate::app::protocols(config, plugins),
        own_listeners: Vec::new(),
        config: Arc::new(ArcSwap::from_pointee(config.discovery.clone())),
        mode: config.mode,
        takeover: config.takeover.clone(),
        ports: Ports::default(),
    };
    // The alias that a Remora which ran here before would show next is close enough to this one.
    let egress = Egress::open(&setup.protocols, None);
    let mut forecast = Forecast::new(setup, egress);
    let scene = Scene::new(&looked, &forecast, &request.only, now_ms());
    let mut findings = Findings::default();
    if config.mode == Mode::Observe {
        let seen = "observe: what is told here happens with mode: takeover";
        findings.add(Code::LeftByPolicy, "mode", seen);
    }
    checks::lists(&scene, &forecast, &mut findings);
    checks::consumers(&scene, &forecast, &mut findings);
    checks::rules(&scene, &request.only, &mut findings);
    checks::registries(&scene, &mut findings);
    checks::hosts(&scene, &mut forecast, config, &mut findings).await;
    if request.knocks {
        checks::knock(&scene, &mut forecast, &mut findings).await;
    }
    if request.looks_at_host {
        machine::ports(&request.checked, &mut findings).await;
    }
    let (applications, services) = rows::rows(&scene, &forecast);
    Ok(Report {
        verdict: findings.verdict(),
        registries: looked.iter().map(rows::registry).collect(),
        applications,
        services,
        findings: findings.into_rows(),
    })
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
