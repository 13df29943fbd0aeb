//! How many connections, or requests under way, each address has, so that one machine cannot take them all.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The places of each address that has one.
pub(crate) struct Addresses {
    most: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// One place, given back when it is dropped.
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// A place more for this address, unless it has as many as it may.
    pub(crate) fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.addresses.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// One site of IPv6 has 2⁶⁴ addresses: its network counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gives_them_back() {
        let addresses = Addresses::new(2);
        let place = |address: &str| addresses.place(address.parse().expect("an address"));
        let (first, second) = (place("192.0.2.1"), place("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(place("192.0.2.1").is_none());
        let _other = place("192.0.2.2").expect("another address");
        drop(first);
        let again = place("192.0.2.1");
        assert!(again.is_some() && place("192.0.2.1").is_none());
        let _of_one_network = (place("2001:db8::1"), place("2001:db8::2"));
        assert!(place("2001:db8::3").is_none() && place("2001:db8:0:1::3").is_some());
        drop((second, again));
        assert_eq!(addresses.held.lock().expect("held").len(), 2, "an address without connections is forgotten");
    }
}
