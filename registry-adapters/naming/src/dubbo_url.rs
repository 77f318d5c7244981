// SPDX-License-Identifier: Apache-2.0
//! Dubbo provider URLs as the percent-encoded names of children.
//!
//! ```text
//! dubbo%3A%2F%2F10.0.0.5%3A20880%2Fdemo.EchoService%3Fanyhost%3Dtrue%26application%3Ddemo-provider%26...
//! ```
//! Source: `URL.valueOf`, `URLStrParser`, `CacheableFailbackRegistry` of Dubbo 2.6 to 3.3. A value that holds `&` or `=`
//! was encoded once more by its author; that inner level is never touched.

use std::ops::Range;
use std::sync::Arc;

use remora_registry::{Instance, Outward, Params, ServiceKey};

use crate::NamingError;
use crate::encoding::{self, Unit};

/// Reads a child's name.
///
/// - Gives `id` = the child as it is, `raw` = the URL decoded once, `key` from `interface` (else the path), `group` and
///   `version`; parameters in their order, values decoded once, repeated keys kept.
/// - A missing port is 0. User and password stand in `raw` only. An IPv6 host comes without its brackets.
///
/// # Errors
/// When it is no URL with a scheme and a host, or its port or an escape is broken.
pub fn parse_child(child: &str) -> Result<Instance, NamingError> {
    let url = encoding::decode(child)?;
    let parts = Parts::of(url.as_bytes())?;
    let text = |range: &Range<usize>| url.get(range.clone()).unwrap_or_default();
    let mut params = Vec::with_capacity(parts.pairs.len());
    for pair in &parts.pairs {
        params.push((text(&pair.key).to_owned(), text(&pair.value).to_owned()));
    }
    let params = Params(params);
    let path = text(&parts.path);
    let name = match params.get("interface") {
        Some(name) if !name.is_empty() => name,
        _ => path,
    };
    let key = ServiceKey::new(
        name,
        params.get("group").unwrap_or_default(),
        params.get("version").unwrap_or_default(),
    );
    Ok(Instance {
        id: child.into(),
        key: Some(key),
        protocol: text(&parts.scheme).into(),
        host: without_brackets(text(&parts.host)).into(),
        port: port_of(text(&parts.port))?,
        path: path.into(),
        params,
        raw: Arc::from(url.as_ref()),
    })
}

/// Whether a child's name looks like an encoded URL; cheap, says nothing about the rest of it.
pub fn is_provider_child(child: &str) -> bool {
    let head = child.as_bytes().get(..child.len().min(64)).unwrap_or_default();
    head.windows(9).any(|w| w.eq_ignore_ascii_case(b"%3A%2F%2F"))
}

/// The child to publish in the application's place: host and port swapped, `bind.ip` and `bind.port` too where they echo
/// them, the marker appended; everything else byte for byte.
///
/// # Errors
/// `AlreadyTakenOver` if the marker is there; else as [`parse_child`].
pub fn with_outward(child: &str, outward: &Outward) -> Result<String, NamingError> {
    swap(child, &outward.host, outward.port, Some(outward.app_port))
}

/// A child that was published before, at another address: host, port and their echoes swapped, the rest byte for byte.
///
/// # Errors
/// As [`parse_child`].
pub fn moved(child: &str, host: &str, port: u16) -> Result<String, NamingError> {
    swap(child, host, port, None)
}

/// The child as its application wrote it, of one that was published in its place: the marker goes, the marked port and its
/// echo come back, the rest stays byte for byte. Its host is the published one.
///
/// # Errors
/// `Port` without a marker, or with one that is no port; else as [`parse_child`].
pub fn restored(child: &str) -> Result<String, NamingError> {
    let units: Vec<Unit> = encoding::units(child).collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = units.iter().map(|u| u.byte).collect();
    let parts = Parts::of(&bytes)?;
    let text = |range: &Range<usize>| String::from_utf8_lossy(bytes.get(range.clone()).unwrap_or_default());
    let is_marker = |pair: &&Pair| text(&pair.key) == Instance::MARKER;
    let marker = parts
        .pairs
        .iter()
        .rfind(is_marker)
        .ok_or_else(|| NamingError::port(""))?;
    let app_port = text(&marker.value).into_owned();
    port_of(&app_port)?;
    // With the `?` or `&` before it, which the marker brought along; a `?` that others stand behind stays.
    let before = marker.key.start.saturating_sub(1);
    let is_first = bytes.get(before) == Some(&b'?') && marker.value.end < bytes.len();
    let gone = match is_first {
        true => marker.key.start..marker.value.end + 1,
        false => before..marker.value.end,
    };
    let (start, end) = encoded_range(&units, gone, child.len());
    let unmarked = format!(
        "{}{}",
        child.get(..start).unwrap_or_default(),
        child.get(end..).unwrap_or_default()
    );
    swap(
        &unmarked,
        without_brackets(&text(&parts.host)),
        port_of(&app_port)?,
        None,
    )
}

