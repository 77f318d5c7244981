// SPDX-License-Identifier: Apache-2.0
//! Lists of which nothing stays: what an application is told while everything moves.

#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use support::*;

#[tokio::test]
async fn a_list_without_any_address_of_the_last_one_comes_after_one_with_both() {
    let door = Door::open();
    let (here, there) = (LINE.to_owned(), LINE.replacen(address(LINE), "10.0.0.77:12201", 1));
    let mut provider = door.client().await;
    let published = publisher(ECHO, "p", &[&here]);
    provider.register(&published).await;
    let mut consumer = door.client().await;
    consumer.register(&subscriber(ECHO, "s")).await;
    assert_eq!(addresses(&consumer.list().await), [address(&here)]);
    let mut moved = again(published);
    let remora_sofaregistry::wire::Message::PublisherRegister(register) = &mut moved else {
        unreachable!("it is a publisher");
    };
    register.data = vec![there.clone()];
    provider.register(&moved).await;
    let mut both = [address(&here), address(&there)];
    both.sort_unstable();
    assert_eq!(addresses(&consumer.list().await), both);
    assert_eq!(addresses(&consumer.list().await), [address(&there)]);
}

fn address(line: &str) -> &str {
    line.split('?').next().unwrap()
}

fn addresses(lines: &[String]) -> Vec<&str> {
    let mut all: Vec<&str> = lines.iter().map(|line| address(line)).collect();
    all.sort_unstable();
    all
}
