//! RTP sequence numbers without their wrap.

/// Extends 16-bit sequence numbers to 64 bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unwrapper {
    highest: Option<i64>,
}

impl Unwrapper {
    /// Returns the number nearest to the highest one so far.
    pub(crate) fn unwrap(&mut self, seq: u16) -> i64 {
        let Some(highest) = self.highest else {
            self.highest = Some(i64::from(seq));
            return i64::from(seq);
        };
        // The low 16 bits, even of a negative number.
        let low = highest.rem_euclid(1 << 16);
        let mut ahead = i64::from(seq) - low;
        if ahead >= 1 << 15 {
            ahead -= 1 << 16;
        } else if ahead < -(1 << 15) {
            ahead += 1 << 16;
        }
        let unwrapped = highest + ahead;
        self.highest = Some(highest.max(unwrapped));
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_continue_over_wrap() {
        let mut unwrapper = Unwrapper::default();
        let got: Vec<i64> =
            [65_534, 65_535, 0, 65_533, 2, 1].iter().map(|s| unwrapper.unwrap(*s)).collect();
        assert_eq!(got, [65_534, 65_535, 65_536, 65_533, 65_538, 65_537]);
    }

    #[test]
    fn packet_before_first_gets_lower_number() {
        let mut unwrapper = Unwrapper::default();
        assert_eq!(unwrapper.unwrap(1), 1);
        assert_eq!(unwrapper.unwrap(65_535), -1);
        assert_eq!(unwrapper.unwrap(2), 2);
    }
}
