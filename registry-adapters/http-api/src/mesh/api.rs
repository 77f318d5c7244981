// SPDX-License-Identifier: Apache-2.0
//! The requests of the mesh API, key by key.
//!
//! | path | keys (null is as good as missing) |
//! |---|---|
//! | `/configs/application` | `appName`; whatever else there is, is kept |
//! | `/services/publish` | `serviceName protocolType group providerMetaInfo: {appName serializeType properties}` |
//! | `/services/unpublish` | `serviceName protocolType group`; ours: `port` |
//! | `/services/subscribe`, `unsubscribe` | `serviceName protocolType group` |
//!
//! SOFARPC 5.6 sends null as `protocolType` except to publish. A service name has no `@protocol` from SOFARPC itself, but
//! has one from other clients. The port is in `providerMetaInfo.properties.port`, or known from the configuration.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use remora_naming::sofa::{Provider, Service, line};
use remora_registry::{BoxFuture, Client, Instance, LeaseId};
use serde_json::json;
use tokio::time::timeout;

use crate::accept::{List, Wanted};
use crate::body::{Object, is_name};
use crate::book::Caller;
use crate::door::Desk;
use crate::error::Refused;
use crate::registration::Key;
use crate::server::{Api, Call};
use crate::stats::Stats;

/// What the mesh door answers.
pub(super) struct MeshApi {
    desk: Arc<Desk>,
    first_list_wait: Duration,
}

impl MeshApi {
    pub(super) fn new(desk: Arc<Desk>, first_list_wait: Duration) -> Self {
        Self { desk, first_list_wait }
    }

    async fn application(&self, call: &Call) -> Result<String, Refused> {
        let body = Object::parse(&call.body)?;
        let name = body.text("appName")?.map(str::to_owned);
        let about = body.others("appName");
        let generation = self.desk.book.name(&call.caller, name.as_deref(), about);
        self.desk.kept(generation).await;
        Ok(success())
    }

    async fn publish(&self, call: &Call) -> Result<String, Refused> {
        let wanted = self.wanted(&call.body, &call.caller)?;
        let generation = self.desk.book.publish(&call.caller, wanted)?;
        Stats::count(&self.desk.book.stats.publishes);
        self.desk.kept(generation).await;
        Ok(success())
    }

    fn wanted(&self, body: &[u8], caller: &Caller) -> Result<Wanted, Refused> {
        let body = Object::parse(body)?;
        let Asked { service, protocol } = Asked::of(&body)?;
        let protocol = protocol.unwrap_or_else(|| service.usual_protocol().to_owned());
        let meta = body.object("providerMetaInfo")?;
        let own = meta.object("properties")?;
        let (name, serialization) = (meta.text("appName")?, meta.text("serializeType")?);
        let book = &self.desk.book;
        let configured = book.configured(caller.place);
        let names = book
            .table()
            .applications
            .get(&caller.place)
            .map(|a| a.names.clone())
            .unwrap_or_default();
        let port = match own.port("port")? {
            Some(port) => port,
            None => configured.port(&protocol).ok_or_else(|| Refused::NoPort {
                protocol: protocol.clone(),
                application: configured.name(&names),
                setting: configured.port_setting(book.door, &protocol),
                key: "providerMetaInfo.properties.port",
            })?,
        };
        let mut properties = own.params()?;
        for key in NOT_COPIED {
            properties.remove(key);
        }
        let known_name = configured.own_name(&names);
        let mut instance = Provider {
            service: &service,
            protocol: &protocol,
            host: LOOPBACK,
            port,
            serialization,
            app_name: name.or(Some(&known_name)),
            properties: &properties.0,
        }
        .instance();
        // The stamp is the book's.
        instance.params.remove(STAMP);
        let key = Key {
            target: service.target(),
            service: service.key(),
            port,
            owner: None,
        };
        Ok(Wanted {
            key,
            instance,
            stamp: STAMP,
        })
    }

    async fn unpublish(&self, call: &Call) -> Result<String, Refused> {
        let body = Object::parse(&call.body)?;
        let port = body.port("port")?;
        let Asked { service, protocol } = Asked::of(&body)?;
        let target = service.target();
        let any_protocol = |key: &Key| {
            let of_key = Service::of_target(&key.target);
            of_key.is_some_and(|of_key| {
                Service {
                    protocol: String::new(),
                    ..of_key
                } == service
            })
        };
        let is_meant = |key: &Key| match &protocol {
            Some(_) => key.target == target,
            None => key.target == target || any_protocol(key),
        };
        let generation = self.desk.book.unpublish(&call.caller, is_meant, port)?;
        Stats::count(&self.desk.book.stats.unpublishes);
        self.desk.kept(generation).await;
        Ok(success())
    }

