// SPDX-License-Identifier: Apache-2.0
//! What stands at the places that were found: providers, consumers, rules, applications, documents.

use std::sync::Arc;

use bytes::Bytes;
use remora_naming::{dubbo_url, rules};
use remora_registry::Target;
use remora_registry::survey::{Definition, Survey, SurveyedConsumer, SurveyedRule};

use super::entries::{Entries, cut};
use super::limits::{MAX_BYTES, MAX_CHILDREN, MAX_DOCUMENT_BYTES, MAX_ENTRIES, MAX_RULE_BYTES, MAX_RULES};
use super::reads::Reads;
use super::walk::{Places, ServiceDir};
use crate::client::ClientError;
use crate::facade::{Roots, Shape};
use crate::places;

/// Reads all of it into `survey`.
pub(super) async fn read(reads: &Reads, roots: &Roots, found: Places, survey: &mut Survey) -> Result<(), ClientError> {
    let Places {
        services,
        applications,
        configs,
        metadata,
    } = found;
    providers(reads, roots, &services, survey).await?;
    consumers(reads, &services, survey).await?;
    rule_lists(reads, &services, survey).await?;
    self::applications(reads, roots, applications, survey).await?;
    config_centre(reads, roots, configs, survey).await?;
    metadata_centre(reads, metadata, survey).await?;
    if reads.is_cut() {
        let mebibytes = MAX_BYTES >> 20;
        let text = format!("more than {mebibytes} MiB of names and data: what came after was not read");
        survey.left_out.push(text);
    }
    Ok(())
}

/// Lists the children of one category of many services: `(service, child)`, cut at `most`.
async fn children_of(
    reads: &Reads,
    services: &[ServiceDir],
    category: &'static str,
    most: usize,
    left_out: &mut Vec<String>,
) -> Result<Vec<(usize, String)>, ClientError> {
    let with = services.iter().enumerate().filter(|(_, s)| s.has.contains(&category));
    let dirs: Vec<(usize, String)> = with.map(|(at, s)| (at, s.path(category))).collect();
    let lists = reads
        .each(dirs, |reads, (at, path)| async move {
            // Most lists of rules are empty, and a list may be longer than any answer that is taken.
            let number = reads.stat(&path).await?.map_or(0, |stat| stat.num_children);
            let children = match number {
                1..=MAX_CHILDREN => reads.children(&path).await?,
                _ => Vec::new(),
            };
            Ok((at, path, number > MAX_CHILDREN, children))
        })
        .await?;
    let mut all: Vec<(usize, String)> = Vec::new();
    for (at, path, is_too_long, children) in lists {
        if is_too_long {
            left_out.push(format!("{path} has more than {MAX_CHILDREN} children and was not read"));
        }
        all.extend(children.into_iter().map(|child| (at, child)));
        if all.len() > most {
            all.truncate(most);
            left_out.push(format!("more than {most} {category}: the rest was not looked at"));
            break;
        }
    }
    Ok(all)
}

async fn providers(
    reads: &Reads,
    roots: &Roots,
    services: &[ServiceDir],
    survey: &mut Survey,
) -> Result<(), ClientError> {
    let mut lists: Vec<Option<Entries>> = Vec::with_capacity(services.len());
    for service in services {
        let target = places::service_target(&service.namespace, &service.node);
        if target.is_none() {
            survey.unread.push(remora_registry::survey::Unread {
                place: format!("{}/{}", service.namespace, service.node),
                is_forbidden: false,
                cause: "its name is not written as Dubbo writes names, so it is passed on as it is".to_owned(),
            });
        }
        let is_owned = roots.target(&service.path("providers")).is_some();
        lists.push(target.map(|target| Entries::new(target, is_owned)));
    }
    let children = children_of(reads, services, "providers", MAX_ENTRIES, &mut survey.left_out).await?;
    let mut questions = Vec::with_capacity(children.len());
    for (at, child) in children {
        let (Some(service), Some(Some(list))) = (services.get(at), lists.get(at)) else {
            continue;
        };
        let path = format!("{}/{child}", service.path("providers"));
        questions.push((at, child, path, list.sofa.is_some()));
    }
    // SOFARPC's node says in its data whether it is online; Dubbo's data says nothing.
    let ask = |reads: Reads, (at, child, path, needs_data): (usize, String, String, bool)| async move {
        let node = match needs_data {
            true => reads.data(&path).await?,
            false => reads.stat(&path).await?.map(|stat| (Bytes::new(), stat)),
        };
        Ok((at, child, node))
    };
    for (at, child, node) in reads.each(questions, ask).await? {
        if let Some(Some(list)) = lists.get_mut(at) {
            list.add_child(&child, node);
        }
    }
    survey.lists.extend(lists.into_iter().flatten().map(Entries::done));
    Ok(())
}

