// SPDX-License-Identifier: Apache-2.0
//! A provider as the percent-encoded name of a child in ZooKeeper.
//!
//! ```text
//! /sofa-rpc/demo.Echo/providers/bolt%3A%2F%2F10.0.0.5%3A12200%3Fversion%3D1.0%26accepts%3D100000%26appName%3D...
//! ```
//! Source: `RegistryUtils.convertProviderToUrls`, `ProviderHelper.toProviderInfo`. The outward form is made by
//! [`dubbo_url::with_outward`]: host, port and marker are the same in both.

use std::sync::Arc;

use remora_registry::{Instance, ServiceKey};

use super::{VERSION, params};
use crate::{NamingError, dubbo_url};

/// Reads a child of `interface`'s list; as [`dubbo_url::parse_child`], but with SOFARPC's key: `uniqueId` as group, and
/// the version, which says little: SOFARPC writes 1.0 whatever the service's is.
///
/// # Errors
/// As [`dubbo_url::parse_child`].
pub fn parse(child: &str, interface: &str) -> Result<Instance, NamingError> {
    let mut instance = dubbo_url::parse_child(child)?;
    let key = ServiceKey::new(
        interface,
        instance.params.get("uniqueId").unwrap_or_default(),
        params::version(&instance.params).unwrap_or(VERSION),
    );
    instance.key = Some(key);
    instance.protocol = instance.protocol.to_ascii_lowercase().into();
    Ok(instance)
}

/// The child's name: the one it has, if it says what the instance does, else made anew.
pub fn print(instance: &Instance) -> String {
    let says_the_same = |read: &Instance| {
        read.protocol == instance.protocol
            && read.host == instance.host
            && read.port == instance.port
            && read.path == instance.path
            && read.params == instance.params
    };
    if dubbo_url::is_provider_child(&instance.id)
        && dubbo_url::parse_child(&instance.id).is_ok_and(|read| says_the_same(&read))
    {
        return instance.id.to_string();
    }
    dubbo_url::encode_component(&url(instance))
}

/// The URL of an instance, not encoded.
pub fn url(instance: &Instance) -> String {
    let host = match instance.host.contains(':') {
        true => Arc::from(format!("[{}]", instance.host)),
        false => Arc::clone(&instance.host),
    };
    let mut query = String::new();
    for (i, (key, value)) in params::to_url(instance).iter().enumerate() {
        query.push(if i == 0 { '?' } else { '&' });
        query.push_str(key);
        query.push('=');
        query.push_str(value);
    }
    // SOFARPC takes everything before the first slash for the address, also one in the query.
    let slash = match instance.path.is_empty() && !query.contains('/') {
        true => "",
        false => "/",
    };
    format!(
        "{}://{host}:{}{slash}{}{query}",
        instance.protocol, instance.port, instance.path
    )
}
