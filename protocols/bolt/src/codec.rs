// SPDX-License-Identifier: Apache-2.0
//! The codec byte: which serialization the content is in.
//!
//! Source: the `code` of each serializer of sofa-rpc 5.6 to 5.14, `SerializerManager` of sofa-bolt. Other numbers are
//! a user's own.

/// The older draft of Hessian 2, as sofa-hessian writes it.
pub const HESSIAN2: u8 = 1;
/// protobuf.
pub const PROTOBUF: u8 = 11;

/// The name by which instances announce a serialization, if the number is known.
pub fn name(codec: u8) -> Option<&'static str> {
    Some(match codec {
        // 4 is an older number for the same.
        HESSIAN2 | 4 => "hessian2",
        2 => "java",
        PROTOBUF => "protobuf",
        12 => "json",
        13 => "msgpack",
        14 => "protostuff",
        22 => "fury2",
        23 => "fory",
        _ => return None,
    })
}
