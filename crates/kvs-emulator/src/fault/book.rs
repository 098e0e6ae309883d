//! The faults in force, and their counters.

use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::{Action, Fault, Match, Point, Role, menu};
use crate::random::Random;
use crate::sync::lock;
use crate::wire::MessageType;

/// Most faults at a time.
const FAULTS_MAX: usize = 256;

/// A handle to an emulator's faults; clones share the list. The first fault that matches and has
/// uses left applies; later ones do not count the event.
#[derive(Debug, Clone)]
pub struct Faults {
    book: Arc<Mutex<Book>>,
}

#[derive(Debug)]
struct Book {
    entries: Vec<Entry>,
    next_id: u64,
    random: Random,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    fault: Fault,
    seen: u64,
    hits: u64,
}

/// A fault and its counters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultReport {
    /// Its number, from 1.
    pub id: u64,
    /// The fault.
    pub fault: Fault,
    /// Events that matched it.
    pub seen: u64,
    /// How often it applied.
    pub hits: u64,
}

/// The properties of a message that faults match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageFacts<'a> {
    pub(crate) kind: MessageType,
    pub(crate) from: Role,
    /// The id of the viewer that sends or receives it; empty between storage service and master.
    pub(crate) client_id: &'a str,
    pub(crate) channel: &'a str,
}

/// The properties of a REST call that faults match.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
}

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>, seed: u64) -> Self {
        let entries = faults.into_iter().zip(1..);
        let entries: Vec<Entry> =
            entries.map(|(fault, id)| Entry { id, fault, seen: 0, hits: 0 }).collect();
        let next_id = entries.last().map_or(1, |entry| entry.id + 1);
        Self { book: Arc::new(Mutex::new(Book { entries, next_id, random: Random::new(seed) })) }
    }

    /// Appends a fault and returns its number; refuses one that could never apply.
    pub fn add(&self, fault: Fault) -> Result<u64, String> {
        fault.check()?;
        let mut book = lock(&self.book);
        if book.entries.len() >= FAULTS_MAX {
            return Err(format!("at most {FAULTS_MAX} faults at a time"));
        }
        let id = book.next_id;
        book.next_id += 1;
        book.entries.push(Entry { id, fault, seen: 0, hits: 0 });
        Ok(id)
    }

    /// Removes a fault; `false` when there is none of this number.
    pub fn remove(&self, id: u64) -> bool {
        let mut book = lock(&self.book);
        let before = book.entries.len();
        book.entries.retain(|entry| entry.id != id);
        book.entries.len() != before
    }

    /// Removes all faults.
    pub fn clear(&self) {
        lock(&self.book).entries.clear();
    }

    /// All faults, the used-up ones included, with their counters.
    #[must_use]
    pub fn list(&self) -> Vec<FaultReport> {
        let book = lock(&self.book);
        let report = |entry: &Entry| FaultReport {
            id: entry.id,
            fault: entry.fault.clone(),
            seen: entry.seen,
            hits: entry.hits,
        };
        book.entries.iter().map(report).collect()
    }

    /// How often a fault applied.
    #[must_use]
    pub fn hits(&self, id: u64) -> u64 {
        lock(&self.book).entries.iter().find(|entry| entry.id == id).map_or(0, |entry| entry.hits)
    }

    pub(crate) fn for_message(&self, facts: &MessageFacts<'_>) -> Option<(u64, Action)> {
        self.strike(|matches| {
            matches.on == Point::Message
                && matches.message_type.is_none_or(|kind| kind == facts.kind)
                && matches.from.is_none_or(|from| from == facts.from)
                && agrees(matches.client_id.as_deref(), Some(facts.client_id))
                && agrees(matches.channel.as_deref(), Some(facts.channel))
        })
    }

    pub(crate) fn for_upgrade(
        &self,
        role: Role,
        client_id: Option<&str>,
        channel: &str,
    ) -> Option<(u64, Action)> {
        self.strike(|matches| {
            matches.on == Point::Upgrade
                && matches.from.is_none_or(|from| from == role)
                && agrees(matches.client_id.as_deref(), client_id)
                && agrees(matches.channel.as_deref(), Some(channel))
        })
    }

    pub(crate) fn for_call(&self, facts: &CallFacts<'_>) -> Option<(u64, Action)> {
        self.strike(|matches| {
            matches.on == Point::Call
                && matches.call.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(facts.name))
                && agrees(matches.client_id.as_deref(), facts.client_id)
                && agrees(matches.channel.as_deref(), facts.channel)
        })
    }

    fn strike(&self, applies: impl Fn(&Match) -> bool) -> Option<(u64, Action)> {
        let mut guard = lock(&self.book);
        let Book { entries, random, .. } = &mut *guard;
        for entry in entries {
            let matches = &entry.fault.matches;
            let used_up = matches.times.is_some_and(|times| entry.hits >= times);
            if used_up || !applies(matches) {
                continue;
            }
            entry.seen += 1;
            let skipped = entry.seen <= matches.skip;
            if skipped || matches.probability.is_some_and(|p| random.unit() >= p) {
                continue;
            }
            entry.hits += 1;
            let action = &entry.fault.action;
            let kind = menu::of(action).map(|kind| kind.name);
            tracing::info!(fault = entry.id, hits = entry.hits, kind, "fault");
            return Some((entry.id, action.clone()));
        }
        None
    }
}

