// SPDX-License-Identifier: Apache-2.0
//! A provider that came in by a door without a text form of its own: the mesh API, the operator's `publish:`.

use remora_registry::{Instance, Params};

use super::{Service, line, params};
use crate::dubbo_url;

/// What such a door knows of a provider.
#[derive(Clone, Debug)]
pub struct Provider<'a> {
    /// What it offers.
    pub service: &'a Service,
    /// `bolt`, `tr`, ...; empty for the service's usual one.
    pub protocol: &'a str,
    /// Its host.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Name of its serialization, if known.
    pub serialization: Option<&'a str>,
    /// Name of the application, if known.
    pub app_name: Option<&'a str>,
    /// Parameters of its own. A value that holds `&` or `=` is percent-encoded: neither text form could hold it.
    pub properties: &'a [(String, String)],
}

impl Provider<'_> {
    /// As an instance with SOFARegistry's line.
    pub fn instance(&self) -> Instance {
        let protocol = match self.protocol {
            "" => self.service.usual_protocol(),
            protocol => protocol,
        };
        let mut own = Params::default();
        for (key, value) in [("serialization", self.serialization), ("appName", self.app_name)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                own.0.push((plain(key), plain(value)));
            }
        }
        own.0.extend(self.properties.iter().map(|(k, v)| (plain(k), plain(v))));
        let mut instance = Instance {
            id: "".into(),
            key: Some(self.service.key()),
            protocol: protocol.into(),
            host: self.host.into(),
            port: self.port,
            path: "".into(),
            params: own,
            raw: "".into(),
        };
        instance.params = params::to_line(&instance);
        instance.raw = line::print(&instance).into();
        instance.id = instance.raw.clone();
        instance
    }
}

fn plain(text: &str) -> String {
    let is_plain = |c: char| !matches!(c, '&' | '=') && !c.is_control();
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => dubbo_url::encode_component(text),
    }
}
