// SPDX-License-Identifier: Apache-2.0
//! The stream table: which call of ours waits under which stream id. Sans-io, so that it can be tested against a map.
//!
//! Ids are handed out in order and wrap at the protocol's width; the low bits of an id are its slot, the high bits tell
//! one lap from the next. So an id comes back only after all others had their turn, however few calls are in flight, and
//! a late reply cannot meet the call of another.

use remora_protocol::StreamId;

/// Calls in flight on one connection, found by the id that we gave them.
#[derive(Debug)]
pub struct StreamTable<T> {
    /// A power of two in length, at most half full; empty while nothing is in flight.
    slots: Vec<Option<(u64, T)>>,
    len: usize,
    max: usize,
    next: u64,
    id_mask: u64,
}

impl<T> StreamTable<T> {
    /// `max` entries at most; ids use the low `id_bits` bits.
    pub fn new(max: usize, id_bits: u32) -> Self {
        let id_mask = if id_bits >= 64 { u64::MAX } else { (1 << id_bits) - 1 };
        // At most half of the ids may be in use, or a search for a free one could go round for ever.
        let max = max.clamp(1, usize::try_from(id_mask >> 2).unwrap_or(usize::MAX).clamp(1, 1 << 24));
        Self {
            slots: Vec::new(),
            len: 0,
            max,
            next: 1,
            id_mask,
        }
    }

    /// Calls in flight.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes an entry in and gives the id under which its reply will come.
    ///
    /// # Errors
    /// Gives the entry back when the table is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<StreamId, T> {
        if self.len >= self.max {
            return Err(value);
        }
        if (self.len + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let id = self.free_id();
        let slot = self.slot(id);
        self.slots[slot] = Some((id, value));
        self.len += 1;
        Ok(StreamId(id))
    }

    /// An id that no entry has: for frames that wait for nothing.
    pub fn spare_id(&mut self) -> StreamId {
        StreamId(self.free_id())
    }

    /// Removes and gives the entry of `id`; `None` for a late, repeated or unknown id.
    #[inline]
    pub fn take(&mut self, id: StreamId) -> Option<T> {
        let mask = self.slots.len().wrapping_sub(1);
        let slot = self.slots.get_mut((id.0 as usize) & mask)?;
        if slot.as_ref().is_none_or(|(of, _)| *of != id.0) {
            return None;
        }
        self.len -= 1;
        slot.take().map(|(_, value)| value)
    }

    /// Moves every entry for which `leaves` says so to `out`.
    pub fn take_where(&mut self, mut leaves: impl FnMut(&T) -> bool, out: &mut Vec<T>) {
        if self.len == 0 {
            return;
        }
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|(_, value)| leaves(value)) {
                self.len -= 1;
                out.extend(slot.take().map(|(_, value)| value));
            }
        }
    }

    /// Moves every entry out, with its id.
    pub fn take_all(&mut self) -> Vec<(u64, T)> {
        self.len = 0;
        std::mem::take(&mut self.slots).into_iter().flatten().collect()
    }

    /// The id that the next entry may get.
    pub fn next_id(&self) -> u64 {
        self.next
    }

    /// Hands out ids from `next` on, as the table did from which entries are restored.
    pub fn go_on_at(&mut self, next: u64) {
        self.next = next & self.id_mask;
    }

    /// Takes an entry in under the id that it had in another table.
    ///
    /// # Errors
    /// Gives the entry back when the id is taken, is none of this protocol's, or the table is full.
    pub fn restore(&mut self, id: StreamId, value: T) -> Result<(), T> {
        if self.len >= self.max || id.0 & self.id_mask != id.0 {
            return Err(value);
        }
        loop {
            if (self.len + 1) * 2 <= self.slots.len() {
                let slot = self.slot(id.0);
                match &self.slots[slot] {
                    None => {
                        self.slots[slot] = Some((id.0, value));
                        self.len += 1;
                        return Ok(());
                    }
                    // Only in a wider table do they have a slot each; there it is no wider than it may become anyway.
                    Some((other, _)) if *other == id.0 || self.slots.len() > self.max * 2 => return Err(value),
                    Some(_) => {}
                }
            }
            self.grow();
        }
    }

    /// The entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|(_, value)| value)
    }

    /// Gives the memory back if nothing is in flight; ids go on where they were.
    pub fn shrink(&mut self) {
        if self.len == 0 {
            self.slots = Vec::new();
        }
    }

    fn slot(&self, id: u64) -> usize {
        (id as usize) & (self.slots.len() - 1)
    }

    fn free_id(&mut self) -> u64 {
        loop {
            let id = self.next;
            self.next = (self.next + 1) & self.id_mask;
            if self.slots.is_empty() || self.slots[self.slot(id)].is_none() {
                return id;
            }
        }
    }

    fn grow(&mut self) {
        let wider = (self.slots.len() * 2).max(MIN_SLOTS);
        let old = std::mem::replace(&mut self.slots, (0..wider).map(|_| None).collect());
        for (id, value) in old.into_iter().flatten() {
            // Two ids that differ in their low bits still differ when one more bit is looked at.
            let slot = self.slot(id);
            self.slots[slot] = Some((id, value));
        }
    }
}

