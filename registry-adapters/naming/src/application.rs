// SPDX-License-Identifier: Apache-2.0
//! Instances of application-level lists: `/services/<application>/<host>:<port>`, JSON as Curator's x-discovery writes it.
//!
//! ```text
//! {"name":app,"id":"ip:port","address":ip,"port":20880,"sslPort":null,
//!  "payload":{"@class":"..ZookeeperInstance","id":..,"name":..,"metadata":{
//!     "dubbo.endpoints":"[{\\"port\\":20880,\\"protocol\\":\\"dubbo\\"}]",
//!     "dubbo.metadata-service.url-params":"{..\\"port\\":\\"20880\\"..}", 2.7: one level more, {"dubbo":{..}}
//!     "dubbo.metadata.revision":..,"dubbo.metadata.storage-type":"local"}},
//!  "registrationTimeUTC":ms,"serviceType":"DYNAMIC","uriSpec":null}
//! ```
//! Seen with Dubbo 3.3.2; 2.7's form from its source. Unknown keys stay, in their order.

use remora_registry::{Instance, Outward, Params};
use serde_json::{Map, Value, json};

use crate::NamingError;
use crate::json::{port_in, read, set_port, text_of};

/// Reads a node.
///
/// - Gives `None` for a node that is not Dubbo's (its payload has no `dubbo.*` metadata): leave it alone.
/// - `protocol` and `port` are the endpoint that Dubbo's own protocol has, else the first one, else the node's port;
///   `params` is the metadata in its order, plus `application`; `raw` is the document.
///
/// # Errors
/// When it is no JSON, or Dubbo's but without an address or a port.
pub fn parse(node: &str, json: &[u8]) -> Result<Option<Instance>, NamingError> {
    let document = read(json)?;
    let Some(metadata) = metadata(&document) else {
        return Ok(None);
    };
    let mut params = Params(metadata.iter().map(|(k, v)| (k.clone(), text_of(v))).collect());
    if let (None, Some(name)) = (params.get("application"), document.get("name").and_then(Value::as_str)) {
        params.set("application", name);
    }
    let host = document
        .get("address")
        .and_then(Value::as_str)
        .filter(|h| !h.is_empty());
    let endpoint = main_endpoint(&document);
    let port = endpoint
        .as_ref()
        .map(|e| e.port)
        .or(document.get("port").and_then(port_in));
    Ok(Some(Instance {
        id: node.into(),
        key: None,
        protocol: endpoint.map_or("dubbo".into(), |e| e.protocol.into()),
        host: host.ok_or(NamingError::Host)?.into(),
        port: port.ok_or_else(|| NamingError::port(&document.get("port").map(text_of).unwrap_or_default()))?,
        path: "".into(),
        params,
        raw: String::from_utf8_lossy(json).into(),
    }))
}

/// The node to publish in the application's place: address, ports (the node's own, endpoints, metadata service) and the
/// names made of them swapped wherever they are the main endpoint's, the marker added to the metadata.
///
/// # Errors
/// `AlreadyTakenOver` if the marker is there; `Json` if it is not Dubbo's; else as [`parse`].
pub fn with_outward(node: &str, json: &[u8], outward: &Outward) -> Result<(String, Vec<u8>), NamingError> {
    with_outwards(node, json, outward, &[])
}

/// As [`with_outward`], with other endpoints swapped too: each one's port and what it becomes.
///
/// # Errors
/// As [`with_outward`].
pub fn with_outwards(
    node: &str,
    json: &[u8],
    outward: &Outward,
    others: &[(u16, u16)],
) -> Result<(String, Vec<u8>), NamingError> {
    let instance = parse(node, json)?.ok_or_else(not_dubbo)?;
    if instance.params.get(Instance::MARKER).is_some() {
        return Err(NamingError::AlreadyTakenOver {
            host: instance.host.to_string(),
            port: instance.port,
        });
    }
    let mut document = read(json)?;
    let port = |port: u16, _: Option<&str>| match others.iter().find(|(from, _)| *from == port) {
        _ if port == instance.port => outward.port,
        Some((_, to)) => *to,
        None => port,
    };
    let node = swap_address(&mut document, node, &outward.host, &port);
    set_metadata(&mut document, Instance::MARKER, &outward.app_port.to_string());
    Ok((node, print_document(&document)))
}

/// The node of an application that was published before, its main endpoint at another address.
///
/// # Errors
/// As [`parse`]; `Json` if it is not Dubbo's.
pub fn moved(node: &str, json: &[u8], host: &str, port: u16) -> Result<(String, Vec<u8>), NamingError> {
    let instance = parse(node, json)?.ok_or_else(not_dubbo)?;
    let mut document = read(json)?;
    let new = |old: u16, _: Option<&str>| if old == instance.port { port } else { old };
    let node = swap_address(&mut document, node, host, &new);
    Ok((node, print_document(&document)))
}

