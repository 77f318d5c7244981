// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: what is read off the process, readiness and facades at each scrape.

use std::time::SystemTime;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as MetricsRegistry;

use super::door_figures::{Counted, facades};
use super::registries::OpenRegistry;
use crate::lifecycle::Readiness;
use crate::metrics::names;
use crate::metrics::process;
use crate::metrics::scraped::{Figure, Scraped};

/// Adds the figures that have no counter of their own.
pub(super) fn register(metrics: &mut MetricsRegistry, readiness: &Readiness, registries: &[OpenRegistry]) {
    let readiness = readiness.clone();
    let started = SystemTime::now();
    let counted = registries.iter().flat_map(|registry| {
        registry.doors.iter().map(|door| Counted {
            registry: registry.name.clone(),
            facade: door.name,
            stats: door.stats.clone(),
        })
    });
    let doors: Vec<Counted> = counted.collect();
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
        figures.extend(facades(&doors));
        figures
    })));
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
