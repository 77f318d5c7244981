// SPDX-License-Identifier: Apache-2.0
//! The bolt protocol, v1 and v2.
#![forbid(unsafe_code)]
