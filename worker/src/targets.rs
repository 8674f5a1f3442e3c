//! Whom this worker may connect to for a stream (design §8): whoever may write a MediaStream must not reach, through us, what only
//! this node or the cluster reaches. Names are judged by what they lead to, at each attempt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

/// What the installation says of targets, and what operators say of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// May be connected to though they are of a kind that else may not, or the cluster's own.
    pub allowed: Vec<IpNet>,
    /// May not be connected to, whatever `allowed` says.
    pub denied: Vec<IpNet>,
    /// The cluster's own; one for all clones.
    pub cluster: Cluster,
}

/// The cluster's own networks, as operators tell them. What an attempt found allowed stays connected when they become others: the next
/// attempt is judged by them.
#[derive(Clone, Debug, Default)]
pub struct Cluster(Arc<RwLock<Networks>>);

/// The cluster's own networks. Outside of a cluster there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Of Services.
    pub services: Vec<IpNet>,
    /// Of pods.
    pub pods: Vec<IpNet>,
    /// Of addresses of nodes.
    pub nodes: Vec<IpNet>,
}

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The installation says so.
    #[error("is in --deny-targets of the worker")]
    Listed,
    /// Only this node is there.
    #[error("is a loopback address")]
    Loopback,
    /// Clouds tell secrets there.
    #[error("is a link-local address")]
    LinkLocal,
    /// Several hosts, or none.
    #[error("is not the address of a host")]
    NoHost,
    /// What listens here may trust its own node.
    #[error("is an address of the worker's own node")]
    OwnNode,
    /// Services trust what comes from within.
    #[error("is in a range of Services")]
    Service,
    /// And so do pods.
    #[error("is in a range of pods")]
    Pod,
    /// What listens there may trust other nodes.
    #[error("is an address of a node")]
    Node,
}

impl Denied {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Listed => "give another address, or have --deny-targets of the worker leave it out",
            Self::Loopback
            | Self::LinkLocal
            | Self::NoHost
            | Self::OwnNode
            | Self::Service
            | Self::Pod
            | Self::Node => "give the address of a device, or have --allow-targets of the worker name it",
        }
    }
}

impl Targets {
    /// Whether `address` may be connected to.
    pub fn check(&self, address: IpAddr) -> Result<(), Denied> {
        let address = as_routed(address);
        let among = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        if among(&self.denied) {
            Err(Denied::Listed)
        } else if among(&self.allowed) {
            Ok(())
        } else {
            by_kind(address)?;
            if is_own(address) { Err(Denied::OwnNode) } else { self.cluster.check(address) }
        }
    }
}

impl Cluster {
    /// These are its networks from here on.
    pub fn set(&self, networks: Networks) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = networks;
    }

    fn check(&self, address: IpAddr) -> Result<(), Denied> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Networks { services, pods, nodes } = &*known;
        let all = [(services, Denied::Service), (pods, Denied::Pod), (nodes, Denied::Node)];
        let found = all.iter().find(|(networks, _)| networks.iter().any(|it| it.contains(&address)));
        found.map_or(Ok(()), |(_, why)| Err(*why))
    }
}

/// IPv4 in whichever clothes: `::ffff:a.b.c.d`, and behind a translator's prefix (RFC 6052 §2.1).
fn as_routed(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => v6.into(),
        },
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn by_kind(address: IpAddr) -> Result<(), Denied> {
    let v4 = |it: Ipv4Addr| (it.is_link_local(), it.is_broadcast() || it.octets()[0] == 0);
    let v6 = |it: Ipv6Addr| (it.is_unicast_link_local(), it.is_unspecified());
    let (link_local, no_host) = match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    };
    if address.is_loopback() {
        Err(Denied::Loopback)
    } else if link_local {
        Err(Denied::LinkLocal)
    } else if no_host || address.is_multicast() {
        Err(Denied::NoHost)
    } else {
        Ok(())
    }
}

