//! Whole frames out of the packets of one track, whatever the network did to them.
//!
//! A frame that lacks a packet for good is dropped, and with it all that may refer to it: the next frame
//! given out is a keyframe. Sound has no such ties; a lost packet is only counted.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rtc_rtp::packet::Packet;

use crate::codec::{Codec, VideoCodec};
use crate::depacketize::FrameBuilder;
use crate::h264::{NAL_IDR, NAL_PPS, NAL_SPS, length_prefixed_nals, nal_type};
use crate::reorder::{Insertion, Released, ReorderBuffer};

/// The limits of a [`FrameAssembler`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssemblerConfig {
    /// How long a missing packet is waited for. Long enough for a few rounds of NACK (100 ms each).
    pub reorder_wait: Duration,
    /// How many packets wait at most behind a missing one: about 2.5 MB, or half a second at 40 Mbps.
    pub reorder_packets_max: usize,
    /// The largest frame; a longer one is dropped.
    pub frame_bytes_max: usize,
}

impl Default for AssemblerConfig {
    fn default() -> Self {
        Self {
            reorder_wait: Duration::from_millis(600),
            reorder_packets_max: 2048,
            frame_bytes_max: 8 << 20,
        }
    }
}

/// The parameter sets that an H.264 keyframe uses, without start codes or lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    /// The sequence parameter set.
    pub sps: Bytes,
    /// The picture parameter set.
    pub pps: Bytes,
}

/// A whole frame, or one packet of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How it is encoded.
    pub codec: Codec,
    /// The source whose packets carried it.
    pub ssrc: u32,
    /// The RTP timestamp that its packets carried.
    pub rtp_timestamp: u32,
    /// When its first packet came.
    pub arrival: Duration,
    /// When its last packet came.
    pub completed: Duration,
    /// Counts up where the timestamps before and after have nothing in common (another SSRC, a sender that
    /// began anew).
    pub epoch: u32,
    /// Whether it can be decoded without any other; always so for sound.
    pub keyframe: bool,
    /// The picture's size, for keyframes.
    pub size: Option<(u16, u16)>,
    /// The parameter sets of an H.264 keyframe. They are in `data` too.
    pub parameter_sets: Option<ParameterSets>,
    /// The frame; H.264 as NAL units with four bytes of length before each.
    pub data: Bytes,
}

/// What has come in on a track, counted after reordering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaStats {
    /// Packets taken in, duplicates and late ones among them.
    pub packets: u64,
    /// Bytes of payload taken in.
    pub bytes: u64,
    /// Packets that never came, or came after they were given up.
    pub lost: u64,
    /// Packets that were there already.
    pub duplicate: u64,
    /// Packets that came after their place was given up, or from a source that is no longer the track's.
    pub late: u64,
    /// Packets that are not of the codec's format.
    pub malformed: u64,
    /// Whole frames, or packets of sound.
    pub frames: u64,
    /// How many of them were keyframes; 0 for sound.
    pub keyframes: u64,
    /// Frames dropped because they were incomplete or referred to one that was.
    pub frames_dropped: u64,
    /// When the first keyframe (or packet of sound) was whole.
    pub first_keyframe_at: Option<Duration>,
    /// How often another SSRC took over.
    pub source_changes: u64,
}

/// Puts the packets of one track in order and together; see the module.
#[derive(Debug)]
pub struct FrameAssembler {
    codec: Codec,
    config: AssemblerConfig,
    reorder: ReorderBuffer<(Duration, Packet)>,
    source: Option<u32>,
    /// The source before this one and when it was left: its stragglers are not a change back.
    previous_source: Option<(u32, Duration)>,
    epoch: u32,
    partial: Option<Partial>,
    /// Packets were lost since the last one that was taken into a frame.
    gap: bool,
    keyframe_needed: bool,
    sps: Option<Bytes>,
    pps: Option<Bytes>,
    ready: VecDeque<Frame>,
    stats: MediaStats,
}

