// SPDX-License-Identifier: Apache-2.0
//! Which collapses are held, and for how long.

use super::*;
use crate::discovery::test_support::provider;

fn list(hosts: std::ops::Range<usize>) -> Vec<Arc<Instance>> {
    hosts.map(|n| provider(&format!("10.0.0.{n}"), 20880, "")).collect()
}

fn judge(guard: &mut Guard, last: &[Arc<Instance>], fresh: &[Arc<Instance>], is_reconnect: bool) -> usize {
    match guard.judge(
        &GuardConfig::default(),
        "demo.Echo",
        last,
        fresh,
        is_reconnect,
        Instant::now(),
    ) {
        Verdict::Believed => 0,
        Verdict::Holding(n) => n,
    }
}

#[test]
fn a_collapse_is_held_until_most_are_back() {
    let all = list(0..10);
    let mut guard = Guard::default();
    assert_eq!(judge(&mut guard, &all, &[], false), 10);
    assert_eq!(judge(&mut guard, &all, &all[..4], false), 6);
    assert_eq!(judge(&mut guard, &all, &all[..5], false), 0);
    assert!(guard.held().is_empty());
}

#[test]
fn a_small_step_and_a_replacement_are_believed() {
    let all = list(0..10);
    assert_eq!(judge(&mut Guard::default(), &all, &all[..5], false), 0);
    assert_eq!(judge(&mut Guard::default(), &all, &list(20..30), false), 0);
}

#[test]
fn services_of_one_address_are_held_each_for_itself() {
    let services: Vec<_> = ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
        .iter()
        .map(|version| {
            let mut instance = (*provider("10.0.0.1", 20880, "")).clone();
            instance.id = (*version).into();
            instance.key = Some(ServiceKey::new("demo.Echo", "", version));
            Arc::new(instance)
        })
        .collect();
    // Half of the directory is left, but nothing of two services.
    assert_eq!(judge(&mut Guard::default(), &services, &services[..2], true), 2);
    assert_eq!(judge(&mut Guard::default(), &services, &services[..2], false), 0);
    let mut guard = Guard::default();
    assert_eq!(judge(&mut guard, &services, &[], true), 4);
    assert_eq!(judge(&mut guard, &services, &services[..1], true), 3);
    assert_eq!(judge(&mut guard, &services, &services[..3], true), 1);
    assert_eq!(judge(&mut guard, &services, &services, true), 0);
}

fn judge_at(guard: &mut Guard, last: &[Arc<Instance>], fresh: &[Arc<Instance>], now: Instant) -> usize {
    match guard.judge(&GuardConfig::default(), "demo.Echo", last, fresh, false, now) {
        Verdict::Believed => 0,
        Verdict::Holding(n) => n,
    }
}

#[test]
fn withdrawals_with_time_between_them_are_believed_down_to_nothing() {
    let all = list(0..10);
    let mut guard = Guard::default();
    let begin = Instant::now();
    for left in (0..10).rev() {
        let now = begin + MOMENT * u32::try_from(10 - left).unwrap();
        assert_eq!(judge_at(&mut guard, &all[..=left], &all[..left], now), 0, "{left} left");
    }
}

#[test]
fn a_list_that_falls_apart_in_a_moment_is_held_as_a_whole() {
    let all = list(0..10);
    let mut guard = Guard::default();
    let begin = Instant::now();
    for left in (5..10).rev() {
        let now = begin + Duration::from_millis(100) * u32::try_from(10 - left).unwrap();
        assert_eq!(judge_at(&mut guard, &all[..=left], &all[..left], now), 0, "{left} left");
    }
    let now = begin + Duration::from_secs(1);
    assert_eq!(judge_at(&mut guard, &all[..5], &all[..4], now), 6);
    let fresh = |instances: &[Arc<Instance>]| Snapshot {
        target: crate::discovery::test_support::service("demo.Echo"),
        instances: instances.to_vec(),
        malformed: vec![],
        foreign: vec![],
        source: remora_registry::Source::Registry,
    };
    // What was believed to be gone is shown again when it has answered.
    assert!(guard.has_unproven());
    assert_eq!(guard.shown(&fresh(&all[..4])).instances.len(), 5);
    assert_eq!(guard.probed(&[true, true, true, true, true, false], now), 1);
    assert!(!guard.has_unproven());
    assert_eq!(guard.shown(&fresh(&all[..4])).instances.len(), 9);
    // The rest goes on falling apart.
    let shown = guard.shown(&fresh(&all[..4])).instances;
    assert_eq!(judge_at(&mut guard, &shown, &[], now), 9);
}

#[test]
fn a_provider_that_came_back_meanwhile_is_not_missed() {
    let all = list(0..4);
    let mut guard = Guard::default();
    let now = Instant::now();
    assert_eq!(judge_at(&mut guard, &all, &all[..3], now), 0);
    assert_eq!(judge_at(&mut guard, &all[..3], &all, now), 0);
    assert_eq!(judge_at(&mut guard, &all, &all[..2], now), 0);
    assert_eq!(judge_at(&mut guard, &all[..2], &all[..1], now), 3);
}

