// SPDX-License-Identifier: Apache-2.0
//! From an instance of a list to something that can be dialled, or the reason why not.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use remora_naming::sofa::is_protocol;
use remora_registry::peers::is_this_machine;
use remora_registry::{Instance, Params, Registry};

use super::hosts::Hosts;
use super::route_table::Endpoint;
use super::sofa;

/// What may be dialled because a shared registry says so, and what this Remora itself is.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// Protocols with a plugin and ports.
    pub(super) spoken: Vec<Arc<str>>,
    /// The operator advertises a loopback address (a trial on one machine, where loopback is a host like any other), or
    /// wrote the list.
    pub(super) allows_loopback: bool,
    /// Addresses of this machine, and the advertised one. Those that applications publish are believed only if they are
    /// this machine's: whoever publishes another's would draw its calls to himself.
    pub(super) own_hosts: BTreeSet<IpAddr>,
    /// Names that were published for this machine, believed if they resolve to it, be it to a loopback address.
    pub(super) own_names: BTreeSet<String>,
    /// Ports of ours that are no ingress: egress, facades, admin.
    pub(super) own_listeners: HashSet<SocketAddr>,
    /// Ingress port -> the application behind it.
    pub(super) ingress: BTreeMap<u16, Option<SocketAddr>>,
}

/// Why an instance is not dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Refusal {
    Loopback,
    LinkLocal,
    Multicast,
    Unspecified,
    PortZero,
    OwnListener,
    Unresolved,
    Disabled,
}

impl Refusal {
    /// Metric label and word in `status`.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::PortZero => "port_zero",
            Self::OwnListener => "own_listener",
            Self::Unresolved => "unresolved",
            Self::Disabled => "disabled",
        }
    }

    pub(super) const ALL: [Self; 8] = [
        Self::Loopback,
        Self::LinkLocal,
        Self::Multicast,
        Self::Unspecified,
        Self::PortZero,
        Self::OwnListener,
        Self::Unresolved,
        Self::Disabled,
    ];
}

impl Policy {
    /// Whether calls to this protocol go through here.
    pub(super) fn speaks(&self, protocol: &str) -> bool {
        self.spoken.iter().any(|p| &**p == protocol)
    }

    /// Takes in a host that is published for this machine; false if it is known already, not this machine's, or one too many:
    /// a machine has a few, and a publisher of ever new ones must not fill the memory.
    pub(super) fn add_own_host(&mut self, host: &str) -> bool {
        if self.own_hosts.len() + self.own_names.len() >= MAX_OWN_HOSTS {
            return false;
        }
        match host.parse() {
            Ok(ip) => !self.own_hosts.contains(&ip) && is_this_machine(ip) && self.own_hosts.insert(ip),
            Err(_) => self.own_names.insert(host.to_owned()),
        }
    }

    /// For lists of this registry: one that only the operator writes to may name loopback addresses.
    pub(super) fn towards(&self, registry: &dyn Registry) -> Cow<'_, Self> {
        match registry.is_operators_own() && !self.allows_loopback {
            true => Cow::Owned(Self {
                allows_loopback: true,
                ..self.clone()
            }),
            false => Cow::Borrowed(self),
        }
    }

    fn is_ours(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback() || self.own_hosts.contains(&ip) || is_this_machine(ip)
    }

    /// The address to dial for `host`:`port`.
    pub(super) fn dial(&self, host: &Arc<str>, port: u16, hosts: &mut Hosts) -> Result<SocketAddr, Refusal> {
        let ip = match host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => {
                let ip = hosts.lookup(host).ok_or(Refusal::Unresolved)?;
                match self.ingress.get(&port) {
                    Some(app) if self.own_names.contains(&**host) && self.is_ours(ip) => {
                        return app.ok_or(Refusal::OwnListener);
                    }
                    _ => ip,
                }
            }
        };
        let ip = ip.to_canonical();
        if port == 0 {
            return Err(Refusal::PortZero);
        }
        let addr = SocketAddr::new(ip, port);
        let is_own = ip.is_loopback() || self.own_hosts.contains(&ip);
        if is_own {
            match self.ingress.get(&port) {
                // A provider on this host: straight to the application, no second hop.
                Some(Some(app)) if self.own_hosts.contains(&ip) => return Ok(*app),
                Some(_) => return Err(Refusal::OwnListener),
                None => {}
            }
            // At an address of this machine, a port that is ours on loopback is no provider's either.
            let is_near = |own: IpAddr| own == ip || own.is_unspecified() || (own.is_loopback() && !ip.is_loopback());
            let is_listener = |l: &SocketAddr| l.port() == port && is_near(l.ip());
            if self.own_listeners.iter().any(is_listener) {
                return Err(Refusal::OwnListener);
            }
        }
        match ip {
            _ if ip.is_unspecified() => Err(Refusal::Unspecified),
            _ if ip.is_multicast() => Err(Refusal::Multicast),
            IpAddr::V4(v4) if v4.is_broadcast() => Err(Refusal::Multicast),
            IpAddr::V4(v4) if v4.is_link_local() => Err(Refusal::LinkLocal),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(Refusal::LinkLocal),
            _ if ip.is_loopback() && !self.allows_loopback => Err(Refusal::Loopback),
            _ => Ok(addr),
        }
    }
}

