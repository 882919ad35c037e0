//! How many clients' connections are open, in all and from each address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::Limits;

/// Who has an IPv6 address has all of its /64 (RFC 6177).
const CLIENT_V6_BITS: u32 = 64;

/// The room that all workers share.
#[derive(Debug)]
pub(super) struct Room {
    connections_max: usize,
    per_client_max: Option<usize>,
    /// Proxies before this one: behind their addresses are many clients.
    trusted: Vec<IpNet>,
    open: AtomicUsize,
    clients: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Room {
    pub(super) fn new(limits: &Limits, trusted: Vec<IpNet>) -> Self {
        Self {
            connections_max: limits.connections_max,
            per_client_max: limits.connections_per_client_max,
            trusted,
            open: AtomicUsize::new(0),
            clients: Mutex::default(),
        }
    }

    /// Whether a further connection has to wait. Workers that ask at the same time may each let one in.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.connections_max
    }

    /// Takes a place for a connection, which is told when its client has too many.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        let client = self.per_client_max.filter(|_| !self.trusts(peer)).map(|most| (client(peer), most));
        let is_over = client.is_some_and(|(client, most)| {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let open = clients.entry(client).or_default();
            *open += 1;
            *open > most
        });
        Place { room: self.clone(), client: client.map(|(client, _)| client), is_over }
    }

    /// Whether an address is that of a proxy which is believed.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// What counts as one client.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> (128 - CLIENT_V6_BITS) << (128 - CLIENT_V6_BITS);
            Ipv6Addr::from(network).into()
        }
    }
}

/// A connection's place. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    client: Option<IpAddr>,
    /// Whether its client has more connections than it may.
    pub(super) is_over: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut clients = self.room.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(per_client: Option<usize>) -> Arc<Room> {
        let limits =
            Limits { connections_max: 3, connections_per_client_max: per_client, ..Limits::default() };
        Arc::new(Room::new(&limits, vec!["10.0.0.0/8".parse().unwrap()]))
    }

    #[test]
    fn all_connections_together_are_counted() {
        let room = room(None);
        let places: Vec<_> = (0..3).map(|last| room.enter([192, 0, 2, last].into())).collect();
        assert!(room.is_full());
        assert!(places.iter().all(|place| !place.is_over));
        drop(places);
        assert!(!room.is_full());
    }

    #[test]
    fn a_client_is_an_address_or_a_v6_network() {
        let room = room(Some(1));
        let enter = |address: &str| room.enter(address.parse().unwrap());
        let (first, mapped) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(!first.is_over && mapped.is_over, "the same address in two forms");
        assert!(!enter("192.0.2.2").is_over);
        let (one, two) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(!one.is_over && two.is_over, "two addresses of one /64");
        assert!(!enter("2001:db8:0:1::1").is_over);
        drop((first, mapped));
        assert!(!enter("192.0.2.1").is_over, "its place was given back");
    }

    #[test]
    fn a_trusted_proxy_brings_many_clients() {
        let room = room(Some(1));
        let places = [room.enter([10, 1, 2, 3].into()), room.enter([10, 1, 2, 3].into())];
        assert!(places.iter().all(|place| !place.is_over));
        assert!(room.clients.lock().unwrap().is_empty());
    }
}
