// SPDX-License-Identifier: Apache-2.0
//! The SOFARPC services in a SOFARegistry, read once: subscriptions and questions, no publication.
//!
//! ```text
//! GET /digest/getDataInfoIdList                    what is published or followed at this session server
//! GET /digest/SUB/data/query?dataInfoId=..         who follows it
//! SubscriberRegister, ConfiguratorRegister         its providers, its configuration; taken back by UNREGISTER and the end
//! ```
//! To a session server a write is what it hands on to data servers: publications, their withdrawal, the end of a client that
//! published (`SessionRegistry`: "All write operations to DataServer (pub/unPub/clientoff) are handed over to
//! WriteDataAcceptor"). Subscribers and watchers it keeps in its own memory, for as long as their connection.
//! Source: `SessionDigestResource`, `SessionRegistry` of SOFARegistry 6.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use remora_naming::sofa::{Service, params};
use remora_registry::survey::{ServerFacts, Survey, SurveyedConsumer, SurveyedList, SurveyedRule, Unread};
use remora_registry::{Instance, Params, Registry, RegistryState, Target};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::adapter::{Config, SofaRegistry, Subject};
use crate::client::{Endpoint, get};
use crate::facade::{CONFIG_GROUP, service_of, split_overrides};
use crate::wire::Registration;

/// The registry could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// No session server.
    #[error("no session server: {cause}; is a SOFARegistry's HTTP port (9603) named?")]
    NoServer {
        /// The client's words.
        cause: String,
    },
    /// A session server that does not say what it holds.
    #[error(
        "{endpoint} does not list what it holds (GET {PATH}: {cause}); the registry cannot be looked at without that list"
    )]
    NoList {
        /// Who was asked last.
        endpoint: String,
        /// Why.
        cause: String,
    },
}

impl SurveyError {
    /// Short and fixed.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoServer { .. } => "no_session_server",
            Self::NoList { .. } => "no_list",
        }
    }
}

/// Reads all there is.
///
/// # Errors
/// See [`SurveyError`]. A service whose list is not pushed before the `deadline` is no error: see `Survey::unread`.
pub async fn survey(endpoints: Vec<Endpoint>, config: Config, deadline: Duration) -> Result<Survey, SurveyError> {
    let until = Instant::now() + deadline;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let wait = config.connection.connect_timeout;
    let left = || wait.min(until.saturating_duration_since(Instant::now())).max(MOMENT);
    let registry = SofaRegistry::start("preflight", endpoints.clone(), config, stop.clone());
    connected(&registry, until, deadline).await?;
    let mut survey = Survey::default();
    let ids = ids(&endpoints, &left, &mut survey).await?;
    let mut services: BTreeMap<Target, (Service, String)> = BTreeMap::new();
    for id in &ids {
        if let Some(service) = service_in(id) {
            services.insert(service.target(), (service, id.clone()));
        }
    }
    if services.len() > MAX_SERVICES {
        let text = format!("more than {MAX_SERVICES} services: the rest was not looked at");
        survey.left_out.push(text);
        services = services.into_iter().take(MAX_SERVICES).collect();
    }
    lists(&registry, &services, until, &mut survey).await;
    configurations(&registry, &services, &mut survey).await;
    consumers(&endpoints, &services, &left, &mut survey).await;
    stop.cancel();
    let _ = timeout(left(), registry.closed()).await;
    survey.sort();
    Ok(survey)
}

async fn connected(registry: &SofaRegistry, until: Instant, deadline: Duration) -> Result<(), SurveyError> {
    let mut state = registry.state();
    let is_decided = |s: &RegistryState| !matches!(s, RegistryState::Connecting);
    let decided = timeout_at(until, state.wait_for(is_decided)).await;
    let cause = match decided.as_ref().map(|state| state.as_deref()) {
        Ok(Ok(RegistryState::Up { .. })) => return Ok(()),
        Ok(Ok(RegistryState::Down { cause, .. })) => cause.to_string(),
        Ok(_) => "it was closed".to_owned(),
        Err(_) => format!("no answer within {deadline:?}"),
    };
    Err(SurveyError::NoServer { cause })
}