/// Whether consumers may use an instance at all: `disabled=true` and `enabled=false` take it out (`UrlUtils.isMatch`,
/// `RegistryDirectory.toInvokers`), and what an adapter says of a SOFARPC provider.
pub(super) fn is_enabled(params: &Params) -> bool {
    !is(params, "disabled", "true") && !is(params, "enabled", "false") && !is(params, sofa::OFFLINE, "true")
}

/// Makes an endpoint of an address and its parameters; numbers that cannot be read count as absent.
pub(super) fn endpoint(addr: SocketAddr, protocol: &Arc<str>, params: &Params, instance: &Instance) -> Endpoint {
    if is_protocol(protocol) {
        return Endpoint {
            is_taken_over: instance.app_port().is_some(),
            ..sofa::endpoint(addr, protocol, params)
        };
    }
    let number = |key: &str| params.get(key).and_then(|v| v.trim().parse::<i64>().ok());
    let started = number("remote.timestamp").or_else(|| number("timestamp"));
    let started = started.or_else(|| instance.params.get("timestamp").and_then(|v| v.trim().parse().ok()));
    let application = params.get("application").or_else(|| instance.params.get("application"));
    Endpoint {
        addr,
        protocol: Arc::clone(protocol),
        weight: weight(number("weight")),
        started_ms: started.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
        warmup_ms: number("warmup").map_or(DEFAULT_WARMUP_MS, |w| u64::try_from(w).unwrap_or(0)),
        warmup_weight: None,
        serializations: serializations(params).into_iter().map(Arc::from).collect(),
        application: application.unwrap_or_default().into(),
        framework: framework(params),
        is_taken_over: instance.app_port().is_some(),
    }
}

/// For people; empty if it is not said.
pub(super) fn framework(params: &Params) -> Arc<str> {
    remora_naming::framework(params).unwrap_or_default().into()
}

/// A weight as announced; SOFARPC's default is Dubbo's.
pub(super) fn weight(announced: Option<i64>) -> u32 {
    announced
        .map_or(DEFAULT_WEIGHT, |w| u32::try_from(w.max(0)).unwrap_or(u32::MAX))
        .min(MAX_WEIGHT)
}

