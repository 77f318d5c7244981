// SPDX-License-Identifier: Apache-2.0
//! The requests of the dubbod API, key by key.
//!
//! ```json
//! {"registry": {"type": "zookeeper", "addr": "127.0.0.1:2181", "username": "", "password": ""},
//!  "service": {"interface": "com.example.Echo", "methods": ["echo"], "group": "g", "version": "1.0.0"}}
//! ```
//! is what MOSN takes; the registry is the configured one, whatever the request names. Without `registry` it is the
//! variant, whose `service` has `params` with any parameters of the URL, and whose answers list what is registered. Ours:
//! `service.port` or `port`. A body that MOSN refuses over its content type, over a repeated publish, or over an unpublish
//! of what is not there is accepted.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use remora_naming::dubbo_url;
use remora_registry::{BoxFuture, Instance, Params, ServiceKey, Target};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::accept::Wanted;
use crate::body::{Object, is_name};
use crate::book::Caller;
use crate::door::Desk;
use crate::error::Refused;
use crate::registration::Key;
use crate::server::{Api, Call};
use crate::stats::Stats;

/// What the dubbod door answers.
pub(super) struct DubbodApi {
    desk: Arc<Desk>,
    namespace: Arc<str>,
}

impl DubbodApi {
    pub(super) fn new(desk: Arc<Desk>, namespace: &str) -> Self {
        Self {
            desk,
            namespace: namespace.into(),
        }
    }

    async fn publish(&self, call: &Call) -> Result<String, Refused> {
        let asked = Asked::of(&call.body)?;
        if asked.methods.is_empty() && asked.is_mosn {
            return Err(Refused::Missing {
                key: "service.methods".to_owned(),
            });
        }
        let wanted = self.wanted(&asked, &call.caller)?;
        let generation = self.desk.book.publish(&call.caller, wanted)?;
        Stats::count(&self.desk.book.stats.publishes);
        self.desk.kept(generation).await;
        self.done(&asked, &call.caller, "publish success")
    }

    fn wanted(&self, asked: &Asked, caller: &Caller) -> Result<Wanted, Refused> {
        let book = &self.desk.book;
        let configured = book.configured(caller.place);
        let names = book
            .table()
            .applications
            .get(&caller.place)
            .map(|a| a.names.clone())
            .unwrap_or_default();
        let port = match asked.port.or_else(|| configured.port(DUBBO)) {
            Some(port) => port,
            None => {
                return Err(Refused::NoPort {
                    protocol: DUBBO.to_owned(),
                    application: configured.name(&names),
                    setting: configured.port_setting(book.door, DUBBO),
                    key: "service.port",
                });
            }
        };
        let service = asked.key();
        let instance = Instance {
            id: "".into(),
            key: Some(service.clone()),
            protocol: DUBBO.into(),
            // Where an ingress calls the application; discovery publishes the machine's own address.
            host: "127.0.0.1".into(),
            port,
            path: asked.interface.as_str().into(),
            params: asked.url_params(&configured.own_name(&names)),
            raw: "".into(),
        };
        let key = Key {
            target: self.target(asked),
            service,
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
        let asked = Asked::of(&call.body)?;
        let (target, service) = (self.target(&asked), asked.key());
        // The variant's SDK takes a whole interface back.
        let is_whole = !asked.is_mosn && asked.group.is_empty() && asked.version.is_empty();
        let is_meant = |key: &Key| key.target == target && (is_whole || key.service == service);
        let generation = self.desk.book.unpublish(&call.caller, is_meant, asked.port)?;
        Stats::count(&self.desk.book.stats.unpublishes);
        self.desk.kept(generation).await;
        self.done(&asked, &call.caller, "unpub success")
    }

    async fn subscribe(&self, call: &Call) -> Result<String, Refused> {
        let asked = Asked::of(&call.body)?;
        let (_, mut list, generation) = self.desk.book.subscribe(&call.caller, &self.target(&asked))?;
        Stats::count(&self.desk.book.stats.subscribes);
        // The application calls the egress next, which should know where to by then.
        let known = async { timeout(FIRST_LIST_WAIT, list.wait_for(Option::is_some)).await.is_ok() };
        let (_, ()) = tokio::join!(known, self.desk.kept(generation));
        self.done(&asked, &call.caller, "subscribe success")
    }

    async fn unsubscribe(&self, call: &Call) -> Result<String, Refused> {
        let asked = Asked::of(&call.body)?;
        let generation = self.desk.book.unsubscribe(&call.caller, &self.target(&asked));
        Stats::count(&self.desk.book.stats.unsubscribes);
        self.desk.kept(generation).await;
        self.done(&asked, &call.caller, "unsubscribe success")
    }

    async fn heartbeat(&self, call: &Call) -> Result<String, Refused> {
        let known = self.desk.heartbeat(call).await?;
        Ok(with_outcome("ack success", known))
    }

    /// MOSN's answer to its own SDKs byte for byte; the variant's has what is registered.
    fn done(&self, asked: &Asked, caller: &Caller, message: &str) -> Result<String, Refused> {
        if asked.is_mosn {
            return Ok(json!({ "err_no": 0, "err_msg": message }).to_string());
        }
        Ok(with_outcome(message, self.desk.book.known(caller.place)))
    }

    fn target(&self, asked: &Asked) -> Target {
        Target::Service {
            namespace: Arc::clone(&self.namespace),
            name: asked.interface.as_str().into(),
        }
    }
}

impl Api for DubbodApi {
    fn pages(&self) -> &'static str {
        "POST /pub /unpub /sub /unsub, GET /heartbeat"
    }

