// SPDX-License-Identifier: Apache-2.0
//! What doors count, as figures: one name for what several kinds of doors count, told apart by label `facade`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::doors::DoorStats;
use crate::metrics::names;
use crate::metrics::scraped::Figure;

/// A door: the labels that all its figures have, and what it counts.
pub(super) struct Counted {
    pub(super) registry: String,
    pub(super) facade: &'static str,
    pub(super) stats: DoorStats,
}

/// Values of one figure: label sets of their own, and values.
type Values = Vec<(Vec<(&'static str, &'static str)>, u64)>;

/// The figures of all doors.
pub(super) fn facades(doors: &[Counted]) -> Vec<Figure> {
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
            &connections,
        ),
        gauge(
            names::FACADE_SESSIONS,
            "Sessions of applications known now",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.sessions),
                _ => Vec::new(),
            },
        ),
        gauge(
            names::FACADE_STAND_INS,
            "Connections of applications that started while the registry was away",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.stand_ins),
                _ => Vec::new(),
            },
        ),
        gauge(
            names::FACADE_COPIES,
            "Nodes of which a last known copy is kept for an outage",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.copies),
                _ => Vec::new(),
            },
        ),
        counter(
            names::FACADE_COPIES_SHOWN,
            "Times a last known copy of a node was shown to an application",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.copies_shown),
                _ => Vec::new(),
            },
        ),
        gauge(
            names::FACADE_OWED,
            "Nodes written while the registry was away that it is not told of yet",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.owed),
                _ => Vec::new(),
            },
        ),
        counter(
            names::FACADE_RESTORED,
            "Published nodes that were gone and were made again",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.restored),
                _ => Vec::new(),
            },
        ),
        counter(names::FACADE_REQUESTS, "Requests by how they were served", &requests),
        counter(
            names::FACADE_EVENTS,
            "Watch events and pushes made by the facade",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.events),
                DoorStats::Http(_) => Vec::new(),
                DoorStats::SofaRegistry(s) => plain(&s.pushes),
            },
        ),
        counter(
            names::FACADE_PUSH_FAILURES,
            "Pushes that were not taken in time, and made again",
            &|s| match s {
                DoorStats::SofaRegistry(s) => plain(&s.push_failures),
                _ => Vec::new(),
            },
        ),
        counter(names::FACADE_CLOSED, "Connections closed by the facade", &closed),
        counter(
            names::FACADE_UPSTREAM_FAILURES,
            "Times the real registry could not be reached or was lost for an application",
            &|s| match s {
                DoorStats::ZooKeeper(s) => plain(&s.upstream_failures),
                _ => Vec::new(),
            },
        ),
        counter(names::FACADE_REFUSED, "Requests that were refused", &refused),
        gauge(
            names::FACADE_REGISTRATIONS,
            "Registrations of applications kept now",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => with("state", s.registrations()),
                DoorStats::SofaRegistry(s) => with("state", [("published", load(&s.publishers))]),
            },
        ),
        gauge(names::FACADE_FOLLOWS, "What applications follow now", &|s| match s {
            DoorStats::ZooKeeper(_) => Vec::new(),
            DoorStats::Http(s) => with("what", [("list", load(&s.follows))]),
            DoorStats::SofaRegistry(s) => with(
                "what",
                [("list", load(&s.subscribers)), ("rules", load(&s.configurators))],
            ),
        }),
        counter(
            names::FACADE_LOST,
            "Registrations that the facade took back by itself",
            &|s| match s {
                DoorStats::ZooKeeper(_) => Vec::new(),
                DoorStats::Http(s) => with(
                    "reason",
                    [
                        ("port_closed", load(&s.withdrawn)),
                        ("lease_expired", load(&s.leases_expired)),
                    ],
                ),
                DoorStats::SofaRegistry(s) => with("reason", [("connection_lost", load(&s.expired))]),
            },
        ),
        counter(
            names::FACADE_RESUMED,
            "Registrations that came back on a new connection",
            &|s| match s {
                DoorStats::SofaRegistry(s) => plain(&s.resumed),
                _ => Vec::new(),
            },
        ),
        counter(
            names::FACADE_PROBES_FAILED,
            "Looks that found an application's port closed",
            &|s| match s {
                DoorStats::Http(s) => plain(&s.probes_failed),
                _ => Vec::new(),
            },
        ),
        counter(
            names::FACADE_STORE_FAILURES,
            "Registrations that could not be written to disk",
            &|s| match s {
                DoorStats::Http(s) => plain(&s.store_failures),
                _ => Vec::new(),
            },
        ),
    ]
}

