//! Splits RTP payloads, in order, into NAL units (RFC 6184), and tolerates what encoders do: start
//! codes left in packets, units without a last fragment, filler bytes.

use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::nal_type;
use crate::frame::Malformed;

pub(super) const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const MTAP_16: u8 = 26;
const MTAP_24: u8 = 27;
pub(super) const FU_A: u8 = 28;
const FU_B: u8 = 29;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// A complete NAL unit, without start code or length.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) data: Bytes,
    /// The arrival of its first packet.
    pub(super) arrival: Duration,
    /// The arrival of the last of its packets.
    pub(super) completed: Duration,
}

/// Reassembles fragmented units.
#[derive(Debug)]
pub(super) struct Depacketizer {
    fragments: Option<Fragments>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Fragments {
    kind: u8,
    data: BytesMut,
    arrival: Duration,
    completed: Duration,
}

impl Depacketizer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { fragments: None, bytes_max }
    }

    /// Takes the next payload. `continuous` states that nothing was lost before it.
    pub(super) fn push(
        &mut self,
        payload: &Bytes,
        arrival: Duration,
        continuous: bool,
        units: &mut Vec<Unit>,
    ) -> Result<(), Malformed> {
        let payload = without_start_code(payload);
        let kind = nal_type(&payload);
        match kind {
            FU_A => return self.fragment(&payload, arrival, continuous, units),
            // Only packetization-mode 2 has these interleaved types, and it is never offered.
            STAP_B | MTAP_16 | MTAP_24 | FU_B => {
                self.lose();
                return Err(Malformed);
            }
            _ => {}
        }
        // Without loss, the earlier fragments are all of their unit.
        self.close(units);
        match kind {
            STAP_A => {
                let mut rest = payload.slice(1..);
                while !rest.is_empty() {
                    let length = rest.first_chunk::<2>().ok_or(Malformed)?;
                    let end = 2 + usize::from(u16::from_be_bytes(*length));
                    if end > rest.len() {
                        return Err(Malformed);
                    }
                    split(&rest.slice(2..end), (arrival, arrival), units);
                    rest = rest.slice(end..);
                }
            }
            _ => split(&payload, (arrival, arrival), units),
        }
        Ok(())
    }

    fn fragment(
        &mut self,
        payload: &Bytes,
        arrival: Duration,
        continuous: bool,
        units: &mut Vec<Unit>,
    ) -> Result<(), Malformed> {
        let (&[indicator, header], _) = payload.split_first_chunk::<2>().ok_or(Malformed)?;
        let kind = (indicator & 0xe0) | (header & 0x1f);
        if header & FU_START != 0 {
            self.close(units);
        }
        let fragments = match &mut self.fragments {
            Some(fragments) => fragments,
            // Some senders set no start bit. Without loss, this fragment is the first one.
            None if header & FU_START != 0 || continuous => {
                let mut data = BytesMut::with_capacity(payload.len());
                data.put_u8(kind);
                self.fragments.insert(Fragments { kind, data, arrival, completed: arrival })
            }
            None => return Err(Malformed),
        };
        if (fragments.kind ^ kind) & 0x1f != 0
            || fragments.data.len() + payload.len() > self.bytes_max
        {
            self.lose();
            return Err(Malformed);
        }
        fragments.data.extend_from_slice(&payload[2..]);
        fragments.completed = fragments.completed.max(arrival);
        if header & FU_END != 0 {
            self.close(units);
        }
        Ok(())
    }

    /// Ends a fragmented unit, which has no more fragments.
    pub(super) fn close(&mut self, units: &mut Vec<Unit>) {
        if let Some(Fragments { data, arrival, completed, .. }) = self.fragments.take() {
            split(&without_start_code(&data.freeze()), (arrival, completed), units);
        }
    }

    /// Drops a fragmented unit, because its remaining packets were lost.
    pub(super) fn lose(&mut self) {
        self.fragments = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.fragments.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.fragments.as_ref().map_or(0, |fragments| fragments.data.len())
    }
}

/// Returns the payload after an Annex B start code (ITU-T H.264, B.1), if there is one.
pub(super) fn without_start_code(payload: &Bytes) -> Bytes {
    let zeros = payload.iter().take_while(|byte| **byte == 0).count();
    if zeros >= 2 && payload.get(zeros) == Some(&1) {
        payload.slice(zeros + 1..)
    } else {
        payload.clone()
    }
}

/// Splits a payload into its units: one, or several with start codes between them. No unit
/// contains a start code.
fn split(payload: &Bytes, times: (Duration, Duration), units: &mut Vec<Unit>) {
    let mut begin = 0;
    let mut at = 0;
    while let Some(found) = start_code(&payload[at..]) {
        let end = at + found;
        push(payload, begin..end, times, units);
        begin = end + 3;
        at = begin;
    }
    push(payload, begin..payload.len(), times, units);
}

/// Returns the position of the next three-byte start code.
fn start_code(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        // The third byte of a start code is 1; a larger byte excludes two further positions at
        // once.
        match *data.get(at + 2)? {
            0 => at += 1,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 3,
        }
    }
}

