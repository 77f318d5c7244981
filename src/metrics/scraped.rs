// SPDX-License-Identifier: Apache-2.0
//! Figures that are read off their owner at each scrape: of this process, of facades, registries and the catalog.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// One metric with its values by label.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Of `names.rs`.
    pub name: &'static str,
    /// The text shown with it.
    pub help: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// Label sets and values.
    pub values: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Figure {
    /// A value that goes up and down, without labels.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self {
            name,
            help,
            is_counter: false,
            values: vec![(Vec::new(), value)],
        }
    }

    /// A value that only grows, without labels.
    pub fn counter(name: &'static str, help: &'static str, value: f64) -> Self {
        Self {
            is_counter: true,
            ..Self::gauge(name, help, value)
        }
    }
}

/// Asks for figures at each scrape.
pub struct Scraped<F>(pub F);

impl<F> fmt::Debug for Scraped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scraped")
    }
}

impl<F: Fn() -> Vec<Figure> + Send + Sync + 'static> Collector for Scraped<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for figure in (self.0)() {
            figure.encode(&mut encoder)?;
        }
        Ok(())
    }
}

impl Figure {
    fn encode(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let kind = match self.is_counter {
            true => MetricType::Counter,
            false => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, value) in &self.values {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if labels.is_empty() {
                self.value(&mut metric, *value)?;
            } else {
                self.value(&mut metric.encode_family(&labels)?, *value)?;
            }
        }
        Ok(())
    }

    fn value(&self, encoder: &mut MetricEncoder<'_>, value: f64) -> Result<(), fmt::Error> {
        match self.is_counter {
            true => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
            false => encoder.encode_gauge(&value),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn figures_come_out_as_openmetrics_text() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scraped(|| {
            vec![
                Figure::counter("seen", "What was seen", 2.0),
                Figure {
                    values: vec![(vec![("registry", "east".to_owned())], 1.0)],
                    ..Figure::gauge("up", "Whether it is up", 0.0)
                },
            ]
        })));
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE seen counter",
                "seen_total 2.0",
                "# TYPE up gauge",
                "up{registry=\"east\"} 1.0",
                "# EOF"
            ]
        );
    }
}
