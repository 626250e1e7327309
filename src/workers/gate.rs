//! Classifies addresses: whether each may dispatch, and the group that counts its connections.
//!
//! The broker never sees an address. Without an allow list and a per-address limit, the worker does not ask the
//! kernel for one.

use super::hints::GROUPS;
use crate::broker::io::Peer;
use crate::sys::tcp::Remote;
use ahash::RandomState;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// The rules for addresses.
#[derive(Clone, Default)]
pub struct Gate {
    allow: Option<Arc<[IpNet]>>,
    /// The hash that assigns addresses to groups; `None`: addresses are not counted.
    counted: Option<RandomState>,
}

impl Gate {
    /// `allow`: the networks that may dispatch; `None`: all. `counted`: the hash that assigns addresses to groups;
    /// `None`: addresses are not counted.
    pub fn new(allow: Option<&[IpNet]>, counted: Option<RandomState>) -> Gate {
        Gate { allow: allow.map(Arc::from), counted }
    }

    /// Whether the rules depend on the address.
    #[inline]
    pub fn needs_address(&self) -> bool {
        self.allow.is_some() || self.counted.is_some()
    }

    /// Classifies a peer. A connection without a peer has ended; it may dispatch only if there is no allow list.
    pub fn classify(&self, remote: Option<Remote>) -> Peer {
        match remote {
            Some(Remote::Address(ip)) => Peer {
                may_dispatch: self.allow.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&ip))),
                group: self.counted.as_ref().map(|hasher| group(hasher, ip)),
            },
            // The permissions of the socket's file allowed the connect.
            Some(Remote::Local) => Peer { may_dispatch: true, group: None },
            None => Peer { may_dispatch: self.allow.is_none(), group: None },
        }
    }
}

/// The group of an address. An IPv6 address counts as its /64, because one host may use a whole /64.
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
        for (ip, may_dispatch) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(gate.classify(at(ip)), Peer { may_dispatch, group: None }, "{ip}");
        }
        assert!(gate.classify(Some(Remote::Local)).may_dispatch);
        assert!(!gate.classify(None).may_dispatch);
        assert!(gate.needs_address() && !Gate::default().needs_address());
    }

    #[test]
    fn each_host_has_a_group() {
        let gate = Gate::new(None, Some(RandomState::with_seeds(1, 2, 3, 4)));
        let group = |ip| gate.classify(at(ip)).group;
        assert_eq!(group("10.0.0.1"), group("10.0.0.1"));
        assert_ne!(group("10.0.0.1"), group("10.0.0.2"));
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:2"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(gate.classify(Some(Remote::Local)).group, None);
    }
}
