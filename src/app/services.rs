// SPDX-License-Identifier: Apache-2.0
//! `/services`: discovery's page in the words of the admin room.

use std::sync::Arc;

use crate::admin::{
    Filter, FollowerView, RealView, ServiceListView, ServicePublishedView, ServiceRuleView, ServiceView, ServicesView,
};
use crate::discovery::{self, Catalog};

/// Services of a page unless more are asked for.
const SHOWN: usize = 1000;

pub(super) fn services(catalog: Arc<Catalog>) -> Box<dyn Fn(Filter) -> ServicesView + Send + Sync> {
    Box::new(move |filter| {
        let offset = filter.offset;
        let page = catalog.services(&discovery::ServiceQuery {
            service: filter.service,
            application: filter.application,
            offset,
            limit: filter.limit.unwrap_or(SHOWN),
        });
        ServicesView {
            services: page.services.into_iter().map(service).collect(),
            total: page.total as u64,
            offset: offset as u64,
        }
    })
}

fn service(known: discovery::ServiceView) -> ServiceView {
    ServiceView {
        level: known.level.to_owned(),
        name: known.name,
        publishes: known.publishes.into_iter().map(published).collect(),
        lists: known.lists.into_iter().map(list).collect(),
        rules_not_applied: known.rules.into_iter().map(rule).collect(),
    }
}

fn published(known: discovery::PublishedView) -> ServicePublishedView {
    ServicePublishedView {
        application: known.application,
        service: known.service,
        protocol: known.protocol,
        own: known.own,
        in_registry: known.in_registry,
        decision: known.decision.to_owned(),
        why: known.why,
        is_settled: known.is_settled,
    }
}

fn list(known: discovery::FollowedView) -> ServiceListView {
    let real = known.real.into_iter().map(|real| RealView {
        service: real.service,
        protocol: real.protocol,
        address: real.address,
        application: real.application,
        framework: real.framework,
        is_taken_over: real.is_taken_over,
        use_: real.use_.to_owned(),
    });
    let followers = known.followers.into_iter().map(|follower| FollowerView {
        application: follower.application,
        decision: follower.decision.to_owned(),
        why: follower.why,
        handed_out: follower.handed_out,
    });
    ServiceListView {
        registry: known.registry,
        namespace: known.namespace,
        source: known.source.to_owned(),
        held: known.held as u64,
        real: real.collect(),
        real_left_out: known.real_left_out as u64,
        followers: followers.collect(),
    }
}

fn rule(known: discovery::ServiceRule) -> ServiceRuleView {
    ServiceRuleView {
        kind: known.kind.to_owned(),
        about: known.about,
        place: known.place,
        text: known.text,
        why: known.why.to_owned(),
        consequence: known.consequence.to_owned(),
    }
}