async fn consumers(reads: &Reads, services: &[ServiceDir], survey: &mut Survey) -> Result<(), ClientError> {
    let children = children_of(reads, services, "consumers", MAX_ENTRIES, &mut survey.left_out).await?;
    for (at, child) in children {
        let Some(service) = services.get(at) else { continue };
        let Some(target) = places::service_target(&service.namespace, &service.node) else {
            continue;
        };
        if let Ok(instance) = places::parse_child(&target, &child) {
            let instance = Arc::new(instance);
            survey.consumers.push(SurveyedConsumer { target, instance });
        }
    }
    Ok(())
}

async fn rule_lists(reads: &Reads, services: &[ServiceDir], survey: &mut Survey) -> Result<(), ClientError> {
    for category in ["routers", "configurators"] {
        let children = children_of(reads, services, category, MAX_RULES, &mut survey.left_out).await?;
        for (at, child) in children {
            let Some(service) = services.get(at) else { continue };
            let dir = service.path(category);
            let place = format!("{dir}/{child}");
            let text = dubbo_url::decode_component(&child).unwrap_or_else(|_| child.clone());
            survey.rules.push(SurveyedRule {
                kept: rules::in_child(&place, &child).into_iter().collect(),
                text: cut(text, MAX_RULE_BYTES),
                place,
            });
        }
    }
    Ok(())
}

async fn applications(reads: &Reads, roots: &Roots, dirs: Vec<String>, survey: &mut Survey) -> Result<(), ClientError> {
    let dirs: Vec<(String, Target)> = dirs
        .into_iter()
        .filter_map(|dir| roots.target(&dir).map(|target| (dir, target)))
        .filter(|(_, target)| matches!(target, Target::Application { .. }))
        .collect();
    let mut lists: Vec<Entries> = dirs.iter().map(|(_, t)| Entries::new(t.clone(), true)).collect();
    let paths: Vec<(usize, String)> = dirs.into_iter().map(|(dir, _)| dir).enumerate().collect();
    let names = reads
        .each(paths, |reads, (at, dir)| async move {
            let children = reads.children(&dir).await?;
            Ok((at, dir, children))
        })
        .await?;
    let mut nodes: Vec<(usize, String, String)> = Vec::new();
    for (at, dir, children) in names {
        nodes.extend(children.into_iter().map(|child| (at, format!("{dir}/{child}"), child)));
    }
    if nodes.len() > MAX_ENTRIES {
        nodes.truncate(MAX_ENTRIES);
        let text = format!("more than {MAX_ENTRIES} instances of applications: the rest was not looked at");
        survey.left_out.push(text);
    }
    let read = reads
        .each(nodes, |reads, (at, path, child)| async move {
            Ok((at, child, reads.data(&path).await?))
        })
        .await?;
    for (at, child, node) in read {
        if let Some(list) = lists.get_mut(at) {
            list.add_child(&child, node);
        }
    }
    survey.lists.extend(lists.into_iter().map(Entries::done));
    Ok(())
}

/// Rules and settings: `<root>/<group>/<key>`.
async fn config_centre(
    reads: &Reads,
    roots: &Roots,
    configs: Vec<String>,
    survey: &mut Survey,
) -> Result<(), ClientError> {
    let list = |reads: Reads, dir: String| async move {
        let children = reads.children(&dir).await?;
        Ok::<Vec<String>, ClientError>(children.iter().map(|child| format!("{dir}/{child}")).collect())
    };
    let groups: Vec<String> = reads.each(configs, list).await?.into_iter().flatten().collect();
    let keys: Vec<String> = reads.each(groups, list).await?.into_iter().flatten().collect();
    let is_wanted = |path: &String| roots.shape(path) == Shape::Rule || path.ends_with(SETTINGS);
    let mut wanted: Vec<String> = keys.into_iter().filter(is_wanted).collect();
    if wanted.len() > MAX_RULES {
        wanted.truncate(MAX_RULES);
        let text = format!("more than {MAX_RULES} rules in the config centre: the rest was not looked at");
        survey.left_out.push(text);
    }
    let read = reads
        .each(wanted, |reads, path| async move {
            let data = reads.data(&path).await?;
            Ok((path, data))
        })
        .await?;
    for (path, data) in read {
        let Some((data, _)) = data else { continue };
        let text = String::from_utf8_lossy(&data).into_owned();
        if path.ends_with(SETTINGS) {
            survey.settings.push((path, cut(text, MAX_DOCUMENT_BYTES)));
            continue;
        }
        let kept = rules::in_config(&path, &data).map(|(kept, _)| kept).unwrap_or_default();
        survey.rules.push(SurveyedRule {
            place: path,
            text: cut(text, MAX_RULE_BYTES),
            kept,
        });
    }
    Ok(())
}

