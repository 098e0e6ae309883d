//! The frames that an assembler outputs, and the rules for their delivery.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Codec;

/// The parameter sets that an H.264 keyframe uses, without start codes or lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    /// The sequence parameter set.
    pub sps: Bytes,
    /// The picture parameter set.
    pub pps: Bytes,
}

/// A complete frame, or one audio packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The codec of the data.
    pub codec: Codec,
    /// The SSRC of its packets.
    pub ssrc: u32,
    /// The RTP timestamp of its packets.
    pub rtp_timestamp: u32,
    /// The arrival of its first packet.
    pub arrival: Duration,
    /// The arrival of its last packet.
    pub completed: Duration,
    /// A number that increases where timestamps before and after are unrelated (another SSRC, or a
    /// sender that restarted).
    pub epoch: u32,
    /// Whether decoding can begin here; always true for audio.
    pub keyframe: bool,
    /// Whether a decoder that began at the last keyframe shows the complete picture. False for the
    /// first pictures after an H.264 recovery point, which refresh the picture piece by piece.
    pub recovered: bool,
    /// The picture's size, for keyframes.
    pub size: Option<(u16, u16)>,
    /// The parameter sets of an H.264 keyframe. `data` contains them too.
    pub parameter_sets: Option<ParameterSets>,
    /// The encoded data; H.264 as NAL units with a four-byte length before each, the parameter
    /// sets first.
    pub data: Bytes,
}

/// The counters of a track, taken after reordering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MediaStats {
    /// Packets received, including duplicates and late ones.
    pub packets: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Packets that never came, or came after they were given up.
    pub lost: u64,
    /// Packets that had already arrived.
    pub duplicate: u64,
    /// Packets that came after their place was given up, or from an earlier source of the track.
    pub late: u64,
    /// Packets that are not in the codec's format.
    pub malformed: u64,
    /// Complete frames, or audio packets.
    pub frames: u64,
    /// How many of the frames were keyframes; 0 for audio.
    pub keyframes: u64,
    /// Frames dropped because they were incomplete or referred to an incomplete one.
    pub frames_dropped: u64,
    /// Complete pictures dropped because no keyframe came before them.
    pub without_keyframe: u64,
    /// Complete keyframes dropped because their parameter sets are unknown.
    pub without_parameter_sets: u64,
    /// Whether any part of a keyframe has arrived.
    pub keyframe_seen: bool,
    /// When the first keyframe (or audio packet) was complete and the picture recovered. For a
    /// source with unproven end markers, this may be before the frame is output.
    pub first_keyframe_at: Option<Duration>,
    /// How often another SSRC replaced the source.
    pub source_changes: u64,
}

/// A payload that is not in its codec's RTP format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A picture's bytes and metadata.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) rtp_timestamp: u32,
    pub(crate) arrival: Duration,
    pub(crate) completed: Duration,
    pub(crate) data: Bytes,
}

/// The properties of a picture at which decoding can begin.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) size: (u16, u16),
    pub(crate) parameter_sets: Option<ParameterSets>,
    /// The number of reference pictures that follow before the picture is complete.
    pub(crate) recovery: u32,
}

/// Decides which pictures are output, and counts them.
#[derive(Debug)]
pub(crate) struct Delivery {
    codec: Codec,
    pub(crate) ssrc: u32,
    pub(crate) epoch: u32,
    keyframe_needed: bool,
    /// Whether a complete keyframe waits for proof of its end.
    keyframe_pending: bool,
    /// The number of reference pictures still needed before the picture is complete.
    recovering: u32,
    pub(crate) stats: MediaStats,
    ready: VecDeque<Frame>,
}

impl Delivery {
    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            codec,
            ssrc: 0,
            epoch: 0,
            keyframe_needed: matches!(codec, Codec::Video(_)),
            keyframe_pending: false,
            recovering: 0,
            stats: MediaStats::default(),
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Returns whether no picture can be output before a keyframe.
    pub(crate) fn needs_keyframe(&self) -> bool {
        self.keyframe_needed
    }

    /// Returns whether a keyframe must be requested, because none is pending.
    pub(crate) fn lacks_keyframe(&self) -> bool {
        self.keyframe_needed && !self.keyframe_pending
    }

    /// Drops pictures until a keyframe comes, because they may refer to a lost one.
    pub(crate) fn need_keyframe(&mut self) {
        self.keyframe_needed = matches!(self.codec, Codec::Video(_));
        self.keyframe_pending = false;
    }

    /// Counts an incomplete picture as dropped.
    pub(crate) fn drop_picture(&mut self) {
        self.stats.frames_dropped += 1;
        self.need_keyframe();
    }

    /// Counts a complete keyframe with unknown parameter sets as dropped.
    pub(crate) fn drop_without_parameter_sets(&mut self) {
        self.stats.without_parameter_sets += 1;
        self.drop_picture();
    }

    /// Outputs or drops a picture at which decoding cannot begin.
    pub(crate) fn inter(&mut self, picture: Picture, reference: bool) {
        if self.keyframe_needed {
            self.stats.without_keyframe += u64::from(self.stats.keyframes == 0);
            self.stats.frames_dropped += 1;
            return;
        }
        if reference {
            self.recovering = self.recovering.saturating_sub(1);
        }
        self.emit(picture, None);
    }

    /// Outputs a picture at which decoding can begin.
    pub(crate) fn key(&mut self, picture: Picture, entry: Entry) {
        self.keyframe_needed = false;
        self.keyframe_pending = false;
        self.recovering = entry.recovery;
        self.stats.keyframes += 1;
        self.emit(picture, Some(entry));
    }

    /// Outputs an audio packet.
    pub(crate) fn sound(&mut self, picture: Picture) {
        self.emit(picture, None);
    }

    /// Records a complete keyframe with an end that is not certain enough to output it.
    pub(crate) fn note_keyframe(&mut self, at: Duration) {
        self.keyframe_pending = self.keyframe_needed;
        self.stats.first_keyframe_at.get_or_insert(at);
    }

    fn emit(&mut self, picture: Picture, entry: Option<Entry>) {
        let recovered = self.recovering == 0;
        self.stats.frames += 1;
        if recovered {
            self.stats.first_keyframe_at.get_or_insert(picture.completed);
        }
        let keyframe = entry.is_some() || matches!(self.codec, Codec::Audio(_));
        let (size, parameter_sets) =
            entry.map_or((None, None), |entry| (Some(entry.size), entry.parameter_sets));
        self.ready.push_back(Frame {
            codec: self.codec,
            ssrc: self.ssrc,
            rtp_timestamp: picture.rtp_timestamp,
            arrival: picture.arrival,
            completed: picture.completed,
            epoch: self.epoch,
            keyframe,
            recovered,
            size,
            parameter_sets,
            data: picture.data,
        });
    }
}