impl DoorStats {
    /// Connections open now.
    pub(super) fn connections(&self) -> u64 {
        connections(self).iter().map(|(_, open)| open).sum()
    }
}

fn connections(stats: &DoorStats) -> Values {
    plain(match stats {
        DoorStats::ZooKeeper(s) => &s.connections,
        DoorStats::Http(s) => &s.connections,
        DoorStats::SofaRegistry(s) => &s.connections,
    })
}

fn requests(stats: &DoorStats) -> Values {
    match stats {
        DoorStats::ZooKeeper(s) => with(
            "way",
            [
                ("relayed", load(&s.relayed)),
                ("owned", load(&s.owned)),
                ("local", load(&s.local)),
            ],
        ),
        DoorStats::Http(s) => with(
            "way",
            [
                ("publish", load(&s.publishes)),
                ("unpublish", load(&s.unpublishes)),
                ("subscribe", load(&s.subscribes)),
                ("unsubscribe", load(&s.unsubscribes)),
                ("heartbeat", load(&s.heartbeats)),
            ],
        ),
        DoorStats::SofaRegistry(s) => {
            let (all, relayed) = (load(&s.registrations), load(&s.relayed));
            let ways = [
                ("relayed", relayed),
                ("owned", all.saturating_sub(relayed)),
                ("local", load(&s.http_requests)),
            ];
            with("way", ways)
        }
    }
}

fn closed(stats: &DoorStats) -> Values {
    match stats {
        DoorStats::ZooKeeper(s) => with(
            "reason",
            [
                ("malformed", load(&s.malformed)),
                ("refused", load(&s.refused)),
                ("slow_reader", load(&s.slow_readers)),
                ("denied", load(&s.denied)),
                ("made_way", load(&s.made_way)),
            ],
        ),
        DoorStats::Http(_) => Vec::new(),
        DoorStats::SofaRegistry(s) => with(
            "reason",
            [
                ("malformed", load(&s.malformed)),
                ("refused", load(&s.refused)),
                ("slow_reader", load(&s.slow_readers)),
                ("idle", load(&s.idle)),
                ("denied", load(&s.denied)),
                ("made_way", load(&s.made_way)),
            ],
        ),
    }
}

fn refused(stats: &DoorStats) -> Values {
    match stats {
        DoorStats::ZooKeeper(_) => Vec::new(),
        DoorStats::Http(s) => with("reason", s.refused()),
        DoorStats::SofaRegistry(s) => with(
            "reason",
            [
                ("registration", load(&s.refused_registrations)),
                ("postponed", load(&s.postponed_registrations)),
                ("unreadable", load(&s.unreadable)),
                ("oversized", load(&s.oversized)),
            ],
        ),
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn plain(count: &AtomicU64) -> Values {
    vec![(Vec::new(), load(count))]
}

fn with(label: &'static str, counts: impl IntoIterator<Item = (&'static str, u64)>) -> Values {
    let values = counts.into_iter().map(|(value, count)| (vec![(label, value)], count));
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_facades_has_a_door_that_counts_it() {
        let doors: Vec<Counted> = [
            ("zookeeper", DoorStats::ZooKeeper(Default::default())),
            ("mesh", DoorStats::Http(Default::default())),
            ("sofaregistry", DoorStats::SofaRegistry(Default::default())),
        ]
        .map(|(facade, stats)| Counted {
            registry: "default".to_owned(),
            facade,
            stats,
        })
        .into();
        for figure in facades(&doors) {
            assert!(!figure.values.is_empty(), "{}", figure.name);
            for (labels, _) in &figure.values {
                let names: Vec<&str> = labels.iter().map(|(name, _)| *name).take(2).collect();
                assert_eq!(names, ["registry", "facade"], "{}", figure.name);
            }
        }
    }
}