#[test]
fn a_service_that_is_excepted_is_believed() {
    let all = list(0..10);
    let config = GuardConfig {
        off_for: vec!["demo.Other".into(), "com.example.*".into()],
        ..GuardConfig::default()
    };
    for (name, is_held) in [
        ("demo.Other", false),
        ("com.example.Echo", false),
        ("demo.OtherOne", true),
    ] {
        let verdict = Guard::default().judge(&config, name, &all, &[], true, Instant::now());
        assert_eq!(verdict != Verdict::Believed, is_held, "{name}");
    }
}

#[test]
fn the_last_one_is_held_only_after_a_reconnect() {
    let one = list(0..1);
    assert_eq!(judge(&mut Guard::default(), &one, &[], false), 0);
    assert_eq!(judge(&mut Guard::default(), &one, &[], true), 1);
}

#[test]
fn what_does_not_answer_goes_and_the_rest_goes_in_time() {
    let all = list(0..4);
    let now = Instant::now();
    let mut guard = Guard::default();
    assert_eq!(judge(&mut guard, &all, &[], false), 4);
    assert_eq!(guard.probed(&[true, false, true, false], now), 2);
    assert_eq!(guard.held(), &[Arc::clone(&all[0]), Arc::clone(&all[2])]);
    assert_eq!(guard.probed(&[true, true], now + MAX_HOLD + Duration::from_secs(1)), 2);
}

#[test]
fn a_provider_that_registers_again_is_not_held_twice() {
    let all = list(0..4);
    let mut guard = Guard::default();
    assert_eq!(judge(&mut guard, &all, &[], false), 4);
    let again = [provider("10.0.0.0", 20880, "timestamp=2")];
    assert_eq!(judge(&mut guard, &all, &again, false), 3);
}

#[test]
fn services_that_fall_apart_one_after_the_other_are_all_held() {
    let offered = |version: &str| -> Vec<Arc<Instance>> {
        let instances = list(0..4).into_iter().map(|instance| {
            let mut instance = Instance::clone(&instance);
            instance.id = format!("{}-{version}", instance.host).into();
            instance.key = Some(ServiceKey::new("demo.Echo", "", version));
            Arc::new(instance)
        });
        instances.collect()
    };
    // One provider is taken away after the other, each with both versions.
    let mut all: Vec<_> = offered("1.0.0").into_iter().chain(offered("2.0.0")).collect();
    all.sort_by(|a, b| (&a.host, &a.id).cmp(&(&b.host, &b.id)));
    let mut guard = Guard::default();
    let mut shown = all.clone();
    let now = Instant::now();
    for gone in 1..=all.len() {
        judge_at(&mut guard, &shown, &all[gone..], now);
        guard.probed(&vec![true; guard.held().len()], now);
        shown = all[gone..].iter().chain(guard.held()).cloned().collect();
    }
    assert_eq!(guard.held().len(), all.len());
}

/// What the providers on these hosts offer, in four versions each: at their own port, or at an ingress.
fn offers(hosts: &[&str], is_taken: bool) -> Vec<Arc<Instance>> {
    let mut all = Vec::new();
    for host in hosts {
        for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0"] {
            let (port, marker) = if is_taken {
                (20881, "remora.app.port=20880")
            } else {
                (20880, "")
            };
            let mut instance = Instance::clone(&provider(host, port, marker));
            instance.id = format!("{host}-{port}-{version}").into();
            instance.key = Some(ServiceKey::new("demo.Echo", "", version));
            all.push(Arc::new(instance));
        }
    }
    all
}

#[test]
fn a_provider_that_ends_while_another_gets_another_address_is_not_held() {
    for is_taken in [false, true] {
        let (before, after) = (
            offers(&["10.0.0.1", "10.0.0.2"], is_taken),
            offers(&["10.0.0.1"], !is_taken),
        );
        let mut guard = Guard::default();
        let now = Instant::now();
        // One name after the other, as a registry's transactions come, and the one that ends goes between them.
        let mut shown = before.clone();
        for step in 0..4 {
            let mut fresh: Vec<_> = before.iter().skip(5 + step).cloned().collect();
            fresh.extend(before[1 + step..4].iter().cloned());
            fresh.extend(after[..=step].iter().cloned());
            assert_eq!(judge_at(&mut guard, &shown, &fresh, now), 0, "{step} {is_taken}");
            shown = fresh;
        }
        assert_eq!(shown, after);
    }
}

#[test]
fn what_is_lost_behind_an_ingress_is_held_there() {
    let (own, taken) = (offers(&["10.0.0.1"], false), offers(&["10.0.0.1"], true));
    let mut guard = Guard::default();
    let now = Instant::now();
    assert_eq!(judge_at(&mut guard, &own, &taken, now), 0);
    assert_eq!(judge_at(&mut guard, &taken, &[], now), 4);
    assert!(guard.held().iter().all(|instance| instance.port == 20881));
    // And it is there again at its own port.
    assert_eq!(judge_at(&mut guard, &taken, &own, now), 0);
}

#[test]
fn what_another_host_takes_the_place_of_is_not_missed_later() {
    let (before, after) = (list(0..4), list(10..14));
    let mut guard = Guard::default();
    let now = Instant::now();
    assert_eq!(judge_at(&mut guard, &before, &after, now), 0);
    assert_eq!(judge_at(&mut guard, &after, &after[..2], now), 0);
    assert_eq!(judge_at(&mut guard, &after[..2], &after[..1], now), 3);
}
