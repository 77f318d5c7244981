// SPDX-License-Identifier: Apache-2.0
//! `--only`: which services are looked at.

/// Names, each with `*` at its end for every name that begins so. None: all.
#[derive(Clone, Debug, Default)]
pub struct Only(Vec<String>);

impl Only {
    /// These names and beginnings of names.
    pub fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    pub(super) fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a service or application of this name is looked at.
    pub(super) fn has(&self, name: &str) -> bool {
        self.is_all() || self.0.iter().any(|pattern| fits(pattern, name))
    }

    /// Patterns that fit none of the names, each with the name that is most like it.
    pub(super) fn unknown<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Vec<(String, Option<String>)> {
        let unknown = self.0.iter().filter(|p| !names.clone().any(|name| fits(p, name)));
        unknown
            .map(|pattern| (pattern.clone(), most_like(pattern, names.clone())))
            .collect()
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    }
}

/// The name that shares the longest end or beginning, letters' case aside; none that shares less than half.
fn most_like<'n>(pattern: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let pattern = pattern.trim_end_matches('*').to_ascii_lowercase();
    let shared = |name: &str| {
        let name = name.to_ascii_lowercase();
        let front = pattern.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let end = pattern.bytes().rev().zip(name.bytes().rev());
        front.max(end.take_while(|(a, b)| a == b).count())
    };
    let best = names
        .map(|name| (shared(name), name))
        .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(a.1)))?;
    (best.0 * 2 >= pattern.len() && best.0 > 2).then(|| best.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_the_one_that_is_like_it() {
        let only = Only::new(vec!["demo.Echo*".into(), "EchoServce".into(), "x.Y".into()]);
        let names = ["demo.EchoService", "demo.OrderService"];
        assert!(only.has("demo.EchoService") && !only.has("demo.OrderService"));
        assert_eq!(
            only.unknown(names.into_iter()),
            [("EchoServce".into(), None), ("x.Y".into(), None)]
        );
        let near = Only::new(vec!["demo.EchoServices".into(), "orderservice".into()]);
        assert_eq!(
            near.unknown(names.into_iter()),
            [
                ("demo.EchoServices".into(), Some("demo.EchoService".into())),
                ("orderservice".into(), Some("demo.OrderService".into()))
            ]
        );
    }
}
