// SPDX-License-Identifier: Apache-2.0
//! SOFARPC in registries: identity of a service, and the two text forms of a provider.
//!
//! ```text
//! bolt%3A%2F%2F10.0.0.5%3A12200%3Fversion%3D1.0%26uniqueId%3D%26interface%3Ddemo.Echo%26...   child in ZooKeeper (`child`)
//! 10.0.0.5:12200?rpcVer=51302&serialization=hessian2&weight=100&appName=shop&p=1&v=4.0&...    line in SOFARegistry (`line`)
//! ```
//! [`Service`] is the identity, [`params`] reads the words of both forms and turns one layout into the other. Source:
//! sofa-rpc 5.4 to 5.14: `ConfigUniqueNameGenerator`, `RegistryUtils`, `ZookeeperRegistryHelper`, `ProviderHelper`,
//! `SofaRegistryHelper`.

pub mod child;
pub mod line;
pub mod params;
mod provider;
mod service;

pub use provider::Provider;
pub use service::{ANY_VERSION, GROUP, NAMESPACE, Service, VERSION, group_of, is_protocol, is_sofa};