/// The node as its application wrote it, of one that was published in its place: the marker goes, the marked port comes back
/// to the main endpoint, others get what `behind` says of theirs. Its host is the published one.
///
/// # Errors
/// `Port` without a marker; `Json` if it is not Dubbo's; else as [`parse`].
pub fn restored(node: &str, json: &[u8], behind: &dyn Fn(u16) -> u16) -> Result<(String, Vec<u8>), NamingError> {
    let instance = parse(node, json)?.ok_or_else(not_dubbo)?;
    let app_port = instance.app_port().ok_or_else(|| NamingError::port(""))?;
    let mut document = read(json)?;
    let host = instance.host.to_string();
    let port = |port: u16, _: Option<&str>| if port == instance.port { app_port } else { behind(port) };
    let node = swap_address(&mut document, node, &host, &port);
    let metadata = document.get_mut("payload").and_then(|p| p.get_mut("metadata"));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        metadata.shift_remove(Instance::MARKER);
    }
    Ok((node, print_document(&document)))
}

/// An entry to show to an application: `instance` at `host`:`port` with one endpoint, its metadata to be read from the
/// metadata centre under `revision`. Its name is made of address and revision, so that it stays while providers come
/// and go.
///
/// # Errors
/// When `instance.raw` is not such a document.
pub fn shown_at(instance: &Instance, host: &str, port: u16, revision: &str) -> Result<Instance, NamingError> {
    let mut document = read_node(&instance.raw)?;
    swap_address(&mut document, &instance.id, host, &|_, _| port);
    let id = format!("{host}:{port}-{revision}");
    set_ids(&mut document, &id);
    let endpoints = json!([{"port": port, "protocol": &*instance.protocol}]);
    set_metadata(&mut document, ENDPOINTS, &endpoints.to_string());
    show_revision(&mut document, revision);
    parse_again(&id, &document)
}

/// An entry to show to an application that keeps its own address, without the endpoints for which `hidden` says so, its
/// metadata to be read from the metadata centre under `revision`.
///
/// # Errors
/// When `instance.raw` is not such a document.
pub fn shown_direct(
    instance: &Instance,
    hidden: &dyn Fn(&str) -> bool,
    revision: &str,
) -> Result<Instance, NamingError> {
    let mut document = read_node(&instance.raw)?;
    let mut left = endpoints_of(&document);
    left.retain(|e| !hidden(&e.protocol));
    if let Some(first) = left.first() {
        document["port"] = Value::from(first.port);
    }
    let endpoints: Vec<Value> = left
        .iter()
        .map(|e| json!({"port": e.port, "protocol": e.protocol}))
        .collect();
    set_metadata(&mut document, ENDPOINTS, &Value::from(endpoints).to_string());
    show_revision(&mut document, revision);
    parse_again(&instance.id, &document)
}

/// Prints an entry made by this module: node name and document.
///
/// # Errors
/// When `instance.raw` is not such a document.
pub fn print(instance: &Instance) -> Result<(String, Vec<u8>), NamingError> {
    read_node(&instance.raw)?;
    Ok((instance.id.to_string(), instance.raw.as_bytes().to_vec()))
}

/// A protocol that an application offers, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppEndpoint {
    /// Scheme.
    pub protocol: String,
    /// Port.
    pub port: u16,
}

/// The protocols of an entry (`dubbo.endpoints`); empty if it does not say.
pub fn endpoints(instance: &Instance) -> Vec<AppEndpoint> {
    instance.params.get(ENDPOINTS).map(endpoints_in).unwrap_or_default()
}

fn metadata(document: &Value) -> Option<&Map<String, Value>> {
    let metadata = document.get("payload")?.get("metadata")?.as_object()?;
    metadata.keys().any(|k| k.starts_with("dubbo.")).then_some(metadata)
}

fn endpoints_of(document: &Value) -> Vec<AppEndpoint> {
    let text = metadata(document).and_then(|m| m.get(ENDPOINTS)).map(text_of);
    text.as_deref().map(endpoints_in).unwrap_or_default()
}

fn endpoints_in(text: &str) -> Vec<AppEndpoint> {
    let Ok(Value::Array(list)) = read(text.as_bytes()) else {
        return Vec::new();
    };
    let endpoint = |entry: &Value| {
        Some(AppEndpoint {
            protocol: entry.get("protocol")?.as_str()?.to_owned(),
            port: entry.get("port").and_then(port_in)?,
        })
    };
    list.iter().filter_map(endpoint).collect()
}

