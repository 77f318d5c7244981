// SPDX-License-Identifier: Apache-2.0
//! What was counted, with what discovery knows: names, frameworks, the way, pages.

use remora_registry::ServiceKey;

use super::*;

fn endpoint(addr: [u8; 4], port: u16, is_taken_over: bool) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        addr: (addr, port).into(),
        protocol: "dubbo".into(),
        weight: 100,
        started_ms: 0,
        warmup_ms: 0,
        warmup_weight: None,
        serializations: vec![],
        application: "orders".into(),
        framework: "dubbo 3.3.6".into(),
        is_taken_over,
    })
}

fn application(name: &str, framework: &str, follows: &[&str], ports: &[u16]) -> ApplicationFacts {
    ApplicationFacts {
        application: name.to_owned(),
        framework: framework.to_owned(),
        facade: "zookeeper",
        follows: follows.iter().map(|name| Arc::from(*name)).collect(),
        ports: ports.iter().map(|port| (Arc::from("dubbo"), *port)).collect(),
        ..ApplicationFacts::default()
    }
}

fn known(applications: Vec<ApplicationFacts>) -> Known {
    let mut table = RouteTable::default();
    table.insert(Arc::new(Route {
        key: ServiceKey::new("demo.Echo", "", "1.0.0"),
        endpoints: vec![
            endpoint([10, 0, 0, 5], 20881, true),
            endpoint([10, 0, 0, 6], 20880, false),
        ],
        timeout: None,
    }));
    Known {
        hosts: vec!["10.0.0.7".to_owned()],
        applications,
        ingress: vec![IngressRow {
            protocol: "dubbo".to_owned(),
            app_port: 20880,
            ingress_port: 20881,
            host: String::new(),
        }],
        table: Arc::new(table),
    }
}

fn line(side: Side, caller: &str, service: &str, calls: u64) -> LineView {
    LineView {
        side,
        protocol: "dubbo",
        peer: [10, 0, 0, 9].into(),
        door: ([0, 0, 0, 0], 20881).into(),
        caller: caller.to_owned(),
        service: ServiceKey::new(service, "", "1.0.0"),
        calls,
        idle_ms: Some(2500),
    }
}

fn hop(port: u16, calls: u64, failed: u64) -> HopView {
    let host = if port == 20881 { [10, 0, 0, 5] } else { [10, 0, 0, 6] };
    HopView {
        side: Side::Egress,
        protocol: "dubbo",
        service: "demo.Echo:1.0.0".to_owned(),
        addr: Some((host, port).into()),
        endpoint: Some(endpoint(host, port, false)),
        calls,
        failed,
        idle_ms: Some(1000),
    }
}

fn counted(lines: Vec<LineView>, hops: Vec<HopView>) -> [TalliesView; 2] {
    let other = TalliesView {
        others: 4,
        ..TalliesView::default()
    };
    [TalliesView { lines, hops, others: 0 }, other]
}

#[test]
fn callers_and_instances_of_all_workers_meet_at_their_service() {
    let known = known(vec![application("shop", "dubbo 2.7.23", &["demo.Echo"], &[])]);
    let mut counted = counted(
        vec![line(Side::Egress, "shop", "demo.Echo", 5)],
        vec![hop(20881, 4, 0), hop(20880, 2, 1), hop(20999, 1, 1)],
    );
    counted[1].lines.push(line(Side::Egress, "shop", "demo.Echo", 2));
    let view = view(&known, &counted, &Filter::default());
    let row = &view.out[0];
    assert_eq!((row.service.as_str(), view.others), ("demo.Echo:1.0.0", 4));
    let shop = &row.consumers[0];
    assert_eq!(
        (shop.framework.as_str(), shop.calls, shop.last_s),
        ("dubbo 2.7.23", 7, Some(2))
    );
    let ways: Vec<_> = row
        .instances
        .iter()
        .map(|i| (&*i.through, &*i.framework, i.calls, i.errors))
        .collect();
    let expected = [
        ("remora", "dubbo 3.3.6", 4, 0),
        ("direct", "dubbo 3.3.6", 2, 1),
        ("gone", "dubbo 3.3.6", 1, 1),
    ];
    assert_eq!(ways, expected);
}

