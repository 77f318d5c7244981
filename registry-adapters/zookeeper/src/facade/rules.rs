// SPDX-License-Identifier: Apache-2.0
//! Rules that name provider hosts: kept from the application, which sees loopback addresses only, and reported.
//!
//! Watches on these places stay the registry's.

use std::sync::PoisonError;

use bytes::Bytes;
use remora_naming::rules;
use remora_registry::UnappliedRule;

use super::dirs::View;
use super::door::Door;
use super::sent::Then;
use crate::wire::{ErrorCode, EventKind, Reply, Request, RequestHeader, Seq, Text};

impl Door {
    pub(super) fn rule_dir_request(&mut self, head: RequestHeader, request: Request, frame: &Bytes, dir: String) {
        let then = match request {
            Request::GetChildren { .. } | Request::GetChildren2 { .. } => Then::RuleList { dir },
            Request::Exists { .. } | Request::GetData { .. } if self.state.hidden_rules.contains_key(&dir) => {
                Then::RuleList { dir }
            }
            _ => Then::Relay,
        };
        self.relay(head, request, frame, then);
    }

    pub(super) fn rule_request(&mut self, head: RequestHeader, request: Request, frame: &Bytes, path: String) {
        let then = match request {
            Request::GetData { .. } | Request::Exists { .. } => Then::Rule { path },
            _ => Then::Relay,
        };
        self.relay(head, request, frame, then);
    }

    /// Whether the application is shown real addresses, so that rules on them are its own to apply.
    fn leaves_rules(&self, place: &str) -> bool {
        let providers = place
            .rsplit_once('/')
            .map(|(service, _)| format!("{service}/providers"));
        let view = providers.and_then(|dir| self.state.views.get(&dir));
        !self.discovery().takes_lists() || view.is_some_and(View::is_relayed)
    }

    fn read_rules(&mut self, place: &str, is_list: bool, names_hosts: bool) {
        let places = &mut self.state.rule_places;
        let is_full = places.len() >= MAX_PLACES;
        if let Some(read) = places.get_mut(place) {
            read.names_hosts = names_hosts;
        } else if !is_full {
            places.insert(place.to_owned(), RulePlace { is_list, names_hosts });
        }
    }

    /// Another policy: rules that were kept may be shown, and the other way round. Only places where there are such: Dubbo 3
    /// sleeps up to 5 s at the second event of a service, on the only thread that takes events in
    /// (`ZookeeperRegistry.RegistryChildListenerImpl`), so that events too many cost minutes where there are many services.
    pub(super) fn rules_again(&mut self) {
        let differ = self.state.rule_places.iter().filter(|(_, read)| read.names_hosts);
        let differ: Vec<_> = differ.map(|(place, read)| (place.clone(), read.is_list)).collect();
        for (place, is_list) in differ {
            let kind = match is_list {
                true => EventKind::NodeChildrenChanged,
                false => EventKind::NodeDataChanged,
            };
            self.fire(kind, &place);
        }
    }

    /// A list of rules without those that name hosts; `numChildren` agrees.
    pub(super) fn without_rules(&mut self, dir: &str, err: ErrorCode, reply: Option<Reply>) -> Option<Reply> {
        let found = match &reply {
            Some(Reply::Children(children) | Reply::Children2 { children, .. }) => Some(children),
            _ => None,
        };
        if let Some(children) = found {
            let names_hosts = children.iter().any(|child| rule_of(dir, &child).is_some());
            self.read_rules(dir, true, names_hosts);
        }
        if self.leaves_rules(dir) {
            self.state.hidden_rules.remove(dir);
            self.report(dir, Vec::new());
            return reply;
        }
        if err == ErrorCode::NO_NODE {
            self.read_rules(dir, true, false);
            self.report(dir, Vec::new());
            return None;
        }
        match reply? {
            Reply::Children(children) => {
                let children = self.passing_rules(dir, &children);
                Some(Reply::Children(children))
            }
            Reply::Children2 { children, mut stat } => {
                let children = self.passing_rules(dir, &children);
                stat.num_children = i32::try_from(children.len()).unwrap_or(i32::MAX);
                Some(Reply::Children2 { children, stat })
            }
            Reply::Stat(mut stat) => {
                stat.num_children = self.without_hidden(dir, stat.num_children);
                Some(Reply::Stat(stat))
            }
            Reply::Data { data, mut stat } => {
                stat.num_children = self.without_hidden(dir, stat.num_children);
                Some(Reply::Data { data, stat })
            }
            other => Some(other),
        }
    }

