//! The address filter: which IP addresses a connector may reach. Pure.
//!
//! Everything that is not globally reachable unicast is refused. An IPv6 address that carries an IPv4 address is judged
//! as that one, so that no spelling of an address passes where another does not. Ranges: the IANA special-purpose address
//! registries for IPv4 and IPv6 (RFC 6890 and its successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused: the kind of range it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden(&'static str);

impl std::fmt::Display for Forbidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Network, prefix length, what it is.
const V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private network"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private network"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private network"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The ranges that deserve a name of their own; what is neither here nor in 2000::/3 is refused all the same.
const V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local NAT64"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discard only"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, "6bone"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique local"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
const COMPATIBLE: (Ipv6Addr, u32) = (Ipv6Addr::UNSPECIFIED, 96);
/// RFC 6052. Where a network reaches IPv4 through NAT64, every vendor without IPv6 has such an address.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Judges one address.
///
/// # Errors
/// [`Forbidden`] when no connector may reach it.
pub fn judge(address: IpAddr) -> Result<(), Forbidden> {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => judge_v6(address),
    }
}

fn judge_v4(address: Ipv4Addr) -> Result<(), Forbidden> {
    let within = |network: Ipv4Addr, length: u32| {
        let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
        (address.to_bits() ^ network.to_bits()) & mask == 0
    };
    match V4.iter().find(|(network, length, _)| within(*network, *length)) {
        Some((_, _, what)) => Err(Forbidden(what)),
        None => Ok(()),
    }
}

fn judge_v6(address: Ipv6Addr) -> Result<(), Forbidden> {
    let within = |(network, length): (Ipv6Addr, u32)| {
        let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
        (address.to_bits() ^ network.to_bits()) & mask == 0
    };
    if let Some((_, _, what)) = V6.iter().find(|(network, length, _)| within((*network, *length))) {
        return Err(Forbidden(what));
    }
    if [MAPPED, COMPATIBLE, NAT64].into_iter().any(within) {
        let [.., a, b, c, d] = address.octets();
        return judge_v4(Ipv4Addr::new(a, b, c, d));
    }
    if within(GLOBAL_UNICAST) { Ok(()) } else { Err(Forbidden("not global unicast")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn allowed(text: &str) -> bool {
        judge(text.parse().unwrap_or_else(|_| panic!("{text} is no address"))).is_ok()
    }

    #[test]
    fn every_special_range_is_refused_from_its_first_to_its_last_address() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("240.0.0.0", "255.255.255.255"),
            ("::", "::1"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
            ("100::", "100::ffff:ffff:ffff:ffff"),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("3ffe::", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert!(!allowed(first), "{first}");
            assert!(!allowed(last), "{last}");
        }
    }

    #[test]
    fn the_neighbours_of_special_ranges_are_reachable() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "8.8.8.8",
            "2000::",
            "2001:200::",
            "2001:4860:4860::8888",
            "2003::",
            "2606:4700:4700::1111",
            "3ffd::1",
            "3fff:1000::",
        ] {
            assert!(allowed(address), "{address}");
        }
    }

    #[test]
    fn an_embedded_ipv4_address_is_judged_as_itself() {
        for prefix in ["::ffff:", "::", "64:ff9b::"] {
            for bad in
                ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.2", "255.255.255.255"]
            {
                assert!(!allowed(&format!("{prefix}{bad}")), "{prefix}{bad}");
            }
            assert!(allowed(&format!("{prefix}93.184.216.34")), "{prefix}");
        }
        // 6to4 and Teredo are refused whatever they carry: no downstream lives there.
        for bad in ["2002:5db8:d822::1", "2001:0:5db8:d822::1", "64:ff9b:1::5db8:d822"] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn metadata_services_are_refused() {
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192"]
        {
            assert!(!allowed(address), "{address}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_passes_exactly_when_its_ipv4_form_does(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(judge(IpAddr::V4(v4)).is_ok(), judge(IpAddr::V6(v4.to_ipv6_mapped())).is_ok());
        }

        #[test]
        fn what_passes_is_neither_private_nor_local_by_the_standard_librarys_own_reckoning(bits: u32, high: u128) {
            let v4 = Ipv4Addr::from_bits(bits);
            if judge(IpAddr::V4(v4)).is_ok() {
                prop_assert!(!(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()));
                prop_assert!(!(v4.is_multicast() || v4.is_documentation() || v4.is_unspecified()));
            }
            let v6 = Ipv6Addr::from_bits(high);
            if judge(IpAddr::V6(v6)).is_ok() {
                prop_assert!(!(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast()));
                prop_assert!(!(v6.is_unique_local() || v6.is_unicast_link_local()));
            }
        }
    }
}
