// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::config::PortRange;

/// Ports that nobody listens at: below those that the system gives to outgoing connections and to other tests.
const GONE: u16 = 10_001;
const GONE_TOO: u16 = 10_002;

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn settings(first: u16, range: PortRange) -> ProtocolPorts {
    ProtocolPorts {
        name: "dubbo".into(),
        egress: "127.0.0.1:1".parse().unwrap(),
        ingress: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), first),
        ingress_range: range,
    }
}

/// Assigns and publishes.
fn publish(table: &mut IngressPorts, app_port: u16) -> u16 {
    let port = table.assign("dubbo", app_port).unwrap();
    assert!(table.publish_with("dubbo", app_port, "10.0.0.5"));
    assert!(!table.publish_with("dubbo", app_port, "10.0.0.5"));
    if let Some((file, rows)) = table.to_keep() {
        write(&file, &rows).unwrap();
    }
    port
}

fn one(port: u16) -> PortRange {
    PortRange {
        first: port,
        last: port,
    }
}

#[test]
fn the_configured_port_goes_first_then_the_range_and_the_same_is_answered_again() {
    let range = one(free_port());
    let mut table = IngressPorts::open(&[settings(0, range)], None, &Sockets::default()).unwrap();
    let first = table.assign("dubbo", 20880).unwrap();
    assert_eq!(table.assign("dubbo", 30880), Ok(range.first));
    assert_eq!(table.assign("dubbo", 20880), Ok(first));
    assert!(table.assign("tri", 1).is_err());
    let kinds: Vec<bool> = table
        .take_changes()
        .iter()
        .map(|c| matches!(c, IngressChange::Open(_)))
        .collect();
    assert_eq!(kinds, [true, false, true]);
    assert!(table.take_changes().is_empty());
}

#[test]
fn a_restart_opens_every_known_port_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, range) = (free_port(), one(free_port()));
    let mut table = IngressPorts::open(&[settings(first, range)], Some(dir.path()), &Sockets::default()).unwrap();
    publish(&mut table, 20880);
    publish(&mut table, 30880);
    let rows = table.rows();
    drop(table);
    let mut again = IngressPorts::open(&[settings(first, range)], Some(dir.path()), &Sockets::default()).unwrap();
    assert_eq!(again.rows(), rows);
    let apps: Vec<Option<SocketAddr>> = again
        .take_changes()
        .iter()
        .map(|c| match c {
            IngressChange::Open(l) => l.app,
            IngressChange::Assign { .. } | IngressChange::Leaving { .. } => None,
        })
        .collect();
    assert_eq!(apps, [Some(app_address(20880)), Some(app_address(30880))]);
    assert_eq!(again.assign("dubbo", 30880), Ok(range.first));
}

#[test]
fn a_former_port_that_is_taken_is_tried_again_and_given_up_at_a_publication() {
    let dir = tempfile::tempdir().unwrap();
    let first = free_port();
    let taken = free_port();
    let range = one(taken);
    let mut table = IngressPorts::open(&[settings(first, range)], Some(dir.path()), &Sockets::default()).unwrap();
    let running = TcpListener::bind("127.0.0.1:0").unwrap();
    publish(&mut table, running.local_addr().unwrap().port());
    publish(&mut table, 30880);
    drop(table);
    let squatter = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let mut again = IngressPorts::open(&[settings(first, range)], Some(dir.path()), &Sockets::default()).unwrap();
    assert!(again.open_missing());
    assert!(again.assign("dubbo", 30880).is_err());
    drop(squatter);
    assert_eq!(again.assign("dubbo", 30880), Ok(taken));
}

#[test]
fn a_configured_port_in_use_names_its_key() {
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = squatter.local_addr().unwrap().port();
    let Err(error) = IngressPorts::open(&[settings(port, one(1))], None, &Sockets::default()) else {
        panic!("the port is taken");
    };
    assert_eq!(error.reason(), "ingress_bind");
    assert!(error.to_string().contains("protocols.dubbo.ingress"), "{error}");
}

