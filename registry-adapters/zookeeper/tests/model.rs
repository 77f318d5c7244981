// SPDX-License-Identifier: Apache-2.0
//! Random operations against a model small enough to be obviously right: a map of paths, and sets of watches.
#![allow(clippy::unwrap_used, reason = "test code; clippy sees tests only inside #[test]")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use remora_zookeeper::embedded::{Options, Server};
use remora_zookeeper::wire::EventKind::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use remora_zookeeper::wire::{CreateMode, ErrorCode, EventKind, Op, OpResult, Reply, Request};
use support::{Client, create_record};

#[derive(Clone, Debug)]
enum Step {
    Create(String),
    Delete(String),
    Set(String),
    Multi(Vec<Step>),
    WatchData(String),
    WatchChild(String),
    WatchTree(String),
}

#[derive(Default, Clone)]
struct Model {
    // path -> version, creates below it, deletes below it
    nodes: BTreeMap<String, (i32, i32, i32)>,
    data: BTreeSet<String>,
    child: BTreeSet<String>,
    trees: BTreeSet<String>,
}

type Events = Vec<(EventKind, String)>;

impl Model {
    fn apply(&mut self, step: &Step, events: &mut Events) -> Result<(), ErrorCode> {
        match step {
            Step::Create(path) => {
                let parent = parent(path);
                if !self.nodes.contains_key(&parent) {
                    return Err(ErrorCode::NO_NODE);
                }
                if self.nodes.contains_key(path) {
                    return Err(ErrorCode::NODE_EXISTS);
                }
                self.nodes.insert(path.clone(), (0, 0, 0));
                self.nodes.get_mut(&parent).unwrap().1 += 1;
                events.push((NodeCreated, path.clone()));
            }
            Step::Delete(path) => {
                if !self.nodes.contains_key(path) {
                    return Err(ErrorCode::NO_NODE);
                }
                if self.children(path).next().is_some() {
                    return Err(ErrorCode::NOT_EMPTY);
                }
                self.nodes.remove(path);
                self.nodes.get_mut(&parent(path)).unwrap().2 += 1;
                events.push((NodeDeleted, path.clone()));
            }
            Step::Set(path) => {
                self.nodes.get_mut(path).ok_or(ErrorCode::NO_NODE)?.0 += 1;
                events.push((NodeDataChanged, path.clone()));
            }
            Step::Multi(steps) => {
                let before = self.clone();
                let mut told = Vec::new();
                for step in steps {
                    if let Err(e) = self.apply(step, &mut told) {
                        *self = before;
                        return Err(e);
                    }
                }
                events.append(&mut told);
            }
            Step::WatchData(path) => drop(self.data.insert(path.clone())),
            Step::WatchChild(path) => {
                if !self.nodes.contains_key(path) {
                    return Err(ErrorCode::NO_NODE);
                }
                self.child.insert(path.clone());
            }
            Step::WatchTree(path) => drop(self.trees.insert(path.clone())),
        }
        Ok(())
    }

    fn children(&self, path: &str) -> impl Iterator<Item = &String> {
        self.nodes
            .keys()
            .filter(move |other| *other != "/" && parent(other) == path)
    }

    // What the watching client hears of what happened.
    fn heard(&mut self, events: Events) -> Events {
        let mut heard = Vec::new();
        for (kind, path) in events {
            let in_tree = self
                .trees
                .iter()
                .any(|tree| path == *tree || path.starts_with(&format!("{tree}/")));
            let on_data = self.data.remove(&path);
            let on_child = kind == NodeDeleted && self.child.remove(&path);
            if in_tree || on_data || on_child {
                heard.push((kind, path.clone()));
            }
            if kind != NodeDataChanged && self.child.remove(&parent(&path)) {
                heard.push((NodeChildrenChanged, parent(&path)));
            }
        }
        heard
    }
}

fn parent(path: &str) -> String {
    match path.rsplit_once('/').unwrap().0 {
        "" => "/".to_owned(),
        parent => parent.to_owned(),
    }
}

fn path() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["/a", "/b", "/a/x", "/a/y", "/a/x/1", "/a/x/2"]).prop_map(str::to_owned)
}

fn change() -> impl Strategy<Value = Step> {
    prop_oneof![3 => path().prop_map(Step::Create), 2 => path().prop_map(Step::Delete), 2 => path().prop_map(Step::Set)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change(),
        1 => proptest::collection::vec(change(), 1..4).prop_map(Step::Multi),
        1 => path().prop_map(Step::WatchData),
        1 => path().prop_map(Step::WatchChild),
        1 => path().prop_map(Step::WatchTree),
    ]
}

fn op(step: &Step) -> Op {
    match step {
        Step::Create(path) => Op::Create(create_record(path, CreateMode::Persistent)),
        Step::Delete(path) => Op::Delete {
            path: path.as_str().into(),
            version: -1,
        },
        Step::Set(path) => Op::SetData(remora_zookeeper::wire::request::SetData {
            path: path.as_str().into(),
            data: None,
            version: -1,
        }),
        other => panic!("{other:?} in a multi"),
    }
}

async fn apply(writer: &mut Client, watcher: &mut Client, step: &Step) -> Result<(), ErrorCode> {
    match step {
        Step::Create(path) => writer.create(path, CreateMode::Persistent).await.map(drop),
        Step::Delete(path) => writer.delete(path).await,
        Step::Set(path) => writer.set(path, b"x").await.map(drop),
        Step::Multi(steps) => {
            let Reply::Results(results) = writer.ask(Request::Multi(steps.iter().map(op).collect())).await? else {
                panic!("results");
            };
            let failed = results.iter().find_map(|result| match result {
                OpResult::Error(e) if e != ErrorCode::OK => Some(e),
                _ => None,
            });
            failed.map_or(Ok(()), Err)
        }
        // Registered whether the node is there or not.
        Step::WatchData(path) => watcher.exists(path, true).await.map(drop).or(Ok(())),
        Step::WatchChild(path) => watcher.children(path, true).await.map(drop),
        Step::WatchTree(path) => {
            watcher.watch(path, 1).await;
            Ok(())
        }
    }
}

async fn agree(server: &Server, steps: Vec<Step>) {
    let (mut writer, mut watcher) = (Client::new(server).await, Client::new(server).await);
    let mut model = Model::default();
    model.nodes.insert("/".to_owned(), (0, 0, 0));
    for step in &steps {
        let mut events = Vec::new();
        let expected = model.apply(step, &mut events);
        assert_eq!(apply(&mut writer, &mut watcher, step).await, expected, "{step:?}");
        assert_eq!(watcher.told().await, model.heard(events), "{step:?}");
    }
    for (path, (version, created, deleted)) in model.nodes.iter().filter(|(path, _)| *path != "/") {
        let stat = writer.exists(path, false).await.unwrap();
        assert_eq!((stat.version, stat.cversion), (*version, created + deleted), "{path}");
        let children = writer.children(path, false).await.unwrap();
        let expected: Vec<_> = model
            .children(path)
            .map(|child| child[path.len() + 1..].to_owned())
            .collect();
        assert_eq!(children, expected, "{path}");
    }
    assert_eq!(server.figures().nodes, model.nodes.len() + 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tree_and_watches_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agree(&Server::in_memory(Options::default()), steps));
    }
}
