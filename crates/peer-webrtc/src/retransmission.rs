//! Requests lost packets, and turns packets of retransmission streams (RFC 4588) back into packets
//! of the media streams.
//!
//! A master may resend on the media stream itself or on a separate stream (RTX) with its own SSRC,
//! payload type and sequence numbers; GStreamer supports only the latter. The stack's NACK
//! generator sits before its RTX handling, so it would keep requesting packets that RTX has
//! delivered, and it knows RTX only if the description pairs the SSRCs. This interceptor replaces
//! both: an RTX packet becomes the media packet that it repeats before any other part sorts or
//! counts it, so all parts see the gap filled.
//!
//! Requests are limited: one packet is requested [`stream::REQUESTS_MAX`] times, at intervals no
//! shorter than the round trip, and a gap of more than [`stream::GAP_MAX`] packets counts as a
//! jump of the sender.

mod formats;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

pub(crate) use formats::Formats;
use formats::Meaning;
use stream::{Arrival, Stream};

/// The most media streams followed at once; a further one replaces the stream that has been silent
/// longest.
const STREAMS_MAX: usize = 16;
/// The most retransmission streams with a known media stream; see [`STREAMS_MAX`].
const PAIRS_MAX: usize = 32;
/// The round trip until one is measured, and the shortest and longest time between two requests.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const AGAIN_MIN: Duration = Duration::from_millis(30);
const AGAIN_MAX: Duration = Duration::from_millis(400);

/// The interceptor that requests and restores lost packets.
pub(crate) struct Retransmissions {
    formats: Formats,
    streams: BTreeMap<u32, Stream>,
    /// Undeclared retransmission streams with their media streams, as derived from their packets.
    learned: VecDeque<(u32, u32)>,
    round_trip: Duration,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Retransmissions {
    pub(crate) fn new(formats: Formats) -> Self {
        Self {
            formats,
            streams: BTreeMap::new(),
            learned: VecDeque::new(),
            round_trip: ROUND_TRIP,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    /// Processes a packet. Returns the packet to pass on, if any.
    fn rtp(&mut self, mut packet: rtc::rtp::Packet, at: Instant) -> Option<rtc::rtp::Packet> {
        let (payload_type, ssrc) = match self.formats.meaning(&packet.header) {
            Meaning::Other => return Some(packet),
            Meaning::Video => {
                self.arrived(&packet.header, at);
                return Some(packet);
            }
            Meaning::Rtx { payload_type, ssrc } => (payload_type, ssrc),
        };
        // A packet without the original's sequence number is padding that probes the path.
        let [high, low, ..] = packet.payload[..] else { return None };
        let seq = u16::from_be_bytes([high, low]);
        let ssrc = ssrc.or_else(|| self.repeated(packet.header.ssrc, payload_type, seq))?;
        packet.header.ssrc = ssrc;
        packet.header.payload_type = payload_type;
        packet.header.sequence_number = seq;
        packet.header.padding = false;
        packet.payload = packet.payload.slice(2..);
        (self.arrived(&packet.header, at) != Arrival::Known).then_some(packet)
    }

    fn arrived(&mut self, header: &rtc::rtp::Header, at: Instant) -> Arrival {
        let (ssrc, payload_type) = (header.ssrc, header.payload_type);
        let Some(stream) = self.streams.get_mut(&ssrc) else {
            if self.streams.len() >= STREAMS_MAX {
                let silent = self.streams.iter().min_by_key(|(_, stream)| stream.last_packet);
                if let Some(gone) = silent.map(|(ssrc, _)| *ssrc) {
                    self.streams.remove(&gone);
                }
            }
            self.streams.insert(ssrc, Stream::new(payload_type, header.sequence_number, at));
            return Arrival::New;
        };
        stream.payload_type = payload_type;
        stream.last_packet = at;
        let arrival = stream.take(header.sequence_number, at);
        if let Arrival::Requested(Some(took)) = arrival {
            self.round_trip = (self.round_trip * 7 + took) / 8;
        }
        arrival
    }

    /// Returns the media stream that an undeclared retransmission stream repeats: the one that
    /// lacks this packet, or the only one with this payload type (RFC 4588, 5.3).
    fn repeated(&mut self, rtx: u32, payload_type: u8, seq: u16) -> Option<u32> {
        if let Some((_, media)) = self.learned.iter().find(|(known, _)| *known == rtx) {
            return Some(*media);
        }
        let of_type = || self.streams.iter().filter(|(_, s)| s.payload_type == payload_type);
        let mut lacking = of_type().filter(|(_, stream)| stream.lacks(seq));
        let media = match (lacking.next(), lacking.next()) {
            (Some((media, _)), None) => *media,
            (Some(_), Some(_)) => return None,
            (None, _) => match (of_type().next(), of_type().nth(1)) {
                (Some((media, _)), None) => *media,
                _ => return None,
            },
        };
        if self.learned.len() >= PAIRS_MAX {
            self.learned.pop_front();
        }
        self.learned.push_back((rtx, media));
        Some(media)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Retransmissions {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(packet) = &mut msg.message.packet {
            let Some(passed) = self.rtp(std::mem::take(packet), msg.now) else { return Ok(()) };
            *packet = passed;
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        let again = (self.round_trip * 3 / 2).clamp(AGAIN_MIN, AGAIN_MAX);
        for (media_ssrc, stream) in &mut self.streams {
            let due = stream.due(now, again);
            if due.is_empty() {
                continue;
            }
            let nack = TransportLayerNack {
                sender_ssrc: 0,
                media_ssrc: *media_ssrc,
                nacks: nack_pairs_from_sequence_numbers(&due),
            };
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)])),
            });
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.streams.values().filter_map(Stream::next).min()
    }
}

impl Interceptor for Retransmissions {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}

#[cfg(test)]
mod tests;
