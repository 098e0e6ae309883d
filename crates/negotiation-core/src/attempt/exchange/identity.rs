//! [`Identity`] and [`History`]: which remote session a description comes from, and which
//! descriptions were handled before.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::types::{Description, Digest, SdpSummary};

/// Digests of applied answers that are remembered, to distinguish a late duplicate from a new
/// answer.
const APPLIED_MAX: usize = 16;

/// Distinguishes one remote session from another, and one ICE generation from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    fingerprints: Vec<String>,
    pub(crate) ufrag: Option<String>,
    pwd: Option<Digest>,
}

impl Identity {
    pub(crate) fn of(facts: &SdpSummary) -> Self {
        // RFC 8122, 5: neither the name of the hash nor its digits depend on the case.
        let mut fingerprints: Vec<_> =
            facts.fingerprints.iter().map(|line| line.to_ascii_lowercase()).collect();
        fingerprints.sort();
        Self { fingerprints, ufrag: facts.ice_ufrag.clone(), pwd: facts.ice_pwd }
    }

    /// Another certificate: the master made a new peer connection.
    pub(crate) fn is_other_session(&self, other: &Self) -> bool {
        self.fingerprints != other.fingerprints
    }

    fn has_credentials_of(&self, other: &Self) -> bool {
        self.ufrag.is_some() && self.ufrag == other.ufrag && self.pwd == other.pwd
    }

    /// Both are known, and they are of different ICE generations.
    pub(crate) fn is_other_generation(&self, other: &Self) -> bool {
        self.ufrag.is_some() && other.ufrag.is_some() && !self.has_credentials_of(other)
    }
}

/// The remote session in use, and the master's descriptions that were handled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// The remote session that the peer connection is connected to.
    pub(crate) remote: Option<Identity>,
    /// The answers that were applied.
    applied: VecDeque<(Digest, Identity)>,
    /// The answers of remote sessions that were replaced, to recognise their late duplicates.
    outdated: Vec<Digest>,
    /// The master's offer that was answered last.
    pub(crate) answered: Option<Digest>,
    /// A second, different answer makes the first suspect: nothing in an answer names the offer
    /// that it is for.
    pub(crate) answer_suspect: bool,
}

impl History {
    pub(crate) fn apply(&mut self, answer: &Description) {
        if self.applied.len() == APPLIED_MAX {
            self.applied.pop_front();
        }
        self.applied.push_back((answer.sdp.digest(), Identity::of(&answer.facts)));
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.applied.is_empty()
    }

    /// Whether this very answer was applied.
    pub(crate) fn has_applied(&self, answer: Digest) -> bool {
        self.applied.iter().any(|(digest, _)| *digest == answer) || self.outdated.contains(&answer)
    }

    /// Whether an answer has the ICE credentials of one that was applied before.
    pub(crate) fn has_credentials_of(&self, answer: &Identity) -> bool {
        let applied = self.applied.iter().map(|(_, identity)| identity);
        self.remote.iter().chain(applied).any(|known| known.has_credentials_of(answer))
    }

    /// Another peer connection begins. What is remembered is bounded: the answers of one session.
    pub(crate) fn begin_connection(&mut self) {
        self.remote = None;
        self.outdated = self.applied.drain(..).map(|(digest, _)| digest).collect();
    }
}
