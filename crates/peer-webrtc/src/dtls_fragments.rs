//! Trims DTLS handshake fragments so that the stack can reassemble them.
//!
//! A message that does not fit a datagram is sent in fragments, and a retransmission may split it
//! at other places (RFC 6347, 4.2.3), as OpenSSL does. rtc-dtls joins only fragments that end
//! where the next begins, so that one lost datagram of such a handshake fails the whole attempt
//! (`docs/upstream/rtc-dtls-fragments.md`). This filter passes only the part of each fragment that
//! it has not passed before, so that the fragments which the stack gets never overlap. It stores
//! only the ranges that it passed.

use std::collections::BTreeMap;

/// The most handshake messages to track: a whole handshake has about ten.
const MESSAGES_MAX: usize = 32;
/// The most separate ranges of one message.
const PARTS_MAX: usize = 64;

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;

/// The fragments of one connection's handshake.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    messages: BTreeMap<u16, Message>,
}

/// A handshake message, by its sequence number.
#[derive(Debug)]
struct Message {
    kind: u8,
    length: u32,
    /// The ranges that were passed: `begin..end`, in order, without overlap.
    parts: Vec<(u32, u32)>,
}

impl Message {
    fn is_whole(&self) -> bool {
        self.parts.iter().map(|(begin, end)| end - begin).sum::<u32>() == self.length
    }

    /// Returns the first part of a range that was not passed before.
    fn new_part(&self, begin: u32, end: u32) -> Option<(u32, u32)> {
        let mut at = begin;
        for (known_begin, known_end) in &self.parts {
            if at < *known_begin {
                return (at < end).then_some((at, end.min(*known_begin)));
            }
            at = at.max(*known_end);
        }
        (at < end).then_some((at, end))
    }

    fn add(&mut self, part: (u32, u32)) {
        let place = self.parts.partition_point(|known| known.0 < part.0);
        self.parts.insert(place, part);
    }
}

impl Fragments {
    /// Returns the replacement for a datagram: `None` passes the datagram unchanged, and an empty
    /// one is dropped. The replacement is never longer than the datagram.
    pub(crate) fn rewrite(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut is_changed = false;
        let mut rest = datagram;
        while let Some((record, after)) = split_record(rest) {
            match self.rewrite_record(record) {
                None => out.extend(record),
                Some(rewritten) => {
                    is_changed = true;
                    out.extend(rewritten);
                }
            }
            rest = after;
        }
        out.extend(rest);
        is_changed.then_some(out)
    }

    fn rewrite_record(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = record.split_at_checked(RECORD_HEADER)?;
        let [HANDSHAKE, _, _, 0, 0, ..] = header else { return None };
        let (fragment, data) = body.split_at_checked(HANDSHAKE_HEADER)?;
        let [kind, l0, l1, l2, s0, s1, o0, o1, o2, f0, f1, f2] = *fragment else { return None };
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let (begin, size) =
            (u32::from_be_bytes([0, o0, o1, o2]), u32::from_be_bytes([0, f0, f1, f2]));
        let end = begin.checked_add(size)?;
        // A record with several messages has no fragments.
        if usize::try_from(size) != Ok(data.len()) || size == 0 || end > length {
            return None;
        }
        let number = u16::from_be_bytes([s0, s1]);
        if !self.messages.contains_key(&number) && self.messages.len() >= MESSAGES_MAX {
            return None;
        }
        let message = self.messages.entry(number).or_insert_with(|| Message {
            kind,
            length,
            parts: Vec::new(),
        });
        // A repeated complete message passes: the stack recognizes a retransmission by it.
        let is_other = (message.kind, message.length) != (kind, length);
        if is_other || message.is_whole() || message.parts.len() >= PARTS_MAX {
            return None;
        }
        let Some((new_begin, new_end)) = message.new_part(begin, end) else {
            return Some(Vec::new());
        };
        message.add((new_begin, new_end));
        if (new_begin, new_end) == (begin, end) {
            return None;
        }
        let part =
            usize::try_from(new_begin - begin).ok()?..usize::try_from(new_end - begin).ok()?;
        let data = data.get(part)?;
        let record_length = u16::try_from(HANDSHAKE_HEADER + data.len()).ok()?;
        let mut out = header.get(..RECORD_HEADER - 2)?.to_vec();
        out.extend(record_length.to_be_bytes());
        out.extend(fragment.get(..6)?);
        out.extend(new_begin.to_be_bytes().get(1..)?);
        out.extend((new_end - new_begin).to_be_bytes().get(1..)?);
        out.extend(data);
        Some(out)
    }
}

