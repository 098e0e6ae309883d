//! Candidates on their way through the session: in order, once, and none lost with its link.

use std::collections::{BTreeMap, BTreeSet};

use negotiation_core::{Digest, LinkId};

/// Candidates that went in, and those of them that came out again.
#[derive(Clone, Debug, Default)]
pub(super) struct CandidateOrder {
    pub(super) came: Vec<Digest>,
    pub(super) next: usize,
    pub(super) gone: BTreeSet<Digest>,
    /// Not carried by these links: each may come out once more, and on another link has to.
    pub(super) unsent: BTreeMap<Digest, LinkId>,
}

impl CandidateOrder {
    /// One came out: in order, and not twice.
    pub(super) fn take(&mut self, digest: Digest) -> Result<(), &'static str> {
        if self.unsent.remove(&digest).is_some() {
            return Ok(());
        }
        if !self.gone.insert(digest) {
            return Err("a candidate twice");
        }
        let found = self.came[self.next..].iter().position(|d| *d == digest);
        self.next += found.ok_or("a candidate out of order, or of another attempt")? + 1;
        Ok(())
    }

    pub(super) fn unique(&self) -> usize {
        self.came.iter().collect::<BTreeSet<_>>().len()
    }
}
