// SPDX-License-Identifier: Apache-2.0
//! Which rules are kept from an application, and what it is shown instead.
#![allow(clippy::unwrap_used)]

use remora_naming::dubbo_url::encode_component;
use remora_naming::rules::{in_child, in_config, in_mesh, subject};
use remora_registry::RuleKind;
use serde_json::Value;

fn child(url: &str, rule: &str) -> String {
    encode_component(&url.replace("RULE", &encode_component(rule)))
}

fn kept(url: &str, rule: &str) -> Option<RuleKind> {
    in_child("/dubbo/a.B/routers", &child(url, rule)).map(|r| r.kind)
}

#[test]
fn old_condition_rules_that_name_provider_hosts_are_kept() {
    let url = "condition://0.0.0.0/a.B?category=routers&dynamic=false&force=true&priority=0&rule=RULE";
    for rule in [
        "host = 10.0.0.7 => host = 10.0.0.5",
        " => host != 10.0.0.5",
        "method = find* => provider.host = $host",
        "=> application = x & address = 10.0.0.5:20880",
        "=> port = 20880",
        "host = 10.20.153.10",
    ] {
        assert_eq!(kept(url, rule), Some(RuleKind::Condition), "{rule}");
    }
    for rule in [
        "method = find* => region = $region",
        "host = 10.0.0.7 =>",
        "host = 10.0.0.7 => false",
        "application != x => ghost = y",
    ] {
        assert_eq!(kept(url, rule), None, "{rule}");
    }
    let route = "route://0.0.0.0/a.B?category=routers&router=condition&rule=RULE";
    assert_eq!(kept(route, "=> host = 10.0.0.5"), Some(RuleKind::Condition));
}

#[test]
fn old_scripts_and_address_overrides_are_kept() {
    assert_eq!(
        kept("script://0.0.0.0/a.B?rule=RULE", "function route(i){return i}"),
        Some(RuleKind::Script)
    );
    assert_eq!(
        kept("route://0.0.0.0/a.B?router=script&rule=RULE", "x"),
        Some(RuleKind::Script)
    );
    for url in [
        "override://10.0.0.5:20880/a.B?category=configurators&weight=200",
        "override://0.0.0.0:20880/a.B?category=configurators&weight=200",
        "override://10.0.0.5/a.B?category=configurators&weight=200",
        "absent://10.0.0.5:20880/a.B?timeout=1",
        "override://0.0.0.0/a.B?providerAddresses=10.0.0.5:20880&side=consumer&timeout=1",
    ] {
        assert_eq!(kept(url, ""), Some(RuleKind::Configurator), "{url}");
    }
    for url in [
        "override://0.0.0.0/a.B?category=configurators&dynamic=false&weight=200",
        "override://anyhost/a.B?timeout=1",
        "empty://0.0.0.0/a.B?category=configurators",
        "tag://0.0.0.0/a.B?priority=1",
        "no url",
    ] {
        assert_eq!(kept(url, ""), None, "{url}");
    }
}

#[test]
fn the_text_of_a_kept_rule_is_cut_between_characters() {
    let rule = format!("=> host = {}", "中".repeat(200));
    let kept = in_child("/p", &child("condition://0.0.0.0/a.B?rule=RULE", &rule)).unwrap();
    assert!(kept.text.len() <= 200 && kept.text.starts_with("=> host = 中"));
    assert_eq!(kept.place, "/p");
}

fn shown(path: &str, data: &str) -> (usize, Value) {
    let (kept, shown) = in_config(path, data.as_bytes()).unwrap();
    (kept.len(), serde_json::from_slice(&shown).unwrap())
}

const CONDITIONS: &str = "---
scope: service
force: true
runtime: true
enabled: yes
key: a.B
conditions:
- method=sayHello => region=hangzhou
- method=sayHi => address=*:20881
- '=> host != 10.0.0.5'
...
";

#[test]
fn only_the_conditions_that_name_hosts_are_taken_out() {
    let (kept, shown) = shown("/dubbo/config/dubbo/a.B::.condition-router", CONDITIONS);
    assert_eq!(kept, 2);
    let expected = r#"{"scope":"service","force":true,"runtime":true,"enabled":true,"key":"a.B","conditions":["method=sayHello => region=hangzhou"]}"#;
    assert_eq!(shown.to_string(), expected);
}

