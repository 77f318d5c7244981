// SPDX-License-Identifier: Apache-2.0
//! Kept publications against a registry that does as it is told, and writes down what it was asked.

use std::collections::VecDeque;
use std::time::Instant;

use remora_registry::{BoxFuture, RegistryError, RegistryState, Snapshot};

use super::keeper::OPERATION_TIMEOUT;
use super::*;
use crate::discovery::test_support::{provider, service};

/// One entry per address, as SOFARegistry has them.
struct Ledger {
    state: watch::Sender<RegistryState>,
    standing: Mutex<HashMap<u16, Instance>>,
    asked: Mutex<Vec<String>>,
    /// Errors of the next operations.
    errors: Mutex<VecDeque<RegistryError>>,
    /// While false, operations wait.
    answers: watch::Sender<bool>,
}

impl Ledger {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::new(RegistryState::Up { since: Instant::now() }),
            standing: Mutex::default(),
            asked: Mutex::default(),
            errors: Mutex::default(),
            answers: watch::Sender::new(true),
        })
    }

    fn kept(self: &Arc<Self>) -> Arc<Kept> {
        let metrics = DiscoveryMetrics::new(&mut prometheus_client::registry::Registry::default());
        let registry = Arc::clone(self) as Arc<dyn Registry>;
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        Kept::new("default", registry, metrics, Handle::current(), tasks, end)
    }

    fn go_down(&self) {
        let (since, cause) = (Instant::now(), "scripted".into());
        self.state.send_replace(RegistryState::Down { since, cause });
    }

    fn come_up(&self) {
        self.state.send_replace(RegistryState::Up { since: Instant::now() });
    }

    fn fails_with(&self, errors: impl IntoIterator<Item = RegistryError>) {
        lock(&self.errors).extend(errors);
    }

    /// Weights of what stands, by port.
    fn standing(&self) -> Vec<(u16, String)> {
        let standing = lock(&self.standing);
        let weight = |i: &Instance| i.params.get("weight").unwrap_or_default().to_owned();
        let mut all: Vec<_> = standing.iter().map(|(port, i)| (*port, weight(i))).collect();
        all.sort();
        all
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked))
    }

    async fn answer(&self, what: &str, instance: &Instance) -> Result<(), RegistryError> {
        let weight = instance.params.get("weight").unwrap_or_default();
        lock(&self.asked).push(format!("{what} {weight}"));
        let mut answers = self.answers.subscribe();
        drop(answers.wait_for(|answers| *answers).await);
        match lock(&self.errors).pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Registry for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn state(&self) -> watch::Receiver<RegistryState> {
        self.state.subscribe()
    }

    fn follow(&self, _: Target) -> watch::Receiver<Option<Arc<Snapshot>>> {
        watch::channel(None).1
    }

    fn publish<'a>(&'a self, _: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            self.answer("publish", instance).await?;
            lock(&self.standing).insert(instance.port, instance.clone());
            Ok(())
        })
    }

    fn withdraw<'a>(&'a self, _: &'a Target, instance: &'a Instance) -> BoxFuture<'a, Result<(), RegistryError>> {
        Box::pin(async move {
            self.answer("withdraw", instance).await?;
            let mut standing = lock(&self.standing);
            if standing.get(&instance.port) == Some(instance) {
                standing.remove(&instance.port);
            }
            Ok(())
        })
    }

    fn metadata<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<String>, RegistryError>> {
        Box::pin(async { Ok(None) })
    }
}

fn refused() -> RegistryError {
    RegistryError::Refused {
        registry: "ledger".into(),
        operation: "publish".into(),
        cause: "scripted".into(),
    }
}

fn unsupported() -> RegistryError {
    RegistryError::Unsupported {
        registry: "ledger".into(),
        operation: "publish that",
    }
}

fn echo() -> Target {
    service("demo.EchoService")
}

fn weighing(weight: &str) -> Instance {
    Instance::clone(&provider("10.0.0.5", 20881, &format!("weight={weight}")))
}

fn hold(kept: &Arc<Kept>, weight: &str) -> Hold {
    kept.hold(&echo(), weighing(weight)).unwrap()
}