/// What every endpoint says that it holds; each knows its own clients only.
async fn ids(
    endpoints: &[Endpoint],
    left: &dyn Fn() -> Duration,
    survey: &mut Survey,
) -> Result<BTreeSet<String>, SurveyError> {
    let mut ids = BTreeSet::new();
    let mut last = None;
    let mut has_answer = false;
    for endpoint in endpoints {
        let mut facts = ServerFacts {
            address: endpoint.to_string(),
            ..ServerFacts::default()
        };
        let answer = get(endpoint, PATH, left()).await;
        let cause = match answer {
            Ok((200, text)) => match serde_json::from_str::<BTreeSet<String>>(&text) {
                Ok(list) => {
                    survey.cost.bytes += text.len() as u64;
                    ids.extend(list);
                    has_answer = true;
                    facts.what = "SOFARegistry session server".to_owned();
                    survey.servers.push(facts);
                    continue;
                }
                Err(error) => error.to_string(),
            },
            Ok((status, _)) => format!("status {status}"),
            Err(error) => error.to_string(),
        };
        facts.trouble.clone_from(&cause);
        survey.servers.push(facts);
        last = Some((endpoint.to_string(), cause));
    }
    survey.cost.reads += endpoints.len() as u64;
    match last {
        Some((endpoint, cause)) if !has_answer => Err(SurveyError::NoList { endpoint, cause }),
        _ => Ok(ids),
    }
}

/// The service of `demo.Echo:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA`, told as the door tells it.
fn service_in(data_info_id: &str) -> Option<Service> {
    let mut parts = data_info_id.split("#@#");
    let (data_id, instance_id, group) = (parts.next()?, parts.next()?, parts.next()?);
    service_of(&Registration {
        data_id: data_id.to_owned(),
        instance_id: Some(instance_id.to_owned()),
        group: group.to_owned(),
        ..Registration::default()
    })
}

/// Follows all, waits for the first push of each.
async fn lists(
    registry: &Arc<SofaRegistry>,
    services: &BTreeMap<Target, (Service, String)>,
    until: Instant,
    survey: &mut Survey,
) {
    for chunk in services.keys().collect::<Vec<_>>().chunks(AT_A_TIME) {
        let followed: Vec<_> = chunk
            .iter()
            .map(|target| (*target, registry.follow((*target).clone())))
            .collect();
        for (target, mut list) in followed {
            let until = until.min(Instant::now() + PUSH);
            let shown = timeout_at(until, list.wait_for(Option::is_some)).await;
            let shown = shown.ok().and_then(|list| list.ok()?.clone());
            survey.cost.reads += 1;
            let Some(snapshot) = shown else {
                survey.unread.push(Unread {
                    place: target.to_string(),
                    is_forbidden: false,
                    cause: "its list was not pushed in time".to_owned(),
                });
                continue;
            };
            let bytes = snapshot.instances.iter().map(|instance| instance.raw.len()).sum();
            survey.cost.bytes += bytes as u64;
            let malformed = snapshot
                .malformed
                .iter()
                .map(|line| (line.to_string(), "no line of SOFARPC".to_owned()));
            survey.lists.push(SurveyedList {
                nodes: vec![None; snapshot.instances.len()],
                malformed: malformed.collect(),
                is_owned: true,
                bytes,
                snapshot: (*snapshot).clone(),
            });
        }
    }
}

/// Overrides of single providers. A service without any is often not answered for, so the wait is short.
async fn configurations(
    registry: &Arc<SofaRegistry>,
    services: &BTreeMap<Target, (Service, String)>,
    survey: &mut Survey,
) {
    let subject = |service: &Service| Subject {
        data_id: service.data_id(),
        group: CONFIG_GROUP.to_owned(),
        instance_id: None,
    };
    let subjects: Vec<Subject> = services.values().map(|(service, _)| subject(service)).collect();
    for chunk in subjects.chunks(AT_A_TIME) {
        let asked: Vec<_> = chunk
            .iter()
            .map(|subject| (subject, registry.relay_configure(subject)))
            .collect();
        let until = Instant::now() + CONFIGURATION;
        for (subject, mut heard) in asked {
            let told = timeout_at(until, heard.wait_for(Option::is_some)).await;
            let text = told.ok().and_then(|told| told.ok()?.as_ref()?.data.clone());
            survey.cost.reads += 1;
            if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
                let (_, kept) = split_overrides(&text, &[], subject);
                survey.rules.push(SurveyedRule {
                    place: subject.data_id.clone(),
                    text,
                    kept,
                });
            }
        }
    }
}

