//! Puts packets back in the order of their sequence numbers, and reports the ones that are lost
//! for good.
//!
//! It uses only sequence numbers and arrival times, not payloads. It is bounded in packets and in
//! time: it waits for a missing packet only as long as a retransmission may still come.

use std::collections::BTreeMap;
use std::time::Duration;

/// RFC 3550, appendix A.1: a larger jump means that the sender restarted, not that packets were
/// lost.
const JUMP_MAX: u64 = 3000;

/// The first extended sequence number, large enough that packets older than the first have a
/// number too.
const ORIGIN: u64 = 1 << 32;

/// The result of inserting a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insertion {
    /// It waits for its turn, or can be taken at once.
    Accepted,
    /// It has already arrived.
    Duplicate,
    /// It came after its place was given up or taken.
    Late,
    /// It is far from the others, and kept; a second one in sequence with it means a restart.
    Suspicious,
    /// The sender restarted: the suspicious packet is released first, then this one.
    Restarted,
}

/// The output of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Released<T> {
    /// The next packet in order.
    Packet(T),
    /// This many packets were given up here.
    Gap(u64),
}

/// The reorder buffer; `T` is the packet.
#[derive(Debug)]
pub(crate) struct ReorderBuffer<T> {
    wait: Duration,
    capacity: usize,
    waiting: BTreeMap<u64, (Duration, T)>,
    /// The sequence number to release next; `None` before the first packet.
    next: Option<u64>,
    highest: u64,
    /// Whether a packet was released or may be released. Until then, packets earlier than the
    /// first one are accepted too.
    started: bool,
    /// A packet far from the others; the next one in sequence would confirm a restart.
    suspect: Option<(u16, Duration, T)>,
}

impl<T> ReorderBuffer<T> {
    pub(crate) fn new(wait: Duration, capacity: usize) -> Self {
        Self {
            wait,
            capacity: capacity.max(1),
            waiting: BTreeMap::new(),
            next: None,
            highest: 0,
            started: false,
            suspect: None,
        }
    }

    /// Inserts a packet. After `Restarted` the packet is the first of a new sequence and the old
    /// one is discarded, so call [`Self::drain`] before if [`Self::is_restart`] returns true.
    pub(crate) fn insert(&mut self, sequence: u16, arrival: Duration, packet: T) -> Insertion {
        let Some(next) = self.next else {
            self.begin(sequence, arrival, packet);
            return Insertion::Accepted;
        };
        let number = self.extend(sequence);
        if number > self.highest + JUMP_MAX || number + JUMP_MAX < next {
            if let Some((first, came, before)) =
                self.suspect.take_if(|(before, ..)| before.wrapping_add(1) == sequence)
            {
                self.reset();
                self.begin(first, came, before);
                let number = self.extend(sequence);
                self.highest = number;
                self.waiting.insert(number, (arrival, packet));
                return Insertion::Restarted;
            }
            self.suspect = Some((sequence, arrival, packet));
            return Insertion::Suspicious;
        }
        self.suspect = None;
        if number < next {
            if self.started {
                return Insertion::Late;
            }
            self.next = Some(number);
        }
        if self.waiting.contains_key(&number) {
            return Insertion::Duplicate;
        }
        self.highest = self.highest.max(number);
        self.waiting.insert(number, (arrival, packet));
        Insertion::Accepted
    }

    /// Returns whether inserting this sequence number now would restart the buffer.
    pub(crate) fn is_restart(&self, sequence: u16) -> bool {
        let Some(next) = self.next else { return false };
        let number = self.extend(sequence);
        let follows = |(before, ..): &(u16, Duration, T)| before.wrapping_add(1) == sequence;
        self.suspect.as_ref().is_some_and(follows)
            && (number > self.highest + JUMP_MAX || number + JUMP_MAX < next)
    }

    /// Lets the stream begin with the packets that have arrived. Otherwise its first packet waits
    /// as long as a missing one.
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    /// Takes the next packet or gap that is due at `now`.
    pub(crate) fn release(&mut self, now: Duration) -> Option<Released<T>> {
        let (&first, &(arrival, _)) = self.waiting.first_key_value()?;
        let next = self.next?;
        let due = now.saturating_sub(arrival) >= self.wait || self.waiting.len() > self.capacity;
        if !self.started && !due {
            return None;
        }
        self.started = true;
        if first > next {
            if !due {
                return None;
            }
            self.next = Some(first);
            return Some(Released::Gap(first - next));
        }
        self.take_first()
    }

    /// Takes the next packet or gap without waiting for anything more.
    pub(crate) fn drain(&mut self) -> Option<Released<T>> {
        self.started = true;
        let (&first, _) = self.waiting.first_key_value()?;
        let next = self.next?;
        if first > next {
            self.next = Some(first);
            return Some(Released::Gap(first - next));
        }
        self.take_first()
    }

    /// Discards the sequence; the next packet begins another.
    pub(crate) fn reset(&mut self) {
        self.waiting.clear();
        self.next = None;
        self.started = false;
        self.suspect = None;
    }

    fn take_first(&mut self) -> Option<Released<T>> {
        let (number, (_, packet)) = self.waiting.pop_first()?;
        self.next = Some(number + 1);
        Some(Released::Packet(packet))
    }

    fn begin(&mut self, sequence: u16, arrival: Duration, packet: T) {
        let number = ORIGIN + u64::from(sequence);
        self.next = Some(number);
        self.highest = number;
        self.suspect = None;
        self.waiting.insert(number, (arrival, packet));
    }

