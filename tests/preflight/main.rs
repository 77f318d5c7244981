// SPDX-License-Identifier: Apache-2.0
//! `remora preflight` against the embedded registry: a tree with every trouble, what is sent, and registries that are none.
//!
//! `REMORA_GOLDEN=write cargo test --test preflight` writes golden.txt again.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod tree;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use remora::Plugins;
use remora::config::{Checked, Config, Loaded, RegistryEntry, RegistryUrl, check};
use remora::preflight::report::{Report, Verdict};
use remora::preflight::{Detail, Only, PreflightError, Request, page, preflight};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use self::tree::{DEADLINE, Registry, TREE, recorder};

fn checked(config: Config) -> Checked {
    check(&Loaded::of(config), &Plugins::default().served()).unwrap()
}

fn url(addr: SocketAddr) -> RegistryUrl {
    format!("zookeeper://{addr}").parse().unwrap()
}

fn request(registry: RegistryUrl) -> Request {
    Request {
        checked: checked(Config {
            registry,
            ..Config::default()
        }),
        only: Only::default(),
        timeout: DEADLINE,
        looks_at_host: false,
        knocks: false,
    }
}

async fn look(request: &Request) -> Result<Report, PreflightError> {
    preflight(request, &Plugins::default()).await
}

fn codes(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().map(|finding| finding.code.number()).collect()
}

/// What one finding saw, as `subject: seen`.
fn seen(report: &Report, number: &str) -> Vec<String> {
    let finding = report.findings.iter().find(|f| f.code.number() == number);
    let at = finding.into_iter().flat_map(|finding| &finding.at);
    at.map(|at| format!("{}: {}", at.subject, at.seen)).collect()
}

/// Without what changes from run to run.
fn steady(page: &str, addr: SocketAddr) -> String {
    let lines = page.lines().map(|line| {
        let line = line.replace(&addr.to_string(), "REGISTRY");
        if line.contains(" reads, ") && line.ends_with("nothing was written") {
            return "  N reads, N KiB, N ms; nothing was written".to_owned();
        }
        if let Some(at) = line.find("REGISTRY  ZooKeeper ") {
            return format!("{}  ZooKeeper", &line[..at + "REGISTRY".len()]);
        }
        if let Some((front, rest)) = line.split_once("provider.invalid: ") {
            let service = rest.rsplit("; ").next().unwrap();
            return format!("{front}provider.invalid: WHY; {service}");
        }
        match line.split_once(" s ahead of the registry's") {
            Some((front, _)) => format!("{} S s ahead of the registry's", front.rsplit_once(' ').unwrap().0),
            None => line,
        }
    });
    lines.map(|line| line + "\n").collect()
}

#[tokio::test]
async fn a_tree_with_every_trouble_is_told_as_before() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let report = look(&request(url(registry.addr))).await.unwrap();
    assert_eq!(report.verdict, Verdict::NotReady);
    let found = steady(&page(&report, Detail::All), registry.addr);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preflight/golden.txt");
    if std::env::var_os("REMORA_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::write(&golden, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "golden.txt line {}", at + 1);
    }
    assert_eq!(found.lines().count(), expected.lines().count());
    // The same once more, byte for byte.
    let again = look(&request(url(registry.addr))).await.unwrap();
    assert_eq!(steady(&page(&again, Detail::All), registry.addr), found);
}

#[tokio::test]
async fn programs_find_the_same_in_json() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let report = look(&request(url(registry.addr))).await.unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "not_ready");
    let finding = &json["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["severity"]),
        (&"P101".into(), &"not_ready".into())
    );
    assert_eq!(finding["at"][0]["subject"], "10.0.0.5");
    let services = json["services"].as_array().unwrap();
    let echo = services
        .iter()
        .find(|service| service["name"] == "demo.EchoService")
        .unwrap();
    assert_eq!(echo["providers"][0]["before"], "10.0.0.5:20880");
    assert_eq!(echo["handed"][0]["stands_for"], 2);
    assert_eq!(echo["consumers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn only_reads_are_sent_and_no_watch() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let (addr, record) = recorder(registry.addr).await;
    let url = format!("zookeeper://user:password@{addr}").parse().unwrap();
    look(&request(url)).await.unwrap();
    let record = record.lock().unwrap().clone();
    // exists, getData, getChildren, ping, auth, closeSession; four-letter words on connections of their own.
    let allowed = ["greeting", "3", "4", "8", "11", "100", "-11", "srvr", "conf"];
    let others: Vec<_> = record.keys().filter(|what| !allowed.contains(&what.as_str())).collect();
    assert!(others.is_empty(), "{others:?} of {record:?}");
    assert_eq!((record["greeting"], record["100"], record["-11"]), (1, 1, 1));
    assert!(record["8"] > 50, "{record:?}");
}

#[tokio::test]
async fn one_service_alone_is_looked_at() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let only = |names: &[&str]| Request {
        only: Only::new(names.iter().map(|n| (*n).to_owned()).collect()),
        ..request(url(registry.addr))
    };
    let report = look(&only(&["demo.Echo*"])).await.unwrap();
    let names: Vec<&str> = report.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["demo.EchoService"]);
    assert!(
        codes(&report).contains("P201") && !codes(&report).contains("P208"),
        "{:?}",
        codes(&report)
    );
    let error = look(&only(&["demo.EchoServices"])).await.unwrap_err().to_string();
    assert!(
        error.contains("no service is called demo.EchoServices, did you mean demo.EchoService?"),
        "{error}"
    );
}