const MIN_SLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32),
        TakeNth(usize),
        TakeStale(usize),
        TakeRandom(u64),
        TakeOdd,
        Spare,
        Shrink,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<u32>().prop_map(Step::Insert),
            4 => any::<usize>().prop_map(Step::TakeNth),
            2 => any::<usize>().prop_map(Step::TakeStale),
            1 => any::<u64>().prop_map(Step::TakeRandom),
            1 => Just(Step::TakeOdd),
            1 => Just(Step::Spare),
            1 => Just(Step::Shrink),
        ]
    }

    proptest! {
        #[test]
        fn table_behaves_like_a_map(steps in proptest::collection::vec(step(), 1..400), bits in prop_oneof![Just(10u32), Just(32), Just(64)]) {
            let mut table = StreamTable::new(100, bits);
            let mut model: HashMap<u64, u32> = HashMap::new();
            let mut gone: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(value) => match table.insert(value) {
                        Ok(id) => {
                            prop_assert!(bits == 64 || id.0 < 1 << bits);
                            prop_assert!(model.insert(id.0, value).is_none(), "an id in use was given again");
                            gone.retain(|g| *g != id.0);
                        }
                        Err(back) => {
                            prop_assert_eq!(back, value);
                            prop_assert_eq!(model.len(), 100);
                        }
                    },
                    Step::TakeNth(n) if !model.is_empty() => {
                        let id = *model.keys().nth(n % model.len()).unwrap();
                        prop_assert_eq!(table.take(StreamId(id)), model.remove(&id));
                        gone.push(id);
                    }
                    Step::TakeStale(n) if !gone.is_empty() => {
                        prop_assert_eq!(table.take(StreamId(gone[n % gone.len()])), None);
                    }
                    Step::TakeRandom(id) => prop_assert_eq!(table.take(StreamId(id)), model.remove(&id)),
                    Step::TakeOdd => {
                        let mut out = Vec::new();
                        table.take_where(|v| v % 2 == 1, &mut out);
                        prop_assert_eq!(out.len(), model.values().filter(|v| *v % 2 == 1).count());
                        model.retain(|_, v| *v % 2 == 0);
                    }
                    Step::Spare => {
                        let id = table.spare_id();
                        prop_assert!(!model.contains_key(&id.0));
                    }
                    Step::Shrink => table.shrink(),
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.iter().count(), model.len());
            }
        }
    }

    #[test]
    fn an_id_comes_back_only_after_all_others() {
        let mut table = StreamTable::new(4, 10);
        let first = table.insert(()).unwrap();
        table.take(first).unwrap();
        for _ in 1..1 << 10 {
            let id = table.insert(()).unwrap();
            assert_ne!(id, first);
            table.take(id).unwrap();
        }
        assert_eq!(table.insert(()).unwrap(), first);
    }

    #[test]
    fn a_full_table_gives_the_entry_back() {
        let mut table = StreamTable::new(2, 64);
        assert!(table.insert('a').is_ok() && table.insert('b').is_ok());
        assert_eq!(table.insert('c'), Err('c'));
    }
}
