// SPDX-License-Identifier: Apache-2.0
//! Where services, applications, the config centre and the metadata centre stand, told by shape, level by level.

use super::limits::{MAX_CHILDREN, MAX_DEPTH, MAX_DIRECTORIES};
use super::reads::Reads;
use crate::client::ClientError;

/// The places that were found.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) services: Vec<ServiceDir>,
    /// Directories of applications: `/services/shop`.
    pub(super) applications: Vec<String>,
    /// Roots of config centres: `/dubbo/config`.
    pub(super) configs: Vec<String>,
    /// Roots of metadata centres: `/dubbo/metadata`.
    pub(super) metadata: Vec<String>,
}

/// One service.
#[derive(Debug)]
pub(super) struct ServiceDir {
    /// Path of its namespace; empty at the top.
    pub(super) namespace: String,
    /// Name of its node.
    pub(super) node: String,
    /// Which of [`CATEGORIES`] are there.
    pub(super) has: Vec<&'static str>,
}

impl ServiceDir {
    pub(super) fn path(&self, category: &str) -> String {
        format!("{}/{}/{category}", self.namespace, self.node)
    }
}

/// Finds them. What is left out is told in words.
pub(super) async fn walk(
    reads: &Reads,
    application_roots: &[String],
    left_out: &mut Vec<String>,
) -> Result<Places, ClientError> {
    let mut places = Places::default();
    let mut level: Vec<String> = vec![String::new()];
    let mut looked_at = 0;
    for depth in 0..=MAX_DEPTH {
        if level.len() + looked_at > MAX_DIRECTORIES {
            level.truncate(MAX_DIRECTORIES.saturating_sub(looked_at));
            left_out.push(format!(
                "more than {MAX_DIRECTORIES} directories: those behind {} were not looked into",
                level.last().map_or("/", String::as_str)
            ));
        }
        looked_at += level.len();
        let found = reads.each(std::mem::take(&mut level), look).await?;
        for look in found {
            let path = look.path;
            if look.is_too_long {
                left_out.push(format!(
                    "{path} has more than {MAX_CHILDREN} children and was not looked into"
                ));
                continue;
            }
            let has: Vec<&'static str> = CATEGORIES
                .into_iter()
                .filter(|c| look.children.iter().any(|child| child == c))
                .collect();
            let is_root = |root: &String| root.trim_end_matches('/') == path;
            match path.rsplit_once('/') {
                Some((namespace, node)) if is_service(&has) => places.services.push(ServiceDir {
                    namespace: namespace.to_owned(),
                    node: node.to_owned(),
                    has,
                }),
                _ if application_roots.iter().any(is_root) => {
                    let of_root = look.children.into_iter().map(|child| format!("{path}/{child}"));
                    places.applications.extend(of_root);
                }
                Some((namespace, "config")) if !namespace.is_empty() => places.configs.push(path),
                Some((namespace, "metadata")) if !namespace.is_empty() => places.metadata.push(path),
                // Each of its nodes has a list of applications as data; nothing is decided by it here.
                Some((namespace, "mapping")) if !namespace.is_empty() => {}
                _ if depth == MAX_DEPTH => {}
                _ => {
                    let children = look.children.into_iter();
                    level.extend(children.map(|child| format!("{path}/{child}")));
                }
            }
        }
        level.retain(|path| path != "/zookeeper");
    }
    Ok(places)
}

struct Look {
    /// Empty for the root.
    path: String,
    children: Vec<String>,
    is_too_long: bool,
}

async fn look(reads: Reads, path: String) -> Result<Look, ClientError> {
    let real = if path.is_empty() { "/" } else { &path };
    let stat = reads.stat(real).await?;
    let number = stat.map_or(0, |stat| stat.num_children);
    let is_too_long = number > MAX_CHILDREN;
    let children = match number {
        1..=MAX_CHILDREN => reads.children(real).await?,
        _ => Vec::new(),
    };
    Ok(Look {
        path,
        children,
        is_too_long,
    })
}

/// Consumers alone make a service, too: one that nobody provides at the moment.
fn is_service(has: &[&str]) -> bool {
    has.iter()
        .any(|c| matches!(*c, "providers" | "consumers" | "configurators" | "routers"))
}

/// What stands below a service.
const CATEGORIES: [&str; 6] = [
    "providers",
    "consumers",
    "configurators",
    "routers",
    "configs",
    "overrides",
];