fn agrees(wanted: Option<&str>, is: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| is == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(client_id: &str) -> MessageFacts<'_> {
        let (kind, from) = (MessageType::SdpAnswer, Role::Master);
        MessageFacts { kind, from, client_id, channel: "c" }
    }

    #[test]
    fn fault_skips_then_applies_until_used_up() {
        let faults = Faults::new(Vec::new(), 0);
        let matches = Match { skip: 1, ..Match::first(MessageType::SdpAnswer, 2) };
        let id = faults.add(Fault::new(matches, Action::Drop)).unwrap();
        let struck: Vec<bool> =
            (0..5).map(|_| faults.for_message(&answer("v")).is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(faults.hits(id), 2);
        assert!(faults.remove(id) && !faults.remove(id));
    }

    #[test]
    fn fault_applies_only_if_every_filter_matches() {
        let matches = Match { client_id: Some("w".into()), ..Match::every(MessageType::SdpAnswer) };
        let faults = Faults::new(vec![Fault::new(matches, Action::Drop)], 0);
        assert!(faults.for_message(&answer("v")).is_none());
        assert!(faults.for_message(&answer("w")).is_some());
        let offer = MessageFacts { kind: MessageType::SdpOffer, ..answer("w") };
        assert!(faults.for_message(&offer).is_none());
        let call = CallFacts { name: "GetIceServerConfig", client_id: Some("w"), channel: None };
        assert!(faults.for_call(&call).is_none());
    }

    #[test]
    fn fault_probability_follows_the_seed() {
        let run = |seed| {
            let matches = Match { probability: Some(0.5), ..Match::on(Point::Message) };
            let faults = Faults::new(vec![Fault::new(matches, Action::Drop)], seed);
            (0..64).map(|_| faults.for_message(&answer("v")).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert!(run(7).contains(&true) && run(7).contains(&false));
    }

    #[test]
    fn fault_that_cannot_apply_is_refused() {
        let faults = Faults::new(Vec::new(), 0);
        assert!(faults.add(Fault::new(Match::on(Point::Call), Action::Drop)).is_err());
        assert!(faults.add(Fault::new(Match::on(Point::Upgrade), Action::Garbage)).is_err());
        let odd = Action::Refuse { status: 200, error: "X".into(), message: String::new() };
        assert!(faults.add(Fault::new(Match::on(Point::Call), odd)).is_err());
    }

    #[test]
    fn fault_round_trips_as_json() {
        let text = r#"{"match":{"on":"message","type":"SDP_ANSWER","times":1},"action":{"do":"delay","ms":5}}"#;
        let fault: Fault = serde_json::from_str(text).unwrap();
        let matches = Match::first(MessageType::SdpAnswer, 1);
        assert_eq!(fault, Fault::new(matches, Action::Delay { ms: 5 }));
        let odd = text.replace("times", "tiems");
        assert!(serde_json::from_str::<Fault>(&odd).is_err());
    }
}
