// SPDX-License-Identifier: Apache-2.0
//! The messages that registry clients and session servers exchange, in both directions.
//!
//! | message | direction | answer |
//! |---|---|---|
//! | [`PublisherRegister`], [`SubscriberRegister`], [`ConfiguratorRegister`] | client to server | [`RegisterResponse`] |
//! | [`SyncConfigRequest`] | client to server | [`SyncConfigResponse`] |
//! | [`ReceivedData`], [`ReceivedConfigData`], [`MultiReceivedData`] | server to client | [`PushResult`] |
//!
//! Wire: frames of bolt v1, codec 1, without header map. The class of the frame is the message's class in package
//! `com.alipay.sofa.registry.core.model`, the content one hessian object of it in the older draft (`O`, `o`). Fields are
//! read in any order, unknown ones stepped over, missing ones defaulted. Source: sofa-registry `core`, and captures in
//! `testbed/golden/sofaregistry/`.
//! Not here: bolt framing (crate `remora-bolt`); the protobuf variant (codec 11), which Java clients do not use; unzipping
//! of [`MultiReceivedData`], which is only sent to who asks for it.

mod error;
mod fields;
mod push;
mod register;
mod reply;
#[cfg(test)]
mod tests;

use remora_hessian2::{Dialect, Encoder};

pub use error::WireError;
pub use push::{MultiReceivedData, MultiSegmentData, ReceivedConfigData, ReceivedData};
pub use register::{ConfiguratorRegister, EventType, PublisherRegister, Registration, Scope, SubscriberRegister};
pub use reply::{PushResult, RegisterResponse, SyncConfigRequest, SyncConfigResponse};

use fields::Content;

/// Data centre, and so segment, of a session server that was not told otherwise.
pub const DEFAULT_DATA_CENTER: &str = "DefaultDataCenter";
/// Zone of a client that names none.
pub const DEFAULT_ZONE: &str = "DEFAULT_ZONE";
/// What the server puts in the place of an absent `instanceId`.
pub const DEFAULT_INSTANCE_ID: &str = "DEFAULT_INSTANCE_ID";
/// Group of a registration that names none.
pub const DEFAULT_GROUP: &str = "DEFAULT_GROUP";

/// Texts by zone, in the order of the wire.
pub type Zones = Vec<(String, Vec<String>)>;

/// What a message may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of a content in bytes. A push of 5,000 lines takes some 1.5 MB.
    pub max_content_bytes: usize,
    /// Values in it, those that are referred to counted each time. A line takes two or three.
    pub max_items: usize,
    /// Memory for decoding, on top of content and message, in bytes; a line is charged some 1,000.
    pub max_decoded_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_content_bytes: 32 << 20,
            max_items: 1 << 20,
            max_decoded_bytes: 256 << 20,
        }
    }
}

/// Any message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each holds what it is named after")]
pub enum Message {
    PublisherRegister(PublisherRegister),
    SubscriberRegister(SubscriberRegister),
    ConfiguratorRegister(ConfiguratorRegister),
    RegisterResponse(RegisterResponse),
    SyncConfigRequest(SyncConfigRequest),
    SyncConfigResponse(SyncConfigResponse),
    ReceivedData(ReceivedData),
    ReceivedConfigData(ReceivedConfigData),
    MultiReceivedData(MultiReceivedData),
    PushResult(PushResult),
}

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named after the messages")]
pub enum Kind {
    PublisherRegister,
    SubscriberRegister,
    ConfiguratorRegister,
    RegisterResponse,
    SyncConfigRequest,
    SyncConfigResponse,
    ReceivedData,
    ReceivedConfigData,
    MultiReceivedData,
    PushResult,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::PublisherRegister,
        Self::SubscriberRegister,
        Self::ConfiguratorRegister,
        Self::RegisterResponse,
        Self::SyncConfigRequest,
        Self::SyncConfigResponse,
        Self::ReceivedData,
        Self::ReceivedConfigData,
        Self::MultiReceivedData,
        Self::PushResult,
    ];

    /// Its Java class, as frames name it.
    pub fn class(self) -> &'static str {
        match self {
            Self::PublisherRegister => "com.alipay.sofa.registry.core.model.PublisherRegister",
            Self::SubscriberRegister => "com.alipay.sofa.registry.core.model.SubscriberRegister",
            Self::ConfiguratorRegister => "com.alipay.sofa.registry.core.model.ConfiguratorRegister",
            Self::RegisterResponse => "com.alipay.sofa.registry.core.model.RegisterResponse",
            Self::SyncConfigRequest => "com.alipay.sofa.registry.core.model.SyncConfigRequest",
            Self::SyncConfigResponse => "com.alipay.sofa.registry.core.model.SyncConfigResponse",
            Self::ReceivedData => "com.alipay.sofa.registry.core.model.ReceivedData",
            Self::ReceivedConfigData => "com.alipay.sofa.registry.core.model.ReceivedConfigData",
            Self::MultiReceivedData => "com.alipay.sofa.registry.core.model.MultiReceivedData",
            Self::PushResult => "com.alipay.sofa.registry.core.model.Result",
        }
    }

    /// The kind whose class has this name.
    pub fn of_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.class() == class)
    }
}