/// Lets the tasks run until nothing moves any more; the clock is paused.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Long enough for any number of attempts.
async fn later() {
    sleep(Duration::from_secs(600)).await;
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_held_stands_and_goes_with_the_hold() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let one = hold(&kept, "1");
    settle().await;
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    assert_eq!(one.state(), Some((KeptState::Published, None)));
    drop(one);
    settle().await;
    assert_eq!(ledger.standing(), []);
    assert!(kept.rows().is_empty());
    assert_eq!(ledger.asked(), ["publish 1", "withdraw 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusing_registry_is_asked_again_until_it_takes_it() {
    let ledger = Ledger::new();
    ledger.fails_with((0..5).map(|_| refused()));
    let kept = ledger.kept();
    let one = hold(&kept, "1");
    settle().await;
    let (state, error) = one.state().unwrap();
    assert_eq!(state, KeptState::Waiting);
    assert!(error.unwrap().contains("scripted"));
    later().await;
    assert_eq!(one.state(), Some((KeptState::Published, None)));
    assert_eq!(ledger.asked().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failed_withdrawal_is_not_forgotten() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let one = hold(&kept, "1");
    settle().await;
    ledger.fails_with((0..3).map(|_| refused()));
    drop(one);
    settle().await;
    assert_eq!(kept.rows()[0].state, KeptState::Withdrawing);
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    later().await;
    assert_eq!(ledger.standing(), []);
    assert!(kept.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_gets_it_when_it_is_back_and_is_not_asked_before() {
    let ledger = Ledger::new();
    ledger.go_down();
    let kept = ledger.kept();
    let one = hold(&kept, "1");
    let never = kept
        .hold(&echo(), Instance::clone(&provider("10.0.0.5", 20999, "")))
        .unwrap();
    later().await;
    assert_eq!(one.state(), Some((KeptState::Waiting, Some("scripted".into()))));
    drop(never);
    settle().await;
    assert_eq!(kept.rows().len(), 1, "what was never asked for needs no withdrawal");
    assert!(ledger.asked().is_empty());
    ledger.come_up();
    settle().await;
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    ledger.go_down();
    drop(one);
    later().await;
    assert_eq!(ledger.standing().len(), 1);
    ledger.come_up();
    settle().await;
    assert_eq!(ledger.standing(), []);
}

#[tokio::test(start_paused = true)]
async fn taken_back_and_published_again_while_the_registry_is_slow_ends_published() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    ledger.answers.send_replace(false);
    let one = hold(&kept, "1");
    settle().await;
    drop(one);
    let two = hold(&kept, "1");
    settle().await;
    drop(two);
    settle().await;
    let three = hold(&kept, "1");
    ledger.answers.send_replace(true);
    later().await;
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    assert_eq!(three.state(), Some((KeptState::Published, None)));

    ledger.answers.send_replace(false);
    drop(three);
    settle().await;
    let four = hold(&kept, "1");
    ledger.answers.send_replace(true);
    later().await;
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    drop(four);
    later().await;
    assert_eq!(ledger.standing(), []);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_stands_before_the_old_one_goes() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let old = hold(&kept, "1");
    settle().await;
    let new = hold(&kept, "2");
    drop(old);
    settle().await;
    assert_eq!(ledger.asked(), ["publish 1", "publish 2", "withdraw 1"]);
    assert_eq!(ledger.standing(), [(20881, "2".into())]);
    assert_eq!(new.state(), Some((KeptState::Published, None)));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_of_two_holds_leaves_the_other_ones_standing() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let (old, new) = (hold(&kept, "1"), hold(&kept, "2"));
    settle().await;
    drop(new);
    settle().await;
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    assert_eq!(old.state(), Some((KeptState::Published, None)));
    drop(old);
    settle().await;
    assert_eq!(ledger.standing(), []);
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_the_registry_refuses_leaves_little_behind() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let mut last = hold(&kept, "0");
    for weight in 1..20 {
        ledger.fails_with([refused()]);
        last = hold(&kept, &weight.to_string());
        settle().await;
    }
    later().await;
    assert_eq!(ledger.standing(), [(20881, "19".into())]);
    drop(last);
    later().await;
    assert_eq!(ledger.standing(), []);
    assert!(kept.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_registry_cannot_hold_is_told_and_not_tried_again() {
    let ledger = Ledger::new();
    ledger.fails_with([unsupported()]);
    let kept = ledger.kept();
    let one = hold(&kept, "1");
    later().await;
    let (state, error) = one.state().unwrap();
    assert_eq!(state, KeptState::Refused);
    assert!(error.unwrap().contains("cannot publish that"));
    assert_eq!(ledger.asked(), ["publish 1"]);
    drop(one);
    settle().await;
    assert!(kept.rows().is_empty() && ledger.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn withdrawing_all_waits_until_nothing_stands_and_takes_nothing_new() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let _one = hold(&kept, "1");
    settle().await;
    kept.withdraw_all(Duration::from_secs(3)).await;
    assert_eq!(ledger.standing(), []);
    let late = hold(&kept, "2");
    settle().await;
    assert_eq!(late.state(), None);
    assert_eq!(ledger.standing(), []);
}

#[tokio::test(start_paused = true)]
async fn withdrawing_all_ends_in_time_when_the_registry_does_not_answer() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let _one = hold(&kept, "1");
    settle().await;
    ledger.answers.send_replace(false);
    let start = tokio::time::Instant::now();
    kept.withdraw_all(Duration::from_secs(3)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    ledger.go_down();
    kept.withdraw_all(Duration::from_secs(3)).await;
    assert_eq!(
        start.elapsed(),
        Duration::from_secs(3),
        "a registry that is away is not waited for"
    );
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_a_failure_and_is_tried_again() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    ledger.answers.send_replace(false);
    let one = hold(&kept, "1");
    sleep(OPERATION_TIMEOUT + Duration::from_millis(1)).await;
    settle().await;
    assert!(one.state().unwrap().1.unwrap().contains("no answer within"));
    ledger.answers.send_replace(true);
    later().await;
    assert_eq!(one.state(), Some((KeptState::Published, None)));
}

fn hold_at(kept: &Arc<Kept>, port: u16, weight: &str) -> Hold {
    let instance = provider("10.0.0.5", port, &format!("weight={weight}"));
    kept.hold(&echo(), Instance::clone(&instance)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_moves_to_another_place_stands_there_before_the_former_one_goes() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let ingress = hold(&kept, "1");
    settle().await;
    ledger.fails_with([refused()]);
    let own = hold_at(&kept, 20880, "2");
    own.succeed(ingress);
    settle().await;
    assert_eq!(
        ledger.standing(),
        [(20881, "1".into())],
        "its successor was refused once"
    );
    later().await;
    assert_eq!(ledger.standing(), [(20880, "2".into())]);
    assert_eq!(ledger.asked(), ["publish 1", "publish 2", "publish 2", "withdraw 1"]);
    assert_eq!(kept.rows().len(), 1);

    ledger.go_down();
    let back = hold(&kept, "3");
    back.succeed(own);
    later().await;
    assert!(ledger.asked().is_empty());
    ledger.come_up();
    settle().await;
    assert_eq!(ledger.asked(), ["publish 3"], "consumers are to see both");
    assert_eq!(kept.passing(), 1, "the one that nobody wants any more");
    later().await;
    assert_eq!(ledger.asked(), ["withdraw 2"]);
    assert_eq!(kept.passing(), 0);
    drop(back);
    settle().await;
    assert!(ledger.standing().is_empty() && kept.rows().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_moves_there_and_back_before_the_registry_has_heard_stays_where_it_was() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let first = hold(&kept, "1");
    settle().await;
    ledger.answers.send_replace(false);
    let there = hold_at(&kept, 20880, "1");
    there.succeed(first);
    settle().await;
    let back = hold(&kept, "1");
    back.succeed(there);
    settle().await;
    ledger.answers.send_replace(true);
    later().await;
    assert_eq!(ledger.standing(), [(20881, "1".into())]);
    assert_eq!(kept.rows().len(), 1);
    assert_eq!(back.state(), Some((KeptState::Published, None)));
}

#[tokio::test(start_paused = true)]
async fn what_ends_on_its_way_to_another_place_leaves_nothing() {
    let ledger = Ledger::new();
    let kept = ledger.kept();
    let first = hold(&kept, "1");
    settle().await;
    ledger.fails_with([refused()]);
    let there = hold_at(&kept, 20880, "2");
    there.succeed(first);
    settle().await;
    drop(there);
    later().await;
    assert!(ledger.standing().is_empty() && kept.rows().is_empty());
    let again = hold(&kept, "1");
    settle().await;
    assert_eq!(kept.passing(), 0, "it is wanted");
    ledger.fails_with([refused()]);
    let there = hold_at(&kept, 20880, "2");
    there.succeed(again);
    settle().await;
    kept.withdraw_all(Duration::from_secs(3)).await;
    assert_eq!(ledger.standing(), []);
}
