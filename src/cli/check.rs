// SPDX-License-Identifier: Apache-2.0
//! `remora check`.

use anyhow::bail;

use crate::Plugins;
use crate::config::{self, Overrides};

/// Prints the effective configuration and what is noteworthy; fails with every problem found.
pub(super) fn check(overrides: &Overrides, plugins: &Plugins) -> anyhow::Result<()> {
    let loaded = config::load(overrides, |name| std::env::var(name).ok())?;
    let checked = match config::check(&loaded, &plugins.served()) {
        Ok(checked) => checked,
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            bail!("{}", lines.join("\nremora: "));
        }
    };
    let mut page = super::yaml(&checked.config)?;
    for line in config::serves(&checked) {
        page += &format!("# serves: {line}\n");
    }
    for note in checked.notes {
        page += &format!("# note: {note}\n");
    }
    page += &format!("# {}: ok\n", loaded.file().unwrap_or("all defaults"));
    Ok(super::print(&page)?)
}
