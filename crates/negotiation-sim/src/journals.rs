//! One digest over the journals of many seeds. It must be the same on every machine: whoever
//! replays a seed elsewhere sees the same run.

use core::ops::Range;

use negotiation_core::Digest;

use crate::seeded::{plan_of, run};

/// How many seeds are compared between machines.
pub const SEEDS: u64 = 10_000;

/// What the journals of some seeds come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many seeds.
    pub seeds: u64,
    /// The length of their journals' text.
    pub bytes: u64,
    /// The digest of all of it, in order.
    pub digest: Digest,
}

/// Runs each seed and sums up the text of its journal, with its violations: there are none.
///
/// # Errors
/// When a seed has no plan, which the strategies rule out.
pub fn sum(seeds: Range<u64>) -> Result<Sum, String> {
    let mut sum = Sum { seeds: 0, bytes: 0, digest: Digest::of(b"") };
    for seed in seeds {
        let world = run(plan_of(seed)?);
        let text = format!("{}{}", world.journal(), world.violations().join("\n"));
        sum.seeds += 1;
        sum.bytes += text.len() as u64;
        // Each digest is taken of the one before and the text, so that order counts.
        let mut chained = sum.digest.0.to_le_bytes().to_vec();
        chained.extend_from_slice(text.as_bytes());
        sum.digest = Digest::of(&chained);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_counts_and_so_does_their_order() {
        let of = |seeds| sum(seeds).expect("a plan");
        assert_eq!(of(0..3), of(0..3));
        assert_eq!(of(0..3).seeds, 3);
        assert_ne!(of(0..3).digest, of(0..2).digest);
        assert_ne!(of(0..2).digest, of(1..3).digest);
    }
}
