// SPDX-License-Identifier: Apache-2.0
//! Which instance takes a call; one file per algorithm.

pub(super) mod weighted_random;
