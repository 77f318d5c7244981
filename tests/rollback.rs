// SPDX-License-Identifier: Apache-2.0
//! `remora rollback` and forward again, and `mode: observe`, over the command line; the registry is the embedded one.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod site;

use serde_json::Value;
use site::{Site, get, remora, text, until};

/// A provider whose publication Remora keeps itself, and nobody who watches the file.
const PROVIDER: &str = "lifecycle: { watch_config: false }\nadvertise: 127.0.0.1\n\
    publish: [ { protocol: dubbo, service: a.B, group: blue, address: '127.0.0.1:20880' } ]\n";

fn started(site: &Site) -> site::Running {
    let mut running = site.run();
    let waited = site.ask("wait");
    if !waited.status.success() {
        running.signal("-KILL");
        panic!("{}\n{}", text(&waited), running.said());
    }
    running
}

fn takeover(site: &Site) -> Value {
    let page = text(&get(site.admin, "/takeover"));
    let body = page.get(page.find('{').unwrap()..).unwrap();
    serde_json::from_str(body).unwrap()
}

fn decisions(site: &Site) -> Vec<(String, String, u64)> {
    let view = takeover(site);
    let all = view["decisions"].as_array().unwrap();
    let decision = |known: &Value| {
        let text = |key: &str| known[key].as_str().unwrap().to_owned();
        (text("side"), text("decision"), known["count"].as_u64().unwrap())
    };
    all.iter().map(decision).collect()
}

fn provider(decision: &str) -> Vec<(String, String, u64)> {
    vec![("provider".to_owned(), decision.to_owned(), 1)]
}

fn rollback(site: &Site, flags: &[&str]) -> std::process::Output {
    let admin = site.admin.to_string();
    remora(&[&["rollback", "--admin", &admin], flags].concat())
        .output()
        .unwrap()
}

#[test]
fn what_was_given_back_stays_so_over_a_restart_until_it_is_taken_over_again() {
    let site = Site::new();
    site.write(PROVIDER);
    let mut running = started(&site);
    until("it is taken over", || takeover(&site)["leads_here"] == 1);
    assert_eq!(decisions(&site), provider("taken_over"));

    let done = rollback(&site, &["--wait", "--timeout", "20s"]);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(
        said.contains("rolled back: applications get their own addresses back"),
        "{said}"
    );
    assert!(said.contains("provider rolled_back: 1"), "{said}");
    // It has no session but Remora's, and no registry address that could be changed.
    let last = "nobody calls through here any more; before Remora may be taken away:\n  \
                `publish` in the configuration: 1 entry in the registry ends with Remora\n";
    assert!(said.ends_with(last), "{said}");
    let view = takeover(&site);
    assert_eq!(
        (&view["leads_here"], &view["out_of_the_way"]),
        (&0.into(), &true.into()),
        "{view}"
    );
    let status = site.status();
    let note = status["readiness"]["notes"][0].as_str().unwrap();
    assert!(note.contains("remora rollback --forward"), "{note}");

    running.signal("-TERM");
    assert!(running.end().success());
    let _running = started(&site);
    until("it is published again", || decisions(&site) == provider("rolled_back"));
    let again = rollback(&site, &["--json"]);
    let view: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(view["rolled_back_since"].is_u64(), "asking twice is no error: {view}");

    let forward = rollback(&site, &["--forward", "--wait", "--timeout", "20s"]);
    let said = text(&forward);
    assert_eq!(forward.status.code(), Some(0), "{said}");
    assert!(said.ends_with("1 publication leads here\n"), "{said}");
    let view = takeover(&site);
    let (leads_here, passing) = (&view["leads_here"], &view["passing"]);
    assert_eq!(
        (leads_here, passing),
        (&1.into(), &0.into()),
        "it stands, and alone: {view}"
    );
    assert_eq!(site.status()["readiness"]["notes"].as_array().unwrap().len(), 0);
}

#[test]
fn a_policy_is_taken_over_by_a_reload_and_one_that_names_nothing_is_told_of() {
    let site = Site::new();
    site.write(&format!("{PROVIDER}mode: observe\n"));
    let _running = started(&site);
    until("it is observed", || decisions(&site) == provider("observed"));
    assert_eq!(takeover(&site)["leads_here"], 0);

    for (policy, decision) in [
        ("takeover: { allow: [ { group: blue } ] }", "taken_over"),
        ("takeover: { deny: [ { service: 'a.*' } ] }", "denied"),
        ("takeover: { side: consumer }", "other_side"),
        ("takeover: { percent: 0 }", "not_in_percent"),
        ("takeover: { allow: [ { service: a.Nowhere } ] }", "not_allowed"),
    ] {
        site.write(&format!("{PROVIDER}{policy}\n"));
        let done = site.ask("reload");
        assert!(done.status.success(), "{}", text(&done));
        until(decision, || decisions(&site) == provider(decision));
        let leads = u64::from(decision == "taken_over");
        until("what stands is what was decided", || {
            takeover(&site)["leads_here"] == leads
        });
    }
    let said = text(&rollback(&site, &[]));
    let warning = "takeover.allow names {service: a.Nowhere}: nothing of the kind is published or followed here";
    assert!(said.contains(warning), "{said}");
}

#[test]
fn who_has_no_time_is_told_the_reasons_of_what_he_asked_for() {
    let site = Site::new();
    site.write(PROVIDER);
    let _running = started(&site);
    until("it is taken over", || takeover(&site)["leads_here"] == 1);
    let back = rollback(&site, &["--wait", "--timeout", "0s"]);
    let said = text(&back);
    assert_eq!(back.status.code(), Some(3), "{said}");
    assert!(said.contains("not over yet:\n  1 publication leads here\n"), "{said}");
    let forward = rollback(&site, &["--forward", "--wait", "--timeout", "0s", "--json"]);
    let view: Value = serde_json::from_slice(&forward.stdout).unwrap();
    assert_eq!(
        (&view["asked_for"], &view["done"]),
        (&"forward".into(), &false.into()),
        "{view}"
    );
    let reasons = view["waits_for"].to_string();
    assert!(reasons.contains("in the registry"), "{reasons}");
    assert!(!reasons.contains("remora rollback gives everything back"), "{reasons}");
    assert_eq!(forward.status.code(), Some(3));
}

#[test]
fn what_was_withdrawn_is_told_of_at_once() {
    let site = Site::new();
    site.write(&format!(
        "{PROVIDER}follow: [ {{ protocol: dubbo, service: a.B, group: blue }} ]\n"
    ));
    let _running = started(&site);
    until("it is taken over", || takeover(&site)["leads_here"] == 1);
    assert!(site.ask("withdraw").status.success());
    let forward = rollback(&site, &["--forward", "--wait"]);
    let said = text(&forward);
    assert_eq!(forward.status.code(), Some(1), "{said}");
    assert!(
        said.contains("/forward refused: what is published here was withdrawn"),
        "{said}"
    );
    assert!(
        said.trim_end().ends_with("start it again: then it is taken over"),
        "{said}"
    );
    let back = rollback(&site, &["--wait", "--timeout", "20s"]);
    let said = text(&back);
    assert_eq!(back.status.code(), Some(0), "{said}");
    assert!(said.contains("consumer rolled_back: 1"), "{said}");
    assert!(
        said.contains("withdrawn before (remora withdraw): only lists change"),
        "{said}"
    );
}

#[test]
fn a_proxy_that_is_not_there_is_told_of() {
    let site = Site::new();
    let refused = rollback(&site, &["--wait"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("is it running"), "{}", text(&refused));
}
