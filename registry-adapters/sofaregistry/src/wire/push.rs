// SPDX-License-Identifier: Apache-2.0
//! What a session server pushes: data of publishers, and configuration.

use remora_hessian2::Encoder;

use super::fields::Fields;
use super::{Kind, Scope, WireError, Zones, counts, data_box, text_or_null, texts, zones};

/// Everything that is published under a dataId, as one data centre (segment) knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedData {
    /// What it is about.
    pub data_id: String,
    /// Its group.
    pub group: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Data centre.
    pub segment: Option<String>,
    /// Which zones are in it.
    pub scope: Scope,
    /// Registrations that it is for.
    pub subscriber_regist_ids: Vec<String>,
    /// Data by zone, complete. Absent: Java clients ignore the push and acknowledge it; empty: nobody publishes.
    pub data: Option<Zones>,
    /// Grows; Java clients keep the data of the highest one of a segment.
    pub version: i64,
    /// The subscriber's own zone.
    pub local_zone: Option<String>,
}

/// The configuration of a dataId.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedConfigData {
    /// What it is about.
    pub data_id: String,
    /// Its group.
    pub group: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Registrations that it is for.
    pub configurator_regist_ids: Vec<String>,
    /// The configuration; absent if there is none.
    pub data: Option<String>,
    /// Grows.
    pub version: i64,
}

/// As [`ReceivedData`], for several data centres at once; for subscribers that said `acceptMulti`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiReceivedData {
    /// What it is about.
    pub data_id: String,
    /// Its group.
    pub group: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Which zones are in it.
    pub scope: Scope,
    /// Registrations that it is for.
    pub subscriber_regist_ids: Vec<String>,
    /// The server's own data centre.
    pub local_segment: Option<String>,
    /// The subscriber's own zone.
    pub local_zone: Option<String>,
    /// By data centre.
    pub segments: Vec<(String, MultiSegmentData)>,
}

/// Data of one data centre.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MultiSegmentData {
    /// Its name.
    pub segment: Option<String>,
    /// The data, packed as `encoding` says, instead of `data`.
    pub zipped: Option<Vec<u8>>,
    /// How it is packed: `gzip`, `zstd`.
    pub encoding: Option<String>,
    /// Data by zone.
    pub data: Zones,
    /// Grows.
    pub version: i64,
}

impl ReceivedData {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            data_id: fields.text_or_empty("dataId")?,
            group: fields.text_or_empty("group")?,
            instance_id: fields.text("instanceId")?,
            segment: fields.text("segment")?,
            scope: Scope::parse(&fields.text_or_empty("scope")?),
            subscriber_regist_ids: fields.texts("subscriberRegistIds")?,
            data: fields.zones("data")?,
            version: fields.long("version")?.unwrap_or_default(),
            local_zone: fields.text("localZone")?,
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        let fields = [
            "dataId",
            "group",
            "instanceId",
            "segment",
            "scope",
            "subscriberRegistIds",
            "data",
            "version",
            "localZone",
            "dataCount",
        ];
        out.object_begin(Kind::ReceivedData.class(), &fields);
        out.string(&self.data_id).string(&self.group);
        text_or_null(out, self.instance_id.as_deref());
        text_or_null(out, self.segment.as_deref());
        out.string(self.scope.as_str());
        texts(out, &self.subscriber_regist_ids);
        match &self.data {
            Some(data) => zones(out, data),
            None => {
                out.null();
            }
        }
        out.long(self.version);
        text_or_null(out, self.local_zone.as_deref());
        counts(out, self.data.as_deref().unwrap_or_default());
        out.end();
    }
}

impl ReceivedConfigData {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            data_id: fields.text_or_empty("dataId")?,
            group: fields.text_or_empty("group")?,
            instance_id: fields.text("instanceId")?,
            configurator_regist_ids: fields.texts("configuratorRegistIds")?,
            data: fields.data_box("dataBox")?,
            version: fields.long("version")?.unwrap_or_default(),
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        let fields = [
            "dataId",
            "group",
            "instanceId",
            "configuratorRegistIds",
            "dataBox",
            "version",
        ];
        out.object_begin(Kind::ReceivedConfigData.class(), &fields);
        out.string(&self.data_id).string(&self.group);
        text_or_null(out, self.instance_id.as_deref());
        texts(out, &self.configurator_regist_ids);
        match &self.data {
            Some(data) => data_box(out, data),
            None => {
                out.null();
            }
        }
        out.long(self.version);
        out.end();
    }
}

impl MultiReceivedData {
    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        let segments = fields.objects("multiData")?.into_iter();
        Ok(Self {
            data_id: fields.text_or_empty("dataId")?,
            group: fields.text_or_empty("group")?,
            instance_id: fields.text("instanceId")?,
            scope: Scope::parse(&fields.text_or_empty("scope")?),
            subscriber_regist_ids: fields.texts("subscriberRegistIds")?,
            local_segment: fields.text("localSegment")?,
            local_zone: fields.text("localZone")?,
            segments: segments
                .map(|(name, fields)| Ok((name, MultiSegmentData::read(&fields)?)))
                .collect::<Result<_, WireError>>()?,
        })
    }

    pub(super) fn write(&self, out: &mut Encoder) {
        let fields = [
            "dataId",
            "group",
            "instanceId",
            "scope",
            "subscriberRegistIds",
            "localSegment",
            "localZone",
            "multiData",
        ];
        out.object_begin(Kind::MultiReceivedData.class(), &fields);
        out.string(&self.data_id).string(&self.group);
        text_or_null(out, self.instance_id.as_deref());
        out.string(self.scope.as_str());
        texts(out, &self.subscriber_regist_ids);
        text_or_null(out, self.local_segment.as_deref());
        text_or_null(out, self.local_zone.as_deref());
        out.map_begin(None);
        for (name, segment) in &self.segments {
            out.string(name);
            segment.write(out);
        }
        out.end();
        out.end();
    }
}

impl MultiSegmentData {
    fn read(fields: &Fields<'_, '_>) -> Result<Self, WireError> {
        Ok(Self {
            segment: fields.text("segment")?,
            zipped: fields.bytes("zipData")?,
            encoding: fields.text("encoding")?,
            data: fields.zones("unzipData")?.unwrap_or_default(),
            version: fields.long("version")?.unwrap_or_default(),
        })
    }

    fn write(&self, out: &mut Encoder) {
        let class = "com.alipay.sofa.registry.core.model.MultiSegmentData";
        let fields = ["segment", "zipData", "unzipData", "encoding", "version", "dataCount"];
        out.object_begin(class, &fields);
        text_or_null(out, self.segment.as_deref());
        match &self.zipped {
            Some(bytes) => out.binary(bytes),
            None => out.null(),
        };
        zones(out, &self.data);
        text_or_null(out, self.encoding.as_deref());
        out.long(self.version);
        counts(out, &self.data);
        out.end();
    }
}