fn push(
    payload: &Bytes,
    range: Range<usize>,
    (arrival, completed): (Duration, Duration),
    units: &mut Vec<Unit>,
) {
    // Zeros before a start code belong to it, because no unit ends in a zero.
    let is_last = range.end == payload.len();
    let begin = range.start;
    let data = &payload[range];
    let length = match data.iter().rposition(|byte| *byte != 0) {
        None => 0,
        Some(_) if is_last => data.len(),
        Some(last) => last + 1,
    };
    // Types 0 and 24 to 31 are not NAL units.
    if length > 0 && matches!(data[0] & 0x1f, 1..=23) {
        units.push(Unit { data: payload.slice(begin..begin + length), arrival, completed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(payloads: &[&[u8]]) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut depacketizer = Depacketizer::new(1000);
        let mut units = Vec::new();
        for payload in payloads {
            let payload = Bytes::copy_from_slice(payload);
            depacketizer.push(&payload, Duration::ZERO, true, &mut units)?;
        }
        depacketizer.close(&mut units);
        Ok(units.into_iter().map(|unit| unit.data.to_vec()).collect())
    }

    #[test]
    fn start_codes_in_payloads_are_removed() {
        let expected = Ok(vec![vec![0x67, 1, 2], vec![0x68, 3], vec![0x65, 4, 0, 0, 3, 1]]);
        let whole: &[u8] = &[0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 4, 0, 0, 3, 1];
        assert_eq!(units(&[whole]), expected);
        assert_eq!(units(&[&[&[0, 0, 1], whole].concat()]), expected);
        assert_eq!(units(&[&[&[0, 0, 0, 1], whole].concat()]), expected);
        // The sender used the start code's first byte as the unit's header when it fragmented the
        // unit.
        let with_code = [&[0, 0, 0, 1], whole].concat();
        let fragments =
            [[&[0x1c, 0x80], &with_code[1..6]].concat(), [&[0x1c, 0x40], &with_code[6..]].concat()];
        assert_eq!(units(&[&fragments[0], &fragments[1]]), expected);
        // A start code precedes the fragment's own header.
        let before = [&[0, 0, 0, 1, 0x7c, 0xc7], &whole[1..]].concat();
        assert_eq!(units(&[&before]), expected);
        let aggregate = [&[0x78, 0, 7, 0, 0, 0, 1], &whole[..3], &[0, 2], &whole[7..9]].concat();
        assert_eq!(units(&[&aggregate]), Ok(vec![vec![0x67, 1, 2], vec![0x68, 3]]));
    }

    #[test]
    fn fragments_without_start_or_end_bit_are_joined_without_loss() {
        let expected = Ok(vec![vec![0x65, 1, 2, 3], vec![0x41, 9]]);
        assert_eq!(units(&[&[0x7c, 0x85, 1], &[0x7c, 0x05, 2, 3], &[0x41, 9]]), expected);
        assert_eq!(units(&[&[0x7c, 0x05, 1], &[0x7c, 0x45, 2, 3], &[0x41, 9]]), expected);
        assert_eq!(units(&[&[0x7c, 0xc5, 1, 2, 3], &[0x41, 9]]), expected);
        let mut depacketizer = Depacketizer::new(1000);
        let (payload, mut units) = (Bytes::from_static(&[0x7c, 0x05, 1]), Vec::new());
        let lost = depacketizer.push(&payload, Duration::ZERO, false, &mut units);
        assert_eq!(lost, Err(Malformed), "its beginning may be what was lost");
    }

    #[test]
    fn interleaved_and_truncated_payloads_are_refused() {
        for payload in [&[0x79, 0, 1, 0, 2, 0x67, 1][..], &[0x7a, 0], &[0x7b, 0], &[0x7d, 0x85, 1]]
        {
            assert_eq!(units(&[payload]), Err(Malformed), "{payload:?}");
        }
        for payload in [&[0x78, 0, 2, 0x67, 1, 9][..], &[0x78, 0, 9, 0x67], &[0x7c]] {
            assert_eq!(units(&[payload]), Err(Malformed), "{payload:?}");
        }
        assert_eq!(units(&[&[0x7c, 0x85, 1], &[0x7c, 0x01, 1]]), Err(Malformed));
        // Unspecified types are skipped.
        assert_eq!(
            units(&[&[0x00, 1], &[0x1f, 1], &[0, 0, 0], &[0x65, 1]]),
            Ok(vec![vec![0x65, 1]])
        );
    }

    #[test]
    fn fragmented_unit_size_is_limited() {
        let mut depacketizer = Depacketizer::new(1000);
        let mut units = Vec::new();
        let begin = Bytes::from_static(&[0x7c, 0x85, 1]);
        depacketizer.push(&begin, Duration::ZERO, true, &mut units).unwrap();
        let mut payload = vec![0x7c, 0x05];
        payload.resize(600, 1);
        let payload = Bytes::from(payload);
        depacketizer.push(&payload, Duration::ZERO, true, &mut units).unwrap();
        let over = depacketizer.push(&payload, Duration::ZERO, true, &mut units);
        assert_eq!((over, depacketizer.bytes(), units.len()), (Err(Malformed), 0, 0));
    }

    proptest! {
        #[test]
        fn no_payload_panics(
            payloads in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..24), 1..8),
            kind in prop_oneof![Just(None), (0u8..32).prop_map(Some)],
            continuous in any::<bool>(),
        ) {
            let mut depacketizer = Depacketizer::new(40);
            let mut units = Vec::new();
            for mut payload in payloads {
                if let (Some(kind), Some(byte)) = (kind, payload.first_mut()) {
                    *byte = kind;
                }
                let payload = Bytes::from(payload);
                let _ = depacketizer.push(&payload, Duration::ZERO, continuous, &mut units);
                prop_assert!(depacketizer.bytes() <= 40);
            }
            depacketizer.close(&mut units);
            prop_assert!(units.iter().all(|unit| !unit.data.is_empty()));
        }
    }
}
