// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::config::PortRange;
use crate::discovery::config::{Config, ProtocolPorts};
use crate::discovery::test_support::{app, application_node, node, provider, service, url};
use remora_registry::Source;

fn setup() -> Setup {
    Setup {
        advertise: None,
        data_dir: None,
        protocols: vec![ProtocolPorts {
            name: "dubbo".into(),
            egress: "127.0.0.1:20882".parse().unwrap(),
            ingress: "127.0.0.1:0".parse().unwrap(),
            ingress_range: PortRange { first: 1, last: 1 },
        }],
        own_listeners: vec![],
        config: Arc::default(),
        mode: Default::default(),
        takeover: Default::default(),
        ports: remora_registry::Ports::default(),
    }
}

fn own(setup: &Setup, instance: &Instance) -> Result<(String, u16), &'static str> {
    let own = outward(setup, || vec!["10.9.9.9".parse().unwrap()], instance);
    own.map(|o| (o.host, o.app_port)).map_err(|e| e.reason())
}

#[test]
fn the_host_that_the_application_registered_is_kept_unless_nobody_can_dial_it() {
    let setup = setup();
    let at = |host: &str| own(&setup, &provider(host, 20880, "")).unwrap();
    assert_eq!(at("10.0.0.5"), ("10.0.0.5".into(), 20880));
    assert_eq!(at("provider.example"), ("provider.example".into(), 20880));
    for nowhere in ["127.0.0.1", "0.0.0.0", "localhost", "127.5.5.5"] {
        assert_eq!(at(nowhere), ("10.9.9.9".into(), 20880), "{nowhere}");
    }
    let advertised = Setup {
        advertise: Some("127.0.0.1".parse().unwrap()),
        ..setup
    };
    assert_eq!(
        own(&advertised, &provider("10.0.0.5", 20880, "")),
        Ok(("127.0.0.1".into(), 20880))
    );
}

#[test]
fn the_applications_own_port_may_stand_in_bind_port_or_in_the_configuration() {
    let setup = setup();
    assert_eq!(
        own(&setup, &provider("10.0.0.5", 31999, "bind.port=20880")).unwrap().1,
        20880
    );
    assert_eq!(
        own(&setup, &provider("10.0.0.5", 31999, "bind.port=soon")).unwrap().1,
        31999
    );
    let app_ports = [(31999, 3260)].into();
    setup.config.store(Arc::new(Config {
        app_ports,
        ..Config::default()
    }));
    assert_eq!(own(&setup, &provider("10.0.0.5", 31999, "")).unwrap().1, 3260);
}

#[test]
fn what_cannot_be_taken_over_is_passed_on() {
    let setup = setup();
    assert_eq!(
        own(&setup, &provider("h", 1, "remora.app.port=2")),
        Err("already_taken_over")
    );
    assert_eq!(
        own(&setup, &url("tri://h:1/a.B?interface=a.B")),
        Err("protocol_unknown")
    );
    assert_eq!(
        own(&setup, &provider("h", 1, "ssl-enabled=true")),
        Err("protocol_unknown")
    );
    assert_eq!(own(&setup, &provider("h", 0, "")), Err("no_ingress_port"));
}

fn shown_of(target: Target, instances: Vec<Arc<Instance>>, client: Client) -> Vec<Instance> {
    let snapshot = Snapshot {
        target,
        instances,
        malformed: vec![],
        foreign: Vec::new(),
        source: Source::Registry,
    };
    inward(
        &snapshot,
        client,
        &Egress::open(&setup().protocols, None),
        &["dubbo".into()],
        &|_| true,
    )
}

fn shown(instances: Vec<Arc<Instance>>) -> Vec<String> {
    let shown = shown_of(service("demo.EchoService"), instances, Client::Java);
    shown.iter().map(|i| i.raw.to_string()).collect()
}

