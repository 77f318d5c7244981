// SPDX-License-Identifier: Apache-2.0
//! How much is looked at. A registry that holds more is told of, with what was left out.

/// Levels below the root at which services are looked for: `/a/b/c/<service>`.
pub const MAX_DEPTH: usize = 4;
/// Directories looked into on the way to services. 10,000 services take 10,000.
pub const MAX_DIRECTORIES: usize = 60_000;
/// Directories longer than this are not looked into: their list would be tens of megabytes. With names of 1 KiB that is just under
/// the longest answer that the session takes (64 MiB).
pub const MAX_CHILDREN: i32 = 50_000;
/// Providers, and consumers, kept at a time: a kilobyte or two each.
pub const MAX_ENTRIES: usize = 200_000;
/// Rules, settings and definitions of the metadata centre.
pub const MAX_RULES: usize = 100_000;
/// Longest rule text that is kept.
pub const MAX_RULE_BYTES: usize = 16 << 10;
/// Longest document of a revision, or setting, that is kept.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// Bytes of all answers together: what is kept of them takes a small multiple. 10,000 services with 20 providers each are 0.2 GiB.
pub const MAX_BYTES: u64 = 1 << 30;
/// Reads under way. A server queues up to 1,000 for all its clients together (`globalOutstandingLimit`) and then stops reading
/// from everybody: this leaves room for the applications.
pub const WINDOW: usize = 256;
