// SPDX-License-Identifier: Apache-2.0
//! HTTP takeover APIs: the SOFARPC mesh API and the MOSN dubbod API.
#![forbid(unsafe_code)]
