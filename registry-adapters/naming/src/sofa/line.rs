// SPDX-License-Identifier: Apache-2.0
//! A provider as a line of SOFARegistry.
//!
//! ```text
//! [scheme://]10.0.0.5:12200[/path]?rpcVer=51302&serialization=hessian2&weight=100&...&[method]=[clientTimeout#5000]
//! ```
//! Nothing in it is encoded. Source: `SofaRegistryHelper.parseProviderInfo`, seen from 5.4 to 5.14.

use std::ops::Range;
use std::sync::Arc;

use remora_registry::{Instance, Outward, Params};

use super::{Service, params};
use crate::NamingError;

/// Reads a line of `service`'s list.
///
/// - Gives `id` and `raw` = the line, the service's key; parameters in their order, one without `=` is its own value.
/// - The protocol is the scheme's, else `p`'s, else that of the service. A missing port is 80, as SOFARPC takes it.
///
/// # Errors
/// `Host` when there is none, `Port` when it is no number from 0 to 65535.
pub fn parse(line: &str, service: &Service) -> Result<Instance, NamingError> {
    let parts = Parts::of(line)?;
    let text = |range: &Range<usize>| line.get(range.clone()).unwrap_or_default();
    let params = Params(pairs(text(&parts.query)));
    let protocol = match (text(&parts.scheme), params.get("p")) {
        ("", Some("1")) => "bolt".to_owned(),
        ("", Some("13")) => "tr".to_owned(),
        ("", Some(other)) if !other.is_empty() => other.to_owned(),
        ("", _) => service.usual_protocol().to_owned(),
        (scheme, _) => scheme.to_ascii_lowercase(),
    };
    let line: Arc<str> = line.into();
    Ok(Instance {
        id: Arc::clone(&line),
        key: Some(service.key()),
        protocol: protocol.into(),
        host: text(&parts.host).into(),
        port: parts.port_number,
        path: text(&parts.path).into(),
        params,
        raw: line,
    })
}

/// Prints an instance: the line that it was read from if that says the same, else made anew.
pub fn print(instance: &Instance) -> String {
    let service = Service::of_instance(instance, "");
    let read = service.and_then(|service| parse(&instance.raw, &service).ok());
    let is_same = read.is_some_and(|read| {
        !params::is_url(&read.params)
            && read.protocol == instance.protocol
            && read.host == instance.host
            && read.port == instance.port
            && read.path == instance.path
            && read.params == instance.params
    });
    if is_same {
        return instance.raw.to_string();
    }
    let mut line = format!("{}:{}", bracketed(&instance.host), instance.port);
    if !instance.path.is_empty() {
        line.push('/');
        line.push_str(&instance.path);
    }
    for (i, (key, value)) in params::to_line(instance).iter().enumerate() {
        line.push(if i == 0 { '?' } else { '&' });
        line.push_str(key);
        line.push('=');
        line.push_str(value);
    }
    line
}

/// The line to publish in the application's place: host and port swapped, the marker appended; everything else byte for
/// byte.
///
/// # Errors
/// `AlreadyTakenOver` if the marker is there; else as [`parse`].
pub fn with_outward(line: &str, outward: &Outward) -> Result<String, NamingError> {
    let parts = Parts::of(line)?;
    let query = line.get(parts.query.clone()).unwrap_or_default();
    if pairs(query).iter().any(|(key, _)| key == Instance::MARKER) {
        return Err(NamingError::AlreadyTakenOver {
            host: line.get(parts.host.clone()).unwrap_or_default().to_owned(),
            port: parts.port_number,
        });
    }
    let mut out = parts.swapped(line, &outward.host, outward.port);
    out.push_str(match (line.contains('?'), query.is_empty()) {
        (false, _) => "?",
        (true, true) => "",
        (true, false) => "&",
    });
    out.push_str(&format!("{}={}", Instance::MARKER, outward.app_port));
    Ok(out)
}

/// The same line at another address; the rest byte for byte.
///
/// # Errors
/// As [`parse`].
pub fn moved(line: &str, host: &str, port: u16) -> Result<String, NamingError> {
    Ok(Parts::of(line)?.swapped(line, host, port))
}

/// Where the parts of a line stand.
struct Parts {
    /// Empty if there is none.
    scheme: Range<usize>,
    /// Without brackets.
    host: Range<usize>,
    /// From the host's first character or bracket to the end of the port.
    address: Range<usize>,
    port_number: u16,
    path: Range<usize>,
    /// Behind the `?`.
    query: Range<usize>,
}

impl Parts {
    fn of(line: &str) -> Result<Self, NamingError> {
        let query = line.find('?').unwrap_or(line.len());
        let front = line.get(..query).unwrap_or_default();
        let scheme = front.find("://").filter(|at| *at > 0);
        let start = scheme.map_or(0, |at| at + 3);
        let slash = front.get(start..).and_then(|rest| rest.find('/'));
        let end = slash.map_or(query, |at| start + at);
        let address = front.get(start..end).unwrap_or_default();
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.find(']')) {
            Some(close) => (
                start + 1..start + 1 + close,
                address.get(close + 2..).unwrap_or_default(),
            ),
            None => match address.rfind(':') {
                Some(colon) => (start..start + colon, address.get(colon..).unwrap_or_default()),
                None => (start..end, ""),
            },
        };
        if host.is_empty() {
            return Err(NamingError::Host);
        }
        let port_number = match port.strip_prefix(':').unwrap_or(port) {
            "" => DEFAULT_PORT,
            number => number.parse().map_err(|_| NamingError::port(number))?,
        };
        Ok(Self {
            scheme: 0..scheme.unwrap_or(0),
            host,
            address: start..end,
            port_number,
            path: (end + 1).min(query)..query,
            query: (query + 1).min(line.len())..line.len(),
        })
    }

    fn swapped(&self, line: &str, host: &str, port: u16) -> String {
        let before = line.get(..self.address.start).unwrap_or_default();
        let behind = line.get(self.address.end..).unwrap_or_default();
        format!("{before}{}:{port}{behind}", bracketed(host))
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').map(str::trim).filter(|part| !part.is_empty());
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, part)));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// `ProviderInfo.port` of SOFARPC.
const DEFAULT_PORT: u16 = 80;
