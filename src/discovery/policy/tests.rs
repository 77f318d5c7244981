// SPDX-License-Identifier: Apache-2.0
use super::*;

fn config(yaml: &str) -> Config {
    serde_saphyr::from_str(yaml).unwrap()
}

fn policy(yaml: &str) -> Policy {
    Policy::new(Mode::Takeover, config(yaml), false)
}

const ECHO: Subject<'static> = Subject {
    side: Side::Provider,
    service: "demo.EchoService",
    group: "blue",
    application: "shop",
    address: "10.0.0.5:20880",
};
const CONSUMER: Subject<'static> = Subject {
    side: Side::Consumer,
    address: "10.0.0.7",
    ..ECHO
};

#[test]
fn everything_is_taken_over_unless_something_is_said() {
    assert!(Policy::default().takes_all());
    assert_eq!(Policy::default().decide(&ECHO).why, Why::TakenOver);
    assert!(Policy::default().decide(&CONSUMER).taken);
}

#[test]
fn all_parts_of_an_entry_must_fit() {
    let why = |yaml: &str| policy(yaml).decide(&ECHO).why;
    assert_eq!(why("allow: [{service: demo.EchoService}]"), Why::TakenOver);
    assert_eq!(why("allow: [{service: demo.*, group: blue}]"), Why::TakenOver);
    assert_eq!(why("allow: [{service: demo.*, group: green}]"), Why::NotAllowed);
    assert_eq!(why("allow: [{service: demo.Echo}]"), Why::NotAllowed);
    assert_eq!(
        why("allow: [{application: other}, {application: shop}]"),
        Why::TakenOver
    );
    assert_eq!(why("allow: [{side: consumer}]"), Why::NotAllowed);
}

#[test]
fn deny_wins() {
    let policy = policy("{allow: [{service: demo.*}], deny: [{application: shop, side: provider}]}");
    assert_eq!(policy.decide(&ECHO).why, Why::Denied);
    assert_eq!(policy.decide(&CONSUMER).why, Why::TakenOver);
}

#[test]
fn one_side_may_be_left() {
    let policy = policy("side: consumer");
    assert_eq!(policy.decide(&ECHO).why, Why::OtherSide);
    assert!(policy.decide(&CONSUMER).taken);
}

#[test]
fn a_share_of_nothing_takes_nothing() {
    assert_eq!(policy("percent: 0").decide(&ECHO).why, Why::NotInPercent);
}

#[test]
fn observe_and_rollback_say_what_would_be_taken_over_and_nothing_else() {
    let allow = || config("allow: [{service: demo.EchoService}]");
    let other = Subject {
        service: "demo.Other",
        ..ECHO
    };
    let observe = Policy::new(Mode::Observe, allow(), true);
    assert_eq!(observe.decide(&ECHO).why, Why::Observed);
    assert_eq!(observe.decide(&other).why, Why::NotAllowed);
    let back = Policy::new(Mode::Takeover, allow(), true);
    assert_eq!(back.decide(&ECHO).why, Why::RolledBack);
    assert!(!back.decide(&ECHO).taken);
}

#[test]
fn an_unknown_name_is_named_by_the_star_only() {
    let unknown = Subject {
        application: "",
        ..CONSUMER
    };
    assert!(!policy("allow: [{application: shop}]").decide(&unknown).taken);
    assert!(policy("allow: [{application: '*'}]").decide(&unknown).taken);
    assert!(policy("deny: [{application: shop}]").decide(&unknown).taken);
}

#[test]
fn a_star_in_the_middle_is_refused_with_words() {
    let error = serde_saphyr::from_str::<Config>("allow: [{service: 'a*b'}]").unwrap_err();
    assert!(error.to_string().contains("at the end of a name only"), "{error}");
    assert!(serde_saphyr::from_str::<Config>("allow: [{service: ''}]").is_err());
    assert!(serde_saphyr::from_str::<Config>("allow: [{servise: a}]").is_err());
}