fn split_record(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = datagram.get(RECORD_HEADER - 2..RECORD_HEADER)?;
    let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
    datagram.split_at_checked(RECORD_HEADER + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 100;

    fn message() -> Vec<u8> {
        (0..100).collect()
    }

    fn record(number: u8, begin: usize, end: usize) -> Vec<u8> {
        let small = |n: usize| u8::try_from(n).expect("small");
        let data = &message()[begin..end];
        let mut record = vec![HANDSHAKE, 254, 253, 0, 0, 0, 0, 0, 0, 0, number, 0];
        record.push(small(HANDSHAKE_HEADER + data.len()));
        record.extend([
            11,
            0,
            0,
            small(LENGTH),
            0,
            number,
            0,
            0,
            small(begin),
            0,
            0,
            small(data.len()),
        ]);
        record.extend(data);
        record
    }

    /// Joins fragments as rtc-dtls does: each begins where the one before ended.
    fn joined(fragments: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        while whole.len() < LENGTH {
            let next = fragments.iter().find(|f| usize::from(f[21]) == whole.len())?;
            whole.extend(&next[RECORD_HEADER + HANDSHAKE_HEADER..]);
        }
        Some(whole)
    }

    fn given(fragments: &mut Fragments, datagram: &[u8]) -> Vec<Vec<u8>> {
        let rewritten = fragments.rewrite(datagram);
        assert!(rewritten.as_ref().is_none_or(|out| out.len() <= datagram.len()));
        let mut rest = rewritten.as_deref().unwrap_or(datagram);
        let mut records = Vec::new();
        while let Some((record, after)) = split_record(rest) {
            records.push(record.to_vec());
            rest = after;
        }
        assert!(rest.is_empty());
        records
    }

    #[test]
    fn differently_fragmented_retransmission_is_reassembled() {
        for lost in 0..4 {
            let first = [(0, 30), (30, 60), (60, 90), (90, 100)];
            let again = [(0, 45), (45, 80), (80, 100)];
            let mut fragments = Fragments::default();
            let mut got = Vec::new();
            for (at, (begin, end)) in first.into_iter().enumerate() {
                if at != lost {
                    got.extend(given(&mut fragments, &record(1, begin, end)));
                }
            }
            assert_eq!(joined(&got), None);
            for (begin, end) in again {
                got.extend(given(&mut fragments, &record(1, begin, end)));
            }
            assert_eq!(joined(&got).as_deref(), Some(&message()[..]), "{lost}");
        }
    }

    #[test]
    fn whole_message_fills_gaps_and_duplicates_are_dropped() {
        let mut fragments = Fragments::default();
        let mut got = given(&mut fragments, &record(1, 40, 70));
        assert!(given(&mut fragments, &record(1, 40, 70)).is_empty());
        assert!(given(&mut fragments, &record(1, 50, 60)).is_empty());
        // The first retransmission fills the first of two gaps, and the next fills the second.
        for _ in 0..2 {
            got.extend(given(&mut fragments, &record(1, 0, LENGTH)));
        }
        assert_eq!(joined(&got).as_deref(), Some(&message()[..]));
        // The message is complete, so this is a retransmission, which must reach the stack.
        assert_eq!(given(&mut fragments, &record(1, 0, 30)), [record(1, 0, 30)]);
    }

    #[test]
    fn multiple_records_and_other_datagrams_pass_unchanged() {
        let mut fragments = Fragments::default();
        let datagram = [record(1, 0, 60), record(2, 0, LENGTH)].concat();
        assert_eq!(given(&mut fragments, &datagram), [record(1, 0, 60), record(2, 0, LENGTH)]);
        let datagram = [record(1, 30, 100), record(3, 0, 10)].concat();
        assert_eq!(given(&mut fragments, &datagram), [record(1, 60, 100), record(3, 0, 10)]);
        let mut encrypted = record(4, 0, 10);
        encrypted[4] = 1;
        for other in [&encrypted[..], &encrypted[..20], &[23, 254, 253], &[]] {
            assert_eq!(fragments.rewrite(other), None);
            assert_eq!(fragments.rewrite(other), None);
        }
    }

    #[test]
    fn tracked_messages_and_ranges_are_limited() {
        let mut fragments = Fragments::default();
        for number in 0..=255 {
            for begin in (0..LENGTH).step_by(2) {
                let _ = fragments.rewrite(&record(number, begin, begin + 1));
                let _ = fragments.rewrite(&record(number, begin, begin + 2));
            }
        }
        assert_eq!(fragments.messages.len(), MESSAGES_MAX);
        assert!(fragments.messages.values().all(|message| message.parts.len() <= PARTS_MAX));
    }
}
