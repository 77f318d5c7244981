// SPDX-License-Identifier: Apache-2.0
//! Catalog, desk and a scripted registry together.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use remora_registry::{
    Client, Discovery, Instance, Lease, LeaseId, LeaseInfo, RuleKind, Snapshot, Source, Target, UnappliedRule,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::PortRange;
use crate::discovery::ingress::IngressChange;
use crate::discovery::test_support::{Scripted, app, application_node, provider, service, url};
use crate::discovery::{Catalog, Desk, Egress, MetadataError, ProtocolPorts, ServiceQuery, Setup, Tools};
use crate::metrics::DiscoveryMetrics;

mod applications;
mod kept;
mod outage;
mod policy;
mod services;

struct House {
    catalog: Arc<Catalog>,
    desk: Arc<Desk>,
    registry: Arc<Scripted>,
    ingress: mpsc::Receiver<IngressChange>,
    /// Whether ports of providers accept connections.
    accepts: Arc<AtomicBool>,
    drain: CancellationToken,
}

fn open(registry: Arc<Scripted>, data_dir: Option<&Path>, advertise: Option<IpAddr>) -> House {
    let accepts = Arc::new(AtomicBool::new(true));
    let probe_answer = Arc::clone(&accepts);
    let tools = Tools {
        probe: Arc::new(move |_, _| {
            let answer = probe_answer.load(Ordering::SeqCst);
            Box::pin(async move { answer })
        }),
        metadata_call: Arc::new(|_, _, _| Box::pin(async { Err(MetadataError::Unsupported) })),
    };
    let setup = Setup {
        advertise,
        data_dir: data_dir.map(Path::to_owned),
        protocols: vec![ProtocolPorts {
            name: "dubbo".into(),
            egress: "127.0.0.1:20882".parse().unwrap(),
            ingress: "127.0.0.1:0".parse().unwrap(),
            ingress_range: PortRange {
                first: 42000,
                last: 42999,
            },
        }],
        own_listeners: vec!["127.0.0.1:15020".parse().unwrap()],
        config: Arc::default(),
        mode: Default::default(),
        takeover: Default::default(),
        ports: remora_registry::Ports::default(),
    };
    let metrics = DiscoveryMetrics::new(&mut prometheus_client::registry::Registry::default());
    let drain = CancellationToken::new();
    let egress = Egress::open(&setup.protocols, data_dir);
    let (catalog, ingress) = Catalog::open(setup, egress, metrics, tools, Handle::current(), drain.clone()).unwrap();
    let desk = Desk::open(&catalog, "default", "scripted://here", registry.clone());
    House {
        catalog,
        desk,
        registry,
        ingress,
        accepts,
        drain,
    }
}

fn house() -> House {
    open(Scripted::up(), None, None)
}

impl House {
    fn lease(&self, application: &str) -> Lease {
        let desk: Arc<dyn Discovery> = self.desk.clone();
        let info = LeaseInfo {
            facade: "zookeeper",
            registry: "default".into(),
            application: application.into(),
            peer: "127.0.0.1:5".into(),
        };
        Lease::open(desk, info)
    }

    /// What is done with the entries of the only list.
    fn uses(&self) -> Vec<String> {
        let query = ServiceQuery {
            limit: 1,
            ..ServiceQuery::default()
        };
        let service = self.catalog.services(&query).services.remove(0);
        service.lists[0].real.iter().map(|entry| entry.use_.clone()).collect()
    }

    /// What the call path was told of applications that leave, since the last time.
    fn left(&mut self) -> Vec<(u16, bool)> {
        let told = std::iter::from_fn(|| self.ingress.try_recv().ok());
        let left = told.filter_map(|change| match change {
            IngressChange::Leaving { ingress, is_leaving } => Some((ingress.port(), is_leaving)),
            IngressChange::Open(_) | IngressChange::Assign { .. } => None,
        });
        left.collect()
    }

    fn endpoints(&self, group: &str) -> Option<Vec<String>> {
        let table = self.catalog.routes().load();
        let route = table.route("demo.EchoService", group, "")?;
        Some(route.endpoints.iter().map(|e| e.addr.to_string()).collect())
    }
}

fn echo() -> Target {
    service("demo.EchoService")
}

/// Waits for a list that is as wanted; the clock is paused, so waiting costs nothing.
async fn until(list: &mut watch::Receiver<Option<Arc<Snapshot>>>, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let found = list.wait_for(|l| l.as_ref().is_some_and(|l| wanted(l)));
    let found = tokio::time::timeout(Duration::from_secs(3600), found)
        .await
        .expect("the list comes");
    found.unwrap().clone().unwrap()
}

