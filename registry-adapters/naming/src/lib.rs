// SPDX-License-Identifier: Apache-2.0
//! Placeholder room, filled next.
#![forbid(unsafe_code)]
