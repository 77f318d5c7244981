// SPDX-License-Identifier: Apache-2.0
//! Application-level lists: routes out of metadata documents, and what happens when there is none.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_application_list_makes_routes_from_its_metadata() {
    let house = house();
    let lease = house.lease("consumer");
    let mut nodes = house.desk.follow(lease.id(), &app("demo"));
    let marked = application_node("10.0.0.1", 20881, "r1")
        .raw
        .replace(r#""timestamp""#, r#""remora.app.port":"20880","timestamp""#);
    let marked = remora_naming::application::parse("10.0.0.1:20881", marked.as_bytes())
        .unwrap()
        .unwrap();
    house.registry.says(
        &app("demo"),
        vec![Arc::new(marked), application_node("10.0.0.2", 20880, "r1")],
    );
    until(&mut nodes, |l| l.instances.len() == 2).await;
    assert_eq!(house.endpoints("g1"), None, "nothing is known of the revision yet");
    house.registry.has_document("demo", "r1", DOCUMENT);
    let json = house.desk.inward_metadata("demo", "r1-egress").await.unwrap();
    assert!(json.contains(r#""port":-1"#) && !json.contains("tri"), "{json}");
    assert_eq!(
        house.endpoints("g1"),
        Some(vec!["10.0.0.1:20881".into(), "10.0.0.2:20880".into()])
    );
    let route = Arc::clone(
        house
            .catalog
            .routes()
            .load()
            .route("demo.EchoService", "g1", "")
            .unwrap(),
    );
    assert_eq!(
        (route.timeout, route.endpoints[0].weight),
        (Some(Duration::from_secs(7)), 9)
    );
    let direct = house
        .desk
        .inward_metadata("demo", &crate::discovery::takeover::mirrored("r1"))
        .await
        .unwrap();
    assert!(direct.contains("50051") && !direct.contains("EchoService"), "{direct}");
    assert_eq!(house.desk.inward_metadata("demo", "unknown").await, None);
    let real = house.desk.inward_metadata("demo", "r1").await;
    assert_eq!(real, None, "what stands in the registry is the registry's to answer");
}

#[tokio::test(start_paused = true)]
async fn one_provider_in_both_kinds_of_list_is_one_endpoint() {
    let house = house();
    let lease = house.lease("consumer");
    let mut list = house.desk.follow(lease.id(), &echo());
    let mut nodes = house.desk.follow(lease.id(), &app("demo"));
    house.registry.has_document("demo", "r1", DOCUMENT);
    house
        .registry
        .says(&app("demo"), vec![application_node("10.0.0.1", 20880, "r1")]);
    house
        .registry
        .says(&echo(), vec![provider("10.0.0.1", 20880, "group=g1&weight=3")]);
    until(&mut list, |l| l.instances.len() == 1).await;
    until(&mut nodes, |l| l.instances.len() == 1).await;
    assert!(house.desk.inward_metadata("demo", "r1-egress").await.is_some());
    let route = Arc::clone(
        house
            .catalog
            .routes()
            .load()
            .route("demo.EchoService", "g1", "")
            .unwrap(),
    );
    assert_eq!(
        (route.endpoints.len(), route.endpoints[0].weight),
        (1, 3),
        "the service's own list wins"
    );
}

#[tokio::test(start_paused = true)]
async fn a_revision_without_metadata_makes_nobody_wait_twice() {
    let house = house();
    let lease = house.lease("consumer");
    let mut nodes = house.desk.follow(lease.id(), &app("demo"));
    house
        .registry
        .says(&app("demo"), vec![application_node("10.0.0.2", 20881, "r1")]);
    until(&mut nodes, |l| l.instances.len() == 1).await;
    let began = tokio::time::Instant::now();
    assert!(house.desk.inward_metadata("demo", "r1-egress").await.is_none());
    let limit = house.catalog.setup.config.load().metadata_timeout.0;
    assert!(began.elapsed() < limit, "told as soon as two more attempts failed");
    let again = tokio::time::Instant::now();
    assert!(house.desk.inward_metadata("demo", "r1-egress").await.is_none());
    assert_eq!(again.elapsed(), std::time::Duration::ZERO);
    house.registry.has_document("demo", "r1", DOCUMENT);
    let served = async {
        while house.desk.inward_metadata("demo", "r1-egress").await.is_none() {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), served)
        .await
        .unwrap();
}
