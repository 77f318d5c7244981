// SPDX-License-Identifier: Apache-2.0
//! The page of services: both views, what is decided, rules, and how much many of them cost.

use remora_registry::{Discovery as _, RuleKind, UnappliedRule};

use super::*;
use crate::discovery::policy::{Mode, Pattern, Rule};
use crate::discovery::{ServiceQuery, policy};
use crate::views::ServiceView;

fn ask(house: &House, service: Option<&str>, application: Option<&str>) -> Vec<ServiceView> {
    let query = ServiceQuery {
        service: service.map(str::to_owned),
        application: application.map(str::to_owned),
        offset: 0,
        limit: 100,
    };
    house.catalog.services(&query).services
}

fn only(name: &str) -> policy::Config {
    policy::Config {
        allow: vec![Rule {
            service: Some(serde_json::from_str::<Pattern>(&format!("{name:?}")).unwrap()),
            ..Rule::default()
        }],
        ..policy::Config::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_shows_what_is_real_what_is_handed_out_and_why() {
    let house = house();
    let (shop, orders) = (house.lease("shop"), house.lease("orders"));
    let mut list = house.desk.follow(shop.id(), &echo());
    house.registry.says(
        &echo(),
        vec![
            provider("10.0.0.1", 20881, "remora.app.port=20880&release=3.3.6"),
            provider("10.0.0.2", 20880, "release=2.7.23"),
        ],
    );
    until(&mut list, |l| l.instances.len() == 2).await;
    let own = provider("10.0.0.9", 20880, "");
    let published = house.desk.publish(orders.id(), &echo(), &own).unwrap();

    let seen = ask(&house, None, None).remove(0);
    assert_eq!(
        (seen.level.as_str(), seen.name.as_str()),
        ("service", "demo.EchoService")
    );
    let out = &seen.publishes[0];
    assert_eq!(
        (out.application.as_str(), out.own.as_str()),
        ("orders", "10.0.0.9:20880")
    );
    assert_eq!(out.in_registry, format!("10.0.0.9:{}", published.port));
    assert_eq!((out.decision.as_str(), out.is_settled), ("taken_over", true));
    let real: Vec<_> = seen.lists[0]
        .real
        .iter()
        .map(|r| {
            (
                r.address.as_str(),
                r.framework.as_str(),
                r.is_taken_over,
                r.use_.as_str(),
            )
        })
        .collect();
    let expected = [
        ("10.0.0.1:20881", "dubbo 3.3.6", true, "dialled"),
        ("10.0.0.2:20880", "dubbo 2.7.23", false, "dialled"),
    ];
    assert_eq!(real, expected);
    let shown = &seen.lists[0].followers[0];
    assert_eq!(
        (shown.application.as_str(), shown.decision.as_str()),
        ("shop", "taken_over")
    );
    assert_eq!(shown.handed_out, ["dubbo://2130706433:20882/demo.EchoService"]);

    house.catalog.set_takeover(Mode::Takeover, only("demo.Other"));
    let seen = ask(&house, None, None).remove(0);
    let shown = &seen.lists[0].followers[0];
    assert_eq!(
        (shown.decision.as_str(), shown.handed_out.len()),
        ("not_allowed", 2),
        "the real ones"
    );
    assert!(shown.why.contains("takeover.allow"), "{}", shown.why);

    let names = |service, application| -> Vec<String> {
        ask(&house, service, application).into_iter().map(|s| s.name).collect()
    };
    assert_eq!(names(Some("Echo"), Some("orders")), ["demo.EchoService"]);
    assert_eq!(names(Some("Echo"), Some("till")), Vec::<String>::new());
    assert_eq!(names(Some("Till"), None), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn rules_stand_with_the_service_that_they_are_about() {
    let house = house();
    let lease = house.lease("shop");
    let _list = house.desk.follow(lease.id(), &echo());
    let place = "/dubbo/config/dubbo/demo.EchoService:1.0.0:.condition-router";
    let rule = UnappliedRule {
        kind: RuleKind::Condition,
        place: place.into(),
        text: "=> host = 10.0.0.1".into(),
        why: "it names hosts",
    };
    house.desk.rules_not_applied(place, vec![rule]);
    let rule = ask(&house, None, None).remove(0).rules_not_applied.remove(0);
    assert_eq!(rule.about, "service demo.EchoService:1.0.0");
    assert_eq!(rule.text, "=> host = 10.0.0.1");
    assert!(rule.consequence.starts_with("calls also go"), "{}", rule.consequence);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_two_thousand_services_is_made_in_a_moment() {
    let house = house();
    let lease = house.lease("shop");
    let mut last = None;
    for n in 0..2_000 {
        let name = format!("demo.Service{n:05}");
        let one = url(&format!(
            "dubbo://10.2.0.1:20881/{name}?interface={name}&application=a&methods=x"
        ));
        house.registry.says(&service(&name), vec![one]);
        last = Some(house.desk.follow(lease.id(), &service(&name)));
    }
    until(&mut last.unwrap(), |l| l.instances.len() == 1).await;
    let query = |offset, limit| ServiceQuery {
        offset,
        limit,
        ..ServiceQuery::default()
    };
    let start = std::time::Instant::now();
    let page = house.catalog.services(&query(1000, 100));
    let took = start.elapsed();
    assert_eq!((page.total, page.services.len()), (2_000, 100));
    assert_eq!(page.services[0].name, "demo.Service01000");
    assert_eq!(house.catalog.services(&query(1_950, 100)).services.len(), 50);
    let start = std::time::Instant::now();
    let all = house.catalog.services(&query(0, 2_000));
    println!("a page of 100: {took:?}; all 2,000: {:?}", start.elapsed());
    assert_eq!(all.services.len(), 2_000);
    // Calls do not wait for it, registrations do. This is the unoptimized build on a busy machine.
    assert!(took < Duration::from_secs(1), "{took:?}");
}