/// Stragglers of a source that was left are told from a change back to it by this much time.
const SOURCE_LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Partial {
    rtp_timestamp: u32,
    arrival: Duration,
    broken: bool,
    builder: FrameBuilder,
}

impl FrameAssembler {
    /// An assembler with the default limits.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self::with_config(codec, AssemblerConfig::default())
    }

    /// An assembler with limits of the caller's.
    #[must_use]
    pub fn with_config(codec: Codec, config: AssemblerConfig) -> Self {
        Self {
            codec,
            reorder: ReorderBuffer::new(config.reorder_wait, config.reorder_packets_max),
            config,
            source: None,
            previous_source: None,
            epoch: 0,
            partial: None,
            gap: false,
            keyframe_needed: matches!(codec, Codec::Video(_)),
            sps: None,
            pps: None,
            ready: VecDeque::new(),
            stats: MediaStats::default(),
        }
    }

    /// Takes a packet that came at `arrival`. Times must not go back; take the frames out with
    /// [`Self::pop`] after each packet.
    pub fn push(&mut self, arrival: Duration, packet: Packet) {
        self.stats.packets += 1;
        self.stats.bytes += u64::try_from(packet.payload.len()).unwrap_or(u64::MAX);
        if !self.accept_source(packet.header.ssrc, arrival) {
            self.stats.late += 1;
            return;
        }
        let sequence = packet.header.sequence_number;
        if self.reorder.is_restart(sequence) {
            self.flush();
            self.begin_epoch();
        }
        match self.reorder.insert(sequence, arrival, (arrival, packet)) {
            Insertion::Accepted | Insertion::Restarted => {}
            Insertion::Duplicate => self.stats.duplicate += 1,
            Insertion::Late | Insertion::Suspicious => self.stats.late += 1,
        }
        while let Some(released) = self.reorder.release(arrival) {
            self.take(released, arrival);
        }
    }

    /// Time passed without a packet: gives up packets that were waited for too long.
    pub fn advance(&mut self, now: Duration) {
        while let Some(released) = self.reorder.release(now) {
            self.take(released, now);
        }
    }

    /// The next whole frame.
    pub fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Waits for nothing more: what is whole can be taken, missing packets are given up.
    pub fn flush(&mut self) {
        while let Some(released) = self.reorder.drain() {
            let now = match &released {
                Released::Packet((arrival, _)) => *arrival,
                Released::Gap(_) => Duration::ZERO,
            };
            self.take(released, now);
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> &MediaStats {
        &self.stats
    }

    /// Whether nothing can be shown before a keyframe comes: the moment to ask the sender for one.
    #[must_use]
    pub fn needs_keyframe(&self) -> bool {
        self.keyframe_needed
    }

    /// The source whose packets are taken.
    #[must_use]
    pub fn ssrc(&self) -> Option<u32> {
        self.source
    }

    /// The bytes of the frame that is being put together, a begun fragment included.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.builder.len())
    }

    fn accept_source(&mut self, ssrc: u32, arrival: Duration) -> bool {
        match self.source {
            Some(current) if current == ssrc => true,
            Some(current) => {
                let straggler = self.previous_source.is_some_and(|(previous, left)| {
                    previous == ssrc && arrival.saturating_sub(left) < SOURCE_LINGER
                });
                if straggler {
                    return false;
                }
                self.flush();
                self.begin_epoch();
                self.previous_source = Some((current, arrival));
                self.source = Some(ssrc);
                self.stats.source_changes += 1;
                true
            }
            None => {
                self.source = Some(ssrc);
                true
            }
        }
    }

    fn begin_epoch(&mut self) {
        self.drop_partial();
        self.reorder.reset();
        self.epoch = self.epoch.wrapping_add(1);
        self.gap = false;
        self.keyframe_needed = matches!(self.codec, Codec::Video(_));
    }

    fn take(&mut self, released: Released<(Duration, Packet)>, now: Duration) {
        match released {
            Released::Gap(lost) => {
                self.stats.lost += lost;
                self.gap = true;
                if let Some(partial) = &mut self.partial {
                    partial.broken = true;
                }
            }
            // Padding alone: a bandwidth probe that belongs to no frame.
            Released::Packet((_, packet)) if packet.payload.is_empty() => {}
            Released::Packet((arrival, packet)) => self.take_packet(arrival, &packet, now),
        }
    }

    fn take_packet(&mut self, arrival: Duration, packet: &Packet, now: Duration) {
        let rtp_timestamp = packet.header.timestamp;
        if let Codec::Audio(_) = self.codec {
            self.gap = false;
            self.emit(
                Frame {
                    codec: self.codec,
                    ssrc: packet.header.ssrc,
                    rtp_timestamp,
                    arrival,
                    completed: now.max(arrival),
                    epoch: self.epoch,
                    keyframe: true,
                    size: None,
                    parameter_sets: None,
                    data: packet.payload.clone(),
                },
                now,
            );
            return;
        }
        if self.partial.as_ref().is_some_and(|partial| partial.rtp_timestamp != rtp_timestamp) {
            // The last packet had no marker, or it is the one that was lost.
            self.finish_partial(now);
        }
        let partial = match &mut self.partial {
            Some(partial) => partial,
            None => {
                let builder = FrameBuilder::new(self.codec);
                let begins = builder.begins_frame(&packet.payload);
                // Without a gap, H.264 may begin with any NAL unit (SEI, a later slice type).
                let must_begin = self.gap || !matches!(self.codec, Codec::Video(VideoCodec::H264));
                self.keyframe_needed |= self.gap;
                self.partial.insert(Partial {
                    rtp_timestamp,
                    arrival,
                    broken: must_begin && !begins,
                    builder,
                })
            }
        };
        self.gap = false;
        if !partial.broken {
            if partial.builder.append(&packet.payload).is_err() {
                self.stats.malformed += 1;
                partial.broken = true;
            } else if partial.builder.len() > self.config.frame_bytes_max {
                partial.broken = true;
            }
            if partial.broken {
                // What was collected is of no use any more.
                partial.builder = FrameBuilder::new(self.codec);
            }
        }
        if packet.header.marker {
            self.finish_partial(now);
        }
    }

    fn drop_partial(&mut self) {
        if self.partial.take().is_some() {
            self.stats.frames_dropped += 1;
        }
    }

    fn finish_partial(&mut self, now: Duration) {
        let Some(partial) = self.partial.take() else { return };
        let data = if partial.broken { None } else { partial.builder.finish().ok() };
        let Some(data) = data else {
            self.stats.frames_dropped += 1;
            self.keyframe_needed = true;
            return;
        };
        let Codec::Video(codec) = self.codec else { return };
        let picture = match codec {
            VideoCodec::H264 => self.h264_picture(data),
            VideoCodec::Vp8 => vp8_picture(data),
            VideoCodec::Vp9 => vp9_picture(data),
        };
        match picture {
            Picture::None => {}
            Picture::Inter(_) if self.keyframe_needed => self.stats.frames_dropped += 1,
            Picture::Inter(data) => self.emit(
                Frame {
                    codec: self.codec,
                    ssrc: self.source.unwrap_or_default(),
                    rtp_timestamp: partial.rtp_timestamp,
                    arrival: partial.arrival,
                    completed: now.max(partial.arrival),
                    epoch: self.epoch,
                    keyframe: false,
                    size: None,
                    parameter_sets: None,
                    data,
                },
                now,
            ),
            Picture::Key { data, size, parameter_sets } => {
                self.keyframe_needed = false;
                self.stats.keyframes += 1;
                self.emit(
                    Frame {
                        codec: self.codec,
                        ssrc: self.source.unwrap_or_default(),
                        rtp_timestamp: partial.rtp_timestamp,
                        arrival: partial.arrival,
                        completed: now.max(partial.arrival),
                        epoch: self.epoch,
                        keyframe: true,
                        size: Some(size),
                        parameter_sets,
                        data,
                    },
                    now,
                );
            }
            Picture::Bad => {
                self.stats.frames_dropped += 1;
                self.keyframe_needed = true;
            }
        }
    }

    fn emit(&mut self, frame: Frame, now: Duration) {
        self.stats.frames += 1;
        if frame.keyframe {
            self.stats.first_keyframe_at.get_or_insert(now.max(frame.arrival));
        }
        self.ready.push_back(frame);
    }

    /// Remembers parameter sets and puts the last ones before an IDR picture that comes without.
    fn h264_picture(&mut self, data: Bytes) -> Picture {
        let (mut slices, mut idr, mut own_sps, mut own_pps) = (false, false, false, false);
        for nal in length_prefixed_nals(&data) {
            match nal_type(nal) {
                NAL_SPS => {
                    self.sps = Some(data.slice_ref(nal));
                    own_sps = true;
                }
                NAL_PPS => {
                    self.pps = Some(data.slice_ref(nal));
                    own_pps = true;
                }
                NAL_IDR => {
                    slices = true;
                    idr = true;
                }
                1..=4 => slices = true,
                _ => {}
            }
        }
        if !slices {
            // Parameter sets alone, sent as a frame of their own: for the picture that follows.
            return Picture::None;
        }
        if !idr {
            return Picture::Inter(data);
        }
        let (Some(sps), Some(pps)) = (self.sps.clone(), self.pps.clone()) else {
            return Picture::Bad;
        };
        let Ok(info) = shiguredo_mp4::bitstream::h264::parse_sps(&sps) else {
            return Picture::Bad;
        };
        let data = if own_sps && own_pps {
            data
        } else {
            let mut whole = BytesMut::with_capacity(data.len() + sps.len() + pps.len() + 8);
            for set in [&sps, &pps] {
                whole.put_u32(u32::try_from(set.len()).unwrap_or(0));
                whole.extend_from_slice(set);
            }
            whole.extend_from_slice(&data);
            whole.freeze()
        };
        Picture::Key {
            data,
            size: (info.width, info.height),
            parameter_sets: Some(ParameterSets { sps, pps }),
        }
    }
}

