//! One digest over the journals of many seeds. It must be the same on every machine, so that a seed
//! can be replayed anywhere.

use core::ops::Range;

use negotiation_core::Digest;

use crate::seeded::{plan_of, run};

/// The number of seeds that are compared between machines.
pub const SEEDS: u64 = 10_000;

/// The digest of the journals of some seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The number of seeds.
    pub seeds: u64,
    /// The length of the journals' text.
    pub bytes: u64,
    /// The digest of the text, in order.
    pub digest: Digest,
}

/// Runs each seed and adds up the text of its journal and its violations.
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
        // Each digest includes the one before, so that the order counts.
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
    fn digest_depends_on_seeds_and_their_order() {
        let of = |seeds| sum(seeds).expect("a plan");
        assert_eq!(of(0..3), of(0..3));
        assert_eq!(of(0..3).seeds, 3);
        assert_ne!(of(0..3).digest, of(0..2).digest);
        assert_ne!(of(0..2).digest, of(1..3).digest);
    }
}
