//! Models of masters: real ones (docs/kvs-protocol.md 3), which replace or ignore a repeated client
//! id, keep old sessions, are late or silent; and invented ones, which offer by themselves or send
//! invalid answers.

use core::time::Duration;
use std::collections::BTreeMap;

use negotiation_core::{
    Candidate, ClientId, Description, Digest, MediaKind, MediaSection, Sdp, SdpSummary, Timestamp,
    Undecodable,
};

use crate::tally::FaultName;
use crate::traits::{Answers, Glare, MasterTraits, RepeatedId};

/// A message of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MasterMessage {
    Offer(Description),
    Answer(Result<Description, Undecodable>),
    Candidate(Candidate),
}

/// The master's reaction to an offer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// The messages that it sends, with their delays.
    pub(crate) messages: Vec<(Duration, MasterMessage)>,
    /// It created a new peer connection and closed the one before.
    pub(crate) starts_over: bool,
    /// The fault that this reaction is, for the counts.
    pub(crate) fault: Option<FaultName>,
}

impl Reply {
    fn nothing(fault: FaultName) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }
}

/// The camera.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    pub(crate) traits: MasterTraits,
    sessions: BTreeMap<ClientId, MasterSession>,
    offers: u32,
    answers: u32,
    joins: u32,
    certificates: u32,
}

/// A session of the master for one viewer.
#[derive(Clone, Debug)]
struct MasterSession {
    /// When the master will notice that the viewer is gone.
    free_at: Option<Timestamp>,
    certificate: u32,
    generation: u32,
    /// The viewer's fingerprints and its ICE ufrag.
    viewer: Option<(Vec<String>, Option<String>)>,
    /// Until then it works on an answer and does not offer (RFC 9429, 3.2).
    busy_until: Timestamp,
    /// Its own unanswered offer.
    open: Option<Description>,
    answer: Option<Description>,
    agreed: Option<(Sdp, Sdp)>,
    /// It got an offer in glare and cannot handle that.
    broken: bool,
}

