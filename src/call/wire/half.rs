// SPDX-License-Identifier: Apache-2.0
//! A wire's part in the memory of frames that are not whole; see `half_read.rs`.

use std::rc::Rc;

use super::super::half_read::UNCOUNTED_MAX;
use super::Wire;
use crate::metrics::call::Side;

impl Wire {
    /// What is kept of a frame that is not whole takes part in the memory of all of them.
    #[inline]
    pub(super) fn count_kept(self: &Rc<Self>, kept: usize, is_same: bool) {
        if kept > UNCOUNTED_MAX || self.half.get().bytes() > 0 {
            let cap = self.io.config().half_read_cap.bytes();
            self.io.half_reads.count(self, kept, is_same, cap);
        }
    }

    /// Whether a frame that has begun may be read on.
    pub(super) fn may_grow(&self) -> bool {
        let cap = self.io.config().half_read_cap.bytes();
        self.io.half_reads.may_grow(self, cap)
    }

    /// Whether its peer is a caller at an ingress port.
    pub(in crate::call) fn is_of_guest(&self) -> bool {
        self.is_downstream && self.shard.side() == Side::Ingress
    }
}