/// `<root>/<interface>[/<version>][/<group>]/{provider,consumer}/<application>`, and the documents of the revisions that
/// instances name.
async fn metadata_centre(reads: &Reads, roots: Vec<String>, survey: &mut Survey) -> Result<(), ClientError> {
    let mut documents = Vec::new();
    for list in &survey.lists {
        let instances = list.snapshot.instances.iter().filter(|i| i.key.is_none());
        for instance in instances {
            let application = instance.params.get("application").unwrap_or_default();
            let revision = instance.revision().unwrap_or_default();
            // Names come from a shared registry; they must not lead elsewhere.
            let is_plain = |name: &str| !name.is_empty() && !name.contains('/');
            if is_plain(application) && is_plain(revision) {
                documents.push((application.to_owned(), revision.to_owned()));
            }
        }
    }
    documents.sort();
    documents.dedup();
    for root in &roots {
        let questions: Vec<(String, (String, String))> = documents
            .iter()
            .map(|(app, revision)| (format!("{root}/{app}/{revision}"), (app.clone(), revision.clone())))
            .collect();
        let read = reads
            .each(questions, |reads, (path, names)| async move {
                Ok((names, reads.data(&path).await?))
            })
            .await?;
        for ((app, revision), data) in read {
            let text = data.and_then(|(data, _)| String::from_utf8(data.into()).ok());
            if let Some(text) = text.filter(|t| !t.is_empty() && t.len() <= MAX_DOCUMENT_BYTES) {
                survey.documents.push((app, revision, text));
            }
        }
    }
    for root in roots {
        definitions(reads, root, survey).await?;
    }
    Ok(())
}

async fn definitions(reads: &Reads, root: String, survey: &mut Survey) -> Result<(), ClientError> {
    let mut level = vec![root.clone()];
    // Interface, version, group, side, application.
    for depth in 0..5 {
        let read = reads
            .each(std::mem::take(&mut level), |reads, dir| async move {
                let children = reads.children(&dir).await?;
                Ok((dir, children))
            })
            .await?;
        for (dir, children) in read {
            let side = dir.rsplit('/').next().unwrap_or_default();
            if depth >= 2 && matches!(side, "provider" | "consumer") {
                define(&root, &dir, side == "consumer", children, &mut survey.definitions);
                continue;
            }
            // Of an application: its revisions.
            let inner = children.into_iter().map(|child| format!("{dir}/{child}"));
            level.extend(inner.filter(|path| !is_document(path)));
        }
        if level.len() > MAX_RULES {
            level.truncate(MAX_RULES);
            let text = format!("more than {MAX_RULES} places in {root}: the rest was not looked at");
            survey.left_out.push(text);
        }
    }
    Ok(())
}

fn define(root: &str, dir: &str, is_consumer: bool, applications: Vec<String>, out: &mut Vec<Definition>) {
    let inner = dir.strip_prefix(root).unwrap_or(dir).trim_matches('/');
    let mut parts: Vec<&str> = inner.split('/').collect();
    parts.pop();
    let Some((service, qualifier)) = parts.split_first() else {
        return;
    };
    let service = dubbo_url::decode_component(service).unwrap_or_else(|_| (*service).to_owned());
    out.extend(applications.into_iter().map(|application| Definition {
        service: service.clone(),
        qualifier: qualifier.join("/"),
        is_consumer,
        application,
    }));
}

/// Whether a path ends in a revision, which has no children.
fn is_document(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Ends the path of settings that applications read before they look for their registry.
const SETTINGS: &str = "/dubbo.properties";