    fn without_hidden(&self, dir: &str, number: i32) -> i32 {
        let hidden = self.state.hidden_rules.get(dir).copied().unwrap_or(0);
        number.saturating_sub(i32::try_from(hidden).unwrap_or(0)).max(0)
    }

    fn passing_rules(&mut self, dir: &str, children: &Seq<Text>) -> Seq<Text> {
        let mut kept = Vec::new();
        let passing: Seq<Text> = children
            .iter()
            .filter(|child| match rule_of(dir, child) {
                Some(rule) => {
                    kept.push(rule);
                    false
                }
                None => true,
            })
            .collect();
        match kept.len() {
            0 => drop(self.state.hidden_rules.remove(dir)),
            number => drop(self.state.hidden_rules.insert(dir.to_owned(), number)),
        }
        self.report(dir, kept);
        passing
    }

    /// A rule of the config centre without the parts that name hosts.
    pub(super) fn without_rule(&mut self, path: &str, err: ErrorCode, reply: Option<Reply>) -> Option<Reply> {
        if let Some(Reply::Data { data, .. }) = &reply {
            let names_hosts =
                |data: &[u8]| rules::in_config(path, data).is_some() || rules::in_mesh(path, data).is_some();
            self.read_rules(path, false, data.as_deref().is_some_and(names_hosts));
        }
        if self.leaves_rules(path) {
            self.report(path, Vec::new());
            return reply;
        }
        if err == ErrorCode::NO_NODE {
            self.read_rules(path, false, false);
            self.report(path, Vec::new());
            return None;
        }
        let Reply::Data { data, mut stat } = reply? else {
            // An `exists`: its data length is not looked at by any client, and asking for the data costs more than it helps.
            return None;
        };
        match data.as_deref().and_then(|data| rules::in_config(path, data)) {
            Some((kept, shown)) => {
                self.report(path, kept);
                stat.data_length = i32::try_from(shown.len()).unwrap_or(i32::MAX);
                let data = Some(Bytes::from(shown));
                Some(Reply::Data { data, stat })
            }
            None => {
                let mesh = data.as_deref().and_then(|data| rules::in_mesh(path, data));
                self.report(path, mesh.into_iter().collect());
                Some(Reply::Data { data, stat })
            }
        }
    }

    /// Tells discovery what was kept at a place, if it was not told the same before.
    fn report(&self, place: &str, rules: Vec<UnappliedRule>) {
        let mut reported = self
            .shared
            .reported_rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_news = match reported.get(place) {
            Some(before) => *before != rules,
            None => !rules.is_empty(),
        };
        if !is_news {
            return;
        }
        if rules.is_empty() {
            reported.remove(place);
        } else {
            reported.insert(place.to_owned(), rules.clone());
        }
        drop(reported);
        self.discovery().rules_not_applied(place, rules);
    }
}

/// A place of rules that an application read.
#[derive(Debug)]
pub(super) struct RulePlace {
    is_list: bool,
    /// When it was read last.
    names_hosts: bool,
}

fn rule_of(dir: &str, child: &str) -> Option<UnappliedRule> {
    rules::in_child(&format!("{dir}/{child}"), child)
}

/// Places of rules that one application reads; it reads a few for each service.
const MAX_PLACES: usize = 20_000;
