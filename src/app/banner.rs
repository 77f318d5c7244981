// SPDX-License-Identifier: Apache-2.0
//! What the operator reads at start: what listens, what to set in the application, what is not served.

use std::fmt::Write as _;

use crate::config::{DataDir, Note};

/// The facts of the banner.
#[derive(Debug, Default)]
pub(super) struct Banner {
    /// `name` and address of each registry.
    pub(super) registries: Vec<(String, String)>,
    /// One line of each facade.
    pub(super) facades: Vec<String>,
    /// Protocol, egress, ingress, further ingress ports.
    pub(super) protocols: Vec<(String, String, String, String)>,
    /// Where state is kept.
    pub(super) data_dir: Option<DataDir>,
    /// Admin address.
    pub(super) admin: String,
    /// What `check` would say.
    pub(super) notes: Vec<Note>,
}

impl Banner {
    /// The text, several lines.
    pub(super) fn text(&self) -> String {
        let mut text = format!("remora {}\n", env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, what: &str| {
            let _ = writeln!(text, "  {name:<12} {what}");
        };
        for (name, url) in &self.registries {
            match self.registries.len() {
                1 => line("registry", url),
                _ => line("registry", &format!("{name}: {url}")),
            }
        }
        for facade in &self.facades {
            line("door", facade);
        }
        for (name, egress, ingress, range) in &self.protocols {
            line(name, &format!("calls out: {egress}; calls in: {ingress}, then {range}"));
        }
        if let Some(data_dir) = &self.data_dir {
            line("data", &format!("{} ({})", data_dir.path.display(), data_dir.why));
        }
        line(
            "admin",
            &format!("http://{}, `remora status --admin {}`", self.admin, self.admin),
        );
        for note in &self.notes {
            line("note", &note.to_string());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_every_address_and_what_is_not_served() {
        let banner = Banner {
            registries: vec![("default".to_owned(), "zookeeper://zk:2181".to_owned())],
            facades: vec!["set zookeeper://127.0.0.1:2181 in the application".to_owned()],
            protocols: vec![(
                "dubbo".to_owned(),
                "127.0.0.1:20882".to_owned(),
                "0.0.0.0:20881".to_owned(),
                "20900-20999".to_owned(),
            )],
            data_dir: Some(DataDir {
                path: "/x".into(),
                why: "configured",
            }),
            admin: "127.0.0.1:15020".to_owned(),
            notes: vec![Note {
                key: "facades.mesh".to_owned(),
                text: "not served by this version".to_owned(),
            }],
        };
        let text = banner.text();
        for expected in [
            "zookeeper://zk:2181",
            "set zookeeper://127.0.0.1:2181",
            "0.0.0.0:20881",
            "/x (configured)",
            "facades.mesh",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}
