//! The normal form of a session's surroundings. Surroundings with equal normal forms, around equal
//! sessions, have the same future, so the exploration continues from one of them only.
//!
//! Each rule below states why the part that it resets cannot matter. `tests/tests/exhaustive.rs`
//! compares walks with and without these rules.

use negotiation_core::{CandidateRelease, Mode, Phase};

use super::bounds::Trouble;
use super::state::{Master, MasterMessage, Operation, Peer, Variant, World};

impl World {
    /// Resets everything that cannot affect the future. `phase` is the session's phase; `is_last`
    /// means that no further attempt follows.
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

    /// Whether the master, or the service in its place, may still offer in this attempt. In a
    /// storage session each join brings an offer, even one that the session no longer waits for,
    /// and a master that restarts offers without a join.
    pub(super) fn may_be_offered(&self, mode: Mode) -> bool {
        let comes =
            self.messages.iter().any(|message| matches!(message, MasterMessage::Offer { .. }));
        let joins =
            self.ports.iter().flatten().any(|command| matches!(command.what, Operation::Join(_)));
        let left = |kind: Trouble| self.left[kind as usize] > 0;
        let restarts = mode == Mode::Answerer && left(Trouble::MasterRestart);
        comes || joins || restarts || left(Trouble::MasterOffers)
    }

    /// A trouble needs one left of its kind and one left in all: the surplus of a kind over the
    /// total can never happen.
    fn forget_spent_troubles(&mut self) {
        for left in &mut self.left {
            *left = (*left).min(self.troubles);
        }
    }

    /// From the first step of closing on, the session ignores its connections (the check of each
    /// state gives it such inputs), and `begin_attempt` resets all of this except the late answer.
    fn forget_attempt(&mut self) {
        self.keep_late_answer();
        self.master = Master::default();
        (self.offers, self.offer_out, self.answer_due, self.sent) = (0, None, false, None);
        self.peer = self.peer.map(|peer| Peer { closing: peer.closing, ..Peer::new(peer.id) });
    }

    /// No attempt follows, so whatever only another attempt would use can be reset.
    fn forget_next_attempt(&mut self) {
        self.messages.clear();
        self.attempts_since_live = 0;
        self.variant = Variant { keeps_pair: false, release: CandidateRelease::AfterOffer };
    }
}