async fn turn() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_the_list_once_it_is_known_and_the_route_is_there_by_then() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    turn().await;
    assert!(list.borrow().is_none());
    house.registry.says(
        &echo(),
        vec![provider("10.0.0.2", 20881, ""), provider("10.0.0.1", 20881, "weight=7")],
    );
    let shown = until(&mut list, |l| l.instances.len() == 2).await;
    assert_eq!(shown.source, Source::Registry);
    assert_eq!(
        house.endpoints(""),
        Some(vec!["10.0.0.1:20881".into(), "10.0.0.2:20881".into()])
    );
    assert_eq!(
        house
            .catalog
            .routes()
            .load()
            .route("demo.EchoService", "", "")
            .unwrap()
            .endpoints[0]
            .weight,
        7
    );
    assert_eq!(house.desk.inward(LeaseId::NOBODY, &shown, Client::Java).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_route_that_changed_is_built_again_and_endpoints_are_shared() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    let (stays, other) = (provider("10.0.0.1", 1, ""), provider("10.0.0.2", 1, "group=g1"));
    house.registry.says(&echo(), vec![Arc::clone(&stays), other]);
    until(&mut list, |l| l.instances.len() == 2).await;
    let before = house.catalog.routes().load_full();
    house
        .registry
        .says(&echo(), vec![stays, provider("10.0.0.3", 1, "group=g1")]);
    until(&mut list, |l| l.instances.iter().any(|i| &*i.host == "10.0.0.3")).await;
    let after = house.catalog.routes().load_full();
    let route = |table: &super::route_table::RouteTable, group: &str| {
        Arc::clone(table.route("demo.EchoService", group, "").unwrap())
    };
    assert!(Arc::ptr_eq(&route(&before, ""), &route(&after, "")));
    assert!(!Arc::ptr_eq(&route(&before, "g1"), &route(&after, "g1")));
    house.registry.says(&echo(), vec![]);
    until(&mut list, |l| l.instances.is_empty()).await;
    assert_eq!(
        house.endpoints("g1"),
        Some(vec![]),
        "a known key without instances stays known"
    );
}

