// SPDX-License-Identifier: Apache-2.0

use super::*;

#[test]
fn shards_of_several_workers_are_added_up() {
    let mut registry = Registry::default();
    let metrics = CallMetrics::new(&mut registry);
    for _worker in 0..2 {
        let shard = metrics.shard(Side::Egress, "dubbo");
        shard.call_started();
        shard.call_ended(CallEnd::Ok, Duration::from_micros(300));
        shard.local_reply("no_route");
        let guard = shard.downstream();
        drop(guard);
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"remora_calls_total{side="egress",protocol="dubbo",outcome="ok"} 2"#,
        r#"remora_local_replies_total{side="egress",protocol="dubbo",reason="no_route"} 2"#,
        r#"remora_call_duration_seconds_count{side="egress",protocol="dubbo"} 2"#,
        r#"remora_call_duration_seconds_bucket{le="0.0005",side="egress",protocol="dubbo"} 2"#,
        r#"remora_call_duration_seconds_bucket{le="+Inf",side="egress",protocol="dubbo"} 2"#,
        r#"remora_downstream_connections{side="egress",protocol="dubbo"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
