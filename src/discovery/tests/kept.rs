// SPDX-License-Identifier: Apache-2.0
//! Publications of applications that hold no session at the registry.

use super::*;
use crate::discovery::ServiceQuery;
use crate::discovery::policy::{Config, Mode};

/// `address weight marker` of what stands in the registry.
fn standing(house: &House) -> Vec<String> {
    let param = |i: &Instance, key| i.params.get(key).unwrap_or("-").to_owned();
    let all = house.registry.standing().into_iter().map(|(target, i)| {
        assert_eq!(target, echo());
        assert!(i.id.is_empty() && i.raw.is_empty(), "the adapter makes its own");
        let (weight, marker) = (param(&i, "weight"), param(&i, Instance::MARKER));
        format!("{}://{}:{} {weight} {marker}", i.protocol, i.host, i.port)
    });
    all.collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_stands_at_our_ingress_until_the_lease_ends() {
    let house = house();
    let lease = house.lease("provider");
    let own = provider("127.0.0.1", 20880, "weight=7&bind.port=20880");
    let outward = house.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    turn().await;
    let expected = format!("dubbo://{}:{} 7 20880", outward.host, outward.port);
    assert_eq!(standing(&house), [expected]);
    assert_ne!(outward.host, "127.0.0.1");
    let shown = &house.registry.standing()[0].1;
    assert_eq!(shown.params.get("bind.port"), Some(outward.port.to_string().as_str()));
    let view = house.catalog.view();
    assert_eq!(view.leases[0].publishes[0].state, "published");
    drop(lease);
    turn().await;
    assert_eq!(standing(&house), [""; 0]);
    assert!(house.catalog.view().withdrawing.is_empty());
}

#[tokio::test(start_paused = true)]
async fn publishing_again_replaces_and_taking_back_withdraws() {
    let house = house();
    let lease = house.lease("provider");
    let old = provider("10.0.0.5", 20880, "weight=7");
    let mut new = Instance::clone(&old);
    new.params.set("weight", "9");
    let outward = house.desk.publish_kept(lease.id(), &echo(), &old).unwrap();
    turn().await;
    assert_eq!(house.desk.publish_kept(lease.id(), &echo(), &new).unwrap(), outward);
    turn().await;
    assert_eq!(standing(&house), [format!("dubbo://10.0.0.5:{} 9 20880", outward.port)]);
    house.desk.withdraw(lease.id(), &echo(), &new);
    turn().await;
    assert_eq!(standing(&house), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_no_plugin_speaks_is_kept_where_the_application_listens() {
    let house = house();
    let lease = house.lease("provider");
    let own = url("rest://10.0.0.5:8080/demo.EchoService?interface=demo.EchoService");
    let outward = house.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    assert_eq!((outward.host.as_str(), outward.port), ("10.0.0.5", 8080));
    let of_another_remora = provider("10.0.0.6", 20881, "remora.app.port=20880");
    house
        .desk
        .publish_kept(lease.id(), &echo(), &of_another_remora)
        .unwrap();
    turn().await;
    assert_eq!(
        standing(&house),
        ["rest://10.0.0.5:8080 - -", "dubbo://10.0.0.6:20881 - 20880"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_port_of_our_own_is_refused() {
    let house = house();
    let lease = house.lease("provider");
    let outward = house
        .desk
        .publish_kept(lease.id(), &echo(), &provider("10.0.0.5", 20880, ""))
        .unwrap();
    turn().await;
    for port in [15020, 20882, outward.port] {
        let own = provider("10.0.0.5", port, "");
        let error = house.desk.publish_kept(lease.id(), &echo(), &own).unwrap_err();
        assert_eq!(error.reason(), "own_port");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        assert!(house.desk.publish(lease.id(), &echo(), &own).is_err());
    }
    turn().await;
    assert_eq!(standing(&house).len(), 1);
    house.catalog.is_not_ours(&["127.0.0.1:15020".parse().unwrap()]);
    let own = provider("10.0.0.5", 15020, "");
    assert!(house.desk.publish_kept(lease.id(), &echo(), &own).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_drain_withdraws_what_is_kept() {
    let house = house();
    let lease = house.lease("provider");
    let own = provider("10.0.0.5", 20880, "");
    house.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    turn().await;
    house.catalog.withdraw_kept(Duration::from_secs(3)).await;
    assert_eq!(standing(&house), [""; 0]);
    let publishes = &house.catalog.view().leases[0].publishes[0];
    assert_eq!(publishes.state, "withdrawn");
    let policy = house.catalog.policy_view();
    assert_eq!((policy.leads_here, policy.unsettled), (0, 0));
    let counts: Vec<_> = policy.decisions.iter().map(|d| (d.side, d.decision, d.count)).collect();
    assert_eq!(counts, [("provider", "withdrawn", 1)]);
    let services = house.catalog.services(&ServiceQuery {
        limit: 9,
        ..ServiceQuery::default()
    });
    let shown = &services.services[0].publishes[0];
    assert_eq!((&*shown.decision, &*shown.in_registry), ("withdrawn", ""));
    assert!(shown.is_settled);
}

#[tokio::test(start_paused = true)]
async fn an_application_leaves_with_the_last_that_it_publishes_at_a_port() {
    let mut house = house();
    let lease = house.lease("provider");
    let here = |name: &str| url(&format!("dubbo://10.0.0.5:20880/{name}?interface={name}"));
    let (one, two) = (here("demo.EchoService"), here("demo.OtherService"));
    let elsewhere = provider("10.0.0.5", 30880, "");
    let target = |i: &Instance| service(&i.key.as_ref().unwrap().name);
    for instance in [&one, &two, &elsewhere] {
        house
            .desk
            .publish_kept(lease.id(), &target(instance), instance)
            .unwrap();
    }
    let outward = house.desk.known_outward(&one).unwrap();
    turn().await;
    house.desk.leave(lease.id(), &target(&one), &one);
    turn().await;
    assert_eq!(house.left(), [], "the other service is still there");
    house.desk.withdraw(lease.id(), &target(&elsewhere), &elsewhere);
    turn().await;
    assert_eq!(house.left(), [], "taken back, but it goes on serving");
    house.desk.leave(lease.id(), &target(&two), &two);
    turn().await;
    assert_eq!(house.left(), [(outward.port, true)]);
    house.desk.publish_kept(lease.id(), &target(&two), &two).unwrap();
    turn().await;
    assert_eq!(house.left(), [(outward.port, false)]);
}

/// As long as two addresses of one publication stand.
async fn a_while() {
    turn().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    turn().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_goes_back_to_the_applications_own_address_and_forward_again() {
    let house = open(Scripted::up(), None, Some("10.0.0.9".parse().unwrap()));
    let lease = house.lease("provider");
    let own = provider("10.0.0.5", 20880, "weight=7");
    let outward = house.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    turn().await;
    let taken = format!("dubbo://10.0.0.9:{} 7 20880", outward.port);
    assert_eq!(standing(&house), std::slice::from_ref(&taken));
    assert_eq!(house.catalog.policy_view().leads_here, 1);
    let given_back = |house: &House| {
        let all = house.registry.standing();
        assert_eq!(all.len(), 1, "{all:?}");
        let mut bare = Instance::clone(&own);
        bare.id = "".into();
        assert_eq!(all[0].1, bare, "as the application said it");
        assert_eq!(house.catalog.policy_view().leads_here, 0);
    };
    house.catalog.set_takeover(Mode::Observe, Config::default());
    turn().await;
    assert_eq!(house.registry.standing().len(), 2, "both for a while");
    assert_eq!(house.catalog.policy_view().leads_here, 1);
    a_while().await;
    given_back(&house);
    house.catalog.set_takeover(Mode::Takeover, Config::default());
    a_while().await;
    assert_eq!(standing(&house), std::slice::from_ref(&taken));
    assert!(house.catalog.roll_back(true).unwrap());
    a_while().await;
    given_back(&house);
    let again = house.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    assert_eq!((again.host.as_str(), again.port), ("10.0.0.5", 20880));
    assert!(house.catalog.roll_back(false).unwrap());
    a_while().await;
    assert_eq!(standing(&house), [taken]);
    drop(lease);
    turn().await;
    assert_eq!(standing(&house), [""; 0]);
    assert_eq!(house.catalog.policy_view().leads_here, 0);
}

fn advertised(registry: &Arc<Scripted>, dir: &Path) -> House {
    open(Arc::clone(registry), Some(dir), Some("10.0.0.9".parse().unwrap()))
}

/// The next process of one that ended by a hot upgrade, before any application is back.
fn upgraded(former: &House, dir: &Path) -> House {
    let publications = former.catalog.freeze_kept().remove(0).1;
    former.drain.cancel();
    let next = advertised(&former.registry, dir);
    next.desk.inherit(publications);
    next
}

fn addresses(house: &House) -> Vec<String> {
    let all = house.registry.standing().into_iter();
    all.map(|(_, i)| format!("{}:{}", i.host, i.port)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_former_process_kept_is_its_applications_again_as_soon_as_that_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let former = advertised(&Scripted::up(), dir.path());
    let own = provider("10.0.0.5", 20880, "weight=7");
    let lease = former.lease("provider");
    assert!(former.catalog.roll_back(true).unwrap());
    former.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    turn().await;
    let given_back = ["10.0.0.5:20880"];
    assert_eq!(addresses(&former), given_back);
    let next = upgraded(&former, dir.path());
    turn().await;
    let lease = next.lease("provider");
    next.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    a_while().await;
    assert_eq!(addresses(&next), given_back, "nothing was withdrawn");

    assert!(next.catalog.roll_back(false).unwrap());
    let ingress = next.desk.known_outward(&own).unwrap().port;
    a_while().await;
    assert_eq!(addresses(&next), [format!("10.0.0.9:{ingress}")]);
    assert!(next.catalog.roll_back(true).unwrap());
    a_while().await;
    assert_eq!(addresses(&next), given_back);
    assert_eq!(next.catalog.policy_view().leads_here, 0);
    drop(lease);
    turn().await;
    assert_eq!(addresses(&next), [""; 0], "nothing is held for somebody who was back");
}

#[tokio::test(start_paused = true)]
async fn an_ingress_of_a_former_process_goes_once_the_next_ones_stands() {
    let dir = tempfile::tempdir().unwrap();
    let former = advertised(&Scripted::up(), dir.path());
    let lease = former.lease("provider");
    let (own, other) = (
        provider("10.0.0.5", 20880, "weight=7"),
        provider("10.0.0.5", 30880, "weight=7"),
    );
    for instance in [&own, &other] {
        former.desk.publish_kept(lease.id(), &echo(), instance).unwrap();
    }
    turn().await;
    let before = standing(&former);
    // The configured ingress port is 0 here: every process has another one.
    let next = upgraded(&former, dir.path());
    let lease = next.lease("provider");
    let outward = next.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    turn().await;
    assert_eq!(standing(&next).len(), 3, "both for a while");
    a_while().await;
    let expected = [before[1].clone(), format!("dubbo://10.0.0.9:{} 7 20880", outward.port)];
    assert_eq!(standing(&next), expected, "the other application is not back");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_comes_back_for_is_withdrawn_after_a_grace_time() {
    let dir = tempfile::tempdir().unwrap();
    let former = advertised(&Scripted::up(), dir.path());
    let lease = former.lease("provider");
    let own = provider("10.0.0.5", 20880, "weight=7");
    former.desk.publish_kept(lease.id(), &echo(), &own).unwrap();
    turn().await;
    let next = upgraded(&former, dir.path());
    tokio::time::sleep(Duration::from_secs(59)).await;
    turn().await;
    assert_eq!(standing(&next).len(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    turn().await;
    assert_eq!(standing(&next), [""; 0]);
}
