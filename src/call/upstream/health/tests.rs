// SPDX-License-Identifier: Apache-2.0

use super::*;

/// Time until `fact` holds, looked at every 10 ms.
fn until(now: &mut Instant, fact: impl Fn(Instant) -> bool) -> Duration {
    let start = *now;
    while !fact(*now) {
        *now += Duration::from_millis(10);
        assert!(*now - start < Duration::from_secs(100));
    }
    *now - start
}

#[test]
fn an_unreachable_instance_is_left_alone_longer_each_time_until_a_connection_is_made() {
    let config = Config::default();
    let health = Health::default();
    let mut now = Instant::now();
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        health.eject(&config, Ejected::Unreachable, now);
        assert!(health.is_unreachable());
        assert_eq!(health.tend(&config, now), Due::Nothing);
        let took = until(&mut now, |now| health.tend(&config, now) == Due::Ask);
        assert!(health.is_out(now), "out until a connection is made");
        assert!(took > last);
        last = took;
    }
    health.connected(now);
    assert!(!health.is_out(now));
}

#[test]
fn an_instance_that_refused_a_call_comes_back_by_time() {
    let config = Config::default();
    let health = Health::default();
    let now = Instant::now();
    assert!(health.eject(&config, Ejected::NothingSent, now));
    assert!(!health.eject(&config, Ejected::NothingSent, now), "counted once");
    health.connected(now);
    health.heard(now);
    assert!(health.is_out(now), "it refuses calls, but lives");
    let later = now + config.eject_min.0 * 2;
    assert!(!health.is_out(later));
    assert_eq!(health.tend(&config, later), Due::Nothing);
}

#[test]
fn one_that_is_busy_rests_for_a_moment_or_until_it_answers_a_call() {
    let config = Config::default();
    let health = Health::default();
    let now = Instant::now();
    health.rest(now);
    assert!(health.is_out(now) && !health.is_out(now + REST));
    health.heard(now);
    assert!(health.is_out(now), "a refusal is no reason to come back");
    health.recover(&config, now);
    assert!(!health.is_out(now));
    // It is not left alone longer each time.
    for _ in 0..10 {
        health.rest(now);
        assert!(!health.is_out(now + REST));
        health.recover(&config, now);
    }
}

#[test]
fn one_that_lost_connections_comes_back_by_what_is_heard_only() {
    let config = Config::default();
    let health = Health::default();
    let mut now = Instant::now();
    assert!(health.eject(&config, Ejected::Lost, now));
    until(&mut now, |now| health.tend(&config, now) == Due::Ask);
    health.connected(now);
    assert!(health.is_out(now), "connections were made before, too");
    // Not even a connection that could not be made in between changes that.
    assert!(!health.eject(&config, Ejected::Unreachable, now), "not newly");
    until(&mut now, |now| health.tend(&config, now) == Due::Ask);
    health.connected(now);
    assert!(health.is_out(now) && health.needs_sign());
    health.heard(now);
    assert!(!health.is_out(now));
}

#[test]
fn who_gives_a_sign_of_life_in_time_is_never_left_alone() {
    let config = Config::default();
    let health = Health::default();
    let mut now = Instant::now();
    for _ in 0..10 {
        assert!(health.doubt(&config, Ejected::Silent, now));
        assert!(!health.doubt(&config, Ejected::Silent, now), "asked once");
        assert!(health.is_out(now));
        now += config.doubt_after.0 / 2;
        assert_eq!(health.tend(&config, now), Due::Nothing);
        health.heard(now);
        assert!(!health.is_out(now));
    }
    health.doubt(&config, Ejected::Silent, now);
    now += config.doubt_after.0 * SIGN_WITHIN;
    assert_eq!(health.tend(&config, now), Due::Ejected(Ejected::Silent));
    assert!(health.is_out(now + config.eject_min.0 * 10));
}

#[test]
fn times_grow_until_it_has_done_well_for_as_long_as_it_was_left_alone() {
    let config = Config::default();
    let health = Health::default();
    let mut now = Instant::now();
    let eject_and_return = |now: &mut Instant| {
        health.eject(&config, Ejected::Lost, *now);
        let took = until(now, |now| health.tend(&config, now) == Due::Ask);
        health.recover(&config, *now);
        took
    };
    let first = eject_and_return(&mut now);
    let second = eject_and_return(&mut now);
    let third = eject_and_return(&mut now);
    assert!(
        second > first.mul_f64(1.5) && third > second.mul_f64(1.5),
        "{first:?} {second:?} {third:?}"
    );
    now += config.eject_min.0 * 4;
    health.recover(&config, now);
    assert!(eject_and_return(&mut now) < second);
    for _ in 0..20 {
        assert!(eject_and_return(&mut now) < config.eject_max.0.mul_f64(1.2));
    }
}

#[test]
fn one_that_never_answers_heartbeats_gets_a_call_now_and_then() {
    let config = Config::default();
    let health = Health::default();
    let mut now = Instant::now();
    health.eject(&config, Ejected::Silent, now);
    until(&mut now, |now| health.tend(&config, now) == Due::Ask);
    until(&mut now, |now| {
        assert_eq!(health.tend(&config, now), Due::Nothing);
        !health.is_out(now)
    });
    health.picked(&config, now);
    assert!(health.is_out(now), "one call, not all");
    let paused = until(&mut now, |now| !health.is_out(now));
    assert!(paused > config.eject_min.0, "{paused:?}");
    health.heard(now);
    assert!(!health.is_out(now));

    health.answers_heartbeats();
    health.eject(&config, Ejected::Silent, now);
    for _ in 0..3 {
        until(&mut now, |now| health.tend(&config, now) == Due::Ask);
        assert!(
            health.is_out(now),
            "who answers heartbeats is known to be dead while it answers none"
        );
    }
}
