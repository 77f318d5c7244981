// SPDX-License-Identifier: Apache-2.0
//! SOFARPC's lists and publications.

use remora_naming::sofa::{Service, child as sofa_child, line, params::OFFLINE};

use super::*;

const ECHO_DIR: &str = "/sofa-rpc/demo.Echo/providers";

fn service_of(name: &str) -> Service {
    Service::parse(name).unwrap()
}

fn interface() -> Target {
    Service::of_interface("demo.Echo", "").interface_target()
}

fn url(protocol: &str, port: u16, version: &str, unique_id: &str) -> String {
    dubbo_url::encode_component(&format!(
        "{protocol}://10.0.0.5:{port}?version={version}&interface=demo.Echo&uniqueId={unique_id}&protocol={protocol}"
    ))
}

async fn provide(app: &Client, name: &str, data: &'static [u8]) -> String {
    let path = format!("{ECHO_DIR}/{name}");
    app.create_parents(&path).await.unwrap();
    app.create(&path, Bytes::from_static(data), Ephemeral).await.unwrap();
    path
}

fn offline(snapshot: &Snapshot) -> Vec<u16> {
    let out = snapshot.instances.iter().filter(|i| i.params.get(OFFLINE).is_some());
    out.map(|i| i.port).collect()
}

#[tokio::test]
async fn an_operator_takes_a_provider_out_and_back_by_its_data() {
    let server = server();
    let app = app(&server);
    let first = provide(&app, &url("bolt", 1, "1.0", ""), &[1]).await;
    // `dynamic=false`: SOFARPC's own consumers call it all the same.
    provide(&app, &url("bolt", 2, "1.0", ""), &[0]).await;
    let (registry, _stop) = start(Embedded::new(server));
    let mut list = registry.follow(interface());
    let known = until(&mut list, "both", |s| ports(s) == [1, 2]).await;
    assert_eq!(offline(&known), [0u16; 0]);
    app.set_data(&first, Bytes::from_static(&[0])).await.unwrap();
    let out = until(&mut list, "taken out", |s| offline(s) == [1]).await;
    assert_eq!(out.instances[0].key.as_ref().unwrap().to_string(), "demo.Echo:1.0");
    assert!(
        Arc::ptr_eq(&out.instances[1], &known.instances[1]),
        "the other is untouched"
    );
    app.set_data(&first, Bytes::from_static(&[1])).await.unwrap();
    until(&mut list, "taken back", |s| offline(s).is_empty()).await;
    app.delete(&first).await.unwrap();
    until(&mut list, "gone", |s| ports(s) == [2]).await;
}

#[tokio::test]
async fn a_provider_whose_data_may_not_be_read_is_listed() {
    let server = server();
    let app = app(&server);
    provide(&app, &url("bolt", 1, "1.0", ""), &[1]).await;
    let mut owner = support::Client::new(&server).await;
    owner.auth("shop:secret").await.unwrap();
    let path = format!("{ECHO_DIR}/{}", url("bolt", 2, "1.0", ""));
    let create = remora_zookeeper::wire::request::Create {
        acl: support::acl("auth", "", 31),
        ..support::create_record(&path, Ephemeral)
    };
    owner
        .ask(remora_zookeeper::wire::Request::Create(create))
        .await
        .unwrap();
    let (registry, _stop) = start(Embedded::new(server));
    let mut list = registry.follow(interface());
    until(&mut list, "both", |s| ports(s) == [1, 2]).await;
}

