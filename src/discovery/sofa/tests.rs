// SPDX-License-Identifier: Apache-2.0
use remora_naming::sofa::{Service, line};
use remora_registry::{Client, Snapshot, Source, Target};

use super::*;
use crate::config::PortRange;
use crate::discovery::config::ProtocolPorts;
use crate::discovery::egress::Egress;
use crate::discovery::endpoint::Policy;
use crate::discovery::hosts::Hosts;
use crate::discovery::metadata::Documents;
use crate::discovery::route_table::RouteTable;
use crate::discovery::routes::{Routes, Sight};
use crate::discovery::takeover::inward;

/// As SOFARPC 5.13.2 registers in ZooKeeper.
fn node(host: &str, extra: &str) -> Arc<Instance> {
    let url = format!(
        "bolt://{host}:12200?version=1.0&accepts=100000&appName=shop&weight=100&language=java&pid=7&interface=demo.Echo\
         &timeout=0&serialization=hessian2&protocol=bolt&delay=-1&dynamic=true&startTime=17&id=rpc-cfg-0&rpcVer=51302{extra}"
    );
    let child = remora_naming::dubbo_url::encode_component(&url);
    Arc::new(child::parse(&child, "demo.Echo").unwrap())
}

fn lined(text: &str) -> Arc<Instance> {
    Arc::new(line::parse(text, &Service::parse("demo.Echo:1.0").unwrap()).unwrap())
}

fn shown(target: Target, instances: Vec<Arc<Instance>>) -> Vec<Instance> {
    let bolt = ProtocolPorts {
        name: "bolt".into(),
        egress: "127.0.0.1:12220".parse().unwrap(),
        ingress: "127.0.0.1:0".parse().unwrap(),
        ingress_range: PortRange { first: 1, last: 1 },
    };
    let snapshot = Snapshot {
        target,
        instances,
        malformed: vec![],
        foreign: vec![],
        source: Source::Registry,
    };
    let egress = Egress::open(&[bolt], None);
    inward(&snapshot, Client::Java, &egress, &["bolt".into()], &|_| true)
}

fn in_zookeeper(instances: Vec<Arc<Instance>>) -> Vec<String> {
    let interface = Service::of_interface("demo.Echo", "").interface_target();
    shown(interface, instances).iter().map(|i| i.raw.to_string()).collect()
}

#[test]
fn consumers_see_one_provider_that_stays_while_others_come_and_go() {
    let first = node("10.0.0.1", "&uniqueId=&tag=blue&remora.app.port=12199");
    let second = node(
        "10.0.0.2",
        "&uniqueId=&startTime=99&weight=5&pid=8&warmupTime=60000&warmupWeight=1",
    );
    let older = node("10.0.0.3", "&uniqueId=&rpcVer=50605&appName=till");
    let alone = in_zookeeper(vec![Arc::clone(&second)]);
    let entry = "bolt://127.0.0.1:12220?appName=shop&interface=demo.Echo&language=java&protocol=bolt&rpcVer=51302\
        &serialization=hessian2&timeout=0&uniqueId=&version=1.0";
    assert_eq!(alone, [entry]);
    assert_eq!(in_zookeeper(vec![first, Arc::clone(&second)]), [entry]);
    let lower = entry.replace("51302", "50605");
    assert_eq!(in_zookeeper(vec![second, older]), [lower]);
}

#[test]
fn entries_are_told_apart_by_unique_id_and_protocol_only() {
    let providers = vec![
        node("10.0.0.1", "&uniqueId="),
        node("10.0.0.2", "&uniqueId=&serialization=protobuf"),
        node("10.0.0.3", "&uniqueId=blue"),
        node("10.0.0.3", "&uniqueId=blue&id=rpc-cfg-1"),
    ];
    let ids: Vec<String> = in_zookeeper(providers)
        .iter()
        .map(|url| url[url.find("uniqueId").unwrap()..].to_owned())
        .collect();
    assert_eq!(ids, ["uniqueId=&version=1.0", "uniqueId=blue&version=1.0"]);
}

#[test]
fn a_protocol_that_nothing_speaks_and_a_word_of_the_user_change_nothing() {
    let rest = Arc::new(Instance {
        protocol: "rest".into(),
        ..Instance::clone(&node("10.0.0.1", "&uniqueId="))
    });
    let tagged = node("10.0.0.2", "&uniqueId=&tag=blue");
    let plain = node("10.0.0.3", "&uniqueId=");
    let interface = Service::of_interface("demo.Echo", "").interface_target();
    let shown = shown(interface, vec![Arc::clone(&rest), tagged, plain]);
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0], *rest);
    assert_eq!((&*shown[1].host, shown[1].port), ("127.0.0.1", 12220));
}

