//! Models of the masters that exist (kvs.md, part 3): one that replaces a repeated client id, one
//! that answers nothing on it, ones that linger, are late, silent, or answer nonsense.

use core::time::Duration;
use std::collections::BTreeMap;

use negotiation_core::{
    Candidate, ClientId, Description, Digest, Facts, MediaFact, MediaKind, Sdp, Timestamp,
    Undecodable,
};

use crate::plan::{Answers, MasterTraits, RepeatedId};

/// What a master sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Answer(Result<Description, Undecodable>),
    Candidate(Candidate),
}

/// The camera.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    traits: MasterTraits,
    sessions: BTreeMap<ClientId, Held>,
    offers: u32,
    answers: u32,
}

/// A session that the master holds for a viewer.
#[derive(Clone, Debug)]
struct Held {
    /// When the master will notice that the viewer is gone.
    free_at: Option<Timestamp>,
}

impl Master {
    pub(crate) fn new(traits: MasterTraits) -> Self {
        Self { traits, sessions: BTreeMap::new(), offers: 0, answers: 0 }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// An offer came. What it says to it, each word with how long it takes.
    pub(crate) fn take_offer(
        &mut self,
        now: Timestamp,
        from: &ClientId,
        offer: &Description,
    ) -> Vec<(Duration, Word)> {
        self.offers += 1;
        self.sessions.retain(|_, held| held.free_at.is_none_or(|at| at > now));
        let known = self.sessions.contains_key(from);
        let refuses = match self.traits.repeated_id {
            RepeatedId::Replaces => false,
            RepeatedId::Ignores => known,
        };
        if refuses || (!known && self.sessions.len() >= self.traits.sessions_max) {
            return Vec::new();
        }
        if self.offers <= self.traits.deaf_to || self.traits.answers == Answers::Never {
            return Vec::new();
        }
        self.sessions.insert(from.clone(), Held { free_at: None });
        self.words(offer)
    }

    fn words(&mut self, offer: &Description) -> Vec<(Duration, Word)> {
        let after = self.traits.answers_after;
        let soon = after + Duration::from_millis(400);
        let right = Word::Answer(Ok(self.answer(offer, "answer")));
        let generation = self.answers;
        let mut words = match self.traits.answers {
            Answers::Never => Vec::new(),
            Answers::Well => vec![(after, right)],
            Answers::Undecodable => vec![(after, Word::Answer(Err(Undecodable)))],
            Answers::Refused => vec![(after, Word::Answer(Ok(self.answer(offer, "refused"))))],
            Answers::Nothing => {
                let mut answer = self.answer(offer, "answer");
                answer.facts.media.iter_mut().for_each(|m| m.accepted = false);
                vec![(after, Word::Answer(Ok(answer)))]
            }
            Answers::ThenAnother => {
                let other = self.answer(offer, "other");
                vec![(after, right), (soon, Word::Answer(Ok(other)))]
            }
            Answers::AfterStale => {
                let stale = self.answer(offer, "stale");
                vec![(after, Word::Answer(Ok(stale))), (soon, right)]
            }
        };
        let candidates = (0..self.traits.candidates).map(|number| {
            let before = self.traits.candidates_first;
            let at = if before { Duration::ZERO } else { after + Duration::from_millis(5) };
            let pace = Duration::from_micros(200) * number;
            (at + pace, Word::Candidate(candidate(generation, number)))
        });
        words.extend(candidates);
        words
    }

    /// The viewer's connection or link is gone.
    pub(crate) fn lose(&mut self, now: Timestamp, id: &ClientId, said_goodbye: bool) {
        if let Some(held) = self.sessions.get_mut(id) {
            let soon = Duration::from_millis(600);
            let after =
                if said_goodbye && self.traits.hears_goodbye { soon } else { self.traits.lingers };
            let at = now + after;
            held.free_at = Some(held.free_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn answer(&mut self, offer: &Description, kind: &str) -> Description {
        self.answers += 1;
        let section = |kind, sends| MediaFact { kind, mid: None, accepted: true, sends };
        let facts = Facts {
            ice_ufrag: Some(ufrag(self.answers)),
            ice_pwd: Some(Digest::of(b"password")),
            fingerprints: vec![format!("sha-256 {:02X}", self.answers % 256)],
            media: vec![
                section(MediaKind::Video, self.traits.video),
                section(MediaKind::Audio, self.traits.audio),
            ],
            candidates: self.traits.candidates_inside,
        };
        let text = format!("{kind} {} to {}", self.answers, offer.sdp.as_str());
        Description { sdp: Sdp::new(&text), facts }
    }
}

fn ufrag(generation: u32) -> String {
    format!("m{generation}")
}

/// A master's candidate.
pub(crate) fn candidate(generation: u32, number: u32) -> Candidate {
    Candidate {
        text: format!("candidate:{generation} {number} udp typ host").into(),
        mid: Some("0".into()),
        mline_index: Some(0),
        ufrag: Some(ufrag(generation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Description {
        Description { sdp: Sdp::new("offer 1 of peer 1"), facts: Facts::default() }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn an_id_that_vanished_is_not_answered_until_the_master_notices() {
        let mut master = Master::new(MasterTraits::default());
        let id = ClientId::new("a").expect("valid");
        assert!(!master.take_offer(at(0), &id, &offer()).is_empty());
        assert!(master.take_offer(at(1), &id, &offer()).is_empty());
        master.lose(at(2), &id, false);
        assert!(master.take_offer(at(36), &id, &offer()).is_empty());
        assert!(!master.take_offer(at(38), &id, &offer()).is_empty());
    }

    #[test]
    fn one_that_replaces_answers_again() {
        let traits = MasterTraits { repeated_id: RepeatedId::Replaces, ..MasterTraits::default() };
        let mut master = Master::new(traits);
        let id = ClientId::new("a").expect("valid");
        assert!(!master.take_offer(at(0), &id, &offer()).is_empty());
        assert!(!master.take_offer(at(1), &id, &offer()).is_empty());
    }
}
