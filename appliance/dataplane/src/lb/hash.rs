//! The hash that spreads flows over a table: the same on every appliance and in every run.

use crate::addr::Addr;
use crate::hash::{fold, halves};
use crate::wire::FlowKey;
use nva_config::Distribution;

/// Public, fixed multipliers: the fractional digits of π in hexadecimal, numbers with nothing up their sleeve. Several appliances must
/// agree on a backend without talking, so there is no secret here. A client can therefore choose ports that lead to one
/// backend; limits on sources, not this hash, are what stands against that.
const PI: [u64; 6] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
];

/// Hashes what the distribution says makes two packets belong together. The two- and three-tuple include the destination, as in the
/// cloud: a client meets the same backend at one frontend, not at all of them.
#[inline(always)]
pub fn flow_hash(key: &FlowKey, distribution: Distribution) -> u64 {
    let protocol = u64::from(key.protocol);
    let rest = match distribution {
        Distribution::FiveTuple => u64::from(key.src_port) << 32 | u64::from(key.dst_port) << 16 | protocol,
        Distribution::SourceIpProtocol => protocol,
        // No protocol has this number, so that the two-tuple is not the three-tuple of some protocol.
        Distribution::SourceIp => 0x100,
    };
    hash_words(halves(key.src), halves(key.dst), rest)
}

/// Hashes the identity of a backend into two independent numbers.
pub(super) fn backend_hashes(address: Addr) -> (u64, u64) {
    let (high, low) = halves(address);
    (hash_words((high, low), (PI[4], PI[5]), 1), hash_words((high, low), (PI[4], PI[5]), 2))
}

#[inline(always)]
fn hash_words(a: (u64, u64), b: (u64, u64), rest: u64) -> u64 {
    let first = fold(a.0 ^ PI[0], a.1 ^ PI[1]);
    let second = fold(b.0 ^ PI[2] ^ first, b.1 ^ PI[3]);
    fold(fold(rest ^ PI[4] ^ second, first ^ PI[5]) ^ PI[0], second ^ PI[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protocol;

    fn key(src: [u8; 4], src_port: u16) -> FlowKey {
        let dst = Addr::v4([203, 0, 113, 10]);
        FlowKey { src: Addr::v4(src), dst, src_port, dst_port: 443, protocol: protocol::TCP }
    }

    /// χ² of `hashes` over `bins` equal parts of the range, in standard deviations from what chance gives.
    fn deviation(bins: usize, hashes: impl Iterator<Item = u64>) -> f64 {
        let mut counts = vec![0u64; bins];
        let mut total = 0;
        for hash in hashes {
            counts[((u128::from(hash) * bins as u128) >> 64) as usize] += 1;
            total += 1;
        }
        let expected = f64::from(total) / bins as f64;
        let chi: f64 = counts.iter().map(|c| (*c as f64 - expected).powi(2) / expected).sum();
        let freedom = (bins - 1) as f64;
        (chi - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn neighbouring_flows_spread_evenly() {
        let ports = (0..60_000).map(|p| flow_hash(&key([192, 0, 2, 7], p), Distribution::FiveTuple));
        assert!(deviation(100, ports).abs() < 5.0);
        let hosts =
            |d| (0..60_000u32).map(move |n| flow_hash(&key((0x0a00_0000 + n).to_be_bytes(), 4000), d));
        assert!(deviation(100, hosts(Distribution::FiveTuple)).abs() < 5.0);
        assert!(deviation(100, hosts(Distribution::SourceIp)).abs() < 5.0);
        let networks =
            (0..60_000u32).map(|n| flow_hash(&key((n << 12).to_be_bytes(), 4000), Distribution::SourceIp));
        assert!(deviation(100, networks).abs() < 5.0);
        // The measure itself can fail: a hash that only passes the port on is far off.
        assert!(deviation(100, (0..60_000u64).map(|p| p << 47)).abs() > 5.0);
    }

    #[test]
    fn each_distribution_looks_at_its_fields_only() {
        let base = key([192, 0, 2, 7], 4000);
        let other = [
            (FlowKey { src_port: 4001, ..base }, [true, false, false]),
            (FlowKey { dst_port: 444, ..base }, [true, false, false]),
            (FlowKey { protocol: protocol::UDP, ..base }, [true, false, true]),
            (FlowKey { dst: Addr::v4([203, 0, 113, 11]), ..base }, [true, true, true]),
            (FlowKey { src: Addr::v4([192, 0, 2, 8]), ..base }, [true, true, true]),
        ];
        let kinds = [Distribution::FiveTuple, Distribution::SourceIp, Distribution::SourceIpProtocol];
        for (changed, expected) in other {
            assert_eq!(kinds.map(|d| flow_hash(&changed, d) != flow_hash(&base, d)), expected, "{changed:?}");
        }
    }

    /// Appliances of different versions must agree while a fleet is upgraded: a change of these numbers is a change of contract.
    #[test]
    fn the_hash_does_not_change() {
        let v6 = FlowKey { src: Addr::v6([0xfd; 16]), dst: Addr::v6([0x20; 16]), ..key([0; 4], 1) };
        let hashes = [
            flow_hash(&key([192, 0, 2, 7], 4000), Distribution::FiveTuple),
            flow_hash(&v6, Distribution::SourceIp),
        ];
        assert_eq!(hashes, [3_943_423_219_563_897_581, 8_574_630_605_772_281_879]);
    }
}