#[test]
fn a_damaged_table_starts_empty() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ingress.json"), "remora-ingress 1 00000000\n[]").unwrap();
    let table = IngressPorts::open(&[settings(0, one(1))], Some(dir.path()), &Sockets::default()).unwrap();
    assert!(table.rows().is_empty());
}

#[test]
fn when_no_port_is_left_that_of_an_application_that_is_gone_is_given_on() {
    let running = TcpListener::bind("127.0.0.1:0").unwrap();
    let running_port = running.local_addr().unwrap().port();
    let range = one(free_port());
    let mut table = IngressPorts::open(&[settings(0, range)], None, &Sockets::default()).unwrap();
    let first = table.assign("dubbo", running_port).unwrap();
    assert_eq!(table.assign("dubbo", free_port()), Ok(range.first));
    assert!(table.assign("dubbo", GONE).is_err());
    let published = table.rows().iter().map(|row| row.app_port).collect();
    assert_eq!(
        table.reuse("dubbo", GONE, &published),
        None,
        "consumers may call it still"
    );
    assert_eq!(table.reuse("dubbo", GONE, &BTreeSet::new()), Some(range.first));
    assert_eq!(table.assign("dubbo", running_port), Ok(first));
    let last = table.take_changes().pop();
    assert!(matches!(last, Some(IngressChange::Assign { app, .. }) if app == app_address(GONE)));
    let running_too = TcpListener::bind("127.0.0.1:0").unwrap();
    let too_port = running_too.local_addr().unwrap().port();
    assert_eq!(table.reuse("dubbo", too_port, &BTreeSet::new()), Some(range.first));
    assert_eq!(table.reuse("dubbo", GONE_TOO, &BTreeSet::new()), None);
}

#[test]
fn a_port_whose_application_is_too_busy_to_accept_is_not_given_on() {
    let busy = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    busy.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    busy.listen(0).unwrap();
    let port = busy.local_addr().unwrap().as_socket().unwrap().port();
    let _waiting: Vec<Socket> = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&app_address(port).into());
            socket
        })
        .collect();
    assert_eq!(closed_one([port].into_iter()), None);
    let closed = free_port();
    assert_eq!(closed_one([port, closed].into_iter()), Some(closed));
}

#[test]
fn a_known_ingress_is_told_and_an_unknown_one_is_not_made() {
    let mut table = IngressPorts::open(&[settings(0, one(free_port()))], None, &Sockets::default()).unwrap();
    assert_eq!(table.known("dubbo", 20880), None);
    let first = table.assign("dubbo", 20880).unwrap();
    assert_eq!(
        (table.known("dubbo", 20880), table.known("tri", 20880)),
        (Some(first), None)
    );
    assert_eq!(table.rows().len(), 1);
}

#[test]
fn an_application_leaves_once_and_is_back_when_it_publishes_again() {
    let settings = settings(0, one(free_port()));
    let mut table = IngressPorts::open(&[settings], None, &Sockets::default()).unwrap();
    let first = publish(&mut table, 20880);
    table.take_changes();
    let mut leaving = |is_leaving| {
        table.set_leaving("dubbo", 20880, is_leaving);
        let changes = table.take_changes();
        let said = changes.iter().map(|change| match change {
            IngressChange::Leaving { ingress, is_leaving } => (ingress.port(), *is_leaving),
            other => panic!("{other:?}"),
        });
        said.collect::<Vec<_>>()
    };
    assert_eq!(leaving(false), []);
    assert_eq!(leaving(true), [(first, true)]);
    assert_eq!(leaving(true), []);
    assert_eq!(leaving(false), [(first, false)]);
    table.set_leaving("dubbo", 1, true);
    table.set_leaving("tri", 20880, true);
    assert!(table.take_changes().is_empty(), "nobody there");
}