    /// Returns the number nearest to the highest one that ends in these 16 bits.
    fn extend(&self, sequence: u16) -> u64 {
        let low = self.highest.to_be_bytes();
        let ahead = sequence.wrapping_sub(u16::from_be_bytes([low[6], low[7]]));
        if ahead < 0x8000 {
            self.highest + u64::from(ahead)
        } else {
            self.highest.saturating_sub(0x1_0000 - u64::from(ahead))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WAIT: Duration = Duration::from_millis(500);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn take_all(buffer: &mut ReorderBuffer<u16>, now: Duration) -> Vec<Released<u16>> {
        std::iter::from_fn(|| buffer.release(now)).collect()
    }

    #[test]
    fn missing_packet_is_given_up_after_wait() {
        let mut buffer = ReorderBuffer::new(WAIT, 100);
        buffer.start();
        for sequence in [65534, 65535, 1] {
            buffer.insert(sequence, ms(0), sequence);
        }
        assert_eq!(
            take_all(&mut buffer, ms(499)),
            [Released::Packet(65534), Released::Packet(65535)]
        );
        assert_eq!(take_all(&mut buffer, ms(500)), [Released::Gap(1), Released::Packet(1)]);
        assert_eq!(buffer.insert(0, ms(501), 0), Insertion::Late);
    }

    #[test]
    fn full_buffer_gives_up_first_missing_packet() {
        let mut buffer = ReorderBuffer::new(WAIT, 3);
        buffer.start();
        buffer.insert(0, ms(0), 0);
        assert_eq!(take_all(&mut buffer, ms(0)), [Released::Packet(0)]);
        for sequence in [2, 3, 4] {
            buffer.insert(sequence, ms(0), sequence);
        }
        assert_eq!(take_all(&mut buffer, ms(0)), []);
        buffer.insert(5, ms(0), 5);
        assert_eq!(take_all(&mut buffer, ms(0)).len(), 5);
    }

    #[test]
    fn one_stray_packet_is_not_a_restart_but_two_in_sequence_are() {
        let mut buffer = ReorderBuffer::new(WAIT, 100);
        buffer.start();
        buffer.insert(10, ms(0), 10);
        assert_eq!(take_all(&mut buffer, ms(0)), [Released::Packet(10)]);
        assert_eq!(buffer.insert(30_000, ms(0), 30_000), Insertion::Suspicious);
        assert_eq!(buffer.insert(11, ms(0), 11), Insertion::Accepted);
        assert_eq!(buffer.insert(30_001, ms(0), 30_001), Insertion::Suspicious);
        assert!(buffer.is_restart(30_002));
        assert_eq!(buffer.insert(30_002, ms(0), 30_002), Insertion::Restarted);
        buffer.start();
        let released = [Released::Packet(30_001), Released::Packet(30_002)];
        assert_eq!(take_all(&mut buffer, ms(0)), released);
    }

    #[test]
    fn earlier_packets_are_accepted_until_stream_starts() {
        let mut buffer = ReorderBuffer::new(WAIT, 100);
        for sequence in [3, 2, 0] {
            assert_eq!(buffer.insert(sequence, ms(0), sequence), Insertion::Accepted);
            assert_eq!(take_all(&mut buffer, ms(0)), []);
        }
        buffer.start();
        assert_eq!(take_all(&mut buffer, ms(0)), [Released::Packet(0)]);
        assert_eq!(buffer.insert(65_535, ms(0), 65_535), Insertion::Late);
        // Nothing starts the stream: the first packet waits as long as a missing one.
        let mut buffer = ReorderBuffer::new(WAIT, 100);
        buffer.insert(7, ms(0), 7);
        assert_eq!(take_all(&mut buffer, ms(499)), []);
        assert_eq!(take_all(&mut buffer, ms(500)), [Released::Packet(7)]);
    }

    proptest! {
        /// Despite any reordering, loss or repetition, packets are released in order and only
        /// once, and packets plus gaps account for the whole range.
        #[test]
        fn packets_are_released_in_order_and_fully_counted(
            start in any::<u16>(),
            fates in proptest::collection::vec((0u8..10, 0u64..40), 1..400),
        ) {
            let mut arrivals = Vec::new();
            for (index, &(fate, delay)) in fates.iter().enumerate() {
                let index = u64::try_from(index).unwrap();
                let sent = index * 5;
                match fate {
                    0 if index > 0 => {}
                    1 => {
                        arrivals.push((sent, index));
                        arrivals.push((sent + delay * 5, index));
                    }
                    2 | 3 if index > 0 => arrivals.push((sent + delay * 5, index)),
                    _ => arrivals.push((sent, index)),
                }
            }
            arrivals.sort();
            let mut buffer = ReorderBuffer::new(ms(250), 64);
        buffer.start();
            let mut out: Vec<u64> = Vec::new();
            let mut position = 0u64;
            let mut take = |released: Released<u64>| match released {
                Released::Packet(index) => {
                    assert_eq!(index, position);
                    position += 1;
                    out.push(index);
                }
                Released::Gap(lost) => position += lost,
            };
            for &(at, index) in &arrivals {
                let sequence = start.wrapping_add(u16::try_from(index).unwrap());
                buffer.insert(sequence, ms(at), index);
                while let Some(released) = buffer.release(ms(at)) {
                    take(released);
                }
                prop_assert!(buffer.waiting.len() <= 64);
            }
            while let Some(released) = buffer.drain() {
                take(released);
            }
            let mut expected: Vec<u64> = arrivals.iter().map(|&(_, index)| index).collect();
            expected.sort_unstable();
            expected.dedup();
            // No packet is more than 40 * 5 ms late, which is less than the wait for a missing
            // packet.
            prop_assert_eq!(out, expected);
        }
    }
}