#[test]
fn a_caller_whose_frames_are_silent_is_the_follower_of_the_service() {
    let one = application("old", "dubbo 2.6", &["demo.Echo"], &[]);
    let calls = counted(vec![line(Side::Egress, "", "demo.Echo", 1)], vec![]);
    let of = |known: &Known| view(known, &calls, &Filter::default()).out[0].consumers[0].clone();
    let caller = of(&known(vec![one.clone(), application("other", "", &["demo.Till"], &[])]));
    assert_eq!(
        (caller.application.as_str(), caller.known_by.as_str()),
        ("old", "follows")
    );
    let caller = of(&known(vec![one, application("older", "", &["demo.Echo"], &[])]));
    assert_eq!(
        (caller.application.as_str(), caller.known_by.as_str()),
        ("old or older", "several")
    );
    let caller = of(&known(vec![]));
    assert_eq!((caller.application.as_str(), caller.known_by.as_str()), ("", "unknown"));
}

#[test]
fn calls_in_are_those_of_the_application_behind_the_port() {
    let known = known(vec![
        application("web", "", &[], &[9]),
        application("orders", "dubbo 3.3.6", &[], &[20880]),
    ]);
    let calls = counted(
        vec![
            line(Side::Ingress, "shop", "demo.Echo", 3),
            line(Side::Ingress, "", "demo.Echo", 1),
        ],
        vec![],
    );
    let view = view(&known, &calls, &Filter::default());
    let row = &view.into[0];
    assert_eq!(
        (row.application.as_str(), row.address.as_str(), row.ingress),
        ("orders", "127.0.0.1:20880", 20881)
    );
    let callers: Vec<_> = row
        .consumers
        .iter()
        .map(|c| (&*c.application, &*c.host, c.calls))
        .collect();
    assert_eq!(callers, [("shop", "10.0.0.9", 3), ("", "10.0.0.9", 1)]);
}

#[test]
fn what_is_provided_here_and_was_never_called_is_shown_when_all_is_asked_for() {
    let mut provider = application("orders", "dubbo 3.3.6", &[], &[20880]);
    provider.provides = vec![("demo.Echo:1.0.0".to_owned(), "dubbo".into(), 20880)];
    let known = known(vec![provider]);
    let asked = |query: &str| view(&known, &[], &Filter::parse(query).unwrap()).into;
    assert_eq!(asked(""), []);
    let rows = asked("all=true");
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&*rows[0].service, &*rows[0].application),
        ("demo.Echo:1.0.0", "orders")
    );
    assert_eq!((&*rows[0].address, rows[0].ingress), ("127.0.0.1:20880", 20881));
    assert_eq!(rows[0].consumers, []);
}

#[test]
fn filters_and_pages_choose_and_say_what_they_leave_out() {
    let known = known(vec![application("shop", "", &["demo.Echo"], &[])]);
    let lines = (0..30).map(|n| line(Side::Egress, "shop", &format!("demo.S{n:02}"), n));
    let calls = counted(lines.collect(), vec![]);
    let ask = |query: &str| {
        let view = view(&known, &calls, &Filter::parse(query).unwrap());
        let services: Vec<String> = view.out.iter().map(|row| row.service.clone()).collect();
        (services, view.left_out)
    };
    let names = |numbers: &[u8]| {
        numbers
            .iter()
            .map(|n| format!("demo.S{n:02}:1.0.0"))
            .collect::<Vec<_>>()
    };
    assert_eq!(ask("limit=2"), (names(&[28, 29]), 28), "those with the most calls");
    assert_eq!(ask("limit=2&offset=2"), (names(&[26, 27]), 28));
    assert_eq!(ask("service=S07"), (names(&[7]), 0));
    assert_eq!(ask("application=till"), (vec![], 0));
    assert_eq!(
        ask("application=orders&all=true").0,
        ["demo.Echo:1.0.0"],
        "it provides what nobody called"
    );
}