/// Swaps the address in a URL's text, encoded or not; with `marker` refuses a marked one and appends the marker.
pub(crate) fn swap(child: &str, new_host: &str, new_port: u16, marker: Option<u16>) -> Result<String, NamingError> {
    let units: Vec<Unit> = encoding::units(child).collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = units.iter().map(|u| u.byte).collect();
    let parts = Parts::of(&bytes)?;
    let text = |range: &Range<usize>| String::from_utf8_lossy(bytes.get(range.clone()).unwrap_or_default());
    let written_host = text(&parts.host);
    let (old_host, old_port) = (without_brackets(&written_host), text(&parts.port));
    let port = port_of(&old_port)?;

    let mut swaps: Vec<(Range<usize>, String)> = Vec::new();
    if old_host != new_host {
        swaps.push((parts.host.clone(), bracketed(new_host)));
    }
    if parts.port.is_empty() {
        swaps.push((parts.host.end..parts.host.end, format!(":{}", new_port)));
    } else {
        swaps.push((parts.port.clone(), new_port.to_string()));
    }
    for pair in &parts.pairs {
        let value = text(&pair.value);
        match text(&pair.key).as_ref() {
            Instance::MARKER if marker.is_some() => {
                return Err(NamingError::AlreadyTakenOver {
                    host: old_host.to_owned(),
                    port,
                });
            }
            "bind.ip" if without_brackets(&value) == old_host && old_host != new_host => {
                swaps.push((pair.value.clone(), new_host.to_owned()));
            }
            "bind.port" if !value.is_empty() && value == old_port => {
                swaps.push((pair.value.clone(), new_port.to_string()));
            }
            _ => {}
        }
    }

    let mut out = String::with_capacity(child.len() + 48);
    let mut copied = 0;
    for (range, new) in swaps {
        let (start, end) = encoded_range(&units, range, child.len());
        out.push_str(child.get(copied..start).unwrap_or_default());
        encoding::encode(&new, &mut out);
        copied = end;
    }
    out.push_str(child.get(copied..).unwrap_or_default());
    let Some(app_port) = marker else {
        return Ok(out);
    };
    let joint = match bytes.iter().position(|b| *b == b'?') {
        None => "?",
        Some(at) if at + 1 == bytes.len() => "",
        Some(_) => "&",
    };
    encoding::encode(&format!("{joint}{}={}", Instance::MARKER, app_port), &mut out);
    Ok(out)
}

/// Prints an instance as a child's name, in the style of Java's `URLEncoder`: upper-case digits, parameters in order.
pub fn print_child(instance: &Instance) -> String {
    let mut url = format!(
        "{}://{}:{}/{}",
        instance.protocol,
        bracketed(&instance.host),
        instance.port,
        instance.path
    );
    for (i, (key, value)) in instance.params.iter().enumerate() {
        url.push(if i == 0 { '?' } else { '&' });
        url.push_str(key);
        url.push('=');
        url.push_str(value);
    }
    encode_component(&url)
}

/// Percent-encodes as Java's `URLEncoder` does.
pub fn encode_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    encoding::encode(text, &mut out);
    out
}

/// Undoes one level of percent-encoding, as Java's `URLDecoder` does.
///
/// # Errors
/// `Escape` at a `%` that is not followed by two hexadecimal digits.
pub fn decode_component(text: &str) -> Result<String, NamingError> {
    Ok(encoding::decode(text)?.into_owned())
}

/// Where the parts of a decoded URL stand.
struct Parts {
    scheme: Range<usize>,
    host: Range<usize>,
    /// Empty if there is no port.
    port: Range<usize>,
    path: Range<usize>,
    pairs: Vec<Pair>,
}

struct Pair {
    key: Range<usize>,
    /// The key itself if there is no `=`, as Dubbo reads it.
    value: Range<usize>,
}

impl Parts {
    /// Finds them the way Dubbo's `URL.valueOf` does.
    fn of(url: &[u8]) -> Result<Self, NamingError> {
        let query = find(url, b"?", 0).unwrap_or(url.len());
        let scheme_end = find(&url[..query], b"://", 0)
            .filter(|at| *at > 0)
            .ok_or(NamingError::Scheme)?;
        let authority = scheme_end + 3;
        let slash = find(&url[..query], b"/", authority).unwrap_or(query);
        let host_start = url[authority..slash]
            .iter()
            .rposition(|b| *b == b'@')
            .map_or(authority, |at| authority + at + 1);
        let address = &url[host_start..slash];
        let colon = match address.iter().rposition(|b| *b == b':') {
            // `[::1]` without a port, and an IPv6 scope id (`fe80::1%eth0`), end in no port.
            Some(at) if address.ends_with(b"]") || address[at..].contains(&b'%') => None,
            other => other,
        };
        let host = host_start..colon.map_or(slash, |at| host_start + at);
        if host.is_empty() {
            return Err(NamingError::Host);
        }
        let port = colon.map_or(slash..slash, |at| host_start + at + 1..slash);
        Ok(Self {
            scheme: 0..scheme_end,
            host,
            port,
            path: (slash + 1).min(query)..query,
            pairs: pairs(url, query),
        })
    }
}

fn pairs(url: &[u8], query: usize) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut start = query + 1;
    while start < url.len() {
        let end = find(url, b"&", start).unwrap_or(url.len());
        if start < end {
            let equals = find(&url[..end], b"=", start);
            let key = start..equals.unwrap_or(end);
            let value = equals.map_or(key.clone(), |at| at + 1..end);
            pairs.push(Pair { key, value });
        }
        start = end + 1;
    }
    pairs
}

fn find(text: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(what.len()).position(|w| w == what).map(|at| from + at)
}

/// Maps a range of decoded bytes to the encoded text.
fn encoded_range(units: &[Unit], range: Range<usize>, len: usize) -> (usize, usize) {
    let start = units.get(range.start).map_or(len, |u| u.start);
    let end = match range.end.checked_sub(1).filter(|last| *last >= range.start) {
        Some(last) => units.get(last).map_or(len, |u| u.end),
        None => start,
    };
    (start, end)
}

fn port_of(text: &str) -> Result<u16, NamingError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| NamingError::port(text))
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