    async fn subscribe(&self, call: &Call) -> Result<String, Refused> {
        let body = Object::parse(&call.body)?;
        let name = body.required_text("serviceName")?;
        let Asked { service, protocol } = Asked::of(&body)?;
        let protocol = protocol.unwrap_or_else(|| service.usual_protocol().to_owned());
        if protocol != BOLT {
            let why =
                "SOFARPC calls port 12220 for every protocol, where bolt alone is spoken; take another registry for it";
            return Err(Refused::Protocol {
                protocol,
                why: why.to_owned(),
            });
        }
        let (lease, list, generation) = self.desk.book.subscribe(&call.caller, &service.target())?;
        Stats::count(&self.desk.book.stats.subscribes);
        let (shown, ()) = tokio::join!(self.shown(lease, list), self.desk.kept(generation));
        let datas: Vec<String> = shown.iter().map(line::print).collect();
        Ok(json!({ "success": true, "serviceName": name, "datas": datas }).to_string())
    }

    /// What the application is shown of a service, once that is known; nothing if it takes too long.
    async fn shown(&self, lease: LeaseId, mut list: List) -> Vec<Instance> {
        match timeout(self.first_list_wait, list.wait_for(Option::is_some)).await {
            Ok(Ok(snapshot)) => match snapshot.as_ref() {
                Some(snapshot) => self.desk.book.discovery.inward(lease, snapshot, Client::Plain),
                None => Vec::new(),
            },
            // The proxy goes down, or the registry is slow: the application calls 12220 in any case.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    async fn unsubscribe(&self, call: &Call) -> Result<String, Refused> {
        let body = Object::parse(&call.body)?;
        let Asked { service, .. } = Asked::of(&body)?;
        let generation = self.desk.book.unsubscribe(&call.caller, &service.target());
        Stats::count(&self.desk.book.stats.unsubscribes);
        self.desk.kept(generation).await;
        Ok(success())
    }
}

impl Api for MeshApi {
    fn pages(&self) -> &'static str {
        "POST /configs/application /services/publish /services/unpublish /services/subscribe /services/unsubscribe, GET /heartbeat"
    }

    fn method_of(&self, path: &str) -> Option<Method> {
        match path {
            "/configs/application"
            | "/services/publish"
            | "/services/unpublish"
            | "/services/subscribe"
            | "/services/unsubscribe" => Some(Method::POST),
            "/heartbeat" => Some(Method::GET),
            _ => None,
        }
    }

    fn refusal(&self, _path: &str, refused: &Refused) -> String {
        json!({ "success": false, "errorMessage": format!("remora: {refused}") }).to_string()
    }

    fn accept(&self, call: Call) -> BoxFuture<'_, Result<String, Refused>> {
        Box::pin(async move {
            match call.path.as_str() {
                "/configs/application" => self.application(&call).await,
                "/services/publish" => self.publish(&call).await,
                "/services/unpublish" => self.unpublish(&call).await,
                "/services/subscribe" => self.subscribe(&call).await,
                "/services/unsubscribe" => self.unsubscribe(&call).await,
                _ => {
                    let mut known = self.desk.heartbeat(&call).await?;
                    known["success"] = true.into();
                    Ok(known.to_string())
                }
            }
        })
    }
}

/// The service that a request names.
struct Asked {
    service: Service,
    /// `None` if the request says none.
    protocol: Option<String>,
}

impl Asked {
    fn of(body: &Object) -> Result<Self, Refused> {
        let name = body.required_text("serviceName")?;
        let service = Service::parse(name).filter(|_| name.split([':', '@']).all(is_part));
        let service = service.ok_or_else(|| {
            body.wrong_value(
                "serviceName",
                "it is interface[:version[:uniqueId]][@protocol], without blanks or slashes",
            )
        })?;
        let group = body.text("group")?;
        if group.is_some_and(|group| !is_name(group) || group.contains('@')) {
            return Err(body.wrong_value("group", "no group has these characters"));
        }
        let mut service = service.in_group(group);
        let protocol = match body.text("protocolType")? {
            // What older clients call the usual one.
            None | Some("DEFAULT") => Some(service.protocol.clone()).filter(|p| !p.is_empty()),
            Some(protocol) if !is_name(protocol) || protocol.contains('@') => {
                return Err(body.wrong_value("protocolType", "no protocol has these characters"));
            }
            Some(protocol) => {
                let protocol = protocol.to_ascii_lowercase();
                service.protocol = match protocol.as_str() {
                    BOLT | "tr" => String::new(),
                    other => other.to_owned(),
                };
                Some(protocol)
            }
        };
        Ok(Self { service, protocol })
    }
}

fn is_part(part: &str) -> bool {
    part.is_empty() || is_name(part)
}

fn success() -> String {
    json!({ "success": true }).to_string()
}

const BOLT: &str = "bolt";
/// Where an ingress calls applications; discovery publishes the machine's own address.
const LOOPBACK: &str = "127.0.0.1";
/// Parameter that says since when a provider is there.
pub(super) const STAMP: &str = "startTime";
/// Properties that would change where calls go: the port is the key's, and the rest is for discovery to say.
const NOT_COPIED: [&str; 4] = ["port", "bind.port", "bind.ip", Instance::MARKER];