enum Picture {
    /// No picture in it.
    None,
    /// It refers to earlier ones.
    Inter(Bytes),
    /// It stands alone.
    Key { data: Bytes, size: (u16, u16), parameter_sets: Option<ParameterSets> },
    /// It says it is one, and is not.
    Bad,
}

fn vp8_picture(data: Bytes) -> Picture {
    match shiguredo_mp4::bitstream::vp8::parse_frame_header(&data) {
        Ok(header) => match header.keyframe {
            Some(info) => {
                Picture::Key { data, size: (info.width, info.height), parameter_sets: None }
            }
            None => Picture::Inter(data),
        },
        Err(_) => Picture::Bad,
    }
}

fn vp9_picture(data: Bytes) -> Picture {
    use shiguredo_mp4::bitstream::vp9::{Vp9FrameSize, Vp9FrameType, parse_frame_header};
    if data.is_empty() {
        return Picture::None;
    }
    let Ok(header) = parse_frame_header(&data) else { return Picture::Bad };
    if header.show_existing_frame.is_some() || header.frame_type != Vp9FrameType::Key {
        return Picture::Inter(data);
    }
    match header.frame_size {
        Vp9FrameSize::Resolved { width, height } => {
            match (u16::try_from(width), u16::try_from(height)) {
                (Ok(width), Ok(height)) => {
                    Picture::Key { data, size: (width, height), parameter_sets: None }
                }
                _ => Picture::Bad,
            }
        }
        Vp9FrameSize::UsesRefFrames { .. } | Vp9FrameSize::NotPresent => Picture::Bad,
    }
}