#[tokio::test]
async fn the_list_of_one_service_has_its_version_or_those_that_do_not_tell() {
    let server = server();
    let app = app(&server);
    for (protocol, port, version, unique_id) in [
        ("bolt", 1, "1.0", ""),
        ("bolt", 2, "2.0", ""),
        ("bolt", 3, "1.0", "blue"),
        ("rest", 4, "1.0", ""),
    ] {
        provide(&app, &url(protocol, port, version, unique_id), &[1]).await;
    }
    provide(&app, "not-a-url", &[]).await;
    let (registry, _stop) = start(Embedded::new(server));
    for (name, wanted) in [
        ("demo.Echo:1.0", vec![1]),
        ("demo.Echo:2.0", vec![2]),
        ("demo.Echo:3.0", vec![1]),
        ("demo.Echo:1.0:blue", vec![3]),
        ("demo.Echo:2.0:blue", vec![3]),
        ("demo.Echo:1.0@rest", vec![4]),
        ("demo.Echo:1.0:red", vec![]),
    ] {
        let service = service_of(name);
        let mut list = registry.follow(service.target());
        let list = until(&mut list, name, |s| ports(s) == wanted).await;
        assert!(list.foreign.is_empty());
        for instance in &list.instances {
            assert_eq!(instance.key, Some(service.key()), "{name}");
        }
    }
    let mut whole = registry.follow(interface());
    let whole = until(&mut whole, "all", |s| s.instances.len() == 4).await;
    assert_eq!(*whole.foreign, ["not-a-url".into()]);
}

#[tokio::test]
async fn a_line_of_another_registry_is_published_as_sofarpc_would() {
    let server = server();
    let (registry, _stop) = start(Embedded::new(server.clone()));
    let service = service_of("demo.Echo:2.0:blue");
    let text = "10.0.0.5:12201?rpcVer=51302&serialization=hessian2&weight=100&appName=shop&p=1&v=4.0\
        &_SERIALIZETYPE=hessian2&_WEIGHT=100&app_name=shop&tag=blue&remora.app.port=12200";
    let mut instance = line::parse(text, &service).unwrap();
    (instance.id, instance.raw) = ("".into(), "".into());
    registry.publish(&service.target(), &instance).await.unwrap();
    let app = app(&server);
    let names = async || -> Vec<String> {
        let children = app.children(ECHO_DIR, None).await.unwrap();
        children.iter().map(|c| c.to_string()).collect()
    };
    let name = names().await.pop().unwrap();
    assert_eq!(
        dubbo_url::decode_component(&name).unwrap(),
        "bolt://10.0.0.5:12201?version=2.0&uniqueId=blue&interface=demo.Echo&protocol=bolt&rpcVer=51302\
         &serialization=hessian2&weight=100&appName=shop&tag=blue&remora.app.port=12200"
    );
    let (data, _) = app.data(&format!("{ECHO_DIR}/{name}"), None).await.unwrap();
    assert_eq!(&*data, [1]);
    assert_eq!(sofa_child::parse(&name, "demo.Echo").unwrap().key, instance.key);

    let other = Instance {
        port: 12300,
        ..instance.clone()
    };
    registry.withdraw(&service.target(), &other).await.unwrap();
    assert_eq!(names().await, [name]);
    registry.withdraw(&service.target(), &instance).await.unwrap();
    assert!(names().await.is_empty());
}

#[tokio::test]
async fn a_group_of_sofaregistry_is_refused_with_its_name() {
    let (registry, _stop) = start(Embedded::new(server()));
    let service = service_of("demo.Echo:1.0").in_group(Some("blue"));
    let why = registry.cannot_hold(&service.target()).unwrap();
    assert!(why.contains("sofa.group=blue"), "{why}");
    assert_eq!(registry.cannot_hold(&interface()), None);
    let mut list = registry.follow(service.target());
    until(&mut list, "an empty list", |s| s.instances.is_empty()).await;
    let instance = line::parse("10.0.0.5:12201?p=1", &service).unwrap();
    let refused = registry.publish(&service.target(), &instance).await;
    assert!(matches!(refused, Err(RegistryError::Unsupported { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_name_that_no_path_can_have_is_refused_for_good() {
    let (registry, _stop) = start(Embedded::new(server()));
    for name in ["..:1.0", ".:1.0", "demo.\u{e000}:1.0"] {
        let service = service_of(name);
        let instance = line::parse("10.0.0.5:12201?p=1", &service).unwrap();
        let refused = registry.publish(&service.target(), &instance).await;
        assert!(
            matches!(refused, Err(RegistryError::Unsupported { .. })),
            "{name:?}: {refused:?}"
        );
    }
}
