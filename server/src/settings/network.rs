//! Who is trusted by where it comes from: networks, and names in certificates.

use std::fmt;
use std::net::IpAddr;

/// Whom `[auth] trusted_peers` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Every address in it.
    Network(Network),
    /// Whoever shows a certificate with this name.
    Name(String),
}

/// A network of one family: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`; an address alone is the network of that one.
    ///
    /// # Errors
    /// `Some` reason where it is meant to be a network and is none, `None` where it is nothing of the kind.
    pub fn parse(text: &str) -> Result<Self, Option<String>> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = match address.parse() {
            Ok(address) => address,
            Err(_) if bits.is_some() => {
                return Err(Some(format!("{address:?} is no IP address (write \"10.0.0.0/8\")")));
            }
            Err(_) => return Err(None),
        };
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits.map(str::parse) {
            None => width,
            Some(Ok(bits)) if bits <= width => bits,
            Some(_) => return Err(Some(format!("the prefix is not 0 to {width}"))),
        };
        let network = Self { address: first_of(address, prefix_bits), prefix_bits };
        if network.address == address {
            Ok(network)
        } else {
            Err(Some(format!("bits behind the prefix are set (write \"{network}\")")))
        }
    }

    /// Whether the address lies in it. An IPv4 address that came over an IPv6 socket counts as the IPv4 one it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first_of(address, self.prefix_bits) == self.address
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits of an address count.
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

fn first_of(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_network_and_in_no_other() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.7", "127.0.0.7", "127.0.0.8"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "2001:db8::1", "1.2.3.4"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside} not in {network}");
        }
    }

    #[test]
    fn a_network_that_is_none_is_told_why() {
        for (text, why) in [
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("fd00::/129", "0 to 128"),
            ("10.0.0/8", "no IP address"),
            ("10.0.0.0/x", "0 to 32"),
        ] {
            let reason = Network::parse(text).unwrap_err().unwrap();
            assert!(reason.contains(why), "{text}: {reason}");
        }
        assert_eq!(Network::parse("p.example.net"), Err(None), "a name is no faulty network");
    }
}
