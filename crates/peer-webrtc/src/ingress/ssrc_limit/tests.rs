//! Tests the limit with declared, undeclared and random SSRCs.

use super::*;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    Instant::now()
}

/// Sends packets with generated SSRCs, several for each.
struct Attacker {
    ssrc: u32,
    repeated: u32,
    sent: u32,
}

impl Attacker {
    fn new(repeated: u32) -> Self {
        Self { ssrc: 1, repeated, sent: 0 }
    }

    fn send(&mut self, limit: &mut SsrcLimit, at: Instant, count: u32) {
        for _ in 0..count {
            if self.sent.is_multiple_of(self.repeated) {
                // This sequence visits each number once.
                self.ssrc = self.ssrc.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            }
            self.sent += 1;
            limit.admits(at, self.ssrc);
        }
    }
}

const STEP: Duration = Duration::from_millis(10);

#[test]
fn random_ssrcs_are_limited_and_declared_ones_pass() {
    let now = start();
    let mut limit = SsrcLimit::new();
    limit.declare(7);
    assert!(limit.admits(now, 8), "undeclared, before the attack");
    let mut attacker = Attacker::new(1);
    (0..6000).for_each(|step| attacker.send(&mut limit, now + STEP * step, 100));
    // Thirty-two pass at once, one every two seconds by the free rate, and one every two seconds
    // by its count.
    assert!((60..=100).contains(&limit.known.len()), "{}", limit.known.len());
    let end = now + Duration::from_secs(60);
    assert!(limit.admits(end, 7) && limit.admits(end, 8));
}

#[test]
fn declared_ssrcs_are_limited() {
    let mut limit = SsrcLimit::new();
    (0..10_000).for_each(|ssrc| limit.declare(ssrc));
    assert_eq!(limit.known.len(), DECLARED_MAX);
}

#[test]
fn lasting_ssrc_attack_is_slowed_and_capped() {
    let now = start();
    let mut limit = SsrcLimit::new();
    limit.known.extend(1..=u32::try_from(KNOWN_FREE).expect("small"));
    // Each SSRC sends for twelve seconds, so that it wins a window and still sends in the next.
    for second in 0..1200_u32 {
        let at = now + Duration::from_secs(1) * second;
        limit.admits(at, 1_000_000 + second / 12);
    }
    let passed = limit.known.len() - KNOWN_FREE;
    assert!((50..=120).contains(&passed), "one in ten seconds at most: {passed}");
    limit.known.extend(1..=u32::try_from(KNOWN_MAX).expect("small"));
    let mut attacker = Attacker::new(2);
    let before = limit.known.len();
    (0..6000).for_each(|step| attacker.send(&mut limit, now + STEP * step, 10));
    assert_eq!(limit.known.len(), before);
    assert!(limit.admits(now, 1), "what is known passes");
}

#[test]
fn undeclared_stream_that_begins_under_attack_passes() {
    for repeated in [1, 10] {
        let now = start();
        let mut limit = SsrcLimit::new();
        let mut attacker = Attacker::new(repeated);
        let mut passed = None;
        for step in 0..1000 {
            // The stream sends 100 packets a second among 30,000 of the attacker.
            attacker.send(&mut limit, now + STEP * step, 300);
            if step >= 200 && limit.admits(now + STEP * step, 0xdead_beef) {
                passed = Some(STEP * (step - 200));
                break;
            }
        }
        let passed = passed.expect("it passes");
        assert!(passed <= WINDOW * 2, "{passed:?}");
    }
}
