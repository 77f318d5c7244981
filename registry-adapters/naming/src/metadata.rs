// SPDX-License-Identifier: Apache-2.0
//! `MetadataInfo` documents: what an application's revision offers.
//!
//! `{"app":..,"revision":..,"services":{"g1/demo.GreetService:1.0.0:dubbo":{"group","name","params":{..},"path",
//! "port":20880,"protocol","version"}}}`, as Dubbo 3.1 to 3.3 write it to `/dubbo/metadata/<app>/<revision>`. A service's
//! `port` wins over every port of the instance from 3.1 on; -1 lets the consumer take the instance's.

use remora_registry::{Outward, Params, ServiceKey};
use serde_json::Value;

use crate::NamingError;
use crate::json::{port_in, read, set_port, text_of};

/// One service of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Name, group and version.
    pub key: ServiceKey,
    /// Scheme.
    pub protocol: String,
    /// Path; the name if the document has none.
    pub path: String,
    /// Its own port; `None`: the instance's.
    pub port: Option<u16>,
    /// Its parameters.
    pub params: Params,
}

/// The services of a document. Entries without a name or protocol are left out.
///
/// # Errors
/// `Json` or `TooLong`.
pub fn services(json: &[u8]) -> Result<Vec<ServiceInfo>, NamingError> {
    let document = read(json)?;
    let services = document.get("services").and_then(Value::as_object);
    Ok(services
        .into_iter()
        .flatten()
        .filter_map(|(_, entry)| service(entry))
        .collect())
}

/// The document to publish in the application's place: services at the application's own port get the ingress port.
///
/// # Errors
/// `Json` or `TooLong`.
pub fn with_outward(json: &[u8], outward: &Outward) -> Result<Vec<u8>, NamingError> {
    let mut document = read(json)?;
    for entry in services_mut(&mut document) {
        if let Some(port) = entry.get_mut("port")
            && port_in(port) == Some(outward.app_port)
        {
            set_port(port, outward.port);
        }
    }
    Ok(document.to_string().into_bytes())
}

/// The document as its application wrote it, of one that was published in its place: services at an ingress get the port that
/// `behind` says of it.
///
/// # Errors
/// `Json`.
pub fn restored(json: &[u8], behind: &dyn Fn(u16) -> Option<u16>) -> Result<Vec<u8>, NamingError> {
    let mut document = read(json)?;
    for entry in services_mut(&mut document) {
        if let Some(port) = entry.get_mut("port")
            && let Some(own) = port_in(port).and_then(behind)
        {
            set_port(port, own);
        }
    }
    Ok(document.to_string().into_bytes())
}

/// The document to show to an application under `revision`: the services whose protocol `spoken` knows, their ports -1,
/// so that calls go where the shown instance stands.
///
/// # Errors
/// `Json` or `TooLong`.
pub fn inward(json: &[u8], spoken: &dyn Fn(&str) -> bool, revision: &str) -> Result<String, NamingError> {
    let mut document = retained(json, spoken, revision)?;
    for entry in services_mut(&mut document) {
        if let Some(port) = entry.get_mut("port") {
            *port = Value::from(-1);
        }
    }
    Ok(document.to_string())
}

/// The document to show under `revision` for entries that keep their own address: the services whose protocol `spoken`
/// does not know, as they are.
///
/// # Errors
/// `Json` or `TooLong`.
pub fn direct(json: &[u8], spoken: &dyn Fn(&str) -> bool, revision: &str) -> Result<String, NamingError> {
    Ok(retained(json, &|protocol| !spoken(protocol), revision)?.to_string())
}

fn retained(json: &[u8], keep: &dyn Fn(&str) -> bool, revision: &str) -> Result<Value, NamingError> {
    let mut document = read(json)?;
    if let Some(services) = document.get_mut("services").and_then(Value::as_object_mut) {
        services.retain(|_, entry| entry.get("protocol").and_then(Value::as_str).is_none_or(keep));
    }
    if let Some(place) = document.get_mut("revision") {
        *place = Value::from(revision);
    }
    Ok(document)
}

fn services_mut(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let services = document.get_mut("services").and_then(Value::as_object_mut);
    services.into_iter().flat_map(|s| s.values_mut())
}

fn service(entry: &Value) -> Option<ServiceInfo> {
    let text = |key: &str| entry.get(key).filter(|v| !v.is_null()).map(text_of).unwrap_or_default();
    let name = Some(text("name")).filter(|n| !n.is_empty())?;
    let params = entry.get("params").and_then(Value::as_object);
    let path = text("path");
    Some(ServiceInfo {
        key: ServiceKey::new(&name, &text("group"), &text("version")),
        protocol: Some(text("protocol")).filter(|p| !p.is_empty())?,
        path: if path.is_empty() { name } else { path },
        port: entry.get("port").and_then(port_in).filter(|p| *p > 0),
        params: Params(
            params
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), text_of(v)))
                .collect(),
        ),
    })
}
