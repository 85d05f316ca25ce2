//! The states of a release, and the one function that moves them.
//!
//! ```text
//!                 want                        store
//!     (unknown) ───────▶ Wanted{tries} ───────────────────▶ Stored ◀─────┐
//!                        │  ▲  │ ▲                            │  gone:    │ want, if its
//!                 refuse │  │  │ └── try: tries + 1           │  marked   │ bytes are held
//!                        ▼  │  │                              │           │
//!                  Refused ─┘  │ exclude            withdraw  ▼           │
//!                     retry    ├──────────▶ Excluded       Withdrawn ─────┤
//!                              │              │ want, if the policy      │ want, else
//!                              │              ▼ excluded it              ▼
//!                              │            Wanted                     Wanted
//!                              └──── withdraw ────────────▶ Withdrawn
//!
//!     Stored ── lose ──▶ Wanted
//! ```
//!
//! What an operator withdrew is wanted again by their word alone.
//!
//! Only durable facts are states: a release that is being fetched is `Wanted`. Every event is defined in every state;
//! one that makes no sense there changes nothing. Bytes that are held are never forgotten: `Stored` keeps its place when
//! it is withdrawn, and a release that was excluded or withdrawn while its bytes arrived keeps theirs.

use crate::Place;
use crate::id::CrateName;

/// What is known of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// To be fetched: pending if never tried, else a hole.
    Wanted,
    /// Its bytes are durable in a pack.
    Stored,
    /// A rule keeps it out: too large, a forbidden redirect. A hole too.
    Refused,
    /// Deleted upstream, with approval: a tombstone.
    Withdrawn,
    /// Left out by the policy or an operator.
    Excluded,
}

/// A release in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is known of it.
    pub state: State,
    /// The crate as its index spells it.
    pub name: CrateName,
    /// Where its bytes lie, if they are held.
    pub place: Option<Place>,
    /// Held and served, but no longer in the upstream's index.
    pub gone: bool,
    /// Excluded or withdrawn by an operator, not by the policy or the upstream.
    pub by_operator: bool,
    /// How often a sync asked for it in vain.
    pub tries: u16,
    /// Seconds since 1970 when it was first wanted.
    pub first: u64,
    /// Seconds since 1970 of the last event.
    pub last: u64,
    /// Not to be asked for again before this time, in seconds since 1970.
    pub due: u64,
    /// Why it is not held, in words.
    pub reason: String,
}