#[test]
fn many_providers_become_one_at_the_egress() {
    let a = provider(
        "10.0.0.1",
        20881,
        "timestamp=1700000000001&pid=1&remora.app.port=20880&weight=5&anyhost=true&zone=a&timeout=3000",
    );
    let b = provider(
        "10.0.0.2",
        20881,
        "timestamp=1700000000002&pid=2&remora.app.port=20880&zone=b&timeout=5000",
    );
    let entry = shown(vec![Arc::clone(&a), Arc::clone(&b)]);
    assert_eq!(
        entry,
        [
            "dubbo://2130706433:20882/demo.EchoService?application=demo-provider&dubbo=2.0.2&interface=demo.EchoService&methods=echo&side=provider&timeout=5000&timestamp=1000000000000"
        ]
    );
    let plain = shown_of(service("demo.EchoService"), vec![a], Client::Plain);
    assert_eq!((&*plain[0].host, plain[0].port), ("127.0.0.1", 20882));
    assert!(shown(vec![]).is_empty());
}

#[test]
fn the_name_stays_while_providers_come_and_go() {
    let all: Vec<_> = (1..50)
        .map(|n| {
            provider(
                &format!("10.0.0.{n}"),
                20881,
                &format!("timestamp=17000000000{n:02}&pid={n}"),
            )
        })
        .collect();
    let name = shown(all.clone());
    assert_eq!(name.len(), 1);
    for n in 1..all.len() {
        assert_eq!(shown(all[n..].to_vec()), name);
        assert_eq!(shown(all[..n].to_vec()), name);
    }
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let mut list: Vec<_> = (0..40)
        .map(|n| {
            let group = [
                "",
                "group=g1",
                "prefer.serialization=fastjson2,hessian2",
                "dubbo.tag=gray",
            ][n % 4];
            provider(
                &format!("10.0.0.{n}"),
                20881,
                &format!("timeout={n}&timestamp={}&zone={n}&{group}", n % 7),
            )
        })
        .collect();
    let sorted = |list: &[Arc<Instance>]| {
        let mut shown = shown(list.to_vec());
        shown.sort();
        shown
    };
    let forward = sorted(&list);
    list.reverse();
    assert_eq!(sorted(&list), forward);
    list.rotate_left(13);
    assert_eq!(sorted(&list), forward);
}

#[test]
fn entries_that_a_client_tells_apart_stay_apart() {
    let list = vec![
        provider("10.0.0.1", 1, ""),
        provider("10.0.0.2", 1, "group=g1"),
        provider("10.0.0.3", 1, "version=2.0.0"),
        provider("10.0.0.4", 1, "codec=other"),
        url("dubbo://10.0.0.5:1/ctx/demo.EchoService?interface=demo.EchoService"),
        provider("10.0.0.6", 1, "serialization=kryo"),
    ];
    let shown = shown(list);
    assert_eq!(shown.len(), 6, "{shown:#?}");
    assert!(shown.iter().all(|s| s.starts_with("dubbo://2130706433:20882/")));
}

#[test]
fn serializations_are_cut_down_to_what_all_understand() {
    let old = provider("10.0.0.1", 1, "timestamp=2");
    let new = provider("10.0.0.2", 1, "prefer.serialization=fastjson2,hessian2&timestamp=3");
    let other = provider("10.0.0.3", 1, "prefer.serialization=hessian2,msgpack&timestamp=1");
    let one = |list: Vec<Arc<Instance>>| {
        let mut shown = shown(list);
        assert_eq!(shown.len(), 1, "{shown:#?}");
        shown.remove(0)
    };
    assert!(one(vec![Arc::clone(&new)]).contains("prefer.serialization=fastjson2,hessian2"));
    assert!(one(vec![Arc::clone(&new), other]).contains("prefer.serialization=hessian2&"));
    assert!(!one(vec![old, new]).contains("serialization="));
}

#[test]
fn methods_are_united_and_the_protocol_version_is_the_lowest() {
    let shown = shown(vec![
        url("dubbo://h1:1/a.B?interface=a.B&methods=b,a&dubbo=2.0.10&release=2.7.23"),
        url("dubbo://h2:1/a.B?interface=a.B&methods=c,a&dubbo=2.0.2&release=3.3.6"),
    ]);
    assert_eq!(
        shown,
        ["dubbo://2130706433:20882/a.B?dubbo=2.0.2&interface=a.B&methods=a,b,c"]
    );
}