impl Master {
    pub(crate) fn new(traits: MasterTraits) -> Self {
        Self { traits, sessions: BTreeMap::new(), offers: 0, answers: 0, joins: 0, certificates: 0 }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn agreed(&self, id: &ClientId) -> Option<&(Sdp, Sdp)> {
        self.sessions.get(id).and_then(|session| session.agreed.as_ref())
    }

    /// Reboots: all sessions are lost.
    pub(crate) fn reboot(&mut self) {
        self.sessions.clear();
    }

    /// Handles an offer.
    pub(crate) fn take_offer(
        &mut self,
        now: Timestamp,
        from: &ClientId,
        offer: &Description,
    ) -> Reply {
        self.offers += 1;
        self.sessions.retain(|_, session| session.free_at.is_none_or(|at| at > now));
        if !self.sessions.contains_key(from) && self.sessions.len() >= self.traits.sessions_max {
            return Reply::default();
        }
        if self.offers <= self.traits.ignored_offers || self.traits.answers == Answers::Never {
            return Reply::nothing(FaultName::MasterSilent);
        }
        let viewer = (offer.facts.fingerprints.clone(), offer.facts.ice_ufrag.clone());
        let (mut starts_over, mut fault) = (false, None);
        if let Some(session) = self.sessions.get_mut(from) {
            let glare = session.open.is_some();
            session.broken |= glare && self.traits.glare == Glare::Breaks;
            if session.broken || (glare && self.traits.glare == Glare::Impolite) {
                return Reply::default();
            }
            session.open = None;
        }
        match self.sessions.get_mut(from) {
            None => self.open_session(from),
            Some(session) => {
                let same = session.viewer.as_ref().is_some_and(|(who, _)| *who == viewer.0);
                let restarts = session.viewer.as_ref().is_some_and(|(_, ufrag)| *ufrag != viewer.1);
                match self.traits.repeated_id {
                    _ if session.viewer.is_none() => {}
                    RepeatedId::Ignores => return Reply::nothing(FaultName::MasterLingers),
                    RepeatedId::Renegotiates if same => session.generation += u32::from(restarts),
                    RepeatedId::OldCredentials if same => {
                        fault = restarts.then_some(FaultName::RestartRefused);
                    }
                    RepeatedId::RepeatsAnswer if same => {
                        let after = self.traits.answers_after;
                        let again =
                            session.answer.clone().map(|a| (after, MasterMessage::Answer(Ok(a))));
                        let messages = again.into_iter().collect();
                        let fault = restarts.then_some(FaultName::RestartRefused);
                        return Reply { messages, starts_over, fault };
                    }
                    RepeatedId::Replaces
                    | RepeatedId::Renegotiates
                    | RepeatedId::OldCredentials
                    | RepeatedId::RepeatsAnswer => {
                        starts_over = same;
                        fault = (same && restarts).then_some(FaultName::RestartRefused);
                        self.open_session(from);
                    }
                }
            }
        }
        if let Some(session) = self.sessions.get_mut(from) {
            session.viewer = Some(viewer);
            session.free_at = None;
            session.busy_until = now + self.traits.answers_after;
        }
        Reply { messages: self.messages(from, offer), starts_over, fault }
    }

    /// Opens a new session for this client id, with its own certificate.
    fn open_session(&mut self, id: &ClientId) {
        self.certificates += 1;
        let session = MasterSession {
            free_at: None,
            certificate: self.certificates,
            generation: self.certificates * 100,
            viewer: None,
            busy_until: Timestamp::ZERO,
            open: None,
            answer: None,
            agreed: None,
            broken: false,
        };
        self.sessions.insert(id.clone(), session);
    }

    /// Offers, in the existing session or in a new one.
    pub(crate) fn offer(
        &mut self,
        now: Timestamp,
        id: &ClientId,
        anew: bool,
    ) -> Vec<(Duration, MasterMessage)> {
        let thinks = |session: &MasterSession| session.busy_until > now;
        if !anew && self.sessions.get(id).is_some_and(thinks) {
            return Vec::new();
        }
        if anew || !self.sessions.contains_key(id) {
            self.open_session(id);
        }
        self.answers += 1;
        let Some(session) = self.sessions.get(id) else { return Vec::new() };
        let text = format!("offer {} of the master", self.answers);
        let offer = Description { sdp: Sdp::new(&text), facts: self.facts(session) };
        let generation = session.generation;
        if let Some(session) = self.sessions.get_mut(id) {
            session.open = Some(offer.clone());
        }
        let mut messages = vec![(Duration::ZERO, MasterMessage::Offer(offer))];
        messages.extend(self.trickle(generation));
        messages
    }

    /// Handles a join call, after which the service offers (a storage session).
    pub(crate) fn join(&mut self, now: Timestamp, id: &ClientId) -> Vec<(Duration, MasterMessage)> {
        self.joins += 1;
        if self.joins <= self.traits.ignored_offers || self.traits.answers == Answers::Never {
            return Vec::new();
        }
        let after = self.traits.answers_after;
        let messages = self.offer(now, id, false);
        messages.into_iter().map(|(at, message)| (at + after, message)).collect()
    }

    /// Handles an answer of the viewer; returns whether it answers the open offer.
    pub(crate) fn take_answer(&mut self, from: &ClientId, answer: &Description) -> bool {
        let Some(session) = self.sessions.get_mut(from) else { return false };
        let fits = session.open.as_ref().is_some_and(|offer| {
            answer.sdp.as_str().ends_with(&format!(" to {}", offer.sdp.as_str()))
        });
        if !fits || session.broken {
            return false;
        }
        let Some(offer) = session.open.take() else { return false };
        session.viewer = Some((answer.facts.fingerprints.clone(), answer.facts.ice_ufrag.clone()));
        session.agreed = Some((offer.sdp, answer.sdp.clone()));
        true
    }

    fn messages(&mut self, from: &ClientId, offer: &Description) -> Vec<(Duration, MasterMessage)> {
        let after = self.traits.answers_after;
        let soon = after + Duration::from_millis(400);
        let answer = self.answer(from, offer, "answer");
        if let Some(session) = self.sessions.get_mut(from) {
            session.answer = Some(answer.clone());
            session.agreed = Some((offer.sdp.clone(), answer.sdp.clone()));
        }
        let generation = self.sessions.get(from).map_or(0, |session| session.generation);
        let right = MasterMessage::Answer(Ok(answer));
        let mut messages = match self.traits.answers {
            Answers::Never => Vec::new(),
            Answers::Correctly => vec![(after, right)],
            Answers::Undecodable => vec![(after, MasterMessage::Answer(Err(Undecodable)))],
            Answers::Refused => {
                vec![(after, MasterMessage::Answer(Ok(self.answer(from, offer, "refused"))))]
            }
            Answers::RejectsMedia => {
                let mut answer = self.answer(from, offer, "answer");
                answer.facts.media.iter_mut().for_each(|m| m.accepted = false);
                vec![(after, MasterMessage::Answer(Ok(answer)))]
            }
            Answers::ThenAnother => {
                let other = self.answer(from, offer, "other");
                vec![(after, right), (soon, MasterMessage::Answer(Ok(other)))]
            }
            Answers::AfterStale => {
                let stale = self.answer(from, offer, "stale");
                vec![(after, MasterMessage::Answer(Ok(stale))), (soon, right)]
            }
        };
        messages.extend(self.trickle(generation));
        messages
    }

    fn trickle(&self, generation: u32) -> Vec<(Duration, MasterMessage)> {
        let after = self.traits.answers_after;
        let candidates = (0..self.traits.candidates).map(|number| {
            let before = self.traits.candidates_first;
            let at = if before { Duration::ZERO } else { after + Duration::from_millis(5) };
            let pace = Duration::from_micros(200) * number;
            (at + pace, MasterMessage::Candidate(candidate(generation, number)))
        });
        candidates.collect()
    }

    /// The viewer's peer connection is closed or its packets are lost.
    pub(crate) fn lose(&mut self, now: Timestamp, id: &ClientId, who: &str, was_closed: bool) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        // The session may have another peer connection of the same client id by now.
        if session.viewer.as_ref().is_some_and(|(viewer, _)| viewer.iter().all(|name| name != who))
        {
            return;
        }
        let soon = Duration::from_millis(600);
        let after =
            if was_closed && self.traits.notices_close { soon } else { self.traits.lingers };
        let at = now + after;
        session.free_at = Some(session.free_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn facts(&self, session: &MasterSession) -> SdpSummary {
        let section = |kind, sends| MediaSection { kind, mid: None, accepted: true, sends };
        SdpSummary {
            ice_ufrag: Some(ufrag(session.generation)),
            ice_pwd: Some(Digest::of(ufrag(session.generation).as_bytes())),
            fingerprints: vec![format!("sha-256 {:02X}", session.certificate)],
            media: vec![
                section(MediaKind::Video, self.traits.video),
                section(MediaKind::Audio, self.traits.audio),
            ],
            candidates: self.traits.candidates_inside,
            video_codecs: vec!["H264".into()],
        }
    }

    fn answer(&mut self, from: &ClientId, offer: &Description, kind: &str) -> Description {
        self.answers += 1;
        let facts = self.sessions.get(from).map(|session| self.facts(session)).unwrap_or_default();
        let text = format!("{kind} {} to {}", self.answers, offer.sdp.as_str());
        Description { sdp: Sdp::new(&text), facts }
    }
}

fn ufrag(generation: u32) -> String {
    format!("m{generation}")
}

/// A candidate of a master.
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

    fn offer(ufrag: &str) -> Description {
        let facts = SdpSummary {
            ice_ufrag: Some(ufrag.into()),
            fingerprints: vec!["viewer 1".into()],
            ..SdpSummary::default()
        };
        Description { sdp: Sdp::new("offer 1 of peer 1"), facts }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn answers(reply: &Reply) -> Vec<&Description> {
        let answer = |(_, message): &'_ (Duration, MasterMessage)| {
            matches!(message, MasterMessage::Answer(Ok(_)))
        };
        reply
            .messages
            .iter()
            .filter(|message| answer(message))
            .filter_map(|(_, message)| {
                if let MasterMessage::Answer(Ok(answer)) = message { Some(answer) } else { None }
            })
            .collect()
    }

    #[test]
    fn vanished_id_is_unanswered_until_master_notices() {
        let mut master = Master::new(MasterTraits::default());
        let id = ClientId::new("a").expect("valid");
        assert!(!master.take_offer(at(0), &id, &offer("u1")).messages.is_empty());
        assert!(master.take_offer(at(1), &id, &offer("u1")).messages.is_empty());
        master.lose(at(2), &id, "viewer 1", false);
        assert!(master.take_offer(at(36), &id, &offer("u1")).messages.is_empty());
        assert!(!master.take_offer(at(38), &id, &offer("u1")).messages.is_empty());
    }

    #[test]
    fn restart_answer_depends_on_repeated_id_behaviour() {
        let id = ClientId::new("a").expect("valid");
        for (repeated_id, same_certificate, same_ufrag) in [
            (RepeatedId::Replaces, false, false),
            (RepeatedId::Renegotiates, true, false),
            (RepeatedId::OldCredentials, true, true),
            (RepeatedId::RepeatsAnswer, true, true),
        ] {
            let mut master = Master::new(MasterTraits { repeated_id, ..MasterTraits::default() });
            let (first, second) = (
                master.take_offer(at(0), &id, &offer("u1")),
                master.take_offer(at(9), &id, &offer("u2")),
            );
            let (first, second) = (answers(&first)[0].clone(), answers(&second)[0].clone());
            assert_eq!(first.facts.fingerprints == second.facts.fingerprints, same_certificate);
            assert_eq!(first.facts.ice_ufrag == second.facts.ice_ufrag, same_ufrag);
        }
    }
}
