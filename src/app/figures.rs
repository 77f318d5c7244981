// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: what is read off the process, readiness and facades at each scrape.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as MetricsRegistry;
use remora_zookeeper::facade::Stats;

use super::registries::OpenRegistry;
use crate::lifecycle::Readiness;
use crate::metrics::names;
use crate::metrics::process;
use crate::metrics::scraped::{Figure, Scraped};

/// Adds the figures that have no counter of their own.
pub(super) fn register(metrics: &mut MetricsRegistry, readiness: &Readiness, registries: &[OpenRegistry]) {
    let readiness = readiness.clone();
    let started = SystemTime::now();
    let doors: Vec<(String, Arc<Stats>)> = registries
        .iter()
        .filter_map(|registry| Some((registry.name.clone(), Arc::clone(registry.stats.as_ref()?))))
        .collect();
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

fn facades(doors: &[(String, Arc<Stats>)]) -> Vec<Figure> {
    type Read = fn(&Stats) -> u64;
    let values = |parts: &[(Option<(&'static str, &'static str)>, Read)]| {
        let mut values = Vec::new();
        for (registry, stats) in doors {
            for (label, read) in parts {
                let mut labels = vec![("registry", registry.clone())];
                labels.extend(label.map(|(name, value)| (name, value.to_owned())));
                values.push((labels, read(stats) as f64));
            }
        }
        values
    };
    let gauge = |name, help, read: Read| Figure {
        values: values(&[(None, read)]),
        ..Figure::gauge(name, help, 0.0)
    };
    let counter = |name, help, parts: &[(Option<(&'static str, &'static str)>, Read)]| Figure {
        values: values(parts),
        ..Figure::counter(name, help, 0.0)
    };
    vec![
        gauge(names::FACADE_CONNECTIONS, "Connections of applications open now", |s| {
            s.connections.load(Ordering::Relaxed)
        }),
        gauge(names::FACADE_SESSIONS, "Sessions of applications known now", |s| {
            s.sessions.load(Ordering::Relaxed)
        }),
        counter(
            names::FACADE_REQUESTS,
            "Requests by how they were served",
            &[
                (Some(("way", "relayed")), |s| s.relayed.load(Ordering::Relaxed)),
                (Some(("way", "owned")), |s| s.owned.load(Ordering::Relaxed)),
                (Some(("way", "local")), |s| s.local.load(Ordering::Relaxed)),
            ],
        ),
        counter(
            names::FACADE_EVENTS,
            "Watch events made by the facade",
            &[(None, |s| s.events.load(Ordering::Relaxed))],
        ),
        counter(
            names::FACADE_CLOSED,
            "Connections closed by the facade",
            &[
                (Some(("reason", "malformed")), |s| s.malformed.load(Ordering::Relaxed)),
                (Some(("reason", "refused")), |s| s.refused.load(Ordering::Relaxed)),
                (Some(("reason", "slow_reader")), |s| {
                    s.slow_readers.load(Ordering::Relaxed)
                }),
            ],
        ),
        counter(
            names::FACADE_UPSTREAM_FAILURES,
            "Times the real registry could not be reached or was lost for an application",
            &[(None, |s| s.upstream_failures.load(Ordering::Relaxed))],
        ),
    ]
}