    fn method_of(&self, path: &str) -> Option<Method> {
        match path {
            "/pub" | "/unpub" | "/sub" | "/unsub" => Some(Method::POST),
            "/heartbeat" => Some(Method::GET),
            _ => None,
        }
    }

    /// For MOSN's clients and for the variant's, who read other keys: to them a missing `code` would be a success.
    fn refusal(&self, path: &str, refused: &Refused) -> String {
        let message = match path {
            "/pub" => format!("publish fail, err: remora: {refused}"),
            "/unpub" => format!("unpub fail, err: remora: {refused}"),
            "/sub" => format!("subscribe fail, err: remora: {refused}"),
            "/unsub" => format!("unsubscribe fail, err: remora: {refused}"),
            _ => format!("remora: {refused}"),
        };
        json!({ "err_no": 1, "err_msg": message, "code": 1, "msg": message }).to_string()
    }

    fn accept(&self, call: Call) -> BoxFuture<'_, Result<String, Refused>> {
        Box::pin(async move {
            match call.path.as_str() {
                "/pub" => self.publish(&call).await,
                "/unpub" => self.unpublish(&call).await,
                "/sub" => self.subscribe(&call).await,
                "/unsub" => self.unsubscribe(&call).await,
                _ => self.heartbeat(&call).await,
            }
        })
    }
}

/// What a request names.
struct Asked {
    /// It has a registry, as MOSN's own requests do.
    is_mosn: bool,
    interface: String,
    group: String,
    version: String,
    methods: Vec<String>,
    /// The application's own.
    port: Option<u16>,
    params: Params,
}

impl Asked {
    fn of(body: &[u8]) -> Result<Self, Refused> {
        let body = Object::parse(body)?;
        let registry = body.object("registry")?;
        for key in ["type", "addr"] {
            registry.text(key)?;
        }
        let service = body.required_object("service")?;
        let own = service.object("params")?;
        let interface = named(&service, "interface", Some(service.required_text("interface")?))?;
        let either = |key| match service.text(key)? {
            Some(text) => named(&service, key, Some(text)),
            None => named(&own, key, own.text(key)?),
        };
        let port = match (service.port("port")?, own.port("port")?) {
            (None, None) => body.port("port")?,
            (service, own) => service.or(own),
        };
        Ok(Self {
            is_mosn: body.has("registry"),
            group: either("group")?,
            version: either("version")?,
            methods: service.names("methods")?,
            params: own.params()?,
            interface,
            port,
        })
    }

    fn key(&self) -> ServiceKey {
        ServiceKey::new(&self.interface, &self.group, &self.version)
    }

    /// The parameters of the URL, in the order of their names, as Dubbo prints them.
    fn url_params(&self, application: &str) -> Params {
        let mut params = Params::default();
        for (key, value) in self.params.iter().filter(|(key, _)| !NOT_COPIED.contains(key)) {
            params.set(&plain(key), plain(value));
        }
        let methods = self.methods.join(",");
        let own = [
            ("group", self.group.as_str()),
            ("interface", &self.interface),
            ("methods", &methods),
            ("side", "provider"),
            ("version", &self.version),
        ];
        for (key, value) in own.into_iter().filter(|(_, value)| !value.is_empty()) {
            params.set(key, value);
        }
        for (key, value) in [("anyhost", "true"), ("application", application), ("dubbo", "2.0.2")] {
            if params.get(key).is_none() && !value.is_empty() {
                params.set(key, value);
            }
        }
        params.0.sort();
        params
    }
}

fn named(object: &Object, key: &str, text: Option<&str>) -> Result<String, Refused> {
    match text {
        None => Ok(String::new()),
        Some(text) if is_name(text) => Ok(text.to_owned()),
        Some(_) => Err(object.wrong_value(key, "no name has these characters")),
    }
}

/// A URL's parameter holds neither `&` nor `=`.
fn plain(text: &str) -> String {
    let is_plain = |c: char| !matches!(c, '&' | '=' | '%') && !c.is_control();
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => dubbo_url::encode_component(text),
    }
}

fn with_outcome(message: &str, known: Value) -> String {
    let mut answer = json!({ "err_no": 0, "err_msg": message, "code": 0, "msg": message });
    if let (Some(answer), Value::Object(known)) = (answer.as_object_mut(), known) {
        answer.extend(known);
    }
    answer.to_string()
}

/// The registry answers within milliseconds, if it is there.
const FIRST_LIST_WAIT: Duration = Duration::from_secs(1);
const DUBBO: &str = "dubbo";
/// Parameter that says since when a provider is there.
pub(super) const STAMP: &str = "timestamp";
/// Parameters that would change where calls go, or that are said otherwise here.
const NOT_COPIED: [&str; 9] = [
    "host",
    "ip",
    "port",
    "bind.ip",
    "bind.port",
    "methods",
    "interface",
    STAMP,
    Instance::MARKER,
];
