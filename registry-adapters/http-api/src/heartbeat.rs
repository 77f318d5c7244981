// SPDX-License-Identifier: Apache-2.0
//! `GET /heartbeat[?ttl=SECONDS]`, on both doors: renews an application's lease and lists what is known of it, so that an
//! SDK can tell what it has to say again.
//!
//! A time to live is opt-in: an application gets the configured one (`lease`) with its first heartbeat, or asks for another
//! with `ttl`; `ttl=0` is none. What has one and is not renewed in time is withdrawn and forgotten. Every request that
//! comes renews it, too.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::application::{Application, Place};
use crate::book::{Book, Caller};
use crate::error::Refused;
use crate::stats::Stats;

/// Reads the query of a heartbeat: `None` if it asks for no time to live.
pub(crate) fn ttl(query: &str) -> Result<Option<Duration>, Refused> {
    let Some(value) = query.split('&').find_map(|pair| pair.strip_prefix("ttl=")) else {
        return Ok(None);
    };
    match value.parse::<u64>() {
        Ok(seconds @ (0 | MIN_TTL_SECONDS..=MAX_TTL_SECONDS)) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Refused::Value {
            key: "ttl".to_owned(),
            why: format!("it is 0 or a number of seconds from {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS}"),
        }),
    }
}

impl Book {
    /// Renews the lease of an application, with another time to live if it asks for one. What is known of it, and the
    /// generation to be kept.
    pub(crate) fn heartbeat(&self, caller: &Caller, ttl: Option<Duration>) -> Result<(Value, u64), Refused> {
        let mut table = self.table();
        let mut is_changed = false;
        let application = self.here(&mut table, caller);
        if let Some(ttl) = ttl {
            let of_others = application
                .registrations
                .keys()
                .find(|key| !caller.user.may_change(key.owner));
            if let Some(key) = of_others {
                return Err(Refused::Owner {
                    what: key.to_string(),
                    owner: key.owner.unwrap_or_default(),
                    caller: caller.user.label(),
                });
            }
            is_changed = application.ttl != Some(ttl);
            application.ttl = Some(ttl);
        }
        is_changed |= !std::mem::replace(&mut application.has_heartbeat, true);
        application.renew(self.configured(caller.place).ttl());
        let known = self.known_of(caller.place, application);
        Stats::count(&self.stats.heartbeats);
        let generation = self.tell(table, is_changed);
        Ok((known, generation))
    }

    /// What is known of an application.
    pub(crate) fn known(&self, place: Place) -> Value {
        match self.table().applications.get(&place) {
            Some(application) => self.known_of(place, application),
            None => self.known_of(place, &Application::new()),
        }
    }

    fn known_of(&self, place: Place, application: &Application) -> Value {
        let configured = self.configured(place);
        let interfaces: BTreeSet<&str> = application.registrations.keys().map(|key| &*key.service.name).collect();
        let followed: BTreeSet<&str> = application.follows.keys().map(|target| &**target.name()).collect();
        let registrations: Vec<Value> = application
            .registrations
            .iter()
            .map(|(key, registration)| {
                json!({
                    "interface": &*key.service.name,
                    "group": &*key.service.group,
                    "version": &*key.service.version,
                    "protocol": &*registration.instance.protocol,
                    "port": key.port,
                    "state": registration.state.label(),
                })
            })
            .collect();
        json!({
            "application": configured.name(&application.names),
            "ttl": application.time_to_live(configured.ttl()).map(|ttl| ttl.as_secs()),
            "interface_list": interfaces,
            "pub_interface_list": interfaces,
            "sub_interface_list": followed,
            "registrations": registrations,
        })
    }
}

/// Less would end by a pause of the garbage collector.
const MIN_TTL_SECONDS: u64 = 3;
const MAX_TTL_SECONDS: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_a_bounded_number_of_seconds() {
        assert_eq!(ttl("").unwrap(), None);
        assert_eq!(ttl("a=1&ttl=15").unwrap(), Some(Duration::from_secs(15)));
        assert_eq!(ttl("ttl=0").unwrap(), Some(Duration::ZERO));
        for wrong in [
            "ttl=",
            "ttl=2",
            "ttl=-1",
            "ttl=15s",
            "ttl=86401",
            "ttl=99999999999999999999",
        ] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }
}
