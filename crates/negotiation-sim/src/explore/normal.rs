//! The normal form of what surrounds a session: two surroundings with equal normal forms, around
//! equal sessions, have the same future, so the exploration looks at one of them only.
//!
//! Each rule below says why what it forgets decides nothing.
//! `tests/tests/exhaustive/walks.rs` shows that walks with and without the rules find the same ends.

use negotiation_core::{CandidateRelease, Mode, Phase};

use super::bounds::Trouble;
use super::state::{Master, MasterMessage, Operation, Peer, Variant, World};

impl World {
    /// Forgets what decides nothing about the future; `phase` is the session's,
    /// `is_last`: it makes no further attempt.
    pub(super) fn normalise(&mut self, phase: Phase, is_last: bool) {
        self.forget_spent_troubles();
        if matches!(phase, Phase::Closing | Phase::BackingOff | Phase::Ended) {
            self.forget_attempt();
        }
        if is_last {
            self.forget_next_attempt();
        }
        // Only a STATUS_RESPONSE names the message that was sent, and no other may come.
        if self.left[Trouble::Status as usize] == 0 {
            self.sent = None;
        }
    }

    /// Whether the master, or the service for it, may still offer in this attempt. In a storage
    /// session each join brings an offer, also one that the session no longer waits for, and a
    /// master that starts over offers by itself.
    pub(super) fn may_be_offered(&self, mode: Mode) -> bool {
        let comes = self.mail.iter().any(|mail| matches!(mail, MasterMessage::Offer { .. }));
        let joins = self.ports.iter().flatten().any(|job| matches!(job.what, Operation::Join(_)));
        let left = |kind: Trouble| self.left[kind as usize] > 0;
        let restarts = mode == Mode::Answerer && left(Trouble::MasterRestart);
        comes || joins || restarts || left(Trouble::MasterOffers)
    }

    /// A trouble strikes while it is left both of its kind and in all: what is left of a kind
    /// beyond what is left in all never strikes.
    fn forget_spent_troubles(&mut self) {
        for left in &mut self.left {
            *left = (*left).min(self.troubles);
        }
    }

    /// From the first step of closing on, the session takes nothing from its connections (the check
    /// of each state gives it such inputs), and `begin_attempt` starts over with all of this but
    /// the answer that comes too late.
    fn forget_attempt(&mut self) {
        self.keep_late_answer();
        self.master = Master::default();
        (self.offers, self.offer_out, self.answer_due, self.sent) = (0, None, false, None);
        self.peer = self.peer.map(|peer| Peer { closing: peer.closing, ..Peer::new(peer.id) });
    }

    /// No attempt follows: what only another attempt would meet is forgotten.
    fn forget_next_attempt(&mut self) {
        self.mail.clear();
        self.tries = 0;
        self.variant = Variant { keeps_pair: false, release: CandidateRelease::AfterOffer };
    }
}