#[test]
fn who_was_taken_out_by_an_operator_is_not_shown() {
    let mut out = Instance::clone(&node("10.0.0.1", "&uniqueId="));
    out.params.set(OFFLINE, "true");
    assert!(in_zookeeper(vec![Arc::new(out)]).is_empty());
}

#[test]
fn lines_become_a_line_without_weight_and_warm_up() {
    let first = "10.0.0.1:12200?rpcVer=51302&serialization=hessian2&weight=100&appName=shop&p=1&v=4.0\
        &_SERIALIZETYPE=hessian2&_WEIGHT=100&app_name=shop&_HOSTMACHINE=a&[slow]=[clientTimeout#9000]&startTime=17";
    let second = "10.0.0.2:12200?rpcVer=51302&serialization=hessian2&weight=10&appName=shop&p=1&v=4.0\
        &_SERIALIZETYPE=hessian2&_WEIGHT=10&app_name=shop&[slow]=[clientTimeout#8000]&startTime=18&_WARMUPTIME=5";
    let narrow = Service::parse("demo.Echo:1.0").unwrap().target();
    let shown = shown(narrow, vec![lined(first), lined(second)]);
    let lines: Vec<String> = shown.iter().map(line::print).collect();
    assert_eq!(
        lines,
        [
            "127.0.0.1:12220?rpcVer=51302&serialization=hessian2&appName=shop&p=1&v=4.0&_SERIALIZETYPE=hessian2\
          &app_name=shop&[slow]=[clientTimeout#8000]"
        ]
    );
}

#[test]
fn weight_and_warm_up_are_read_in_both_layouts() {
    let addr = "10.0.0.1:12200".parse().unwrap();
    let read = |extra: &str| {
        let text = format!("10.0.0.1:12200?p=1{extra}");
        endpoint(addr, &"bolt".into(), &lined(&text).params)
    };
    let seen = |extra: &str| {
        let e = read(extra);
        (e.weight, e.started_ms, e.warmup_ms, e.warmup_weight)
    };
    assert_eq!(seen(""), (100, 0, 0, None));
    assert_eq!(
        seen("&_WEIGHT=7&startTime=17"),
        (7, 17, 0, None),
        "no warm-up unless asked for"
    );
    assert_eq!(seen("&weight=0"), (0, 0, 0, None));
    assert_eq!(seen("&weight=-1&startTime=soon&warmupTime=5"), (0, 0, 0, None));
    let warming = (50, 17, 60_000, Some(5));
    assert_eq!(seen("&weight=50&warmupTime=60000&warmupWeight=5&startTime=17"), warming);
    assert_eq!(
        seen("&_WEIGHT=50&_WARMUPTIME=60000&_WARMUPWEIGHT=5&startTime=17"),
        warming
    );
    assert_eq!(
        seen("&warmupTime=60000&warmupWeight=5"),
        (100, 0, 0, None),
        "unknown start"
    );
    assert_eq!(&*read("&app_name=till").application, "till");
}

#[test]
fn versions_that_zookeeper_does_not_tell_have_a_route() {
    let other = lined("10.0.0.4:12200?p=1");
    let newer = Arc::new(Instance {
        key: Some(Service::parse("demo.Echo:2.0").unwrap().key()),
        ..Instance::clone(&other)
    });
    let listed = vec![
        node("10.0.0.1", "&uniqueId="),
        node("10.0.0.2", "&uniqueId=blue"),
        newer,
    ];
    let interface = Service::of_interface("demo.Echo", "").interface_target();
    let routes = routes(interface, listed.clone());
    let to = |group: &str, version: &str| {
        let route = routes.route("demo.Echo", group, version)?;
        Some(
            route
                .endpoints
                .iter()
                .map(|e| e.addr.ip().to_string())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(to("", "1.0"), Some(vec!["10.0.0.1".into()]));
    assert_eq!(to("", "*"), Some(vec!["10.0.0.1".into()]));
    assert_eq!(to("", "2.0"), Some(vec!["10.0.0.4".into()]));
    assert_eq!(to("blue", "*"), Some(vec!["10.0.0.2".into()]));
    let narrow = self::routes(Service::parse("demo.Echo").unwrap().target(), listed);
    assert!(narrow.route("demo.Echo", "", "*").is_none());
}

fn routes(target: Target, instances: Vec<Arc<Instance>>) -> Arc<RouteTable> {
    let snapshot = Snapshot {
        target,
        instances,
        malformed: vec![],
        foreign: vec![],
        source: Source::Registry,
    };
    let policy = Policy {
        spoken: vec!["bolt".into()],
        ..Policy::default()
    };
    let mut sight = Sight {
        policy: &policy,
        hosts: &mut Hosts::default(),
        documents: &Documents::new(),
    };
    let mut routes = Routes::new();
    routes.update(0, &snapshot, &mut sight, true);
    routes.shared().load_full()
}
