// SPDX-License-Identifier: Apache-2.0
//! The share of instances that a percentage chooses.
//!
//! By a hash of the address that is the same in every build and on every machine: FNV-1a, then mixed, since addresses of one
//! shop differ in few bits. An instance has a place from 0 to 99 and is in every share above it.

/// Whether `percent` has the instance at this address.
pub(super) fn has(percent: u8, address: &str) -> bool {
    place(address) < u64::from(percent)
}

fn place(address: &str) -> u64 {
    let mut hash = OFFSET;
    for byte in address.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    // The finalizer of MurmurHash3.
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    (hash ^ (hash >> 33)) % 100
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_about_its_size_and_all_of_a_smaller_one() {
        let addresses: Vec<String> = (0..2000)
            .map(|n| format!("10.0.{}.{}:20880", n / 250, n % 250))
            .collect();
        let mut before = 0;
        for percent in [0, 1, 10, 50, 100] {
            let chosen: Vec<&String> = addresses.iter().filter(|a| has(percent, a)).collect();
            let expected = addresses.len() * usize::from(percent) / 100;
            assert!(chosen.len().abs_diff(expected) < 60, "{percent}: {}", chosen.len());
            assert!(chosen.len() >= before);
            assert!(chosen.iter().all(|a| percent == 100 || has(percent + 1, a)));
            before = chosen.len();
        }
    }

    #[test]
    fn an_address_has_the_same_place_in_every_build() {
        let places = ["10.0.0.5:20880", "10.0.0.6:20880", "10.0.0.7"].map(place);
        assert_eq!(places, [40, 61, 69]);
    }
}
