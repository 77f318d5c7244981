// SPDX-License-Identifier: Apache-2.0
//! What a client registers: publishers, subscribers, configurators. Taking back is the same message with another event.

use remora_hessian2::Encoder;

use super::fields::Fields;
use super::{Kind, WireError, data_boxes, text_map, text_or_null};

/// What every registration says (`BaseRegister`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// Usually absent; the server then takes [`DEFAULT_INSTANCE_ID`](super::DEFAULT_INSTANCE_ID).
    pub instance_id: Option<String>,
    /// The client's zone.
    pub zone: Option<String>,
    /// The application's name.
    pub app_name: Option<String>,
    /// What it is about: `demo.EchoService:1.0@DEFAULT`.
    pub data_id: String,
    /// Group: `SOFA`, `SOFA.CONFIG`, `DEFAULT_GROUP`.
    pub group: String,
    /// Absent; the server sets it.
    pub process_id: Option<String>,
    /// Name of this registration, kept for its life: a UUID.
    pub regist_id: String,
    /// Absent.
    pub client_id: Option<String>,
    /// Absent; the server computes it.
    pub data_info_id: Option<String>,
    /// Absent; the server takes the connection's peer.
    pub ip: Option<String>,
    /// Absent; likewise.
    pub port: Option<i32>,
    /// Register or take back.
    pub event: EventType,
    /// Grows with each change of the registration; the answer must name the same one.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Signatures, if the client signs.
    pub attributes: Vec<(String, String)>,
}

/// What a registration wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EventType {
    /// To stand in the registry.
    #[default]
    Register,
    /// To be taken back.
    Unregister,
    /// Neither. The real server acknowledges it and does nothing.
    Other(String),
}

impl EventType {
    fn read(text: Option<String>) -> Self {
        match text.as_deref() {
            Some("REGISTER") => Self::Register,
            Some("UNREGISTER") => Self::Unregister,
            _ => Self::Other(text.unwrap_or_default()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Register => "REGISTER",
            Self::Unregister => "UNREGISTER",
            Self::Other(text) => text,
        }
    }
}

/// Which zones a subscriber wants to see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Its own.
    #[default]
    Zone,
    /// Those of its data centre.
    DataCenter,
    /// All.
    Global,
}

impl Scope {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::DataCenter => "dataCenter",
            Self::Global => "global",
        }
    }

    /// Reads the word, in upper or lower case. Anything else is `zone`, the client's default.
    pub fn parse(text: &str) -> Self {
        [Self::DataCenter, Self::Global]
            .into_iter()
            .find(|scope| scope.as_str().eq_ignore_ascii_case(text))
            .unwrap_or_default()
    }
}

/// Publishes data under a dataId, or takes it back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublisherRegister {
    /// What every registration says.
    pub base: Registration,
    /// The data, one text each; for SOFARPC one line. Empty when it is taken back.
    pub data: Vec<String>,
}

/// Follows a dataId.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriberRegister {
    /// What every registration says.
    pub base: Registration,
    /// Which zones it wants.
    pub scope: Scope,
    /// Compression that it understands; Java clients send none.
    pub accept_encoding: Option<String>,
    /// Whether it wants [`MultiReceivedData`](super::MultiReceivedData).
    pub accept_multi: bool,
}

/// Follows the configuration of a dataId.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfiguratorRegister {
    /// What every registration says.
    pub base: Registration,
}

impl PublisherRegister {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            base: Registration::read(fields)?,
            data: fields.data_boxes("dataList")?.unwrap_or_default(),
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        self.base.begin(out, Kind::PublisherRegister, &["dataList"]);
        match self.base.event == EventType::Unregister && self.data.is_empty() {
            true => {
                out.null();
            }
            false => data_boxes(out, &self.data),
        }
        self.base.write(out);
        out.end();
    }
}

impl SubscriberRegister {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            base: Registration::read(fields)?,
            scope: Scope::parse(&fields.text_or_empty("scope")?),
            accept_encoding: fields.text("acceptEncoding")?,
            accept_multi: fields.bool("acceptMulti")?,
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        let own = ["scope", "acceptEncoding", "acceptMulti"];
        self.base.begin(out, Kind::SubscriberRegister, &own);
        out.string(self.scope.as_str());
        text_or_null(out, self.accept_encoding.as_deref());
        out.bool(self.accept_multi);
        self.base.write(out);
        out.end();
    }
}

impl ConfiguratorRegister {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        let base = Registration::read(fields)?;
        Ok(Self { base })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        self.base.begin(out, Kind::ConfiguratorRegister, &[]);
        self.base.write(out);
        out.end();
    }
}

impl Registration {
    fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            instance_id: fields.text("instanceId")?,
            zone: fields.text("zone")?,
            app_name: fields.text("appName")?,
            data_id: fields.text_or_empty("dataId")?,
            group: fields.text_or_empty("group")?,
            process_id: fields.text("processId")?,
            regist_id: fields.text_or_empty("registId")?,
            client_id: fields.text("clientId")?,
            data_info_id: fields.text("dataInfoId")?,
            ip: fields.text("ip")?,
            port: fields.int("port")?,
            event: EventType::read(fields.text("eventType")?),
            version: fields.long("version")?.unwrap_or_default(),
            timestamp: fields.long("timestamp")?.unwrap_or_default(),
            attributes: fields.text_map("attributes")?,
        })
    }

    fn begin(&self, out: &mut Encoder, kind: Kind, own: &[&str]) {
        let fields: Vec<&str> = own.iter().chain(FIELDS).copied().collect();
        out.object_begin(kind.class(), &fields);
    }

    /// The values of [`FIELDS`].
    fn write(&self, out: &mut Encoder) {
        text_or_null(out, self.instance_id.as_deref());
        text_or_null(out, self.zone.as_deref());
        text_or_null(out, self.app_name.as_deref());
        out.string(&self.data_id).string(&self.group);
        text_or_null(out, self.process_id.as_deref());
        out.string(&self.regist_id);
        text_or_null(out, self.client_id.as_deref());
        text_or_null(out, self.data_info_id.as_deref());
        text_or_null(out, self.ip.as_deref());
        match self.port {
            Some(port) => out.int(port),
            None => out.null(),
        };
        out.string(self.event.as_str()).long(self.version).long(self.timestamp);
        text_map(out, &self.attributes);
    }
}

const FIELDS: &[&str] = &[
    "instanceId",
    "zone",
    "appName",
    "dataId",
    "group",
    "processId",
    "registId",
    "clientId",
    "dataInfoId",
    "ip",
    "port",
    "eventType",
    "version",
    "timestamp",
    "attributes",
];