impl Message {
    /// Reads the content of a frame whose class is `class`.
    ///
    /// # Errors
    /// Any [`WireError`]. The connection can go on: frames are found without looking at their content.
    pub fn decode(class: &str, content: &[u8], limits: &Limits) -> Result<Self, WireError> {
        let kind = Kind::of_class(class).ok_or_else(|| WireError::UnknownClass {
            class: class.chars().take(MAX_SHOWN).collect(),
        })?;
        let class = kind.class();
        if content.len() > limits.max_content_bytes {
            return Err(WireError::TooLong {
                class,
                len: content.len(),
                max: limits.max_content_bytes,
            });
        }
        let hessian = remora_hessian2::Limits {
            max_depth: MAX_DEPTH,
            max_classes: MAX_CLASSES,
            max_items: limits.max_items,
            max_decoded_bytes: limits.max_decoded_bytes,
            ..remora_hessian2::Limits::default()
        };
        let body = remora_hessian2::decode(content, Dialect::Sofa, hessian)
            .map_err(|error| WireError::Hessian { class, error })?;
        let content = Content::new(class, body, content.len(), limits.max_items);
        let fields = content.fields()?;
        Ok(match kind {
            Kind::PublisherRegister => Self::PublisherRegister(PublisherRegister::read(&fields)?),
            Kind::SubscriberRegister => Self::SubscriberRegister(SubscriberRegister::read(&fields)?),
            Kind::ConfiguratorRegister => Self::ConfiguratorRegister(ConfiguratorRegister::read(&fields)?),
            Kind::RegisterResponse => Self::RegisterResponse(RegisterResponse::read(&fields)?),
            Kind::SyncConfigRequest => Self::SyncConfigRequest(SyncConfigRequest::read(&fields)?),
            Kind::SyncConfigResponse => Self::SyncConfigResponse(SyncConfigResponse::read(&fields)?),
            Kind::ReceivedData => Self::ReceivedData(ReceivedData::read(&fields)?),
            Kind::ReceivedConfigData => Self::ReceivedConfigData(ReceivedConfigData::read(&fields)?),
            Kind::MultiReceivedData => Self::MultiReceivedData(MultiReceivedData::read(&fields)?),
            Kind::PushResult => Self::PushResult(PushResult::read(&fields)?),
        })
    }

    /// Which message it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::PublisherRegister(_) => Kind::PublisherRegister,
            Self::SubscriberRegister(_) => Kind::SubscriberRegister,
            Self::ConfiguratorRegister(_) => Kind::ConfiguratorRegister,
            Self::RegisterResponse(_) => Kind::RegisterResponse,
            Self::SyncConfigRequest(_) => Kind::SyncConfigRequest,
            Self::SyncConfigResponse(_) => Kind::SyncConfigResponse,
            Self::ReceivedData(_) => Kind::ReceivedData,
            Self::ReceivedConfigData(_) => Kind::ReceivedConfigData,
            Self::MultiReceivedData(_) => Kind::MultiReceivedData,
            Self::PushResult(_) => Kind::PushResult,
        }
    }

    /// Class name for the frame.
    pub fn class(&self) -> &'static str {
        self.kind().class()
    }

    /// The content for the frame, as Java's hessian reads it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Dialect::Sofa);
        match self {
            Self::PublisherRegister(message) => message.write(&mut out),
            Self::SubscriberRegister(message) => message.write(&mut out),
            Self::ConfiguratorRegister(message) => message.write(&mut out),
            Self::RegisterResponse(message) => message.write(&mut out),
            Self::SyncConfigRequest(message) => message.write(&mut out),
            Self::SyncConfigResponse(message) => message.write(&mut out),
            Self::ReceivedData(message) => message.write(&mut out),
            Self::ReceivedConfigData(message) => message.write(&mut out),
            Self::MultiReceivedData(message) => message.write(&mut out),
            Self::PushResult(message) => message.write(&mut out),
        }
        out.finish()
    }
}

/// `dataInfoId` of a list, as the server names it.
pub fn data_info_id(data_id: &str, instance_id: Option<&str>, group: &str) -> String {
    let instance_id = instance_id.filter(|id| !id.is_empty()).unwrap_or(DEFAULT_INSTANCE_ID);
    format!("{data_id}#@#{instance_id}#@#{group}")
}

// What the fields of messages have in common when they are written.

fn text_or_null(out: &mut Encoder, text: Option<&str>) {
    match text {
        Some(text) => out.string(text),
        None => out.null(),
    };
}

fn texts(out: &mut Encoder, texts: &[String]) {
    out.list_begin(None, texts.len());
    for text in texts {
        out.string(text);
    }
    out.end();
}

fn text_map(out: &mut Encoder, map: &[(String, String)]) {
    out.map_begin(None);
    for (key, value) in map {
        out.string(key).string(value);
    }
    out.end();
}

fn data_box(out: &mut Encoder, data: &str) {
    out.object_begin("com.alipay.sofa.registry.core.model.DataBox", &["data"]);
    out.string(data);
    out.end();
}

fn data_boxes(out: &mut Encoder, data: &[String]) {
    out.list_begin(None, data.len());
    for data in data {
        data_box(out, data);
    }
    out.end();
}

/// Lists by zone, and the map of their lengths that belongs to it.
fn zones(out: &mut Encoder, zones: &[(String, Vec<String>)]) {
    out.map_begin(None);
    for (zone, data) in zones {
        out.string(zone);
        data_boxes(out, data);
    }
    out.end();
}

fn counts(out: &mut Encoder, zones: &[(String, Vec<String>)]) {
    out.map_begin(None);
    for (zone, data) in zones {
        out.string(zone).int(i32::try_from(data.len()).unwrap_or(i32::MAX));
    }
    out.end();
}

/// Message, map of segments, segment, map of zones, list, box: 6. Java's lists of lists are nowhere.
const MAX_DEPTH: usize = 16;
/// The deepest message needs three.
const MAX_CLASSES: usize = 64;
const MAX_SHOWN: usize = 100;
