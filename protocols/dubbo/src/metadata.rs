// SPDX-License-Identifier: Apache-2.0
//! Asks a provider application for its `MetadataInfo`: the services of one revision, as Dubbo 3 consumers ask for it.
//!
//! Source: `MetadataService.getMetadataInfo`, and its capture of Dubbo 3.3.6 in `testbed/golden/dubbo/`. The JSON is the
//! form in which the same document stands under `/dubbo/metadata/<application>/<revision>` of a registry.
//! Not here: `MetadataServiceV2`, which is spoken over `tri://`.

use std::time::Duration;

use remora_hessian2::{Body, Map, Object, Value};
use remora_protocol::{Bytes, Frame, StreamId};

use crate::call::{CallError, Opened, StringCall, open};
use crate::text;

/// The question for `revision` to an instance of `application`.
pub fn metadata_request(application: &str, revision: &str, id: StreamId) -> Bytes {
    StringCall {
        service: "org.apache.dubbo.metadata.MetadataService",
        group: application,
        version: "1.0.0",
        method: "getMetadataInfo",
        arguments: &[revision],
        timeout: Some(METADATA_TIMEOUT),
        application: "",
    }
    .to_request(id)
}

/// Dubbo's own limit for this call.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer as JSON: `{"app":…,"revision":…,"services":{"group/interface:version:protocol":{"name":…,"group":…,
/// "version":…,"protocol":…,"port":…,"path":…,"params":{…}}}}`. What is null there is absent here.
///
/// # Errors
/// `Failed` and `Threw` as the provider says; `Unfit` for null (the provider does not know the revision) and for any other
/// answer; `Body` if the body is broken.
pub fn metadata_reply(reply: &Frame) -> Result<String, CallError> {
    let body = match open(reply)? {
        Opened::Value(body) => body,
        Opened::Null => {
            return Err(CallError::Unfit {
                wanted: "a revision that the provider knows",
            });
        }
        Opened::Threw { class, message } => return Err(CallError::Threw { class, message }),
        Opened::Failed { status, message } => return Err(CallError::Failed { status, message }),
    };
    let unfit = CallError::Unfit {
        wanted: "a MetadataInfo",
    };
    let info = body.values.get(1).map(Value::bare);
    match info {
        Some(Value::Object(info)) => document(&body, info).ok_or(unfit),
        _ => Err(unfit),
    }
}

/// `None` if the services are no map of objects.
fn document(body: &Body<'_>, info: &Object<'_>) -> Option<String> {
    let mut json = Json::default();
    json.open();
    for name in ["app", "revision"] {
        if let Some(value) = body.field(info, name).and_then(Value::as_text) {
            json.member(name, &value.as_str());
        }
    }
    json.key("services");
    json.open();
    for (key, service) in &map(body.field(info, "services")?)?.entries {
        let Value::Object(service) = service.bare() else {
            return None;
        };
        json.key(&key.as_text()?.as_str());
        json.open();
        for name in ["name", "group", "version", "protocol", "path"] {
            if let Some(value) = body.field(service, name).and_then(Value::as_text) {
                json.member(name, &value.as_str());
            }
        }
        // Absent before 3.1.
        if let Some(Value::Int(port, _)) = body.field(service, "port").map(Value::bare) {
            json.key("port");
            json.out.push_str(&port.to_string());
        }
        json.key("params");
        json.open();
        for (name, value) in body
            .field(service, "params")
            .and_then(map)
            .iter()
            .flat_map(|map| &map.entries)
        {
            if let (Some(name), Some(value)) = (name.as_text(), value.as_text()) {
                json.member(&name.as_str(), &value.as_str());
            }
        }
        json.close();
        json.close();
    }
    json.close();
    json.close();
    Some(json.out)
}

fn map<'v, 'b>(value: &'v Value<'b>) -> Option<&'v Map<'b>> {
    match value.bare() {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// Objects of strings, as text.
#[derive(Default)]
struct Json {
    out: String,
}

impl Json {
    fn open(&mut self) {
        self.out.push('{');
    }

    fn close(&mut self) {
        self.out.push('}');
    }

    fn key(&mut self, key: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        text::json_string(&mut self.out, key);
        self.out.push(':');
    }

    fn member(&mut self, key: &str, value: &str) {
        self.key(key);
        text::json_string(&mut self.out, value);
    }
}
