// SPDX-License-Identifier: Apache-2.0
//! The takeover policy at the catalog: what follows from a change.

use remora_registry::{InRegistry, PublishError, Why};

use super::*;
use crate::discovery::policy::{Config, Mode, SideCount};

fn takeover(yaml: &str) -> Config {
    serde_saphyr::from_str(yaml).unwrap()
}

fn own() -> Instance {
    let mut own = Instance::clone(&provider("10.0.0.5", 20880, "group=blue"));
    own.params.set("application", "shop");
    own
}

fn why(house: &House, lease: &Lease, instance: &Instance) -> Why {
    match house.desk.publish(lease.id(), &echo(), instance) {
        Ok(_) => Why::TakenOver,
        Err(PublishError::NotTaken { why }) => why,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn lists_are_shown_again_as_they_stand_and_the_routes_stay() {
    let house = house();
    let lease = house.lease("shop");
    let mut list = house.desk.follow(lease.id(), &echo());
    house
        .registry
        .says(&echo(), vec![provider("10.0.0.5", 20880, "group=g1")]);
    let snapshot = until(&mut list, |l| l.instances.len() == 1).await;
    let host = |snapshot: &Snapshot| {
        house.desk.inward(lease.id(), snapshot, Client::Java)[0]
            .host
            .to_string()
    };
    assert_eq!(host(&snapshot), "2130706433");
    assert!(!house.desk.leaves(lease.id(), &snapshot));
    list.borrow_and_update();

    house.catalog.set_takeover(Mode::Observe, Config::default());
    list.changed().await.unwrap();
    let snapshot = list.borrow_and_update().clone().unwrap();
    assert_eq!(host(&snapshot), "10.0.0.5");
    assert!(house.desk.leaves(lease.id(), &snapshot) && !house.desk.takes_lists());
    assert_eq!(
        house.endpoints("g1"),
        Some(vec!["10.0.0.5:20880".into()]),
        "who still calls is served"
    );

    house
        .catalog
        .set_takeover(Mode::Takeover, takeover("deny: [{group: g2}]"));
    list.changed().await.unwrap();
    assert_eq!(host(&snapshot), "2130706433");
}

#[tokio::test(start_paused = true)]
async fn one_list_may_be_taken_over_in_part() {
    let house = house();
    let lease = house.lease("shop");
    house
        .catalog
        .set_takeover(Mode::Takeover, takeover("allow: [{group: g1}]"));
    let mut list = house.desk.follow(lease.id(), &echo());
    let both = vec![
        provider("10.0.0.5", 20880, "group=g1"),
        provider("10.0.0.6", 20880, "group=g2"),
    ];
    house.registry.says(&echo(), both);
    let snapshot = until(&mut list, |l| l.instances.len() == 2).await;
    let shown = house.desk.inward(lease.id(), &snapshot, Client::Plain);
    let mut hosts: Vec<&str> = shown.iter().map(|i| &*i.host).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["10.0.0.6", "127.0.0.1"]);
    assert!(!house.desk.leaves(lease.id(), &snapshot));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_counted_and_has_its_ingress_already() {
    let house = house();
    let lease = house.lease("");
    house
        .catalog
        .set_takeover(Mode::Observe, takeover("deny: [{application: other}]"));
    assert_eq!(why(&house, &lease, &own()), Why::Observed);
    let mut other = own();
    other.id = "another".into();
    other.params.set("application", "other");
    assert_eq!(why(&house, &lease, &other), Why::Denied);
    assert_eq!(
        house.catalog.ingress().len(),
        1,
        "who is sent there by somebody else is served"
    );
    let view = house.catalog.policy_view();
    let count = |decision| SideCount {
        side: "provider",
        decision,
        count: 1,
    };
    assert_eq!(view.decisions, [count("observed"), count("denied")]);
    assert_eq!((view.leads_here, view.unsettled, view.is_off), (0, 0, true));

    let mut numbers = house.desk.policy();
    house.catalog.set_takeover(Mode::Takeover, Config::default());
    numbers.changed().await.unwrap();
    assert_eq!(why(&house, &lease, &own()), Why::TakenOver);
    assert_eq!(
        house.catalog.policy_view().unsettled,
        1,
        "the facade has not said that it stands"
    );
    house.desk.stands(lease.id(), &echo(), &own(), InRegistry::Both);
    let view = house.catalog.policy_view();
    assert_eq!(
        (view.leads_here, view.unsettled),
        (1, 1),
        "its own address stands beside it"
    );
    house.desk.stands(lease.id(), &echo(), &own(), InRegistry::Ingress);
    let view = house.catalog.policy_view();
    assert_eq!((view.leads_here, view.unsettled), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_outlives_a_restart_and_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(Scripted::up(), Some(dir.path()), None);
    let lease = first.lease("shop");
    assert!(first.catalog.roll_back(true).unwrap());
    assert!(!first.catalog.roll_back(true).unwrap(), "it was so already");
    first.catalog.set_takeover(Mode::Takeover, takeover("percent: 100"));
    assert_eq!(why(&first, &lease, &own()), Why::RolledBack);
    first.drain.cancel();
    first.catalog.closed().await;

    let second = open(Scripted::up(), Some(dir.path()), None);
    let lease = second.lease("shop");
    assert_eq!(why(&second, &lease, &own()), Why::RolledBack);
    assert!(second.catalog.rolled_back_for().is_some());
    assert!(second.catalog.roll_back(false).unwrap());
    assert_eq!(why(&second, &lease, &own()), Why::TakenOver);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_comes_late_decides_again() {
    let house = house();
    let lease = house.lease("");
    house
        .catalog
        .set_takeover(Mode::Takeover, takeover("allow: [{application: shop}]"));
    let mut list = house.desk.follow(lease.id(), &echo());
    house.registry.says(&echo(), vec![provider("10.0.0.5", 20880, "")]);
    let snapshot = until(&mut list, |l| l.instances.len() == 1).await;
    assert!(house.desk.leaves(lease.id(), &snapshot));
    list.borrow_and_update();
    house.desk.name_lease(lease.id(), "shop");
    list.changed().await.unwrap();
    assert!(!house.desk.leaves(lease.id(), &snapshot));
}

#[tokio::test(start_paused = true)]
async fn an_application_level_entry_goes_with_the_services_that_it_is_known_to_offer() {
    let house = house();
    let lease = house.lease("shop");
    let mut nodes = house.desk.follow(lease.id(), &app("demo"));
    house.registry.has_document("demo", "r1", DOCUMENT);
    house
        .registry
        .says(&app("demo"), vec![application_node("10.0.0.2", 20880, "r1")]);
    let snapshot = until(&mut nodes, |l| l.instances.len() == 1).await;
    assert!(
        house.desk.inward_metadata("demo", "r1-egress").await.is_some(),
        "it is known now"
    );
    let leaves = |yaml: &str| {
        house.catalog.set_takeover(Mode::Takeover, takeover(yaml));
        house.desk.leaves(lease.id(), &snapshot)
    };
    assert!(!leaves("allow: [{service: demo}]"), "by the application's name");
    assert!(leaves("deny: [{service: demo.EchoService}]"), "deny wins");
    assert!(
        leaves("allow: [{service: demo.EchoService}]"),
        "it offers another one, too"
    );
    assert!(!leaves("allow: [{service: demo.*}]"), "all that it offers");
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_names_nothing_here_is_told_apart() {
    let house = house();
    let lease = house.lease("shop");
    let _list = house.desk.follow(lease.id(), &echo());
    house.catalog.set_takeover(
        Mode::Takeover,
        takeover("allow: [{service: demo.*}, {service: demo.Nowhere, side: consumer}]"),
    );
    let view = house.catalog.policy_view();
    let names: Vec<(&str, usize)> = view.allow.iter().map(|rule| (rule.rule.as_str(), rule.names)).collect();
    assert_eq!(
        names,
        [("service: demo.*", 1), ("service: demo.Nowhere, side: consumer", 0)]
    );
}
