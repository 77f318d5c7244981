// SPDX-License-Identifier: Apache-2.0
//! Text forms of discovery data: parse, change the address, print back.
//!
//! - [`dubbo_url`]: a provider URL as a percent-encoded child name (interface-level lists).
//! - [`application`]: an instance of Dubbo 3's application-level lists, JSON as Curator's x-discovery writes it.
//! - [`metadata`]: the `MetadataInfo` document of a revision.
//! - [`sofa`]: a SOFARPC service, and its providers in ZooKeeper and SOFARegistry.
//! - [`rules`]: governance rules that name hosts, which an application behind a takeover cannot apply.
//!
//! An address is changed surgically: what is not an address stays as its author wrote it, byte for byte where the form is
//! a URL, key for key in their order where it is JSON. Everything here reads foreign text: nothing panics, and what is
//! made from a text is bounded by a small multiple of its length.
//! Not here: which address is shown to whom (the proxy's `discovery` room).
#![forbid(unsafe_code)]

pub mod application;
pub mod dubbo_url;
mod encoding;
mod error;
mod framework;
mod json;
pub mod metadata;
pub mod rules;
pub mod sofa;

pub use error::NamingError;
pub use framework::framework;
