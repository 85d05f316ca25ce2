//! Which places were read and found right.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Place;

/// How many places are remembered: 2 MiB of them.
const SLOTS: usize = 1 << 18;

/// Remembers places in a table of fixed size, without locks. A place may be forgotten when another takes its slot; one
/// that was never added is never found.
#[derive(Debug, Default)]
pub(crate) struct Proven {
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl Proven {
    pub(crate) fn has(&self, place: Place) -> bool {
        let mark = mark(place);
        let slots = self.slots.get();
        slots.is_some_and(|slots| mark != 0 && slots[slot(mark)].load(Ordering::Relaxed) == mark)
    }

    pub(crate) fn add(&self, place: Place) {
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        let mark = mark(place);
        slots[slot(mark)].store(mark, Ordering::Relaxed);
    }
}

/// A number that no other place has; 0 for what lies too far behind to have one.
fn mark(place: Place) -> u64 {
    if place.offset >> 40 != 0 || place.pack >> 24 != 0 { 0 } else { u64::from(place.pack) << 40 | place.offset }
}

fn slot(mark: u64) -> usize {
    // Fibonacci hashing: neighbours in a pack come to lie apart.
    (mark.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_added_is_never_found() {
        let proven = Proven::default();
        let place = |pack, offset| Place { pack, offset, length: 1 };
        assert!(!proven.has(place(1, 512)));
        for offset in (512..10_000_000).step_by(1024) {
            proven.add(place(7, offset));
            assert!(proven.has(place(7, offset)));
        }
        let found = (0..10_000_000).step_by(1024).filter(|offset| proven.has(place(7, *offset))).count();
        assert_eq!(found, 0, "none of these offsets was added");
        proven.add(place(1 << 24, 512));
        assert!(!proven.has(place(1 << 24, 512)) && !proven.has(place(0, 0)), "beyond what can be told apart");
    }
}
