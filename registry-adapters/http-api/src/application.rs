// SPDX-License-Identifier: Apache-2.0
//! One application of a door: what it registered and follows, and the lease under which discovery knows it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remora_registry::peers::User;
use remora_registry::{Instance, Lease, LeaseId, Target};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::config::Settings;
use crate::registration::{Key, Registration};
use crate::stats::State;
use crate::store::{KeptApplication, KeptFollow};

/// Which application: the address that a request came to, `None` for the door's own.
pub(crate) type Place = Option<IpAddr>;

/// How often each user asked for a service; `None` for those of whom the system tells nothing.
pub(crate) type Counts = BTreeMap<Option<u32>, u32>;

/// One application.
#[derive(Debug)]
pub(crate) struct Application {
    /// Names that its processes gave themselves, the newest last.
    pub(crate) names: Vec<String>,
    /// What it said of itself besides its name.
    pub(crate) about: Map<String, Value>,
    /// Time to live that it asked for; zero for none.
    pub(crate) ttl: Option<Duration>,
    /// It has asked `/heartbeat`, so it will again.
    pub(crate) has_heartbeat: bool,
    /// When its lease ends, if it has a time to live.
    pub(crate) expires: Option<Instant>,
    /// Its last request, or the last time that something showed it to be there.
    pub(crate) last_sign: Instant,
    /// Its address at the last request.
    pub(crate) peer: Option<SocketAddr>,
    /// While it registered or follows something.
    pub(crate) lease: Option<Lease>,
    pub(crate) registrations: BTreeMap<Key, Registration>,
    pub(crate) follows: BTreeMap<Target, Counts>,
}

impl Application {
    pub(crate) fn new() -> Self {
        Self {
            names: Vec::new(),
            about: Map::new(),
            ttl: None,
            has_heartbeat: false,
            expires: None,
            last_sign: Instant::now(),
            peer: None,
            lease: None,
            registrations: BTreeMap::new(),
            follows: BTreeMap::new(),
        }
    }

    /// As it was kept. What it registered waits for its port.
    pub(crate) fn restored(kept: &KeptApplication) -> Self {
        let mut application = Self::new();
        application.names.clone_from(&kept.names);
        application.about = kept.about.clone();
        application.ttl = kept.ttl_ms.map(Duration::from_millis);
        application.has_heartbeat = kept.has_heartbeat;
        for kept in &kept.registrations {
            let mut registration = Registration::new(kept.instance());
            registration.is_restored = true;
            application.registrations.insert(kept.key(), registration);
        }
        for kept in &kept.follows {
            let counts = kept.counts.iter().copied().collect();
            application.follows.insert(kept.target(), counts);
        }
        application
    }

    /// As it is to be kept.
    pub(crate) fn kept(&self, address: Place) -> KeptApplication {
        let registrations = self.registrations.iter();
        let follows = self.follows.iter();
        KeptApplication {
            address,
            names: self.names.clone(),
            about: self.about.clone(),
            ttl_ms: self.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            has_heartbeat: self.has_heartbeat,
            registrations: registrations.map(|(key, r)| r.kept(key)).collect(),
            follows: follows
                .map(|(target, counts)| KeptFollow::of(target, counts.iter().map(|(u, n)| (*u, *n)).collect()))
                .collect(),
        }
    }

    /// A sign of life.
    pub(crate) fn is_here(&mut self, configured_ttl: Option<Duration>) {
        self.last_sign = Instant::now();
        self.renew(configured_ttl);
    }

    /// Its lease lasts for its whole time to live from now on.
    pub(crate) fn renew(&mut self, configured: Option<Duration>) {
        self.expires = self.time_to_live(configured).map(|ttl| Instant::now() + ttl);
    }

    /// Its time to live: the one that it asked for, else the configured one if it sends heartbeats at all.
    pub(crate) fn time_to_live(&self, configured: Option<Duration>) -> Option<Duration> {
        let usual = configured.filter(|_| self.has_heartbeat);
        self.ttl.or(usual).filter(|ttl| !ttl.is_zero())
    }

    /// Adds a name; true if it is a new one.
    pub(crate) fn is_called(&mut self, name: &str) -> bool {
        if self.names.last().is_some_and(|last| last == name) {
            return false;
        }
        self.names.retain(|known| known != name);
        if self.names.len() >= MAX_NAMES {
            self.names.remove(0);
        }
        self.names.push(name.to_owned());
        true
    }

    /// Its number at discovery, if it has a lease.
    pub(crate) fn lease_id(&self) -> Option<LeaseId> {
        self.lease.as_ref().map(Lease::id)
    }

