//! One continuous RTP stream out of several: a master that joins again sends with other sequence
//! numbers, and a jump backwards would break a viewer's SRTP.

use rtc::rtp::Packet;

/// Rewrites packets of changing sources into one stream.
#[derive(Debug)]
pub(super) struct Splice {
    ssrc: u32,
    payload_type: u8,
    /// Ticks between two sources.
    gap: u32,
    source: Option<Source>,
    last: Option<(u16, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
}

impl Splice {
    pub(super) fn new(ssrc: u32, payload_type: u8, gap: u32) -> Self {
        Self { ssrc, payload_type, gap, source: None, last: None }
    }

    /// Returns the packet as part of the stream.
    pub(super) fn join(&mut self, mut packet: Packet) -> Packet {
        let header = &mut packet.header;
        let source = match self.source {
            Some(source) if source.ssrc == header.ssrc => source,
            Some(_) | None => self.begin(header.ssrc, header.sequence_number, header.timestamp),
        };
        header.ssrc = self.ssrc;
        header.payload_type = self.payload_type;
        header.sequence_number = header.sequence_number.wrapping_add(source.sequence_offset);
        header.timestamp = header.timestamp.wrapping_add(source.timestamp_offset);
        let sequence = header.sequence_number;
        // Late packets do not move the end of the stream.
        if self.last.is_none_or(|(last, _)| sequence.wrapping_sub(last) < 0x8000) {
            self.last = Some((sequence, header.timestamp));
        }
        packet
    }

    fn begin(&mut self, ssrc: u32, sequence: u16, timestamp: u32) -> Source {
        let source = match self.last {
            None => Source { ssrc, sequence_offset: 0, timestamp_offset: 0 },
            Some((last_sequence, last_timestamp)) => Source {
                ssrc,
                sequence_offset: last_sequence.wrapping_add(1).wrapping_sub(sequence),
                timestamp_offset: last_timestamp.wrapping_add(self.gap).wrapping_sub(timestamp),
            },
        };
        self.source = Some(source);
        source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence_number: u16, timestamp: u32) -> Packet {
        let mut packet = Packet::default();
        packet.header.ssrc = ssrc;
        packet.header.sequence_number = sequence_number;
        packet.header.timestamp = timestamp;
        packet
    }

    #[test]
    fn rtp_stream_continues_across_sources() {
        let mut splice = Splice::new(7, 102, 3000);
        let mut out = |ssrc, sequence, timestamp| {
            let header = splice.join(packet(ssrc, sequence, timestamp)).header;
            assert_eq!((header.ssrc, header.payload_type), (7, 102));
            (header.sequence_number, header.timestamp)
        };
        assert_eq!(out(1, 65_534, 100), (65_534, 100));
        assert_eq!(out(1, 0, 200), (0, 200), "numbers wrap");
        assert_eq!(out(1, 65_535, 150), (65_535, 150), "a late one");
        assert_eq!(out(2, 40_000, 9_000_000), (1, 3200));
        assert_eq!(out(2, 40_001, 9_000_000), (2, 3200));
    }
}