#[tokio::test]
async fn configured_roots_and_ports_count() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let mut asked = request(url(registry.addr));
    let text = "{dubbo: {ingress: \"0.0.0.0:30881\"}, bolt: off}";
    let protocols = serde_saphyr::from_str(text).unwrap();
    let mut config = Config {
        registry: url(registry.addr),
        protocols,
        ..Config::default()
    };
    if let remora::config::Door::On(door) = &mut config.facades.zookeeper {
        door.service_roots = Some(vec!["/sofa-rpc".to_owned()]);
    }
    asked.checked = checked(config);
    let report = look(&asked).await.unwrap();
    let codes = codes(&report);
    assert!(codes.contains("P222") && !codes.contains("P101"), "{codes:?}");
    let bolt = "demo.SofaService:1.0: bolt at 10.0.0.23:12200 of sofa-provider";
    assert!(
        seen(&report, "P301").contains(&bolt.to_owned()),
        "{:?}",
        seen(&report, "P301")
    );
}

#[tokio::test]
async fn an_application_in_two_registries_is_told() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let entry = |name: &str| RegistryEntry {
        name: name.to_owned(),
        registry: url(registry.addr),
        facades: remora::config::Facades::none(),
    };
    let mut asked = request(url(registry.addr));
    asked.checked.config.registries = vec![entry("east"), entry("west")];
    let report = look(&asked).await.unwrap();
    assert!(seen(&report, "P220").contains(&"echo-provider: 10.0.0.5:20880 in east and west".to_owned()));
}

#[tokio::test]
async fn an_empty_registry_is_told() {
    let registry = Registry::start().await;
    let report = look(&request(url(registry.addr))).await.unwrap();
    assert_eq!(
        (report.verdict, codes(&report)),
        (Verdict::ReadyWithWarnings, ["P226"].into())
    );
    let error = look(&request(
        format!("zookeeper://{}/nowhere", registry.addr).parse().unwrap(),
    ))
    .await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("has no node /nowhere: is the path in the registry's address right?"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_zookeeper_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let told = look(&request(url(nobody))).await.unwrap_err().to_string();
    assert!(
        told.contains("no session at zookeeper://") && told.contains("refused"),
        "{told}"
    );
    for (answer, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
            "an HTTP server listens there",
        ),
        (&[0x15, 3, 3, 0, 2, 2, 22][..], "it speaks TLS"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = [0; 512];
                let _ = stream.read(&mut question).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
            }
        });
        let told = look(&request(url(addr))).await.unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn a_registry_that_has_nothing_to_look_at_is_explained() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let entry = "instances: [ { protocol: dubbo, service: a.B, address: '10.0.0.5:20880' } ]\n";
    std::fs::write(file.path(), entry).unwrap();
    let at = |path: &Path| format!("file://{}", path.display()).parse().unwrap();
    for (registry, words) in [
        (RegistryUrl::Embedded, "facades.zookeeper.raw"),
        (
            at(file.path()),
            "1 instances, its operator's own words: nobody publishes in a file",
        ),
        (
            at(Path::new("/nowhere/services.yaml")),
            "registry file:///nowhere/services.yaml is out of reach: No such file",
        ),
    ] {
        let told = look(&request(registry)).await.unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
}

#[tokio::test]
async fn ports_of_this_host_that_are_taken_are_told() {
    let registry = Registry::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap();
    let mut asked = request(url(registry.addr));
    asked.looks_at_host = true;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    asked.checked.config.admin.listen = remora::config::Address(free.local_addr().unwrap());
    drop(free);
    if let remora::config::Door::On(door) = &mut asked.checked.config.facades.zookeeper {
        door.listen = remora::config::Address(port);
    }
    let report = look(&asked).await.unwrap();
    let told = seen(&report, "P102");
    assert!(
        told.contains(&format!("facades.zookeeper.listen: {port}: something listens there")),
        "{told:?}"
    );
}