/// Serializations that an instance announces, the preferred ones first; empty if it does not say.
pub(super) fn serializations(params: &Params) -> Vec<&str> {
    let lists = [params.get("prefer.serialization"), params.get("serialization")];
    let mut all: Vec<&str> = Vec::new();
    for name in lists.into_iter().flatten().flat_map(|list| list.split(',')) {
        let name = name.trim();
        if !name.is_empty() && !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The longest `timeout` or `<method>.timeout`; SOFARPC's older line has `_TIMEOUT`, too.
pub(super) fn timeout(params: &Params) -> Option<Duration> {
    let timeouts = params
        .iter()
        .filter(|(key, _)| matches!(*key, "timeout" | "_TIMEOUT") || key.ends_with(".timeout"));
    let longest = timeouts
        .filter_map(|(_, value)| value.trim().parse::<u32>().ok())
        .max()?;
    (longest > 0).then(|| Duration::from_millis(longest.into()))
}

pub(super) fn is(params: &Params, key: &str, value: &str) -> bool {
    params.get(key).is_some_and(|v| v.eq_ignore_ascii_case(value))
}

/// Addresses and names of one machine, containers and old ones included.
const MAX_OWN_HOSTS: usize = 1000;
/// Dubbo's `DEFAULT_WEIGHT`.
const DEFAULT_WEIGHT: u32 = 100;
/// Sums of many weights must fit; Dubbo's own stay below 10,000.
const MAX_WEIGHT: u32 = 1_000_000;
/// Dubbo's `DEFAULT_WARMUP`.
const DEFAULT_WARMUP_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            spoken: vec!["dubbo".into()],
            own_hosts: ["10.0.0.5".parse().unwrap()].into(),
            own_listeners: ["0.0.0.0:2181".parse().unwrap(), "127.0.0.1:15020".parse().unwrap()].into(),
            ingress: [(20881, Some("127.0.0.1:20880".parse().unwrap())), (20900, None)].into(),
            ..Policy::default()
        }
    }

    fn dial(policy: &Policy, host: &str, port: u16) -> Result<String, &'static str> {
        let mut hosts = Hosts::default();
        policy
            .dial(&host.into(), port, &mut hosts)
            .map(|a| a.to_string())
            .map_err(Refusal::label)
    }

    #[test]
    fn what_a_shared_registry_must_not_make_us_dial_is_refused() {
        for (host, port, label) in [
            ("127.0.0.1", 20880, "loopback"),
            ("127.9.9.9", 80, "loopback"),
            ("::1", 80, "loopback"),
            ("::ffff:127.0.0.1", 80, "loopback"),
            ("169.254.169.254", 80, "link_local"),
            ("fe80::1", 80, "link_local"),
            ("224.0.0.1", 80, "multicast"),
            ("255.255.255.255", 80, "multicast"),
            ("ff02::1", 80, "multicast"),
            ("0.0.0.0", 80, "unspecified"),
            ("::", 80, "unspecified"),
            ("10.0.0.9", 0, "port_zero"),
            ("10.0.0.5", 2181, "own_listener"),
            ("10.0.0.5", 15020, "own_listener"),
            ("10.0.0.5", 20900, "own_listener"),
            ("127.0.0.1", 20881, "own_listener"),
            ("2130706433", 20880, "unresolved"),
            ("provider.example", 20880, "unresolved"),
        ] {
            assert_eq!(dial(&policy(), host, port), Err(label), "{host}:{port}");
        }
        assert_eq!(dial(&policy(), "10.0.0.9", 20881), Ok("10.0.0.9:20881".into()));
        assert_eq!(dial(&policy(), "10.0.0.5", 7000), Ok("10.0.0.5:7000".into()));
    }

    #[test]
    fn a_provider_on_this_host_is_called_without_a_second_hop() {
        assert_eq!(dial(&policy(), "10.0.0.5", 20881), Ok("127.0.0.1:20880".into()));
        let mut named = policy();
        assert!(named.add_own_host("provider.example") && !named.add_own_host("10.0.0.5"));
        let name: Arc<str> = "provider.example".into();
        for (resolved, port, dialled) in [
            ("10.0.0.5", 20881, Ok("127.0.0.1:20880")),
            ("127.0.1.1", 20881, Ok("127.0.0.1:20880")),
            ("10.0.0.5", 20900, Err("own_listener")),
            ("192.0.2.9", 20881, Ok("192.0.2.9:20881")),
            ("127.0.1.1", 7000, Err("loopback")),
        ] {
            let mut hosts = Hosts::default();
            assert_eq!(hosts.lookup(&name), None);
            hosts.answer(&name, Ok(resolved.parse().unwrap()));
            let found = named.dial(&name, port, &mut hosts).map(|a| a.to_string());
            assert_eq!(found.as_deref().map_err(|r| r.label()), dialled, "{resolved}:{port}");
        }
    }

    #[test]
    fn an_application_that_publishes_another_machines_address_draws_no_calls_to_itself() {
        let mut policy = policy();
        assert!(!policy.add_own_host("192.0.2.9"));
        assert_eq!(dial(&policy, "192.0.2.9", 20881), Ok("192.0.2.9:20881".into()));
        // What the operator advertises is believed: an address before a NAT is nowhere on this machine.
        policy.own_hosts.insert("192.0.2.9".parse().unwrap());
        assert_eq!(dial(&policy, "192.0.2.9", 20881), Ok("127.0.0.1:20880".into()));
    }

    #[test]
    fn hosts_beyond_what_a_machine_has_are_not_taken_in() {
        let mut policy = policy();
        let added = (0..5000)
            .filter(|n| policy.add_own_host(&format!("host-{n}.example")))
            .count();
        assert_eq!(added + 1, MAX_OWN_HOSTS, "one was there");
        assert!(!policy.add_own_host("10.9.9.9"));
    }

    #[test]
    fn a_trial_on_loopback_may_dial_loopback_but_not_itself() {
        let mut policy = policy();
        policy.allows_loopback = true;
        policy.own_hosts.insert("127.0.0.1".parse().unwrap());
        assert_eq!(dial(&policy, "127.0.0.1", 30881), Ok("127.0.0.1:30881".into()));
        assert_eq!(dial(&policy, "127.0.0.1", 20881), Ok("127.0.0.1:20880".into()));
        assert_eq!(dial(&policy, "127.0.0.1", 15020), Err("own_listener"));
    }

    #[test]
    fn numbers_are_read_leniently() {
        let params =
            |pairs: &[(&str, &str)]| Params(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        let instance = Instance {
            id: "".into(),
            key: None,
            protocol: "dubbo".into(),
            host: "h".into(),
            port: 1,
            path: "".into(),
            params: params(&[("application", "app")]),
            raw: "".into(),
        };
        let read = |pairs: &[(&str, &str)]| {
            let addr = "10.0.0.9:1".parse().unwrap();
            endpoint(addr, &instance.protocol, &params(pairs), &instance)
        };
        let plain = read(&[("weight", "many"), ("warmup", "x"), ("timestamp", "")]);
        assert_eq!((plain.weight, plain.warmup_ms, plain.started_ms), (100, 600_000, 0));
        let set = read(&[("weight", "-5"), ("warmup", "-1"), ("timestamp", "17")]);
        assert_eq!((set.weight, set.warmup_ms, set.started_ms), (0, 0, 17));
        assert_eq!(&*set.application, "app");
        let longest = timeout(&params(&[
            ("timeout", "3000"),
            ("slow.timeout", "9000"),
            ("x.timeout", "soon"),
        ]));
        assert_eq!(longest, Some(Duration::from_secs(9)));
        let both = params(&[
            ("serialization", "kryo"),
            ("prefer.serialization", "fastjson2, hessian2"),
        ]);
        assert_eq!(serializations(&both), ["fastjson2", "hessian2", "kryo"]);
    }
}
