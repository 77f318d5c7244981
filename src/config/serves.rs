// SPDX-License-Identifier: Apache-2.0
//! What a configuration serves, in lines for people: `remora check`.

use super::check::Checked;
use super::model::RegistryEntry;

/// One line for each door and protocol.
pub fn serves(checked: &Checked) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in checked.config.all_registries() {
        lines.extend(
            doors(&entry)
                .into_iter()
                .map(|(door, at, tells)| format!("{door} on {at}, in front of {}: {tells}", entry.registry)),
        );
    }
    let mut protocols: Vec<_> = checked.config.protocols.0.iter().collect();
    protocols.sort_by_key(|(name, _)| name.as_str());
    for (name, ports) in protocols {
        if let Some(ports) = ports.on() {
            lines.push(format!(
                "{name}: calls out by {}, calls in by {}, then {}",
                ports.egress, ports.ingress, ports.ingress_range
            ));
        }
    }
    lines
}

/// Name, address, what the application is told.
fn doors(entry: &RegistryEntry) -> Vec<(&'static str, String, String)> {
    let mut doors = Vec::new();
    let facades = &entry.facades;
    if let Some(door) = facades.zookeeper.on() {
        let at = door.listen.to_string();
        doors.push(("zookeeper", at.clone(), format!("registry address zookeeper://{at}")));
    }
    if let Some(door) = facades.mesh.on() {
        for at in door.addresses() {
            let tells = format!("SOFARPC registry mesh://{at} (protocol mesh, address http://{at})");
            doors.push(("mesh", at.to_string(), tells));
        }
    }
    if let Some(door) = facades.dubbod.on() {
        for at in door.addresses() {
            doors.push((
                "dubbod",
                at.to_string(),
                format!("MOSN SDK: POST http://{at}/pub, /sub"),
            ));
        }
    }
    if let Some(door) = facades.sofaregistry.on() {
        let at = format!("{} and {}", door.listen, door.session);
        doors.push(("sofaregistry", at, format!("SOFARPC registry sofa://{}", door.listen)));
    }
    doors
}
