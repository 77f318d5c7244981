// SPDX-License-Identifier: Apache-2.0
//! By which bytes the next request with the same route keys is recognized.

/// The bytes of one request that its route keys were read from. Made and read by the plugin alone, see
/// [`Protocol::print_keys`](crate::Protocol::print_keys); its buffers are used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPrint {
    /// Anything of the head, or a count.
    pub tag: u64,
    /// What stands before the part that differs from call to call.
    pub front: Vec<u8>,
    /// What stands behind it.
    pub back: Vec<u8>,
}
