// SPDX-License-Identifier: Apache-2.0
//! `suite HOST:PORT`: what the `zookeeper-client` crate, an independent client, expects of a ZooKeeper.

use std::future::Future;
use std::time::Duration;

use zookeeper_client as zk;

const OPEN: &zk::CreateOptions<'static> = &zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
const EPHEMERAL: &zk::CreateOptions<'static> = &zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let addr = std::env::args().nth(1).expect("usage: suite HOST:PORT");
    let mut tally = Tally { passed: 0, failed: 0 };
    tally.run("reads and writes", reads_and_writes(&addr)).await;
    tally.run("watches", watches(&addr)).await;
    tally.run("recursive watch", recursive(&addr)).await;
    tally.run("multi", multi(&addr)).await;
    tally.run("lock", lock(&addr)).await;
    tally.run("session ends", session_ends(&addr)).await;
    tally.run("detached session", detached(&addr)).await;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    std::process::exit(i32::from(tally.failed > 0));
}

struct Tally {
    passed: usize,
    failed: usize,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Tally {
    async fn run(&mut self, name: &str, test: impl Future<Output = Outcome>) {
        match tokio::time::timeout(Duration::from_secs(20), test).await {
            Ok(Ok(())) => self.passed += 1,
            Ok(Err(e)) => self.fail(name, &e.to_string()),
            Err(_) => self.fail(name, "no end within 20 s"),
        }
    }

    fn fail(&mut self, name: &str, cause: &str) {
        println!("FAILED {name}: {cause}");
        self.failed += 1;
    }
}

fn expect(is: bool, what: &str) -> Outcome {
    if is { Ok(()) } else { Err(what.into()) }
}

fn root(name: &str) -> String {
    format!("/rust-{name}-{}", std::process::id())
}

async fn reads_and_writes(addr: &str) -> Outcome {
    let client = zk::Client::connect(addr).await?;
    let root = root("rw");
    client.create(&root, b"one", OPEN).await?;
    expect(
        matches!(client.create(&root, b"", OPEN).await, Err(zk::Error::NodeExists)),
        "created twice",
    )?;
    let (data, stat) = client.get_data(&root).await?;
    expect(data == b"one" && stat.version == 0, "data")?;
    client.set_data(&root, b"two", Some(0)).await?;
    expect(
        matches!(client.set_data(&root, b"", Some(0)).await, Err(zk::Error::BadVersion)),
        "old version taken",
    )?;
    let child = format!("{root}/e");
    let (stat, _) = client.create(&child, b"", EPHEMERAL).await?;
    expect(stat.ephemeral_owner == client.session().id().0, "owner")?;
    expect(client.list_children(&root).await? == ["e"], "children")?;
    expect(client.count_descendants_number(&root).await? == 1, "descendants")?;
    expect(client.list_ephemerals(&root).await? == [child.clone()], "ephemerals")?;
    client.sync(&root).await?;
    client.delete(&child, None).await?;
    client.delete(&root, Some(1)).await?;
    expect(client.check_stat(&root).await?.is_none(), "deleted")
}

async fn watches(addr: &str) -> Outcome {
    let (client, other) = (zk::Client::connect(addr).await?, zk::Client::connect(addr).await?);
    let root = root("watch");
    let (_, created) = client.check_and_watch_stat(&root).await?;
    other.create(&root, b"", OPEN).await?;
    expect(
        created.changed().await.event_type == zk::EventType::NodeCreated,
        "created",
    )?;
    let (_, _, changed) = client.get_and_watch_data(&root).await?;
    let (_, _, children) = client.get_and_watch_children(&root).await?;
    other.set_data(&root, b"1", None).await?;
    other.create(&format!("{root}/c"), b"", EPHEMERAL).await?;
    expect(
        changed.changed().await.event_type == zk::EventType::NodeDataChanged,
        "changed",
    )?;
    expect(
        children.changed().await.event_type == zk::EventType::NodeChildrenChanged,
        "children",
    )?;
    let (_, gone) = client.check_and_watch_stat(&format!("{root}/c")).await?;
    drop(other);
    expect(
        gone.changed().await.event_type == zk::EventType::NodeDeleted,
        "deleted with its session",
    )?;
    client.delete(&root, None).await?;
    Ok(())
}

async fn recursive(addr: &str) -> Outcome {
    let (client, other) = (zk::Client::connect(addr).await?, zk::Client::connect(addr).await?);
    let root = root("recursive");
    let mut watcher = client.watch(&root, zk::AddWatchMode::PersistentRecursive).await?;
    other.create(&root, b"", OPEN).await?;
    other.create(&format!("{root}/x"), b"", OPEN).await?;
    other.delete(&format!("{root}/x"), None).await?;
    other.delete(&root, None).await?;
    for (kind, path) in [
        (zk::EventType::NodeCreated, root.clone()),
        (zk::EventType::NodeCreated, format!("{root}/x")),
        (zk::EventType::NodeDeleted, format!("{root}/x")),
        (zk::EventType::NodeDeleted, root.clone()),
    ] {
        let event = watcher.changed().await;
        expect(
            event.event_type == kind && event.path == path,
            &format!("{kind} {path}, got {event:?}"),
        )?;
    }
    Ok(())
}

async fn multi(addr: &str) -> Outcome {
    let client = zk::Client::connect(addr).await?;
    let root = root("multi");
    let mut writer = client.new_multi_writer();
    writer.add_create(&root, b"", OPEN)?;
    writer.add_set_data(&root, b"1", Some(0))?;
    writer.add_check_version(&root, 1)?;
    expect(writer.commit().await?.len() == 3, "three results")?;
    let mut writer = client.new_multi_writer();
    writer.add_delete(&root, None)?;
    writer.add_create("/none/at/all", b"", OPEN)?;
    expect(writer.commit().await.is_err(), "half a multi taken")?;
    expect(client.check_stat(&root).await?.is_some(), "rolled back")?;
    let mut reader = client.new_multi_reader();
    reader.add_get_data(&root)?;
    reader.add_get_children(&root)?;
    expect(reader.commit().await?.len() == 2, "two results")?;
    client.delete(&root, None).await?;
    Ok(())
}

async fn lock(addr: &str) -> Outcome {
    let (a, b) = (zk::Client::connect(addr).await?, zk::Client::connect(addr).await?);
    let root = root("lock");
    a.create(&root, b"", OPEN).await?;
    let prefix = format!("{root}/l-");
    let options = zk::LockOptions::new(zk::Acls::anyone_all());
    let held = a
        .lock(zk::LockPrefix::new_curator(&root, "l-")?, b"", options.clone())
        .await?;
    let second = b.lock(zk::LockPrefix::new_curator(&root, "l-")?, b"", options);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    expect(early.is_err(), &format!("two hold {prefix}"))?;
    drop(held);
    second.await?;
    Ok(())
}

async fn session_ends(addr: &str) -> Outcome {
    let (a, b) = (zk::Client::connect(addr).await?, zk::Client::connect(addr).await?);
    let path = root("session");
    a.create(&path, b"", EPHEMERAL).await?;
    let (_, gone) = b.check_and_watch_stat(&path).await?;
    drop(a);
    expect(gone.changed().await.event_type == zk::EventType::NodeDeleted, "deleted")
}

async fn detached(addr: &str) -> Outcome {
    let a = zk::Client::connector().with_detached().connect(addr).await?;
    let path = root("detached");
    a.create(&path, b"", EPHEMERAL).await?;
    let session = a.into_session();
    let b = zk::Client::connector().with_session(session).connect(addr).await?;
    expect(b.check_stat(&path).await?.is_some(), "kept")?;
    b.delete(&path, None).await?;
    Ok(())
}
