// SPDX-License-Identifier: Apache-2.0
#![forbid(unsafe_code)]
//! Hessian 2 bodies, in the two dialects that Dubbo and SOFARPC write.
//!
//! | to | use |
//! |---|---|
//! | read a few strings of a call, step over its arguments, find its attachments | [`Walk`] |
//! | count the arguments of a call | [`argument_count`] |
//! | add or replace one attachment | [`splice_attachment`] |
//! | write a body | [`Encoder`] |
//! | look at every value, or write them back | [`decode()`], [`Body`], [`Value`] |
//!
//! Sources: `Hessian2Input` and `Hessian2Output` of com.alibaba:hessian-lite 3.2 and 4.0 and of com.alipay.sofa:hessian
//! 3.5, and the bytes they wrote under `testbed/golden/hessian2/`.
//! Not here: Hessian 1 and the envelope of the Hessian RPC protocol, which Dubbo and SOFARPC do not send; mapping of
//! values to Rust types.

mod attachments;
mod cursor;
mod decode;
mod decode_part;
mod descriptor;
mod encode;
mod encode_body;
mod encode_form;
mod error;
mod lead;
mod limits;
mod scalar;
mod skip;
mod splice;
mod text;
mod value;
mod walk;

pub use attachments::{Attachments, AttachmentsRange, Entries, Entry};
pub use decode::decode;
pub use descriptor::{DescriptorError, argument_count};
pub use encode::Encoder;
pub use error::WalkError;
pub use limits::{Dialect, Limits, MAX_DEPTH};
pub use scalar::{Binary, Date, Double, Pieces, Width};
pub use splice::{SpliceError, splice_attachment};
pub use text::{Text, Utf16};
pub use value::{Body, ClassDef, List, ListForm, Map, Object, TypeForm, TypeRef, Value};
pub use walk::Walk;
