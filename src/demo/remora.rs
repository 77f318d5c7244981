// SPDX-License-Identifier: Apache-2.0
//! One of the demo's two Remoras: a whole one, with its own configuration and addresses, in this process.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{DemoError, ports};
use crate::admin::{CallsView, CatalogView, Views};
use crate::app::Ended;
use crate::config::{Address, Config, Door, Facades, Loaded, ProtocolPorts, ZooKeeperDoor};
use crate::lifecycle::{Stop, StopKind};
use crate::{App, Plugins};

/// Application ports that one of the demo's hosts can take over.
const INGRESS_PORTS: u16 = 4;

/// A running Remora.
pub(super) struct DemoRemora {
    /// Where applications find their registry.
    pub(super) door: SocketAddr,
    /// Where applications here call.
    pub(super) egress: SocketAddr,
    /// Where other hosts call.
    pub(super) ingress: SocketAddr,
    views: Arc<Views>,
    stop: Stop,
    running: JoinHandle<Ended>,
}

/// What a Remora counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Every call.
    pub(super) all: u64,
    /// Those that did not come to a good end.
    pub(super) errors: u64,
}

impl DemoRemora {
    /// Starts one that stands for the Remora on `host`.
    pub(super) fn start(
        plugins: &Plugins,
        host: IpAddr,
        registry: SocketAddr,
        data_dir: &Path,
    ) -> Result<Self, DemoError> {
        let localhost = IpAddr::from([127, 0, 0, 1]);
        let door = ports::free(localhost)?;
        let egress = ports::free(localhost)?;
        let range = ports::free_range(host, INGRESS_PORTS + 1)?;
        let ingress = SocketAddr::new(host, range.first);
        let mut config = Config {
            registry: format!("zookeeper://{registry}").parse()?,
            advertise: Some(host),
            data_dir: Some(data_dir.to_owned()),
            facades: Facades {
                zookeeper: Door::On(ZooKeeperDoor {
                    listen: Address(door),
                    ..ZooKeeperDoor::default()
                }),
                ..Facades::none()
            },
            ..Config::default()
        };
        let dubbo = ProtocolPorts {
            egress: Address(egress),
            ingress: Address(ingress),
            ingress_range: crate::config::PortRange {
                first: range.first + 1,
                last: range.last,
            },
        };
        config.protocols.0 = [("dubbo".to_owned(), Door::On(dubbo))].into();
        config.admin.listen = Address(SocketAddr::new(localhost, 0));
        let stop = Stop::new();
        let app = App::build(&Loaded::of(config), plugins, &stop)?;
        let views = Arc::clone(app.views());
        Ok(Self {
            door,
            egress,
            ingress,
            views,
            stop,
            running: tokio::spawn(app.run()),
        })
    }

    /// What it knows of applications and lists.
    pub(super) fn catalog(&self) -> CatalogView {
        (self.views.catalog)()
    }

    /// Whether it takes calls.
    pub(super) fn is_ready(&self) -> bool {
        self.views.readiness.report().ready
    }

    /// Calls of one side so far.
    pub(super) async fn calls(&self, side: &str) -> Counted {
        let view = (self.views.connections)().await;
        let of_side = || view.calls.iter().filter(|calls| calls.side == side);
        Counted {
            all: of_side().map(CallsView::total).sum(),
            errors: of_side().map(CallsView::errors).sum(),
        }
    }

    /// Drains and ends it.
    pub(super) async fn stop(self) {
        self.stop.ask(StopKind::Restart);
        // A panic was told by the panic hook; nothing is left to stop then.
        let _ = self.running.await;
    }
}