#[tokio::test(start_paused = true)]
async fn a_list_stays_warm_for_the_grace_time_and_then_goes() {
    let house = house();
    let lease = house.lease("consumer");
    let second = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    let same = house.desk.follow(second.id(), &echo());
    house.registry.says(&echo(), vec![provider("10.0.0.1", 1, "")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    assert_eq!(
        house.registry.followers(&echo()),
        1,
        "one follow at the adapter for both"
    );
    drop((lease, second, same));
    tokio::time::sleep(Duration::from_secs(50)).await;
    let again = house.lease("consumer");
    assert!(house.desk.follow(again.id(), &echo()).borrow().is_some());
    drop(again);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(house.endpoints("").is_some());
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(house.endpoints("").is_none());
    assert_eq!(house.registry.followers(&echo()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_unfollowed_by_one_lease_stays_with_the_others() {
    let house = house();
    let (lease, second) = (house.lease("consumer"), house.lease("consumer"));
    let mut list = house.desk.follow(lease.id(), &echo());
    house.desk.follow(second.id(), &echo());
    house.registry.says(&echo(), vec![provider("10.0.0.1", 1, "")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    house.desk.unfollow(lease.id(), &echo());
    house.desk.unfollow(lease.id(), &echo());
    house.desk.unfollow(lease.id(), &service("demo.Unknown"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(house.endpoints("").is_some());
    house.desk.unfollow(second.id(), &echo());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(house.endpoints("").is_none(), "though both leases are open");
}

#[tokio::test]
async fn a_publication_gets_an_ingress_port_and_the_call_path_is_told() {
    let mut house = house();
    let lease = house.lease("provider");
    let own = provider("10.0.0.5", 20880, "");
    let outward = house.desk.publish(lease.id(), &echo(), &own).unwrap();
    assert_eq!((outward.host.as_str(), outward.app_port), ("10.0.0.5", 20880));
    assert_eq!(house.desk.publish(lease.id(), &echo(), &own).unwrap(), outward);
    let Some(IngressChange::Open(first)) = house.ingress.recv().await else {
        panic!("the configured port comes first");
    };
    let listens: SocketAddr = first.listener.local_addr().unwrap();
    assert_eq!((listens.port(), first.app), (outward.port, None));
    let Some(IngressChange::Assign { ingress, app }) = house.ingress.recv().await else {
        panic!("then it is assigned");
    };
    assert_eq!((ingress, app), (listens, "127.0.0.1:20880".parse().unwrap()));
    let other = house
        .desk
        .publish(lease.id(), &echo(), &provider("10.0.0.5", 30880, ""))
        .unwrap();
    assert!((42000..43000).contains(&other.port));
    let circle = house
        .desk
        .publish(lease.id(), &echo(), &provider("10.0.0.5", outward.port, ""));
    assert_eq!(circle.unwrap_err().reason(), "already_taken_over");
    let views = house.catalog.view();
    assert_eq!(views.leases[0].publishes.len(), 2);
    house.desk.withdraw(lease.id(), &echo(), &own);
    assert_eq!(house.catalog.view().leases[0].publishes.len(), 1);
    drop(lease);
    assert!(house.catalog.view().leases.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_published_host_that_is_another_machines_is_dialled_as_it_is_written() {
    let house = house();
    let lease = house.lease("both");
    let outward = house
        .desk
        .publish(lease.id(), &echo(), &provider("192.0.2.5", 20880, ""))
        .unwrap();
    let mut list = house.desk.follow(lease.id(), &echo());
    house.registry.says(
        &echo(),
        vec![provider("192.0.2.5", outward.port, "remora.app.port=20880")],
    );
    until(&mut list, |l| l.instances.len() == 1).await;
    assert_eq!(house.endpoints(""), Some(vec![format!("192.0.2.5:{}", outward.port)]));
}

#[tokio::test(start_paused = true)]
async fn a_provider_on_this_host_is_called_directly() {
    let house = open(Scripted::up(), None, Some("10.0.0.5".parse().unwrap()));
    let lease = house.lease("both");
    let outward = house
        .desk
        .publish(lease.id(), &echo(), &provider("10.0.0.5", 20880, ""))
        .unwrap();
    let mut list = house.desk.follow(lease.id(), &echo());
    let published = provider("10.0.0.5", outward.port, "remora.app.port=20880");
    house
        .registry
        .says(&echo(), vec![published, provider("10.0.0.6", outward.port, "")]);
    until(&mut list, |l| l.instances.len() == 2).await;
    let far = format!("10.0.0.6:{}", outward.port);
    assert_eq!(house.endpoints(""), Some(vec![far, "127.0.0.1:20880".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_came_before_the_own_publication_is_looked_at_again() {
    let house = open(Scripted::up(), None, Some("10.0.0.5".parse().unwrap()));
    let lease = house.lease("both");
    let mut list = house.desk.follow(lease.id(), &echo());
    let first = house.catalog.state().policy.ingress.keys().next().copied().unwrap();
    house
        .registry
        .says(&echo(), vec![provider("10.0.0.5", first, "remora.app.port=20880")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    assert_eq!(house.endpoints(""), Some(Vec::new()), "nobody is behind it yet");
    house
        .desk
        .publish(lease.id(), &echo(), &provider("10.0.0.5", 20880, ""))
        .unwrap();
    assert_eq!(house.endpoints(""), Some(vec!["127.0.0.1:20880".into()]));
}

#[tokio::test(start_paused = true)]
async fn addresses_that_must_not_be_dialled_are_left_out_and_shown() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    house.registry.says(
        &echo(),
        vec![
            provider("127.0.0.1", 22, ""),
            provider("169.254.169.254", 80, ""),
            provider("10.0.0.1", 1, ""),
        ],
    );
    until(&mut list, |l| l.instances.len() == 3).await;
    assert_eq!(house.endpoints(""), Some(vec!["10.0.0.1:1".into()]));
    assert_eq!(house.uses(), ["loopback", "link_local", "dialled"]);
    let refused = house.catalog.view().refused;
    let refused: Vec<(&str, &str)> = refused.iter().map(|odd| (&*odd.entry, &*odd.why)).collect();
    assert_eq!(
        refused,
        [
            ("dubbo://127.0.0.1:22", "loopback"),
            ("dubbo://169.254.169.254:80", "link_local")
        ]
    );
    let trial = open(Scripted::up(), None, Some("127.0.0.1".parse().unwrap()));
    let lease = trial.lease("consumer");
    let mut list = trial.desk.follow(lease.id(), &echo());
    trial.registry.says(&echo(), vec![provider("127.0.0.1", 22, "")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    assert_eq!(trial.endpoints(""), Some(vec!["127.0.0.1:22".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_the_operator_wrote_may_name_loopback_but_nothing_of_ours() {
    let house = open(Scripted::of_the_operator(), None, None);
    let lease = house.lease("consumer");
    let published = house
        .desk
        .publish(lease.id(), &echo(), &provider("10.0.0.5", 20880, ""));
    let ingress = published.unwrap().port;
    let mut list = house.desk.follow(lease.id(), &echo());
    let instances = vec![
        provider("127.0.0.1", 22, ""),
        provider("127.0.0.1", ingress, ""),
        provider("127.0.0.1", 20882, ""),
        provider("169.254.169.254", 80, ""),
    ];
    house.registry.says(&echo(), instances);
    until(&mut list, |l| l.instances.len() == 4).await;
    assert_eq!(house.endpoints(""), Some(vec!["127.0.0.1:22".into()]));
}

const DOCUMENT: &str = r#"{"app":"demo","revision":"r1","services":{"g1/demo.EchoService:dubbo":{"group":"g1","name":"demo.EchoService","params":{"timeout":"7000","weight":"9"},"path":"demo.EchoService","port":20880,"protocol":"dubbo"},"demo.Other:tri":{"name":"demo.Other","params":{},"port":50051,"protocol":"tri"}}}"#;

#[tokio::test]
async fn host_names_are_looked_up_and_failures_are_shown() {
    let house = open(Scripted::up(), None, Some("127.0.0.1".parse().unwrap()));
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    house.registry.says(
        &echo(),
        vec![provider("localhost", 7, ""), provider("no-such-host.invalid", 7, "")],
    );
    until(&mut list, |l| l.instances.len() == 2).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while house.endpoints("") != Some(vec!["127.0.0.1:7".into()]) || house.catalog.view().unresolved.is_empty() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{:?} {:?}",
            house.endpoints(""),
            house.catalog.view().unresolved
        );
        tokio::task::yield_now().await;
    }
    assert_eq!(house.catalog.view().unresolved[0].entry, "no-such-host.invalid");
}

#[tokio::test(start_paused = true)]
async fn tagged_and_foreign_entries_have_no_route() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    let tri = url("tri://10.0.0.3:1/demo.EchoService?interface=demo.EchoService");
    house.registry.says(
        &echo(),
        vec![
            provider("10.0.0.1", 1, ""),
            provider("10.0.0.2", 1, "dubbo.tag=gray"),
            tri,
        ],
    );
    until(&mut list, |l| l.instances.len() == 3).await;
    assert_eq!(house.endpoints(""), Some(vec!["10.0.0.1:1".into()]));
    assert_eq!(house.uses(), ["dialled", "shown as it is", "shown as it is"]);
}

#[tokio::test(start_paused = true)]
async fn rules_not_applied_are_kept_by_place() {
    let house = house();
    let rule = UnappliedRule {
        kind: RuleKind::Condition,
        place: "/dubbo/a.B/routers/x".into(),
        text: "=> host = 10.0.0.1".into(),
        why: "it names hosts",
    };
    house
        .desk
        .rules_not_applied("/dubbo/a.B/routers", vec![rule.clone(), rule.clone()]);
    house.desk.rules_not_applied("/dubbo/a.C/routers", vec![rule]);
    assert_eq!(house.catalog.rules_without_effect().len(), 3);
    house.desk.rules_not_applied("/dubbo/a.B/routers", vec![]);
    assert_eq!(house.catalog.rules_without_effect().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_thousand_providers_and_two_thousand_services_are_taken_in_quickly() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    let at = |n: usize, t: usize| {
        provider(
            &format!("10.1.{}.{}", n / 250, n % 250),
            20881,
            &format!("timestamp={t}"),
        )
    };
    let mut all: Vec<Arc<Instance>> = (0..2000).map(|n| at(n, 1)).collect();
    let start = std::time::Instant::now();
    house.registry.says(&echo(), all.clone());
    until(&mut list, |l| l.instances.len() == 2000).await;
    let first = start.elapsed();
    let start = std::time::Instant::now();
    for n in 0..100 {
        all[n] = at(n, 2);
        house.registry.says(&echo(), all.clone());
        until(&mut list, |l| l.instances[n].params.get("timestamp") == Some("2")).await;
    }
    let step = start.elapsed() / 100;
    let snapshot = list.borrow().clone().unwrap();
    let start = std::time::Instant::now();
    assert_eq!(house.desk.inward(LeaseId::NOBODY, &snapshot, Client::Java).len(), 1);
    let inward = start.elapsed();
    let start = std::time::Instant::now();
    let mut lists = Vec::new();
    for n in 0..2000 {
        let name = format!("demo.Service{n}");
        let one = url(&format!(
            "dubbo://10.2.0.1:20881/{name}?interface={name}&application=a&methods=x"
        ));
        house.registry.says(&service(&name), vec![one]);
        lists.push(house.desk.follow(lease.id(), &service(&name)));
    }
    for list in &mut lists {
        until(list, |l| l.instances.len() == 1).await;
    }
    let services = start.elapsed();
    println!(
        "2,000 providers {first:?}, one of them replaced {step:?}, inward {inward:?}, 2,000 services {services:?}"
    );
    assert_eq!(house.catalog.routes().load().len(), 2001);
    assert!(step < Duration::from_millis(500), "{step:?}");
}