fn main_endpoint(document: &Value) -> Option<AppEndpoint> {
    let all = endpoints_of(document);
    all.iter().find(|e| e.protocol == "dubbo").or(all.first()).cloned()
}

/// Swaps host and ports in every place that has them; gives the node's new name.
fn swap_address(document: &mut Value, node: &str, host: &str, port: &dyn Fn(u16, Option<&str>) -> u16) -> String {
    let old_host = document.get("address").map(text_of).unwrap_or_default();
    let old_port = document.get("port").and_then(port_in).unwrap_or(0);
    let new_port = port(old_port, None);
    document["address"] = Value::from(host);
    if let Some(value) = document.get_mut("port").filter(|v| !v.is_null()) {
        set_port(value, new_port);
    }
    let (old_id, new_id) = (format!("{old_host}:{old_port}"), format!("{host}:{new_port}"));
    for id in ids_mut(document) {
        if id.as_str() == Some(&old_id) {
            *id = Value::from(new_id.clone());
        }
    }
    swap_inside(document, ENDPOINTS, |inner| {
        for entry in inner.as_array_mut().into_iter().flatten() {
            let protocol = entry.get("protocol").and_then(Value::as_str).map(str::to_owned);
            swap_port(entry, &|old| port(old, protocol.as_deref()));
        }
    });
    swap_inside(document, URL_PARAMS, |inner| {
        swap_port(inner, &|old| port(old, None));
        for (protocol, params) in inner.as_object_mut().into_iter().flatten() {
            swap_port(params, &|old| port(old, Some(protocol)));
        }
    });
    swap_inside(document, SERVICE_URLS, |inner| {
        for url in inner.as_array_mut().into_iter().flatten() {
            let text = text_of(url);
            let Ok(parsed) = crate::dubbo_url::parse_child(&text) else {
                continue;
            };
            let new = port(parsed.port, Some(&parsed.protocol));
            if let (true, Ok(new)) = (new != parsed.port, crate::dubbo_url::swap(&text, host, new, None)) {
                *url = Value::from(new);
            }
        }
    });
    if node == old_id { new_id } else { node.to_owned() }
}

fn swap_port(object: &mut Value, port: &dyn Fn(u16) -> u16) {
    if let Some(value) = object.as_object_mut().and_then(|o| o.get_mut("port"))
        && let Some(old) = port_in(value)
    {
        set_port(value, port(old));
    }
}

/// Changes a metadata value that is itself JSON in a string. A value that is no JSON stays.
fn swap_inside(document: &mut Value, key: &str, change: impl FnOnce(&mut Value)) {
    let Some(value) = document
        .get_mut("payload")
        .and_then(|p| p.get_mut("metadata")?.get_mut(key))
    else {
        return;
    };
    let Ok(mut inner) = read(text_of(value).as_bytes()) else {
        return;
    };
    change(&mut inner);
    *value = Value::from(inner.to_string());
}

fn set_metadata(document: &mut Value, key: &str, value: &str) {
    let metadata = document.get_mut("payload").and_then(|p| p.get_mut("metadata"));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        metadata.insert(key.to_owned(), Value::from(value));
    }
}

fn show_revision(document: &mut Value, revision: &str) {
    set_metadata(document, "dubbo.metadata.revision", revision);
    set_metadata(document, "dubbo.metadata.storage-type", "remote");
    let metadata = document.get_mut("payload").and_then(|p| p.get_mut("metadata"));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        metadata.shift_remove(Instance::MARKER);
    }
}

fn ids_mut(document: &mut Value) -> Vec<&mut Value> {
    let mut found = Vec::new();
    for (key, value) in document.as_object_mut().into_iter().flatten() {
        match key.as_str() {
            "id" => found.push(value),
            "payload" => found.extend(value.get_mut("id")),
            _ => {}
        }
    }
    found
}

fn set_ids(document: &mut Value, id: &str) {
    for place in ids_mut(document) {
        *place = Value::from(id);
    }
}

fn print_document(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

fn parse_again(node: &str, document: &Value) -> Result<Instance, NamingError> {
    parse(node, &print_document(document))?.ok_or_else(not_dubbo)
}

/// A document that is an object with Dubbo's metadata.
fn read_node(raw: &str) -> Result<Value, NamingError> {
    let document = read(raw.as_bytes())?;
    match metadata(&document) {
        Some(_) => Ok(document),
        None => Err(not_dubbo()),
    }
}

fn not_dubbo() -> NamingError {
    NamingError::Json {
        cause: "no dubbo.* metadata in its payload".into(),
    }
}

const ENDPOINTS: &str = "dubbo.endpoints";
const URL_PARAMS: &str = "dubbo.metadata-service.url-params";
const SERVICE_URLS: &str = "dubbo.metadata-service.urls";
