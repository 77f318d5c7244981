// SPDX-License-Identifier: Apache-2.0
//! Answers, and the question for the server's settings.

use remora_hessian2::Encoder;

use super::fields::Fields;
use super::{DEFAULT_DATA_CENTER, DEFAULT_ZONE, Kind, WireError, text_or_null, texts};

/// Answer to a registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterResponse {
    /// Whether it was taken. Java clients send it again otherwise.
    pub success: bool,
    /// The registration's id, echoed.
    pub regist_id: String,
    /// Its version, echoed: a client takes no other one for done.
    pub version: i64,
    /// Whether the server will never take it. Java clients give up.
    pub refused: bool,
    /// For the client's log.
    pub message: Option<String>,
}

/// Asks for the server's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncConfigRequest {
    /// The client's data centre.
    pub data_center: Option<String>,
    /// The client's zone.
    pub zone: Option<String>,
}

impl Default for SyncConfigRequest {
    fn default() -> Self {
        Self {
            data_center: Some(DEFAULT_DATA_CENTER.to_owned()),
            zone: Some(DEFAULT_ZONE.to_owned()),
        }
    }
}

/// The server's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncConfigResponse {
    /// Whether they can be had.
    pub success: bool,
    /// Why not.
    pub message: Option<String>,
    /// Segments that count for a Java client's lists; all if there are none.
    pub available_segments: Vec<String>,
    /// When to ask again, in milliseconds; a client asks at most every 30 s.
    pub retry_interval: i32,
}

/// A client's answer to a push (`Result`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushResult {
    /// Whether it was taken. The server sends it again otherwise.
    pub success: bool,
    /// Why not.
    pub message: Option<String>,
}

impl RegisterResponse {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            success: fields.bool("success")?,
            regist_id: fields.text_or_empty("registId")?,
            version: fields.long("version")?.unwrap_or_default(),
            refused: fields.bool("refused")?,
            message: fields.text("message")?,
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        let fields = ["success", "registId", "version", "refused", "message"];
        out.object_begin(Kind::RegisterResponse.class(), &fields);
        out.bool(self.success).string(&self.regist_id).long(self.version);
        out.bool(self.refused);
        text_or_null(out, self.message.as_deref());
        out.end();
    }
}

impl SyncConfigRequest {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            data_center: fields.text("dataCenter")?,
            zone: fields.text("zone")?,
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        out.object_begin(Kind::SyncConfigRequest.class(), &["dataCenter", "zone"]);
        text_or_null(out, self.data_center.as_deref());
        text_or_null(out, self.zone.as_deref());
        out.end();
    }
}

impl SyncConfigResponse {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            success: fields.bool("success")?,
            message: fields.text("message")?,
            available_segments: fields.texts("availableSegments")?,
            retry_interval: fields.int("retryInterval")?.unwrap_or_default(),
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        let fields = ["availableSegments", "retryInterval", "success", "message"];
        out.object_begin(Kind::SyncConfigResponse.class(), &fields);
        texts(out, &self.available_segments);
        out.int(self.retry_interval).bool(self.success);
        text_or_null(out, self.message.as_deref());
        out.end();
    }
}

impl PushResult {
    /// Taken.
    pub fn taken() -> Self {
        Self {
            success: true,
            message: None,
        }
    }

    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            success: fields.bool("success")?,
            message: fields.text("message")?,
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        out.object_begin(Kind::PushResult.class(), &["success", "message"]);
        out.bool(self.success);
        text_or_null(out, self.message.as_deref());
        out.end();
    }
}