/// What can happen to a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The selection wants it.
    Want {
        /// Seconds since 1970.
        at: u64,
    },
    /// It was asked for and did not come.
    Try {
        /// Why.
        reason: String,
        /// Seconds since 1970.
        at: u64,
        /// When to ask again.
        due: u64,
    },
    /// A rule keeps it out.
    Refuse {
        /// Which rule.
        reason: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// It is to be asked for again at once.
    Retry,
    /// Its bytes are durable.
    Store {
        /// Where.
        place: Place,
    },
    /// Its bytes are damaged, or not where they should be.
    Lose {
        /// How.
        reason: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// It is left out.
    Exclude {
        /// By an operator, or else by the policy.
        by_operator: bool,
        /// Seconds since 1970.
        at: u64,
    },
    /// It left the upstream's index.
    Gone {
        /// Seconds since 1970.
        at: u64,
    },
    /// It is in the upstream's index again, or an operator takes a withdrawal back.
    Back,
    /// Its deletion is approved, or an operator withdraws it.
    Withdraw {
        /// Seconds since 1970.
        at: u64,
        /// Why; nothing if it was deleted upstream.
        reason: String,
        /// By an operator, who alone can take it back.
        by_operator: bool,
    },
}

impl Row {
    /// A release that nothing has happened to.
    pub fn unknown(name: CrateName) -> Row {
        Row {
            state: State::Wanted,
            name,
            place: None,
            gone: false,
            by_operator: false,
            tries: 0,
            first: 0,
            last: 0,
            due: 0,
            reason: String::new(),
        }
    }

    /// Wanted, and asked for in vain or refused.
    pub fn is_hole(&self) -> bool {
        self.state == State::Refused || (self.state == State::Wanted && self.tries > 0)
    }

    /// Wanted and never asked for.
    pub fn is_pending(&self) -> bool {
        self.state == State::Wanted && self.tries == 0
    }

    fn wanted(mut self) -> Row {
        (self.state, self.gone, self.by_operator, self.due) = (State::Wanted, false, false, 0);
        self.tries = 0;
        self.reason.clear();
        self
    }

    fn held_or_wanted(mut self) -> Row {
        if self.place.is_none() {
            return self.wanted();
        }
        (self.state, self.gone, self.by_operator) = (State::Stored, false, false);
        self.reason.clear();
        self
    }

    fn to(mut self, state: State, at: u64, reason: String) -> Row {
        (self.state, self.last, self.reason, self.gone) = (state, at, reason, false);
        self
    }
}

/// Moves a release: total over states and happenings. `row` is [`Row::unknown`] for a release not seen before.
pub fn step(mut row: Row, happening: Happening) -> Row {
    use Happening as H;
    use State as S;
    match (row.state, happening) {
        (S::Wanted, H::Want { at }) => {
            if row.first == 0 {
                (row.first, row.last) = (at, at);
            }
            row
        }
        (S::Withdrawn, H::Want { .. }) if !row.by_operator => row.held_or_wanted(),
        (S::Excluded, H::Want { .. }) if !row.by_operator => row.held_or_wanted(),

        (S::Wanted, H::Try { reason, at, due }) => {
            row.tries = row.tries.saturating_add(1);
            row.due = due;
            row.to(S::Wanted, at, reason)
        }
        (S::Wanted | S::Refused, H::Refuse { reason, at }) => row.to(S::Refused, at, reason),
        (S::Wanted, H::Retry) => {
            row.due = 0;
            row
        }
        (S::Refused, H::Retry) => row.wanted(),

        (S::Wanted | S::Refused, H::Store { place }) => {
            (row.state, row.place, row.due) = (S::Stored, Some(place), 0);
            row.reason.clear();
            row
        }
        (S::Withdrawn | S::Excluded, H::Store { place }) => {
            row.place.get_or_insert(place);
            row
        }

        (S::Stored, H::Lose { reason, at }) => {
            (row.place, row.first) = (None, at);
            row.wanted().to(S::Wanted, at, reason)
        }
        (S::Withdrawn | S::Excluded, H::Lose { .. }) => {
            row.place = None;
            row
        }

        (S::Wanted | S::Refused, H::Exclude { by_operator, at }) => {
            row.by_operator = by_operator;
            row.to(S::Excluded, at, String::new())
        }

        (S::Stored, H::Gone { at }) => {
            (row.gone, row.last) = (true, at);
            row
        }
        (S::Stored, H::Back) => {
            row.gone = false;
            row
        }
        (S::Withdrawn, H::Back) => row.held_or_wanted(),
        (S::Wanted | S::Refused | S::Excluded, H::Gone { at }) => {
            row.by_operator = false;
            row.to(S::Withdrawn, at, String::new())
        }
        (S::Wanted | S::Stored | S::Refused | S::Excluded, H::Withdraw { at, reason, by_operator }) => {
            row.by_operator = by_operator;
            row.to(S::Withdrawn, at, reason)
        }
        // An operator's word counts more than the upstream's, and is not overruled by it.
        (S::Withdrawn, H::Withdraw { at, reason, by_operator: true }) => {
            row.by_operator = true;
            row.to(S::Withdrawn, at, reason)
        }

        // What makes no sense here changes nothing.
        (
            S::Stored,
            H::Want { .. } | H::Try { .. } | H::Refuse { .. } | H::Retry | H::Store { .. } | H::Exclude { .. },
        )
        | (S::Refused, H::Want { .. } | H::Try { .. } | H::Lose { .. } | H::Back)
        | (S::Wanted, H::Lose { .. } | H::Back)
        | (
            S::Withdrawn,
            H::Want { .. }
            | H::Try { .. }
            | H::Refuse { .. }
            | H::Retry
            | H::Exclude { .. }
            | H::Gone { .. }
            | H::Withdraw { .. },
        )
        | (S::Excluded, H::Want { .. } | H::Try { .. } | H::Refuse { .. } | H::Retry | H::Exclude { .. } | H::Back) => {
            row
        }
    }
}

/// When a hole is asked for again: at the next sync after its first failure, since an index entry may come before its
/// file; then after 10 minutes, doubling up to a day.
pub fn next_due(tries_before: u16, at: u64) -> u64 {
    const FIRST: u64 = 600;
    const LONGEST: u64 = 86_400;
    match tries_before {
        0 => 0,
        n => at + (FIRST << u64::from(n - 1).min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { pack: 1, offset: 512, length: 9 };

    fn in_state(state: State, held: bool, by_operator: bool) -> Row {
        let mut row = Row::unknown("serde".parse().unwrap());
        (row.state, row.by_operator, row.first) = (state, by_operator, 1);
        row.place = held.then_some(PLACE);
        row
    }

    fn happenings() -> Vec<Happening> {
        use Happening as H;
        vec![
            H::Want { at: 5 },
            H::Try { reason: "404".into(), at: 5, due: 9 },
            H::Refuse { reason: "too large".into(), at: 5 },
            H::Retry,
            H::Store { place: PLACE },
            H::Lose { reason: "flipped".into(), at: 5 },
            H::Exclude { by_operator: true, at: 5 },
            H::Gone { at: 5 },
            H::Back,
            H::Withdraw { at: 5, reason: String::new(), by_operator: false },
            H::Withdraw { at: 5, reason: "malware".into(), by_operator: true },
        ]
    }

    /// Every state against every happening, as the drawing has it.
    #[test]
    fn every_state_answers_every_event_as_the_drawing_says() {
        use State::{Excluded as E, Refused as R, Stored as S, Wanted as W, Withdrawn as D};
        let expected = [
            //                 want try refuse retry store lose exclude gone back withdraw, by an operator
            (W, false, false, [W, W, R, W, S, W, E, D, W, D, D]),
            (S, true, false, [S, S, S, S, S, W, S, S, S, D, D]),
            (R, false, false, [R, R, R, W, S, R, E, D, R, D, D]),
            (D, true, false, [S, D, D, D, D, D, D, D, S, D, D]),
            (D, false, false, [W, D, D, D, D, D, D, D, W, D, D]),
            (D, true, true, [D, D, D, D, D, D, D, D, S, D, D]),
            (D, false, true, [D, D, D, D, D, D, D, D, W, D, D]),
            (E, false, true, [E, E, E, E, E, E, E, D, E, D, D]),
            (E, false, false, [W, E, E, E, E, E, E, D, E, D, D]),
            (E, true, false, [S, E, E, E, E, E, E, D, E, D, D]),
        ];
        for (state, held, by_operator, after) in expected {
            for (happening, expected) in happenings().into_iter().zip(after) {
                let row = step(in_state(state, held, by_operator), happening.clone());
                assert_eq!(row.state, expected, "{state:?} held={held} {happening:?}");
            }
        }
    }

    #[test]
    fn only_losing_them_forgets_held_bytes() {
        for state in [State::Stored, State::Withdrawn, State::Excluded] {
            for happening in happenings() {
                let is_lost = matches!(happening, Happening::Lose { .. });
                assert_eq!(step(in_state(state, true, false), happening).place.is_none(), is_lost);
            }
        }
    }

    #[test]
    fn stored_always_has_a_place() {
        for state in [State::Wanted, State::Refused, State::Withdrawn, State::Excluded] {
            for happening in happenings() {
                let row = step(in_state(state, false, false), happening);
                assert!(row.state != State::Stored || row.place.is_some());
            }
        }
    }

    #[test]
    fn happening_twice_is_happening_once_but_for_the_count_of_tries() {
        for state in [State::Wanted, State::Stored, State::Refused, State::Withdrawn, State::Excluded] {
            for happening in happenings() {
                let mut once = step(in_state(state, state == State::Stored, false), happening.clone());
                let mut twice = step(once.clone(), happening);
                (once.tries, twice.tries) = (0, 0);
                assert_eq!(once, twice);
            }
        }
    }

    #[test]
    fn holes_are_asked_for_less_and_less_often_but_at_least_daily() {
        assert_eq!(next_due(0, 1000), 0);
        assert_eq!(next_due(1, 1000), 1600);
        assert_eq!(next_due(2, 1000), 2200);
        assert_eq!(next_due(60_000, 1000), 1000 + 86_400);
    }
}