/// What a session server says of one subscriber.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Follower {
    app_name: Option<String>,
    source_address: Option<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    ip_address: Option<String>,
}

async fn consumers(
    endpoints: &[Endpoint],
    services: &BTreeMap<Target, (Service, String)>,
    left: &dyn Fn() -> Duration,
    survey: &mut Survey,
) {
    let mut asked = JoinSet::new();
    let mut questions = endpoints
        .iter()
        .flat_map(|endpoint| services.iter().map(move |s| (endpoint.clone(), s)));
    loop {
        while asked.len() < QUESTIONS {
            let Some((endpoint, (target, (_, id)))) = questions.next() else {
                break;
            };
            let path = format!(
                "/digest/SUB/data/query?dataInfoId={}",
                remora_naming::dubbo_url::encode_component(id)
            );
            let (target, wait) = (target.clone(), left());
            asked.spawn(async move { (target, get(&endpoint, &path, wait).await) });
        }
        let Some(answer) = asked.join_next().await else { break };
        survey.cost.reads += 1;
        let Ok((target, Ok((200, text)))) = answer else {
            continue;
        };
        survey.cost.bytes += text.len() as u64;
        let by_kind: BTreeMap<String, Vec<Follower>> = serde_json::from_str(&text).unwrap_or_default();
        for follower in by_kind.into_values().flatten() {
            let application = follower.app_name.unwrap_or_default();
            // That is this look.
            if application != OWN_NAME {
                let host = follower.source_address.and_then(|source| source.ip_address);
                survey
                    .consumers
                    .push(consumer(&target, &application, &host.unwrap_or_default()));
            }
        }
    }
}

fn consumer(target: &Target, application: &str, host: &str) -> SurveyedConsumer {
    let mut words = Params::default();
    words.set("appName", application);
    SurveyedConsumer {
        target: target.clone(),
        instance: Arc::new(Instance {
            id: format!("{application}@{host}").into(),
            key: None,
            protocol: params::word(&words, "protocol").unwrap_or("bolt").into(),
            host: host.into(),
            port: 0,
            path: "".into(),
            params: words,
            raw: "".into(),
        }),
    }
}

/// Under this name the adapter introduces itself.
const OWN_NAME: &str = "remora";
const PATH: &str = "/digest/getDataInfoIdList";
/// The server gathers pushes for half a second.
const PUSH: Duration = Duration::from_secs(5);
const CONFIGURATION: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(100);
/// Registrations under way.
const AT_A_TIME: usize = 1_000;
/// HTTP questions under way.
const QUESTIONS: usize = 16;
const MAX_SERVICES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_from_other_data() {
        let named = |id: &str| service_in(id).map(|service| service.target().to_string());
        assert_eq!(
            named("demo.Echo:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA").as_deref(),
            Some("service /sofa-rpc/demo.Echo:1.0")
        );
        assert_eq!(named("demo.Echo:1.0@DEFAULT#@#DEFAULT_INSTANCE_ID#@#SOFA.CONFIG"), None);
        assert_eq!(named("my.switches#@#DEFAULT_INSTANCE_ID#@#DEFAULT_GROUP"), None);
        assert_eq!(named("broken"), None);
    }

    #[test]
    fn followers_are_read_from_a_session_servers_page() {
        // Fields of `Subscriber` and `URL` of SOFARegistry 6, without what is not looked at.
        let page = r#"{"SUB":[{"dataId":"demo.Echo:1.0@DEFAULT","appName":"web","sourceAddress":{"ipAddress":"10.0.0.7","port":4711},"scope":"global"}]}"#;
        let read: BTreeMap<String, Vec<Follower>> = serde_json::from_str(page).unwrap();
        let follower = read.into_values().flatten().next().unwrap();
        assert_eq!(follower.app_name.as_deref(), Some("web"));
        assert_eq!(follower.source_address.unwrap().ip_address.as_deref(), Some("10.0.0.7"));
    }
}
