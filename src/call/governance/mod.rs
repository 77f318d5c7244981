// SPDX-License-Identifier: Apache-2.0
//! What may be done for a call, and for how long.

pub(super) mod deadline;
