// SPDX-License-Identifier: Apache-2.0
//! Swapping the address in what a provider publishes, in each of the text forms.

use divan::{AllocProfiler, Bencher, black_box};
use remora_naming::{application, dubbo_url, sofa};
use remora_registry::Outward;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn outward() -> Outward {
    Outward {
        host: "10.0.0.5".to_owned(),
        port: 20881,
        app_port: 20880,
    }
}

/// A child of ZooKeeper's, as Dubbo 2.7 registers it.
#[divan::bench]
fn dubbo_url_outward(bencher: Bencher<'_, '_>) {
    let child = dubbo_url::encode_component(DUBBO_URL);
    let outward = outward();
    assert!(dubbo_url::with_outward(&child, &outward).is_ok());
    bencher.bench(|| dubbo_url::with_outward(black_box(&child), &outward));
}

/// Reading the same child, as is done for each one of a list.
#[divan::bench]
fn dubbo_url_parse(bencher: Bencher<'_, '_>) {
    let child = dubbo_url::encode_component(DUBBO_URL);
    bencher.bench(|| dubbo_url::parse_child(black_box(&child)).is_ok());
}

/// A node of application-level discovery, as Dubbo 3 registers it.
#[divan::bench]
fn application_outward(bencher: Bencher<'_, '_>) {
    let outward = Outward {
        app_port: 3330,
        ..outward()
    };
    assert!(application::with_outward(NODE, NODE_JSON.as_bytes(), &outward).is_ok());
    bencher.bench(|| application::with_outward(NODE, black_box(NODE_JSON).as_bytes(), &outward).is_ok());
}

/// A line of SOFARegistry, as SOFARPC publishes it.
#[divan::bench]
fn sofa_line_outward(bencher: Bencher<'_, '_>) {
    let outward = outward();
    assert!(sofa::line::with_outward(SOFA_LINE, &outward).is_ok());
    bencher.bench(|| sofa::line::with_outward(black_box(SOFA_LINE), &outward));
}

const DUBBO_URL: &str = "dubbo://192.0.2.2:20880/demo.GreetService?anyhost=true&application=demo-provider&deprecated=false\
    &dubbo=2.0.2&dynamic=true&generic=false&group=g1&interface=demo.GreetService&metadata-type=remote&methods=fail,hello,put\
    &pid=25695&release=2.7.23&revision=1.0.0&service.name=ServiceBean:g1/demo.GreetService:1.0.0&side=provider\
    &timestamp=1700000000000&version=1.0.0";
const NODE: &str = "10.77.0.2:3330";
const NODE_JSON: &str = r#"{"name":"demo-provider","id":"10.77.0.2:3330","address":"10.77.0.2","port":3330,"sslPort":null,"payload":{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","id":"10.77.0.2:3330","name":"demo-provider","metadata":{"dubbo.endpoints":"[{\"port\":3330,\"protocol\":\"dubbo\"}]","dubbo.metadata-service.url-params":"{\"prefer.serialization\":\"hessian2,fastjson2\",\"version\":\"1.0.0\",\"dubbo\":\"2.0.2\",\"release\":\"3.3.2\",\"side\":\"provider\",\"port\":\"3330\",\"protocol\":\"dubbo\"}","dubbo.metadata.revision":"5f1e1b5c5e8a4d3e9b6a7c8d9e0f1a2b","dubbo.metadata.storage-type":"local","meta-v":"1.0.0","timestamp":"1700000000000","zone":"a"}},"registrationTimeUTC":1700000000001,"serviceType":"DYNAMIC","uriSpec":null}"#;
const SOFA_LINE: &str = "192.0.2.2:12200?rpcVer=51302&serialization=hessian2&weight=100&appName=demo-app&p=1&v=4.0\
    &timeout=3000&startTime=1700000000000&language=java&pid=7";
