// SPDX-License-Identifier: Apache-2.0
//! A scrape of the call path's shards: added up and written out.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::call::{
    BUCKETS, CALL_ENDS, CLOSE_REASONS, CallShard, DROPPED, EJECTED, LOCAL_REPLIES, REFUSED, Shards, Side,
};
use super::names;

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let shards = self.lock();
        let mut sets: Vec<(Side, &'static str)> = shards.iter().map(|s| (s.side, s.protocol)).collect();
        sets.sort_unstable();
        sets.dedup();
        let mut page = Page {
            encoder: &mut encoder,
            shards: &shards,
            sets: &sets,
        };
        page.labelled(
            names::CALLS,
            "Calls that ended, by how",
            "outcome",
            &CALL_ENDS,
            |s, i| s.calls[i].get(),
        )?;
        page.labelled(
            names::LOCAL_REPLIES,
            "Replies made by Remora in the provider's place",
            "reason",
            &LOCAL_REPLIES,
            |s, i| s.local_replies[i].get(),
        )?;
        page.labelled(
            names::FRAMES_DROPPED,
            "Frames not passed on",
            "reason",
            &DROPPED,
            |s, i| s.dropped[i].get(),
        )?;
        page.labelled(
            names::CONNECTIONS_CLOSED,
            "Connections closed",
            "reason",
            &CLOSE_REASONS,
            |s, i| s.closed[i].get(),
        )?;
        page.counter(names::RETRIES, "Calls tried on a further instance", |s| s.retries.get())?;
        page.labelled(
            names::EJECTIONS,
            "Instances left alone after a failure",
            "reason",
            &EJECTED,
            |s, i| s.ejections[i].get(),
        )?;
        page.labelled(
            names::CONNECTIONS_REFUSED,
            "Connections closed at accept",
            "reason",
            &REFUSED,
            |s, i| s.refused[i].get(),
        )?;
        page.counter(names::BYTES_IN, "Bytes from downstream peers", |s| s.bytes_in.get())?;
        page.counter(names::BYTES_OUT, "Bytes to downstream peers", |s| s.bytes_out.get())?;
        page.gauge(
            names::CALLS_IN_FLIGHT,
            "Calls waiting for their reply",
            CallShard::in_flight,
        )?;
        page.gauge(
            names::DOWNSTREAM_CONNECTIONS,
            "Open connections that came to us",
            CallShard::downstream_connections,
        )?;
        page.gauge(
            names::UPSTREAM_CONNECTIONS,
            "Open connections that we opened",
            CallShard::upstream_connections,
        )?;
        page.gauge(names::HALF_READ, "Bytes held of frames that are read in part", |s| {
            s.half_read.get()
        })?;
        page.durations()
    }
}

/// One scrape.
struct Page<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
    shards: &'a [Arc<CallShard>],
    sets: &'a [(Side, &'static str)],
}

impl Page<'_, '_> {
    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[&'static str],
        read: impl Fn(&CallShard, usize) -> u64,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in self.sets {
            for (index, value) in values.iter().enumerate() {
                let total = sum(self.shards, set, |s| read(s, index));
                if total > 0 {
                    let labels = [("side", set.0.label()), ("protocol", set.1), (label, *value)];
                    family
                        .encode_family(&labels)?
                        .encode_counter::<NoLabels, _, u64>(&total, None)?;
                }
            }
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, read: impl Fn(&CallShard) -> u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for set in self.sets {
            let labels = [("side", set.0.label()), ("protocol", set.1)];
            let total = sum(self.shards, set, &read);
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabels, _, u64>(&total, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, read: impl Fn(&CallShard) -> u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for set in self.sets {
            let labels = [("side", set.0.label()), ("protocol", set.1)];
            family
                .encode_family(&labels)?
                .encode_gauge(&sum(self.shards, set, &read))?;
        }
        Ok(())
    }

    fn durations(&mut self) -> fmt::Result {
        let help = "Time from request to reply, as seen by Remora";
        let mut family = self
            .encoder
            .encode_descriptor(names::CALL_DURATION, help, None, MetricType::Histogram)?;
        for set in self.sets {
            let limits = BUCKETS.iter().map(|(_, seconds)| *seconds).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = limits
                .enumerate()
                .map(|(index, limit)| (limit, sum(self.shards, set, |s| s.duration[index].get())))
                .collect();
            let count = buckets.iter().map(|(_, n)| n).sum();
            let seconds = sum(self.shards, set, |s| s.duration_sum_us.get()) as f64 / 1e6;
            let labels = [("side", set.0.label()), ("protocol", set.1)];
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabels>(seconds, count, &buckets, None)?;
        }
        Ok(())
    }
}

type NoLabels = [(&'static str, &'static str); 0];

fn sum(shards: &[Arc<CallShard>], set: &(Side, &'static str), read: impl Fn(&CallShard) -> u64) -> u64 {
    shards
        .iter()
        .filter(|s| (s.side, s.protocol) == *set)
        .map(|s| read(s))
        .sum()
}