    /// Whether nothing of it needs to be kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.registrations.is_empty() && self.follows.is_empty()
    }

    /// How many services a user follows.
    pub(crate) fn follows_of(&self, user: User) -> usize {
        self.follows
            .values()
            .filter(|counts| counts.contains_key(&user.uid()))
            .count()
    }

    /// How many of its registrations are published.
    pub(crate) fn published(&self) -> usize {
        self.registrations
            .values()
            .filter(|r| r.state == State::Published)
            .count()
    }

    /// One more wish for a service; true if it is the first.
    pub(crate) fn wants(&mut self, target: &Target, user: User) -> bool {
        let is_first = !self.follows.contains_key(target);
        let counts = self.follows.entry(target.clone()).or_default();
        let count = counts.entry(user.uid()).or_default();
        *count = count.saturating_add(1);
        is_first
    }

    /// One wish less. Only wishes of the same user count, unless it is root. `None` if there is none; else whether it was
    /// the last of all.
    pub(crate) fn wants_no_more(&mut self, target: &Target, user: User) -> Option<bool> {
        let counts = self.follows.get_mut(target)?;
        let own = counts.contains_key(&user.uid()).then(|| user.uid());
        let of_anybody = || counts.keys().next().copied().filter(|owner| user.may_change(*owner));
        let owner = own.or_else(of_anybody)?;
        let count = counts.get_mut(&owner)?;
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&owner);
        }
        let is_last = counts.is_empty();
        if is_last {
            self.follows.remove(target);
        }
        Some(is_last)
    }
}

/// Names and ports of an application as configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configured<'a> {
    settings: &'a Settings,
    place: Place,
}

impl<'a> Configured<'a> {
    pub(crate) fn of(settings: &'a Settings, place: Place) -> Self {
        Self { settings, place }
    }

    fn own(self) -> Option<&'a crate::Application> {
        let address = self.place?;
        self.settings.applications.iter().find(|a| a.address == address)
    }

    /// Which application a request belongs to, by the address that it came to.
    pub(crate) fn place_of(settings: &Settings, local: IpAddr) -> Place {
        let local = local.to_canonical();
        settings
            .applications
            .iter()
            .map(|a| a.address)
            .find(|address| *address == local)
    }

    /// Port on which it listens, and the key of the configuration that says it.
    pub(crate) fn port(self, protocol: &str) -> Option<u16> {
        let own = self.own().and_then(|own| own.ports.get(protocol));
        own.or_else(|| self.settings.ports.get(protocol))
            .copied()
            .filter(|port| *port != 0)
    }

    /// The key of the configuration that says its port.
    pub(crate) fn port_setting(self, door: &str, protocol: &str) -> String {
        match self.own() {
            Some(own) => format!(
                "facades.{door}.applications[address: {}].app_ports.{protocol}",
                own.address
            ),
            None => format!("facades.{door}.app_ports.{protocol}"),
        }
    }

    pub(crate) fn ttl(self) -> Option<Duration> {
        self.own().and_then(|own| own.lease).or(self.settings.lease)
    }

    /// For people: its configured name, else the names that it gave itself, else its address.
    pub(crate) fn name(self, names: &[String]) -> String {
        match (names.is_empty(), self.own()) {
            (false, _) => names.join(","),
            (true, Some(own)) if !own.name.is_empty() => own.name.clone(),
            (true, _) => self.place.unwrap_or(self.settings.listen.ip()).to_string(),
        }
    }

    /// Name of the application for what it publishes; empty if nobody said one.
    pub(crate) fn own_name(self, names: &[String]) -> String {
        let configured = self.own().map(|own| own.name.clone());
        names.last().cloned().or(configured).unwrap_or_default()
    }
}

/// Sets a parameter to the time of now, in milliseconds.
pub(crate) fn stamp(instance: &mut Instance, key: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    instance.params.set(key, now.as_millis().to_string());
}

/// Processes that share an address; more are not told apart.
const MAX_NAMES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Target {
        Target::Service {
            namespace: "/sofa-rpc".into(),
            name: "demo.Echo:1.0".into(),
        }
    }

    #[test]
    fn a_service_is_followed_until_the_last_wish_for_it_ends() {
        let mut application = Application::new();
        assert!(application.wants(&echo(), User::Uid(1)));
        assert!(!application.wants(&echo(), User::Uid(1)));
        assert_eq!(application.wants_no_more(&echo(), User::Uid(1)), Some(false));
        assert_eq!(application.wants_no_more(&echo(), User::Uid(1)), Some(true));
        assert_eq!(
            application.wants_no_more(&echo(), User::Uid(1)),
            None,
            "said once too often"
        );
        assert!(application.is_empty());
    }

    #[test]
    fn nobody_but_root_ends_the_wish_of_another_user() {
        let mut application = Application::new();
        application.wants(&echo(), User::Uid(1));
        let elsewhere = User::Elsewhere("10.0.0.1:1".parse().unwrap());
        for other in [User::Uid(2), elsewhere] {
            assert_eq!(application.wants_no_more(&echo(), other), None);
        }
        assert_eq!(application.wants_no_more(&echo(), User::Uid(0)), Some(true));
    }

    #[test]
    fn the_names_of_processes_that_share_an_address_are_bounded() {
        let mut application = Application::new();
        assert!(application.is_called("a"));
        assert!(!application.is_called("a"));
        for i in 0..20 {
            application.is_called(&format!("app-{i}"));
        }
        assert!(application.is_called("app-15"));
        assert_eq!(application.names.len(), MAX_NAMES);
        assert_eq!(application.names.last().unwrap(), "app-15");
    }
}
