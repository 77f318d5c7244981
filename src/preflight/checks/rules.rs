// SPDX-License-Identifier: Apache-2.0
//! Governance rules: those that doors keep from applications, and those that would find nothing behind a takeover.

use std::collections::BTreeSet;

use remora_naming::dubbo_url;
use remora_registry::survey::SurveyedRule;

use super::super::codes::Code;
use super::super::only::Only;
use super::super::report::Findings;
use super::super::scene::Scene;
use super::{few, line};

pub(in super::super) fn check(scene: &Scene<'_>, only: &Only, findings: &mut Findings) {
    let unlike = unlike(scene);
    for rule in scene.looked.iter().flat_map(|looked| &looked.survey.rules) {
        let about = subject_of(&rule.place);
        if !only.has(&about) && !scene.publishers.contains(about.as_str()) {
            continue;
        }
        for kept in &rule.kept {
            let seen = format!("{} rule {}: {}", kept.kind.label(), line(&kept.text, 160), kept.why);
            findings.add(Code::RuleNamesHosts, &about, seen);
        }
        if rule.kept.is_empty() {
            by_parameter(scene, &unlike, &about, rule, findings);
        }
    }
}

/// Providers that are shown as one although they differ.
struct Unlike {
    service: String,
    subject: String,
    parameters: BTreeSet<String>,
}

fn unlike(scene: &Scene<'_>) -> Vec<Unlike> {
    let all = scene.lists.iter().flat_map(|listed| {
        listed.merged.iter().map(|merged| Unlike {
            service: listed.target().name().to_string(),
            subject: listed.subject(&merged.shown),
            parameters: merged.differences().into_iter().map(|d| d.name).collect(),
        })
    });
    all.filter(|unlike| !unlike.parameters.is_empty()).collect()
}

/// A rule that passes, but picks providers by what differs between those that consumers are shown as one.
fn by_parameter(scene: &Scene<'_>, unlike: &[Unlike], about: &str, rule: &SurveyedRule, findings: &mut Findings) {
    let keys = picks(&rule.text);
    if keys.is_empty() {
        return;
    }
    // One for an application concerns whatever it consumes.
    let is_of_service = scene.names.contains(about);
    for unlike in unlike.iter().filter(|unlike| !is_of_service || unlike.service == about) {
        let lost: BTreeSet<&String> = unlike.parameters.intersection(&keys).collect();
        if !lost.is_empty() {
            let seen = format!("by {}, rule of {about}: {}", few(&lost), line(&rule.text, 160));
            findings.add(Code::RuleByParameter, &unlike.subject, seen);
        }
    }
}

/// What a rule is about: the service whose list it stands in, or the key in the config centre, which is a service or an
/// application.
fn subject_of(place: &str) -> String {
    let mut parts = place.rsplit('/');
    let (last, dir, service) = (parts.next(), parts.next(), parts.next());
    if let (Some("routers" | "configurators"), Some(service)) = (dir, service) {
        return dubbo_url::decode_component(service).unwrap_or_else(|_| service.to_owned());
    }
    let key = last.unwrap_or_default();
    let key = key.rsplit_once('.').map_or(key, |(key, _)| key);
    // `<group>/<service>:<version>`, with `*` for the slash, or `<service>:<version>:<group>`.
    let key = key.rsplit_once('*').map_or(key, |(_, key)| key);
    key.split(':').next().unwrap_or(key).to_owned()
}

/// The parameters by which a rule picks providers: keys on the right of a condition's arrow, keys of a tag's match.
fn picks(text: &str) -> BTreeSet<String> {
    let decoded = dubbo_url::decode_component(text).unwrap_or_else(|_| text.to_owned());
    let mut keys = BTreeSet::new();
    for line in decoded.lines() {
        if let Some((_, right)) = line.split_once("=>") {
            let pairs = right.split('&').filter_map(|pair| {
                let end = pair.find(['=', '!'])?;
                pair.get(..end)
            });
            keys.extend(pairs.map(|key| key.trim().trim_start_matches("provider.").to_owned()));
        }
        let key = line.trim().trim_start_matches("- ").strip_prefix("key:");
        keys.extend(key.map(|key| key.trim().trim_matches(['"', '\'']).to_owned()));
    }
    keys.retain(|key| !key.is_empty() && !matches!(key.as_str(), "method" | "methods" | "arguments" | "attachments"));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_tell_what_a_rule_is_about() {
        for (place, about) in [
            ("/dubbo/demo.Echo/routers/condition%3A%2F%2F0.0.0.0%2Fx", "demo.Echo"),
            ("/dubbo/config/dubbo/demo.Echo::.condition-router", "demo.Echo"),
            ("/dubbo/config/dubbo/blue*demo.Echo:1.0.0.configurators", "demo.Echo"),
            ("/dubbo/config/dubbo/shop.tag-router", "shop"),
        ] {
            assert_eq!(subject_of(place), about, "{place}");
        }
    }

    #[test]
    fn what_a_rule_picks_by_is_on_its_right() {
        let picked = |text: &str| picks(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            picked("host = 10.0.0.7 => region = hz & provider.env != gray"),
            "env region"
        );
        assert_eq!(
            picked("condition://0.0.0.0/x?rule=method%3Dfind*%20%3D%3E%20region%3Dhz"),
            "region"
        );
        assert_eq!(
            picked("tags:\n- name: gray\n  match:\n  - key: env\n    value:\n      exact: gray"),
            "env"
        );
        assert_eq!(picked("conditions:\n- method=find* => \n"), "");
    }
}