#[test]
fn a_condition_rule_without_remaining_conditions_is_switched_off_not_emptied() {
    let rule = "configVersion: v3.0\nscope: application\nkey: demo\nforce: true\nconditions: ['=> host = 10.0.0.5']\n";
    let (kept, shown) = shown("/dubbo/config/dubbo/demo.condition-router", rule);
    assert_eq!(
        (kept, &shown["enabled"], &shown["key"]),
        (1, &Value::from(false), &Value::from("demo"))
    );
    assert_eq!(shown["conditions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn conditions_of_3_1_are_looked_into() {
    let rule = "configVersion: v3.1\nkey: a.B\nconditions:\n- from: {match: 'region=hz'}\n  to: [{match: 'host=10.0.0.5', weight: 100}]\n- from: {match: 'host=10.0.0.7'}\n  to: [{match: 'env=gray'}]\n";
    let (kept, shown) = shown("/c/a.B.condition-router", rule);
    assert_eq!((kept, shown["conditions"].as_array().map(Vec::len)), (1, Some(1)));
}

#[test]
fn tags_with_addresses_lose_them() {
    let rule = "force: false\nruntime: true\nenabled: true\nkey: demo\nconfigVersion: v3.0\ntags:\n- name: gray\n  addresses: ['10.0.0.5:20880']\n- name: env\n  match: [{key: env, value: {exact: gray}}]\n";
    let (kept, shown) = shown("/dubbo/config/dubbo/demo.tag-router", rule);
    assert_eq!(kept, 1);
    assert_eq!(
        shown["tags"].to_string(),
        r#"[{"name":"env","match":[{"key":"env","value":{"exact":"gray"}}]}]"#
    );
    let only = "enabled: true\nkey: demo\ntags:\n- {name: gray, addresses: ['10.0.0.5:20880']}\n";
    let (_, shown) = self::shown("/dubbo/config/dubbo/demo.tag-router", only);
    assert_eq!(
        (&shown["enabled"], shown["tags"].to_string().as_str()),
        (&Value::from(false), "[]")
    );
}

#[test]
fn configurators_with_addresses_are_taken_out() {
    let rule = "configVersion: v2.7\nscope: service\nkey: a.B\nenabled: true\nconfigs:\n- {side: provider, addresses: ['10.0.0.5:20880'], parameters: {weight: 200}}\n- {side: consumer, addresses: ['0.0.0.0'], parameters: {timeout: 5000}}\n- {side: consumer, providerAddresses: ['10.0.0.5:20880'], parameters: {timeout: 1}}\n- {side: consumer, match: {address: {exact: 10.0.0.7}}, parameters: {timeout: 1}}\n";
    let (kept, shown) = shown("/dubbo/config/dubbo/a.B::.configurators", rule);
    assert_eq!((kept, shown["configs"].as_array().map(Vec::len)), (3, Some(1)));
    let urls = r#"["override://10.0.0.5:20880/a.B?weight=1","override://0.0.0.0/a.B?timeout=1"]"#;
    let (kept, shown) = self::shown("/dubbo/config/dubbo/a.B::.configurators", urls);
    assert_eq!(
        (kept, shown.to_string().as_str()),
        (1, r#"["override://0.0.0.0/a.B?timeout=1"]"#)
    );
}

#[test]
fn scripts_are_kept_whole() {
    let rule = "scope: application\nkey: demo\nenabled: true\ntype: javascript\nscript: |\n  (function route(i){ return i; }(invokers));\n";
    let (kept, shown) = shown("/dubbo/config/dubbo/demo.script-router", rule);
    assert_eq!((kept, &shown["enabled"]), (1, &Value::from(false)));
    assert!(shown["script"].is_string());
}

#[test]
fn everything_else_passes() {
    let harmless = "key: a.B\nconditions: ['method=x => region=hz']\n";
    for (path, data) in [
        ("/dubbo/config/dubbo/a.B.condition-router", harmless),
        ("/dubbo/config/dubbo/demo.MESHAPPRULE", "host: 10.0.0.5"),
        ("/dubbo/config/dubbo/dubbo.properties", "dubbo.protocol.host=10.0.0.5"),
        ("/dubbo/config/dubbo/demo.tag-router", ""),
        ("/dubbo/config/dubbo/demo.tag-router", "key: demo\ntags: []\n"),
        (
            "/dubbo/config/dubbo/a.B.configurators",
            "key: a.B\nconfigs: [{parameters: {a: 1}}]\n",
        ),
    ] {
        assert_eq!(in_config(path, data.as_bytes()), None, "{path}");
    }
}

#[test]
fn what_cannot_be_read_is_kept_whole_and_quickly() {
    let deep = "[".repeat(5000);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n";
    let long = format!("key: {}", "x".repeat(300 << 10));
    for data in [deep.as_str(), bomb, &long, "key: [", "just words", "\u{1}"] {
        let (kept, shown) = in_config("/c/a.B.condition-router", data.as_bytes()).unwrap();
        assert!(kept[0].why.starts_with("it cannot be read") && kept[0].text.len() <= 200);
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        assert_eq!(shown["enabled"], false);
    }
    assert!(in_config("/c/a.B.condition-router", &[0xff, 0xfe, 0x00]).is_some());
}

#[test]
fn a_mesh_rule_is_reported_only_if_it_tells_providers_apart() {
    let path = "/dubbo/config/dubbo/shop.MESHAPPRULE";
    let rule = "kind: DestinationRule\nspec: { subsets: [{ name: gray, labels: { env: gray } }] }";
    assert_eq!(in_mesh(path, rule.as_bytes()).unwrap().kind, RuleKind::Mesh);
    assert_eq!(in_mesh(path, b"kind: VirtualService"), None);
    assert_eq!(in_mesh("/dubbo/config/dubbo/shop.tag-router", rule.as_bytes()), None);
}

#[test]
fn the_place_of_a_rule_tells_what_it_is_about() {
    for (place, about) in [
        (
            "/dubbo/demo.Echo/configurators/override%3A%2F%2F10.0.0.5",
            "service demo.Echo",
        ),
        ("/dubbo/*/routers/condition%3A%2F%2F0.0.0.0", "everything"),
        (
            "/dubbo/config/dubbo/demo.Echo:1.0.0:blue.condition-router",
            "service blue/demo.Echo:1.0.0",
        ),
        ("/dubbo/config/dubbo/demo.Echo::.configurators", "service demo.Echo"),
        ("/dubbo/config/dubbo/demo.Echo.condition-router", "service demo.Echo"),
        ("/dubbo/config/dubbo/shop.configurators", "application shop"),
        ("/dubbo/config/dubbo/my.shop.tag-router", "application my.shop"),
        ("/dubbo/config/dubbo/shop.MESHAPPRULE", "application shop"),
        (
            "demo.Echo:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA.CONFIG",
            "service demo.Echo:1.0",
        ),
        ("", "application "),
    ] {
        assert_eq!(subject(place), about, "{place}");
    }
}