#[test]
fn what_nobody_here_speaks_comes_out_unchanged() {
    let tri = url("tri://10.0.0.1:50051/demo.EchoService?interface=demo.EchoService&weight=3");
    let tls = provider("10.0.0.2", 1, "ssl-enabled=true");
    let dubbo = provider("10.0.0.3", 1, "");
    let shown = shown_of(
        service("x"),
        vec![Arc::clone(&tri), Arc::clone(&tls), dubbo],
        Client::Java,
    );
    assert_eq!(shown.len(), 3);
    assert_eq!((&shown[0], &shown[1]), (&*tri, &*tls));
    assert_eq!(&*shown[2].host, "2130706433");
}

#[test]
fn providers_that_a_client_picks_by_tag_or_token_stay_where_they_are() {
    let gray = provider("10.0.0.1", 1, "dubbo.tag=gray");
    let plain = provider("10.0.0.2", 1, "");
    let both = shown(vec![Arc::clone(&gray), plain]);
    assert_eq!(both.len(), 2);
    assert!(both[0].starts_with("dubbo://10.0.0.1:1/") && both[1].starts_with("dubbo://2130706433:20882/"));
    let all_gray = shown(vec![gray, provider("10.0.0.3", 1, "dubbo.tag=gray")]);
    assert_eq!(all_gray.len(), 1);
    assert!(all_gray[0].contains("dubbo.tag=gray"));
    let tokens = shown(vec![
        provider("10.0.0.1", 1, "token=a"),
        provider("10.0.0.2", 1, "token=b"),
    ]);
    assert!(tokens.iter().all(|t| t.starts_with("dubbo://10.0.0.")));
}

#[test]
fn disabled_providers_are_not_shown() {
    assert!(
        shown(vec![
            provider("10.0.0.1", 1, "disabled=true"),
            provider("10.0.0.2", 1, "enabled=false")
        ])
        .is_empty()
    );
}

#[test]
fn an_application_is_shown_once_per_revision() {
    let list = vec![
        application_node("10.0.0.1", 20881, "r1"),
        application_node("10.0.0.2", 20881, "r1"),
        application_node("10.0.0.3", 20881, "r2"),
    ];
    let ids = |list: &[Arc<Instance>]| -> Vec<String> {
        shown_of(app("demo"), list.to_vec(), Client::Java)
            .iter()
            .map(|i| i.id.to_string())
            .collect()
    };
    assert_eq!(ids(&list), ["2130706433:20882-r1-egress", "2130706433:20882-r2-egress"]);
    assert_eq!(
        ids(&list[1..]),
        ["2130706433:20882-r1-egress", "2130706433:20882-r2-egress"]
    );
}

#[test]
fn an_application_that_speaks_more_protocols_keeps_those_beside() {
    let mixed = r#"[{\"port\":20881,\"protocol\":\"dubbo\"},{\"port\":50051,\"protocol\":\"tri\"}]"#;
    let shown = shown_of(app("demo"), vec![node("10.0.0.1", "r1", mixed, 20881)], Client::Java);
    assert_eq!(shown.len(), 2);
    assert_eq!(
        (&*shown[0].host, shown[0].revision()),
        ("2130706433", Some("r1-egress"))
    );
    assert_eq!(
        (&*shown[1].host, shown[1].port, shown[1].revision()),
        ("10.0.0.1", 50051, Some(mirrored("r1").as_str()))
    );
    let tri = node("10.0.0.1", "r1", r#"[{\"port\":50051,\"protocol\":\"tri\"}]"#, 50051);
    let shown = shown_of(app("demo"), vec![Arc::clone(&tri)], Client::Java);
    assert_eq!(shown, [Instance::clone(&tri)]);
}

#[test]
fn another_revision_has_the_shape_of_a_real_one_and_leads_back() {
    for revision in ["5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b", "0", "1234567890", "N/A", "r1", ""] {
        let (mirror, at_egress) = (mirrored(revision), at_egress(revision));
        assert!(mirror != revision && at_egress != revision && mirror != at_egress);
        assert_eq!(mirrored(&mirror), revision);
        assert_eq!(super::at_egress(&at_egress), revision);
    }
    assert!(
        mirrored("5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b")
            .bytes()
            .all(|b| b.is_ascii_hexdigit())
    );
}
