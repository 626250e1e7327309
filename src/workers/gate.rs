//! What an address means: may it dispatch, and with which others are its connections counted?
//!
//! The core never sees an address. Where neither a list nor a bound asks for it, it is not even looked up.

use super::hints::GROUPS;
use crate::broker::io::Peer;
use crate::sys::tcp::Remote;
use ahash::RandomState;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// One core's judge of addresses.
#[derive(Clone, Default)]
pub struct Gate {
    allow: Option<Arc<[IpNet]>>,
    /// Addresses are counted in groups by this hash.
    counted: Option<RandomState>,
}

impl Gate {
    /// `allow`: the networks that may dispatch, if not all may; `counted`: the hash by which addresses
    /// are counted, if they are.
    pub fn new(allow: Option<&[IpNet]>, counted: Option<RandomState>) -> Gate {
        Gate { allow: allow.map(Arc::from), counted }
    }

    /// Addresses matter.
    #[inline]
    pub fn looks(&self) -> bool {
        self.allow.is_some() || self.counted.is_some()
    }

    /// What the core needs to know. Nobody known may not dispatch: the connection is gone already.
    pub fn judge(&self, remote: Option<Remote>) -> Peer {
        match remote {
            Some(Remote::Address(ip)) => Peer {
                may_dispatch: self.allow.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&ip))),
                group: self.counted.as_ref().map(|hasher| group(hasher, ip)),
            },
            // The file's permissions have spoken.
            Some(Remote::Local) => Peer { may_dispatch: true, group: None },
            None => Peer { may_dispatch: self.allow.is_none(), group: None },
        }
    }
}

/// An IPv6 address counts with its /64: one machine has all of that.
fn group(hasher: &RandomState, ip: IpAddr) -> u32 {
    let network = match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    };
    (hasher.hash_one((ip.is_ipv4(), network)) % GROUPS as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: &str) -> Option<Remote> {
        Some(Remote::Address(ip.parse().unwrap()))
    }

    #[test]
    fn only_the_listed_networks_may_dispatch() {
        let nets: Vec<IpNet> =
            ["10.1.0.0/16", "fd00::/8", "192.0.2.7/32"].map(|net| net.parse().unwrap()).into();
        let gate = Gate::new(Some(&nets), None);
        for (ip, may) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(gate.judge(at(ip)), Peer { may_dispatch: may, group: None }, "{ip}");
        }
        assert!(gate.judge(Some(Remote::Local)).may_dispatch);
        assert!(!gate.judge(None).may_dispatch);
        assert!(gate.looks() && !Gate::default().looks());
    }

    #[test]
    fn a_machine_is_counted_as_one_and_its_neighbour_as_another() {
        let gate = Gate::new(None, Some(RandomState::with_seeds(1, 2, 3, 4)));
        let group = |ip| gate.judge(at(ip)).group;
        assert_eq!(group("10.0.0.1"), group("10.0.0.1"));
        assert_ne!(group("10.0.0.1"), group("10.0.0.2"));
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:2"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(gate.judge(Some(Remote::Local)).group, None);
    }
}
