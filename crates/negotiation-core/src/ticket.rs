//! Numbered commands: each gets one ticket, each ticket one completion, and stale ones die here.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::time::Timestamp;

/// The number of one command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The attempt that gave the command.
    pub attempt: u32,
    /// Counts all commands of the session from 1.
    pub seq: u32,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.attempt, self.seq)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({self})")
    }
}

impl core::str::FromStr for Ticket {
    type Err = InvalidTicket;

    /// Reads what [`fmt::Display`] writes: a correlation id carries a ticket to the service and
    /// back.
    fn from_str(text: &str) -> Result<Self, InvalidTicket> {
        let (attempt, seq) = text.split_once('-').ok_or(InvalidTicket)?;
        let number = |part: &str| part.parse::<u32>().map_err(|_| InvalidTicket);
        Ok(Self { attempt: number(attempt)?, seq: number(seq)? })
    }
}

/// The text is not a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTicket;

impl fmt::Display for InvalidTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a ticket: expected ATTEMPT-SEQ")
    }
}

impl core::error::Error for InvalidTicket {}

/// The commands whose completion is still to come, each with its deadline and what it was for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InFlight<P> {
    seq: u32,
    open: BTreeMap<Ticket, (Timestamp, P)>,
}

impl<P> Default for InFlight<P> {
    fn default() -> Self {
        Self { seq: 0, open: BTreeMap::new() }
    }
}

impl<P: Clone> InFlight<P> {
    pub(crate) fn issue(&mut self, attempt: u32, deadline: Timestamp, purpose: P) -> Ticket {
        self.seq = self.seq.wrapping_add(1);
        let ticket = Ticket { attempt, seq: self.seq };
        self.open.insert(ticket, (deadline, purpose));
        ticket
    }

    pub(crate) fn awaits(&self, ticket: Ticket) -> bool {
        self.open.contains_key(&ticket)
    }

    /// Takes the purpose of a ticket that is in flight; `None` for a stale or repeated completion.
    pub(crate) fn complete(&mut self, ticket: Ticket) -> Option<P> {
        self.open.remove(&ticket).map(|(_, purpose)| purpose)
    }

    pub(crate) fn earliest(&self) -> Option<(Timestamp, &P)> {
        self.open.values().map(|(at, purpose)| (*at, purpose)).min_by_key(|(at, _)| *at)
    }

    /// Brings the deadlines of the commands that `matches` forward to `deadline`.
    pub(crate) fn shorten(&mut self, deadline: Timestamp, matches: impl Fn(&P) -> bool) {
        for (at, purpose) in self.open.values_mut() {
            if matches(purpose) {
                *at = deadline.min(*at);
            }
        }
    }

    /// Moves every deadline: the time between did not count.
    pub(crate) fn shift(&mut self, by: Duration) {
        for (at, _) in self.open.values_mut() {
            *at = *at + by;
        }
    }

    /// Takes the command whose deadline passed first.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<P> {
        let (ticket, (deadline, _)) = self.open.iter().min_by_key(|(_, (at, _))| *at)?;
        let ticket = (*deadline <= now).then_some(*ticket)?;
        self.complete(ticket)
    }

    pub(crate) fn purposes(&self) -> impl Iterator<Item = &P> {
        self.open.values().map(|(_, purpose)| purpose)
    }

    /// Numbers the commands from 1, in their order, and moves their deadlines. Returns the names.
    pub(crate) fn renumber(
        &mut self,
        attempt: u32,
        moved: impl Fn(Timestamp) -> Timestamp,
    ) -> Vec<(Ticket, Ticket)> {
        let old = core::mem::take(&mut self.open);
        self.seq = u32::try_from(old.len()).unwrap_or(u32::MAX);
        let mut names = Vec::with_capacity(old.len());
        for (seq, (ticket, (at, purpose))) in (1..).zip(old) {
            let name = Ticket { attempt, seq };
            names.push((ticket, name));
            self.open.insert(name, (moved(at), purpose));
        }
        names
    }

    /// Changes what the commands are for.
    pub(crate) fn map_purposes(&mut self, mapped: impl Fn(P) -> P) {
        for (_, purpose) in self.open.values_mut() {
            *purpose = mapped(purpose.clone());
        }
    }

    pub(crate) fn forget_all(&mut self) {
        self.open.clear();
    }

    /// Forgets all but the commands that `kept` gives another purpose, with a new deadline.
    pub(crate) fn retain_as(&mut self, deadline: Timestamp, kept: impl Fn(&P) -> Option<P>) {
        self.open.retain(|_, (at, purpose)| match kept(purpose) {
            Some(another) => {
                (*at, *purpose) = (deadline, another);
                true
            }
            None => false,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ticket_survives_the_wire() {
        let ticket = Ticket { attempt: 3, seq: 41 };
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
        for bad in ["", "3", "3-", "-4", "a-b", "3-4-5", "99999999999-1"] {
            assert_eq!(bad.parse::<Ticket>(), Err(InvalidTicket), "{bad}");
        }
    }

    #[test]
    fn commands_in_flight_are_counted_moved_changed_and_forgotten() {
        let at = Timestamp::from_millis;
        let mut table = InFlight::default();
        let first = table.issue(1, at(40), 1);
        let second = table.issue(1, at(50), 2);
        assert_eq!(table.len(), 2);
        table.shift(Duration::from_millis(7));
        assert_eq!(table.earliest(), Some((at(47), &1)));
        table.map_purposes(|purpose| purpose * 10);
        assert!(table.purposes().eq([10, 20].iter()));
        assert_eq!(table.complete(first), Some(10));
        assert_eq!(table.complete(first), None, "once");
        assert!(table.awaits(second) && !table.awaits(first));
        table.forget_all();
        assert_eq!((table.len(), table.awaits(second)), (0, false));
    }

    #[test]
    fn of_two_overdue_commands_the_one_that_was_due_first_is_taken() {
        let mut table = InFlight::default();
        table.issue(1, Timestamp::from_millis(40), "connect");
        table.issue(1, Timestamp::from_millis(5), "create");
        assert_eq!(table.pop_expired(Timestamp::from_millis(4)), None);
        assert_eq!(table.pop_expired(Timestamp::from_millis(99)), Some("create"));
        assert_eq!(table.pop_expired(Timestamp::from_millis(99)), Some("connect"));
    }

    #[test]
    fn what_is_kept_goes_on_for_another_purpose_with_a_new_deadline() {
        let mut table = InFlight::default();
        let at = Timestamp::from_millis(5);
        table.issue(1, at, "offer");
        let kept = table.issue(1, at, "stop");
        table.retain_as(at + Duration::from_millis(1), |p| (*p == "stop").then_some("close"));
        assert_eq!(table.purposes().collect::<Vec<_>>(), [&"close"]);
        assert_eq!(table.pop_expired(at), None);
        assert_eq!(table.complete(kept), Some("close"));
    }

    #[test]
    fn ticket_completes_once() {
        let mut table = InFlight::default();
        let ticket = table.issue(1, Timestamp::from_millis(5), "send");
        assert!(table.awaits(ticket));
        assert_eq!(table.complete(ticket), Some("send"));
        assert!(!table.awaits(ticket));
        assert_eq!(table.complete(ticket), None);
    }
}
