//! The master's candidates on their way to the stack.
//!
//! The stack checks every pair of addresses at each of its ticks, and with each check looks through
//! all that were sent in the last 4 s (rtc-ice, `ping_all_candidates`): what it sends grows with
//! the number of candidates, and the time it takes with their square. Thousands would make this
//! machine flood addresses of somebody's choice, and drown the one pair that works. So a few go in
//! at once, as many as a real master has, others one by one until there is a connection, and no
//! more than RFC 8445 (6.1.2.5) would pair.

use std::collections::VecDeque;

/// Candidates that go in at once.
pub(crate) const AT_ONCE: usize = 16;

/// Candidates of one ICE generation.
const GIVEN_MAX: usize = 100;

/// Of so many moments one is a candidate's turn.
const TURN: u32 = 3;

/// The candidates of one ICE generation.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    given: usize,
    waiting: VecDeque<String>,
    moments: u32,
}

/// What becomes of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It goes in.
    Now(String),
    /// It waits for its turn.
    Later,
    /// It is one too many.
    Never,
}

impl Feed {
    /// So many came in a description, and went in with it.
    pub(crate) fn described(&mut self, candidates: u16) {
        self.given += usize::from(candidates).min(AT_ONCE);
    }

    /// Looks at one more candidate.
    pub(crate) fn admit(&mut self, candidate: String) -> Admission {
        if self.given + self.waiting.len() >= GIVEN_MAX {
            return Admission::Never;
        }
        if self.given < AT_ONCE {
            self.given += 1;
            return Admission::Now(candidate);
        }
        self.waiting.push_back(candidate);
        Admission::Later
    }

    /// The one whose turn it is; asked again and again while any waits.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.moments = self.moments.wrapping_add(1);
        if !self.moments.is_multiple_of(TURN) {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.given += 1;
        Some(next)
    }

    /// Whether any waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// There is a connection: no other is looked for.
    pub(crate) fn connected(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_and_the_others_in_their_order() {
        let mut feed = Feed::default();
        for n in 0..40 {
            let admission = feed.admit(n.to_string());
            let now = admission == Admission::Now(n.to_string());
            assert_eq!(now, n < AT_ONCE, "{n}");
        }
        assert_eq!((feed.next(), feed.next()), (None, None), "one by one");
        let later: Vec<String> = (0..100).filter_map(|_| feed.next()).collect();
        let expected: Vec<String> = (AT_ONCE..40).map(|n| n.to_string()).collect();
        assert_eq!(later, expected);
        assert!(!feed.is_waiting());
    }

    #[test]
    fn a_flood_is_bounded_and_ends_with_a_connection() {
        let mut feed = Feed::default();
        let taken =
            (0..10_000).filter(|n: &u32| feed.admit(n.to_string()) != Admission::Never).count();
        assert_eq!(taken, GIVEN_MAX);
        assert!((0..10_000).filter_map(|_| feed.next()).count() == GIVEN_MAX - AT_ONCE);
        assert_eq!(feed.admit(String::new()), Admission::Never, "of this generation none");
        let mut feed = Feed::default();
        feed.described(3);
        assert_eq!(
            (0..40).filter(|n: &u32| feed.admit(n.to_string()) == Admission::Later).count(),
            27
        );
        let mut feed = Feed::default();
        for n in 0..100 {
            let _ = feed.admit(n.to_string());
        }
        feed.connected();
        assert!(!feed.is_waiting());
    }
}
