// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: what is read off the process, readiness and facades at each scrape.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as MetricsRegistry;

use super::door_figures::{Counted, facades};
use super::house::OpenDoors;
use super::registries::OpenRegistry;
use super::reload::Reloader;
use crate::admin::ReloadOutcome;
use crate::lifecycle::Readiness;
use crate::metrics::names;
use crate::metrics::process;
use crate::metrics::scraped::{Figure, Scraped};

/// Adds the figures that have no counter of their own.
pub(super) fn register(
    metrics: &mut MetricsRegistry,
    readiness: &Readiness,
    registries: &[OpenRegistry],
    reloader: Arc<Reloader>,
) {
    let readiness = readiness.clone();
    let started = SystemTime::now();
    let doors: Vec<(String, OpenDoors)> = registries.iter().map(|r| (r.name.clone(), r.doors.clone())).collect();
    metrics.register_collector(Box::new(Scraped(move || {
        let mut figures = vec![
            Figure {
                values: vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
                ..Figure::gauge(names::BUILD_INFO, "Version of Remora, always 1", 1.0)
            },
            Figure::gauge(
                names::READY,
                "1 while new work may be sent here",
                f64::from(u8::from(readiness.report().ready)),
            ),
        ];
        figures.extend(process::figures(started));
        let counted = doors.iter().flat_map(|(registry, doors)| {
            doors.list().into_iter().map(|door| Counted {
                registry: registry.clone(),
                facade: door.name,
                stats: door.stats,
            })
        });
        figures.extend(facades(&counted.collect::<Vec<_>>()));
        figures.extend(reloads(&reloader));
        figures
    })));
}

fn reloads(reloader: &Reloader) -> Vec<Figure> {
    let state = reloader.state();
    let counts = state
        .counts
        .iter()
        .map(|(outcome, n)| (vec![("outcome", outcome.label().to_owned())], *n as f64));
    let (waiting, is_valid) = state.last.as_ref().map_or((0, true), |last| {
        (last.restart.len(), last.outcome != ReloadOutcome::Refused)
    });
    vec![
        Figure {
            values: counts.collect(),
            ..Figure::counter(names::RELOADS, "Reloads of the configuration", 0.0)
        },
        Figure::gauge(
            names::CONFIG_VALID,
            "1 unless the configuration was refused when it was last read",
            f64::from(u8::from(is_valid)),
        ),
        Figure::gauge(
            names::CONFIG_WAITING,
            "Keys of the configuration whose new values wait for a restart",
            waiting as f64,
        ),
    ]
}

/// The page, made anew at each scrape.
pub(super) fn page(metrics: MetricsRegistry) -> Box<dyn Fn() -> String + Send + Sync> {
    Box::new(move || {
        let mut page = String::new();
        match encode(&mut page, &metrics) {
            Ok(()) => page,
            Err(error) => format!("# {error}\n# EOF\n"),
        }
    })
}
