// SPDX-License-Identifier: Apache-2.0
//! Serialization numbers and names. Source: `Constants` of dubbo-serialization in 2.6, 2.7 and 3.3; the names are those
//! that providers register and consumers ask for (the extension names).

pub(crate) const HESSIAN2: u8 = 2;
pub(crate) const JAVA: u8 = 3;
pub(crate) const COMPACTED_JAVA: u8 = 4;
pub(crate) const FASTJSON: u8 = 6;
pub(crate) const NATIVE_JAVA: u8 = 7;
pub(crate) const KRYO: u8 = 8;
pub(crate) const FST: u8 = 9;
/// Hessian 2 as the library of Caucho writes it: the same grammar as [`HESSIAN2`].
pub(crate) const NATIVE_HESSIAN: u8 = 10;
pub(crate) const AVRO: u8 = 11;
pub(crate) const PROTOSTUFF: u8 = 12;
pub(crate) const GSON: u8 = 16;
pub(crate) const JACKSON: u8 = 18;
pub(crate) const PROTOBUF_JSON: u8 = 21;
pub(crate) const PROTOBUF: u8 = 22;
pub(crate) const FASTJSON2: u8 = 23;
pub(crate) const KRYO2: u8 = 25;
pub(crate) const MSGPACK: u8 = 27;
pub(crate) const FURY: u8 = 28;

/// The name of a serialization, `None` if no Dubbo release knows the number.
pub(crate) fn name(id: u8) -> Option<&'static str> {
    Some(match id {
        HESSIAN2 => "hessian2",
        JAVA => "java",
        COMPACTED_JAVA => "compactedjava",
        FASTJSON => "fastjson",
        NATIVE_JAVA => "nativejava",
        KRYO => "kryo",
        FST => "fst",
        NATIVE_HESSIAN => "native-hessian",
        AVRO => "avro",
        PROTOSTUFF => "protostuff",
        GSON => "gson",
        JACKSON => "jackson",
        PROTOBUF_JSON => "protobuf-json",
        PROTOBUF => "protobuf",
        FASTJSON2 => "fastjson2",
        KRYO2 => "kryo2",
        MSGPACK => "msgpack",
        FURY => "fury",
        _ => return None,
    })
}

/// Whether the body of a request in this serialization says where it wants to go.
pub(crate) fn is_read(id: u8) -> bool {
    matches!(
        id,
        HESSIAN2 | NATIVE_HESSIAN | FASTJSON2 | JAVA | COMPACTED_JAVA | NATIVE_JAVA
    )
}

/// Whether bodies of a serialization are read here, by the name that providers announce.
pub fn reads_bodies_in(name: &str) -> bool {
    (0..32).any(|id| self::name(id) == Some(name) && is_read(id))
}

/// The name, or the number in words.
pub(crate) fn name_or_number(id: u8) -> &'static str {
    name(id).unwrap_or(match id {
        0 => "serialization 0",
        1 => "serialization 1",
        5 => "serialization 5",
        13 => "serialization 13",
        14 => "serialization 14",
        15 => "serialization 15",
        17 => "serialization 17",
        19 => "serialization 19",
        20 => "serialization 20",
        24 => "serialization 24",
        26 => "serialization 26",
        29 => "serialization 29",
        30 => "serialization 30",
        31 => "serialization 31",
        _ => "an unknown serialization",
    })
}
