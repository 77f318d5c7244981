// SPDX-License-Identifier: Apache-2.0
//! `docs/metrics.md` says what `src/metrics/names.rs` says. `REMORA_WRITE_DOCS=1 cargo test --test metrics_doc` writes it anew.

use std::fmt::Write as _;

const HEAD: &str = "# Metrics

`GET /metrics` on the admin port, OpenMetrics text. Counters end in `_total` there. Labels come from small closed sets; `side`
is `egress` (out of an application here) or `ingress` (into one).

Counters count one process: after a restart, and after `remora upgrade` too, they begin at 0, and `process_start_time_seconds`
says when; what Prometheus makes of them with `rate` and `increase` goes on. Upgrades that failed before one that went well are
therefore not in the counters of the new process; they stand in the log of the old one. Who calls whom is not a metric, since names of
applications and services are no small set: `GET /topology`, `remora topology`; the calls there are those of one process too
(`counted_for_s`).

| name | meaning |
|---|---|
";

#[test]
fn the_page_lists_every_name_with_its_meaning() {
    let mut page = HEAD.to_owned();
    let mut meaning = Vec::new();
    let mut count = 0;
    for line in include_str!("../src/metrics/names.rs").lines() {
        if let Some(doc) = line.strip_prefix("/// ") {
            meaning.push(doc);
        } else if let Some((_, value)) = line.split_once(": &str = \"") {
            let name = value.trim_end_matches("\";");
            let _ = writeln!(page, "| `{name}` | {} |", meaning.join(" "));
            assert!(!meaning.is_empty(), "{name} has no doc");
            meaning.clear();
            count += 1;
        } else {
            meaning.clear();
        }
    }
    assert!(count > 15, "only {count} names found");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("REMORA_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == page,
        "docs/metrics.md is not what names.rs says; see the head of this test"
    );
}
