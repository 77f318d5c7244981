// SPDX-License-Identifier: Apache-2.0
//! What is published on Remora's own session.

use super::*;

#[tokio::test]
async fn publication_stands_until_it_is_withdrawn() {
    let server = server();
    let (registry, stop) = start(Embedded::new(server.clone()));
    let target = service(ECHO);
    let instance = instance(1);
    registry.publish(&target, &instance).await.unwrap();
    registry.publish(&target, &instance).await.unwrap();
    let app = app(&server);
    assert!(app.exists(&path(1), None).await.unwrap().is_some());
    registry.withdraw(&target, &instance).await.unwrap();
    registry.withdraw(&target, &instance).await.unwrap();
    assert_eq!(app.exists(&path(1), None).await.unwrap(), None);
    registry.publish(&target, &instance).await.unwrap();
    stop.cancel();
    timeout(DEADLINE, registry.closed()).await.unwrap();
    assert_eq!(app.exists(&path(1), None).await.unwrap(), None, "the session is closed");
}

#[tokio::test]
async fn publication_is_made_again_after_the_session_expired() {
    let server = short_lived();
    let line = Line::to(&server);
    let mut config = Config::default();
    config.session.session_timeout = Duration::from_millis(300);
    let (registry, _stop) = start_with(line.clone(), config);
    let app = app(&server);
    for port in [1, 2] {
        registry.publish(&service(ECHO), &instance(port)).await.unwrap();
    }
    registry.publish(&application("shop"), &shop(1)).await.unwrap();
    registry.withdraw(&service(ECHO), &instance(2)).await.unwrap();
    let before = owner(&app, &path(1)).await;

    line.lead(None);
    eventually("the session expires", async || {
        app.exists(&path(1), None).await.unwrap().is_none().then_some(())
    })
    .await;
    let refused = registry.publish(&service(ECHO), &instance(3)).await;
    assert!(matches!(refused, Err(RegistryError::Unreachable { .. })), "{refused:?}");
    line.lead(Some(&server));
    assert_ne!(owner(&app, &path(1)).await, before);
    assert_ne!(owner(&app, "/services/shop/10.0.0.5:1").await, before);
    assert_ne!(owner(&app, &path(3)).await, before, "asked for during the outage");
    // All publications are made at once; had the withdrawn one been, it would be there.
    registry.publish(&service(ECHO), &instance(4)).await.unwrap();
    assert_eq!(app.exists(&path(2), None).await.unwrap(), None, "withdrawn before");
}

#[tokio::test]
async fn withdrawal_during_an_outage_is_done_afterwards() {
    let server = server();
    let line = Line::to(&server);
    let (registry, _stop) = start(line.clone());
    registry.publish(&service(ECHO), &instance(1)).await.unwrap();
    line.lead(None);
    state(&registry, "down", is_down).await;
    let refused = registry.withdraw(&service(ECHO), &instance(1)).await;
    assert!(matches!(refused, Err(RegistryError::Unreachable { .. })), "{refused:?}");
    let app = app(&server);
    assert!(app.exists(&path(1), None).await.unwrap().is_some());
    line.lead(Some(&server));
    eventually("it is gone", async || {
        app.exists(&path(1), None).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn node_of_another_session_is_replaced_and_outlives_it() {
    let server = server();
    let old = app(&server);
    providers_node(&old).await;
    old.create(&path(1), Bytes::new(), Ephemeral).await.unwrap();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    registry.publish(&service(ECHO), &instance(1)).await.unwrap();
    let app = app(&server);
    let ours = owner(&app, &path(1)).await;
    drop(old);
    eventually("the old session is closed", async || {
        (server.figures().sessions == 2).then_some(())
    })
    .await;
    assert_eq!(owner(&app, &path(1)).await, ours);
}

#[tokio::test]
async fn withdrawal_leaves_what_another_session_made() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    registry.publish(&service(ECHO), &instance(1)).await.unwrap();
    let other = app(&server);
    other.delete(&path(1)).await.unwrap();
    other.create(&path(1), Bytes::new(), Ephemeral).await.unwrap();
    registry.withdraw(&service(ECHO), &instance(1)).await.unwrap();
    assert!(other.exists(&path(1), None).await.unwrap().is_some());
}

#[tokio::test]
async fn changed_application_data_is_written_in_place() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    registry.publish(&application("shop"), &shop(1)).await.unwrap();
    let app = app(&server);
    let path = "/services/shop/10.0.0.5:1";
    let made = app.exists(path, None).await.unwrap().unwrap();
    let mut changed = shop(1);
    changed.raw = String::from_utf8(document(1, "r2").to_vec()).unwrap().into();
    registry.publish(&application("shop"), &changed).await.unwrap();
    let (data, stat) = app.data(path, None).await.unwrap();
    assert_eq!((data, stat.czxid), (document(1, "r2"), made.czxid));
}

#[tokio::test]
async fn instance_of_another_registry_gets_a_name_that_says_all() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    let mut foreign = instance(1);
    foreign.id = "10.0.0.9#7".into();
    foreign.path = "".into();
    foreign.params.remove("interface");
    foreign.params.remove("version");
    registry.publish(&service(ECHO), &foreign).await.unwrap();
    let mut list = registry.follow(service(ECHO));
    let list = until(&mut list, "the list", |s| !s.instances.is_empty()).await;
    assert_eq!(list.instances[0].key, instance(1).key);
    assert_eq!(&*list.instances[0].path, ECHO);
}

fn shop(port: u16) -> Instance {
    let node = format!("10.0.0.5:{port}");
    remora_naming::application::parse(&node, &document(port, "r1"))
        .unwrap()
        .unwrap()
}
