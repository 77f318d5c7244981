// SPDX-License-Identifier: Apache-2.0
//! Where listening sockets come from: a process that hands its own over, else the system.
//!
//! A hot upgrade must not close a port for a moment, and a port that the system chose must stay the same. So everybody who
//! listens asks here, under a name that the next version knows too, and a second handle of each socket stays here until
//! [`Ports::close`]: without that, a port would go on taking connections that nobody serves.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The listening sockets of one process. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Ports {
    /// Before each name: which registry's doors these are.
    scope: Arc<str>,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    handed_over: Vec<Port>,
    in_use: Vec<Port>,
}

/// One listening socket.
#[derive(Debug)]
pub struct Port {
    /// Who listens: `egress/dubbo`, `default/facades.zookeeper.listen`.
    pub name: String,
    /// The address asked for; its port is 0 where the system chose one.
    pub asked: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

impl Ports {
    /// With sockets that were handed over.
    pub fn of(handed_over: Vec<Port>) -> Self {
        let table = Table {
            handed_over,
            in_use: Vec::new(),
        };
        Self {
            scope: Arc::default(),
            table: Arc::new(Mutex::new(table)),
        }
    }

    /// The same sockets, under names that begin with `scope`.
    #[must_use]
    pub fn scoped(&self, scope: &str) -> Self {
        Self {
            scope: format!("{}{scope}/", self.scope).into(),
            table: Arc::clone(&self.table),
        }
    }

    /// The socket that was handed over under this name for this address, or asked for before, else what `bind` gives.
    ///
    /// # Errors
    /// Those of `bind`, and when there are no descriptors left.
    pub fn listen(
        &self,
        name: &str,
        addr: SocketAddr,
        bind: impl FnOnce(SocketAddr) -> io::Result<TcpListener>,
    ) -> io::Result<TcpListener> {
        let name = format!("{}{name}", self.scope);
        let mut table = self.table();
        let is_it = |port: &Port| port.name == name && port.asked == addr;
        if let Some(known) = table.in_use.iter().find(|p| is_it(p)) {
            return known.socket.try_clone();
        }
        let socket = match table.handed_over.iter().position(is_it) {
            Some(at) => table.handed_over.swap_remove(at).socket,
            None => bind(addr)?,
        };
        let second = socket.try_clone()?;
        table.in_use.push(Port {
            name,
            asked: addr,
            socket: second,
        });
        Ok(socket)
    }

    /// Lets go of the second handle of one socket: whoever listens there will close it.
    pub fn forget(&self, name: &str, addr: SocketAddr) {
        let name = format!("{}{name}", self.scope);
        self.table().in_use.retain(|p| p.name != name || p.asked != addr);
    }

    /// As [`forget`](Self::forget), for whatever of this scope was asked for at one of these addresses.
    pub fn forget_at(&self, addrs: &[SocketAddr]) {
        let scope = &*self.scope;
        let is_gone = |port: &Port| port.name.starts_with(scope) && addrs.contains(&port.asked);
        self.table().in_use.retain(|port| !is_gone(port));
    }

    /// Second handles of all sockets in use, and of those that were handed over and not asked for yet.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn all(&self) -> io::Result<Vec<Port>> {
        let table = self.table();
        let copy = |port: &Port| {
            Ok(Port {
                name: port.name.clone(),
                asked: port.asked,
                socket: port.socket.try_clone()?,
            })
        };
        table.in_use.iter().chain(&table.handed_over).map(copy).collect()
    }

    /// Closes what was handed over and not asked for: the configuration names it no more.
    pub fn close_unused(&self) {
        self.table().handed_over.clear();
    }

    /// Lets go of every second handle: a port closes when whoever listens on it closes it.
    pub fn close(&self) {
        *self.table() = Table::default();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        let (in_use, handed_over) = (table.in_use.len(), table.handed_over.len());
        write!(f, "Ports({in_use} in use, {handed_over} handed over)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_port_that_the_system_chose_stays_the_same_when_it_is_handed_over() {
        let former = Ports::default();
        let chosen = former.scoped("east").listen("door", any(), TcpListener::bind).unwrap();
        let next = Ports::of(former.all().unwrap());
        let taken = next.scoped("east").listen("door", any(), TcpListener::bind).unwrap();
        assert_eq!(taken.local_addr().unwrap(), chosen.local_addr().unwrap());
        let other = next.listen("door", any(), TcpListener::bind).unwrap();
        assert_ne!(
            other.local_addr().unwrap(),
            chosen.local_addr().unwrap(),
            "another's name"
        );
    }

    #[test]
    fn a_closed_port_takes_no_connection() {
        let ports = Ports::default();
        let socket = ports.listen("door", any(), TcpListener::bind).unwrap();
        let addr = socket.local_addr().unwrap();
        ports.close();
        drop(socket);
        assert!(std::net::TcpStream::connect(addr).is_err());
    }
}