/// Whether some interface of this host has it. Where that can't be read, nothing is connected to.
fn is_own(address: IpAddr) -> bool {
    match if_addrs::get_if_addrs() {
        Ok(all) => all.iter().any(|interface| interface.ip() == address),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &str) -> Vec<IpNet> {
        list.split_whitespace().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn targets_are_judged_by_kind_and_by_the_installation() {
        let plain = Targets::default();
        let installed = Targets {
            allowed: networks("127.0.0.0/8 10.0.0.0/8"),
            denied: networks("10.96.0.0/12"),
            ..Targets::default()
        };
        let open = Targets { allowed: networks("0.0.0.0/0 ::/0"), ..Targets::default() };
        let cases = [
            (&plain, "192.0.2.7", Ok(())),
            (&plain, "2001:db8::7", Ok(())),
            (&plain, "127.0.0.1", Err(Denied::Loopback)),
            (&plain, "::1", Err(Denied::Loopback)),
            (&plain, "::ffff:127.0.0.1", Err(Denied::Loopback)),
            (&plain, "64:ff9b::7f00:1", Err(Denied::Loopback)),
            (&plain, "169.254.169.254", Err(Denied::LinkLocal)),
            (&plain, "64:ff9b::a9fe:a9fe", Err(Denied::LinkLocal)),
            (&plain, "fe80::1", Err(Denied::LinkLocal)),
            (&plain, "0.0.0.0", Err(Denied::NoHost)),
            (&plain, "::", Err(Denied::NoHost)),
            (&plain, "239.1.2.3", Err(Denied::NoHost)),
            (&plain, "255.255.255.255", Err(Denied::NoHost)),
            (&installed, "127.0.0.1", Ok(())),
            (&installed, "::1", Err(Denied::Loopback)),
            (&installed, "10.1.2.3", Ok(())),
            (&installed, "10.96.0.1", Err(Denied::Listed)),
            (&installed, "::ffff:10.96.0.1", Err(Denied::Listed)),
            (&open, "127.0.0.1", Ok(())),
            (&open, "::1", Ok(())),
        ];
        for (targets, address, want) in cases {
            assert_eq!(targets.check(address.parse().unwrap()), want, "{targets:?} {address}");
        }
    }

    #[test]
    fn what_is_the_clusters_own_is_kept_from_once_it_is_told_unless_the_installation_allows_it() {
        let plain = Targets::default();
        let installed = Targets {
            allowed: networks("10.96.5.0/24 10.244.5.0/24 198.51.100.5/32"),
            denied: networks("10.96.5.66/32"),
            ..Targets::default()
        };
        let told = Networks {
            services: networks("10.96.0.0/16 fd00:10:96::/112"),
            pods: networks("10.244.0.0/16"),
            nodes: networks("198.51.100.0/30 198.51.100.5/32"),
        };
        let addresses = [
            ("10.96.0.1", Err(Denied::Service)),
            ("::ffff:10.96.0.1", Err(Denied::Service)),
            ("64:ff9b::a60:1", Err(Denied::Service)),
            ("fd00:10:96::1", Err(Denied::Service)),
            ("10.244.7.7", Err(Denied::Pod)),
            ("198.51.100.3", Err(Denied::Node)),
            ("198.51.100.4", Ok(())),
            ("127.0.0.1", Err(Denied::Loopback)),
        ];
        let allowed = [
            ("10.96.5.1", Ok(())),
            ("10.96.5.66", Err(Denied::Listed)),
            ("10.244.5.7", Ok(())),
            ("198.51.100.5", Ok(())),
        ];
        let check = |targets: &Targets, address: &str| targets.check(address.parse().unwrap());
        for (address, want) in addresses {
            let before = if want == Err(Denied::Loopback) { want } else { Ok(()) };
            assert_eq!(check(&plain, address), before, "{address} before it is told");
        }
        // What a dialler has of them is a clone.
        let diallers = [plain.clone(), installed.clone()];
        plain.cluster.set(told.clone());
        installed.cluster.set(told);
        for (address, want) in addresses {
            assert_eq!(diallers.each_ref().map(|it| check(it, address)), [want; 2], "{address}");
        }
        for (address, want) in allowed {
            assert!(check(&diallers[0], address).is_err(), "{address} where it is not allowed");
            assert_eq!(check(&diallers[1], address), want, "{address}");
        }
        plain.cluster.set(Networks::default());
        assert_eq!(check(&diallers[0], "10.96.0.1"), Ok(()), "they are others by now");
    }

    #[test]
    fn the_node_itself_is_no_target() {
        let own = if_addrs::get_if_addrs().unwrap().into_iter().map(|interface| interface.ip());
        for address in own {
            assert!(Targets::default().check(address).is_err(), "{address}");
        }
    }
}
