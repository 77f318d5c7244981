// SPDX-License-Identifier: Apache-2.0
//! Weighted random choice with Dubbo's weight and warm-up (`RandomLoadBalance`, `AbstractLoadBalance.calculateWarmupWeight`),
//! and SOFARPC's (`RandomLoadBalancer`, `ProviderInfo.getWeight`).
//!
//! Running sums are kept per route, so that a pick is a binary search; they are made anew while somebody warms up.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::route_table::Endpoint;

/// The state of one route's balancer.
#[derive(Debug)]
pub(in crate::call) struct WeightedRandom {
    sums: RefCell<Vec<u64>>,
    /// When the sums are to be made anew; `None` when they hold.
    refresh: Cell<Option<Instant>>,
}

impl WeightedRandom {
    /// `now_ms` is the wall clock in ms since 1970.
    pub(in crate::call) fn new<'e>(endpoints: impl Iterator<Item = &'e Endpoint>, now: Instant, now_ms: u64) -> Self {
        let balancer = Self {
            sums: RefCell::default(),
            refresh: Cell::new(Some(now)),
        };
        balancer.sum_up(endpoints, now, now_ms);
        balancer
    }

    /// Brings the sums up to date, if they may have changed.
    pub(in crate::call) fn refresh<'e>(&self, endpoints: impl Iterator<Item = &'e Endpoint>, now: Instant) {
        if self.refresh.get().is_some_and(|at| at <= now) {
            self.sum_up(endpoints, now, wall_clock_ms());
        }
    }

    /// An index by weight; by chance alone if all weights are 0. `None` if there is nothing to pick from.
    pub(in crate::call) fn pick(&self) -> Option<usize> {
        let sums = self.sums.borrow();
        let total = *sums.last()?;
        if total == 0 {
            return Some(fastrand::usize(..sums.len()));
        }
        let point = fastrand::u64(..total);
        Some(sums.partition_point(|sum| *sum <= point))
    }

    /// An index by weight among those that `is_usable` allows.
    pub(in crate::call) fn pick_among(&self, is_usable: impl Fn(usize) -> bool) -> Option<usize> {
        let sums = self.sums.borrow();
        let weight = |index: usize| sums[index] - if index > 0 { sums[index - 1] } else { 0 };
        let usable = || (0..sums.len()).filter(|index| is_usable(*index));
        let total: u64 = usable().map(weight).sum();
        if total == 0 {
            let count = usable().count();
            return (count > 0)
                .then(|| fastrand::usize(..count))
                .and_then(|n| usable().nth(n));
        }
        let mut point = fastrand::u64(..total);
        usable().find(|index| {
            let hit = point < weight(*index);
            point = point.saturating_sub(weight(*index));
            hit
        })
    }

    fn sum_up<'e>(&self, endpoints: impl Iterator<Item = &'e Endpoint>, now: Instant, now_ms: u64) {
        let mut sums = self.sums.borrow_mut();
        sums.clear();
        let mut total = 0u64;
        let mut is_warming = false;
        for endpoint in endpoints {
            let weight = warmed_up(endpoint, now_ms);
            is_warming |= weight != endpoint.weight;
            total += u64::from(weight);
            sums.push(total);
        }
        self.refresh.set(is_warming.then(|| now + REFRESH));
    }
}

/// The weight of an instance at this moment: in Dubbo it grows from 1 to its full weight over the warm-up, in SOFARPC it is
/// another one until the warm-up is over.
pub(in crate::call) fn warmed_up(endpoint: &Endpoint, now_ms: u64) -> u32 {
    if endpoint.weight == 0 || endpoint.started_ms == 0 || endpoint.warmup_ms == 0 {
        return endpoint.weight;
    }
    // A start in the future (clocks differ) counts as just started.
    let uptime = now_ms.saturating_sub(endpoint.started_ms).max(1);
    if uptime >= endpoint.warmup_ms {
        return endpoint.weight;
    }
    if let Some(weight) = endpoint.warmup_weight {
        return weight;
    }
    let weight = u128::from(uptime) * u128::from(endpoint.weight) / u128::from(endpoint.warmup_ms);
    u32::try_from(weight).unwrap_or(endpoint.weight).max(1)
}

/// Now, in ms since 1970.
pub(in crate::call) fn wall_clock_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// How often weights are worked out anew during a warm-up of minutes.
const REFRESH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(weight: u32, started_ms: u64, warmup_ms: u64) -> Endpoint {
        Endpoint {
            addr: ([127, 0, 0, 1], 1).into(),
            protocol: "mini".into(),
            weight,
            started_ms,
            warmup_ms,
            warmup_weight: None,
            serializations: vec![],
            application: "app".into(),
            framework: "".into(),
            is_taken_over: false,
        }
    }

    #[test]
    fn weight_grows_over_the_warm_up_as_in_dubbo() {
        let now = 10_000_000;
        assert_eq!(warmed_up(&endpoint(100, now - 600_000, 600_000), now), 100);
        assert_eq!(warmed_up(&endpoint(100, now - 300_000, 600_000), now), 50);
        assert_eq!(warmed_up(&endpoint(100, now - 1, 600_000), now), 1);
        assert_eq!(
            warmed_up(&endpoint(100, now + 5_000, 600_000), now),
            1,
            "a clock ahead of ours"
        );
        assert_eq!(warmed_up(&endpoint(100, 0, 600_000), now), 100, "unknown start");
        assert_eq!(warmed_up(&endpoint(100, now, 0), now), 100, "switched off");
        assert_eq!(warmed_up(&endpoint(0, now, 600_000), now), 0);
    }

    #[test]
    fn weight_of_a_warm_up_in_sofarpc_is_fixed() {
        let now = 10_000_000;
        let warming = |started_ms| Endpoint {
            warmup_weight: Some(10),
            ..endpoint(100, started_ms, 60_000)
        };
        assert_eq!(warmed_up(&warming(now - 59_999), now), 10);
        assert_eq!(warmed_up(&warming(now - 60_000), now), 100);
        assert_eq!(warmed_up(&warming(now + 5_000), now), 10);
    }

    #[test]
    fn picks_follow_the_weights() {
        let endpoints = [endpoint(300, 0, 0), endpoint(0, 0, 0), endpoint(100, 0, 0)];
        let balancer = WeightedRandom::new(endpoints.iter(), Instant::now(), 1);
        for pick in [&(|| balancer.pick()) as &dyn Fn() -> _, &|| {
            balancer.pick_among(|_| true)
        }] {
            let mut hits = [0u32; 3];
            for _ in 0..8000 {
                hits[pick().unwrap()] += 1;
            }
            assert_eq!(hits[1], 0, "weight 0 is never picked while another has more");
            assert!((5700..6300).contains(&hits[0]), "{hits:?}");
        }
    }

    #[test]
    fn all_weights_zero_means_by_chance() {
        let endpoints = [endpoint(0, 0, 0), endpoint(0, 0, 0)];
        let balancer = WeightedRandom::new(endpoints.iter(), Instant::now(), 1);
        let mut hits = [0u32; 2];
        for _ in 0..1000 {
            hits[balancer.pick().unwrap()] += 1;
            assert_eq!(balancer.pick_among(|i| i == 1), Some(1));
        }
        assert!(hits.iter().all(|h| *h > 300), "{hits:?}");
        assert_eq!(balancer.pick_among(|_| false), None);
    }
}
