//! Checks the order of candidates: each comes out once, in order, and none is lost with its
//! connection.

use std::collections::{BTreeMap, BTreeSet};

use negotiation_core::{ConnectionId, Digest};

/// The candidates that went in, and those that came out.
#[derive(Clone, Debug, Default)]
pub(super) struct CandidateOrder {
    pub(super) received: Vec<Digest>,
    pub(super) next: usize,
    pub(super) delivered: BTreeSet<Digest>,
    /// Candidates that these connections failed to send: each may come out again, and must on
    /// another connection.
    pub(super) unsent: BTreeMap<Digest, ConnectionId>,
}

impl CandidateOrder {
    /// A candidate came out: in order, and not twice.
    pub(super) fn deliver(&mut self, digest: Digest) -> Result<(), &'static str> {
        if self.unsent.remove(&digest).is_some() {
            return Ok(());
        }
        if !self.delivered.insert(digest) {
            return Err("a candidate twice");
        }
        let found = self.received[self.next..].iter().position(|d| *d == digest);
        self.next += found.ok_or("a candidate out of order, or of another attempt")? + 1;
        Ok(())
    }

    pub(super) fn unique(&self) -> usize {
        self.received.iter().collect::<BTreeSet<_>>().len()
    }
}
