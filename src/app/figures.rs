// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: what is read off the process, readiness and facades at each scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as MetricsRegistry;

use super::doors::DoorStats;
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

/// A door: the labels that all its figures have, and what it counts.
struct Counted {
    registry: String,
    facade: &'static str,
    stats: DoorStats,
}

/// Values of one figure: label sets of their own, and values.
type Values = Vec<(Vec<(&'static str, &'static str)>, u64)>;

fn facades(doors: &[Counted]) -> Vec<Figure> {
    let values = |of: &dyn Fn(&DoorStats) -> Values| {
        let mut all = Vec::new();
        for door in doors {
            for (own, value) in of(&door.stats) {
                let mut labels = vec![("registry", door.registry.clone()), ("facade", door.facade.to_owned())];
                labels.extend(own.into_iter().map(|(name, value)| (name, value.to_owned())));
                all.push((labels, value as f64));
            }
        }
        all
    };
    let gauge = |name, help, of: &dyn Fn(&DoorStats) -> Values| Figure {
        values: values(of),
        ..Figure::gauge(name, help, 0.0)
    };
    let counter = |name, help, of: &dyn Fn(&DoorStats) -> Values| Figure {
        values: values(of),
        ..Figure::counter(name, help, 0.0)
    };
    vec![
        gauge(
            names::FACADE_CONNECTIONS,
            "Connections of applications open now",
            &|s| {
                plain(match s {
                    DoorStats::ZooKeeper(s) => &s.connections,
                    DoorStats::Http(s) => &s.connections,
                })
            },
        ),
        gauge(
            names::FACADE_SESSIONS,
            "Sessions of applications known now",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.sessions),
                DoorStats::Http(_) => Vec::new(),
            },
        ),
        counter(
            names::FACADE_REQUESTS,
            "Requests by how they were served",
            &|s| match s {
                DoorStats::ZooKeeper(s) => labelled(
                    "way",
                    [("relayed", &s.relayed), ("owned", &s.owned), ("local", &s.local)],
                ),
                DoorStats::Http(s) => labelled(
                    "way",
                    [
                        ("publish", &s.publishes),
                        ("unpublish", &s.unpublishes),
                        ("subscribe", &s.subscribes),
                        ("unsubscribe", &s.unsubscribes),
                        ("heartbeat", &s.heartbeats),
                    ],
                ),
            },
        ),
        counter(names::FACADE_EVENTS, "Watch events made by the facade", &|s| match s {
            DoorStats::ZooKeeper(s) => plain(&s.events),
            DoorStats::Http(_) => Vec::new(),
        }),
        counter(names::FACADE_CLOSED, "Connections closed by the facade", &|s| match s {
            DoorStats::ZooKeeper(s) => labelled(
                "reason",
                [
                    ("malformed", &s.malformed),
                    ("refused", &s.refused),
                    ("slow_reader", &s.slow_readers),
                ],
            ),
            DoorStats::Http(_) => Vec::new(),
        }),
        counter(
            names::FACADE_UPSTREAM_FAILURES,
            "Times the real registry could not be reached or was lost for an application",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.upstream_failures),
                DoorStats::Http(_) => Vec::new(),
            },
        ),
        counter(names::FACADE_REFUSED, "Requests that were refused", &|s| match s {
            DoorStats::ZooKeeper(_) => Vec::new(),
            DoorStats::Http(s) => s.refused().map(|(reason, n)| (vec![("reason", reason)], n)).collect(),
        }),
        gauge(
            names::FACADE_REGISTRATIONS,
            "Registrations of applications kept now",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => s
                    .registrations()
                    .map(|(state, n)| (vec![("state", state)], n))
                    .collect(),
            },
        ),
        gauge(
            names::FACADE_FOLLOWS,
            "Services that applications follow now",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => plain(&s.follows),
            },
        ),
        counter(
            names::FACADE_LOST,
            "Registrations that the facade ended by itself",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => labelled(
                    "reason",
                    [("port_closed", &s.withdrawn), ("lease_expired", &s.leases_expired)],
                ),
            },
        ),
        counter(
            names::FACADE_PROBES_FAILED,
            "Looks that found an application's port closed",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => plain(&s.probes_failed),
            },
        ),
        counter(
            names::FACADE_STORE_FAILURES,
            "Registrations that could not be written to disk",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => plain(&s.store_failures),
            },
        ),
    ]
}

fn plain(count: &AtomicU64) -> Values {
    vec![(Vec::new(), count.load(Ordering::Relaxed))]
}

fn labelled<const N: usize>(name: &'static str, counts: [(&'static str, &AtomicU64); N]) -> Values {
    let values = counts.map(|(value, count)| (vec![(name, value)], count.load(Ordering::Relaxed)));
    values.into()
}