#[tokio::test]
async fn what_takeover_leaves_is_told_with_its_reason() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let mut asked = request(url(registry.addr));
    let takeover = "{deny: [{service: demo.Echo*}, {service: no.such}, {application: web, side: consumer}]}";
    asked.checked = checked(Config {
        registry: url(registry.addr),
        takeover: serde_saphyr::from_str(takeover).unwrap(),
        ..Config::default()
    });
    let report = look(&asked).await.unwrap();
    assert_eq!(seen(&report, "P221"), ["takeover.deny[1]: service: no.such"]);
    let left = seen(&report, "P311");
    let begins = |text: &str| left.iter().any(|told| told.starts_with(text));
    assert!(
        begins("blue/demo.EchoService:1.0.0: published as it is at 10.0.0.5:20880 of echo-provider: "),
        "{left:?}"
    );
    assert!(
        begins("demo.EchoService: handed out as it is to batch at 10.0.0.8: "),
        "{left:?}"
    );
    let echo = report
        .services
        .iter()
        .find(|service| service.name == "demo.EchoService")
        .unwrap();
    let handed: Vec<&str> = echo.handed.iter().map(|entry| entry.address.as_str()).collect();
    assert_eq!(handed, ["10.0.0.5:20880", "10.0.0.6:20880"]);
    assert!(echo.providers.iter().all(|provider| provider.left.is_some()));
}

#[tokio::test]
async fn a_share_is_told_host_by_host_on_both_sides() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    let mut asked = request(url(registry.addr));
    // Places of addresses: 40 and 61 for the providers, 69 for web's host, 98 for batch's.
    asked.checked = checked(Config {
        registry: url(registry.addr),
        takeover: serde_saphyr::from_str("{percent: 70}").unwrap(),
        ..Config::default()
    });
    let report = look(&asked).await.unwrap();
    let echo = report.services.iter().find(|s| s.name == "demo.EchoService").unwrap();
    let left: Vec<(&str, bool)> = echo
        .consumers
        .iter()
        .map(|c| (&*c.application, c.left.is_some()))
        .collect();
    assert_eq!(left, [("batch", true), ("web", false)]);
    assert_eq!(echo.handed[0].stands_for, Some(2), "as it is shown to web");
    let printed = page(&report, Detail::All);
    assert!(
        printed.contains("    shown as it is to batch at 10.0.0.8 (P311)\n"),
        "{printed}"
    );
    assert!(
        seen(&report, "P311")
            .iter()
            .any(|told| told.starts_with("demo.EchoService: handed out as it is to batch at 10.0.0.8: "))
    );
}

#[tokio::test]
async fn an_entry_of_an_application_is_decided_with_the_services_that_it_stands_for() {
    let registry = Registry::start().await;
    registry.build(TREE).await;
    for (takeover, is_left) in [
        ("{deny: [{service: demo.DepotService}]}", true),
        ("{allow: [{service: demo.DepotService}]}", false),
        ("{allow: [{service: demo.Other}]}", true),
    ] {
        let mut asked = request(url(registry.addr));
        asked.checked = checked(Config {
            registry: url(registry.addr),
            takeover: serde_saphyr::from_str(takeover).unwrap(),
            ..Config::default()
        });
        let report = look(&asked).await.unwrap();
        let depot = report
            .services
            .iter()
            .find(|s| s.name == "depot" && s.is_application)
            .unwrap();
        let known = depot.providers.iter().find(|p| p.before == "10.0.0.19:20880").unwrap();
        assert_eq!(known.left.is_some(), is_left, "{takeover}: {known:?}");
        let named_nothing = seen(&report, "P221");
        assert_eq!(
            named_nothing.is_empty(),
            !takeover.contains("Other"),
            "{named_nothing:?}"
        );
    }
}

#[tokio::test]
async fn providers_that_do_not_answer_are_told_when_it_knocks() {
    let registry = Registry::start().await;
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [there, gone] = [&open, &closed].map(|listener| listener.local_addr().unwrap());
    drop(closed);
    for addr in [there, gone] {
        let node = format!("E /dubbo/demo.A/providers + dubbo://{addr}/demo.A?application=a&interface=demo.A");
        registry.build(&node).await;
    }
    let mut asked = request(url(registry.addr));
    asked.knocks = true;
    // On one machine loopback is an address like any other.
    asked.checked.config.advertise = Some("127.0.0.1".parse().unwrap());
    let told = seen(&look(&asked).await.unwrap(), "P224");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with(&format!("{gone}: ")) && told[0].ends_with("; demo.A"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_registry_that_never_answers_costs_the_time_that_it_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let mut asked = request(url(addr));
    asked.timeout = std::time::Duration::from_secs(1);
    let begin = std::time::Instant::now();
    let told = look(&asked).await.unwrap_err().to_string();
    assert!(told.contains("no session") && told.contains("within 1s"), "{told}");
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
    held.abort();
}
