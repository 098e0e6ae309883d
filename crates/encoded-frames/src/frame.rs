//! What an assembler gives out, and how it gets there.

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
    /// Whether decoding can begin here; always so for sound.
    pub keyframe: bool,
    /// Whether a decoder that began at the last keyframe shows the whole picture. Not so for the first
    /// pictures after an H.264 recovery point, which refresh the picture piece by piece.
    pub recovered: bool,
    /// The picture's size, for keyframes.
    pub size: Option<(u16, u16)>,
    /// The parameter sets of an H.264 keyframe. They are in `data` too.
    pub parameter_sets: Option<ParameterSets>,
    /// The frame; H.264 as NAL units with four bytes of length before each, the parameter sets first.
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
    /// Whole pictures dropped because no keyframe came before them.
    pub without_keyframe: u64,
    /// Whole keyframes dropped because their parameter sets are not known.
    pub without_parameter_sets: u64,
    /// Parts of keyframes came, whole or not.
    pub keyframe_seen: bool,
    /// When the first keyframe (or packet of sound) was whole and the picture recovered. With a source
    /// whose end marks are not proven yet, this may be before the frame is given out.
    pub first_keyframe_at: Option<Duration>,
    /// How often another SSRC took over.
    pub source_changes: u64,
}

/// A payload that is not of its codec's RTP format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A picture's bytes and what is known of it.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) rtp_timestamp: u32,
    pub(crate) arrival: Duration,
    pub(crate) completed: Duration,
    pub(crate) data: Bytes,
}

/// Why decoding can begin at a picture.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) size: (u16, u16),
    pub(crate) parameter_sets: Option<ParameterSets>,
    /// How many reference pictures follow before the picture is whole.
    pub(crate) recovery: u32,
}

/// Decides which pictures are given out, and counts.
#[derive(Debug)]
pub(crate) struct Delivery {
    codec: Codec,
    pub(crate) ssrc: u32,
    pub(crate) epoch: u32,
    keyframe_needed: bool,
    /// A keyframe is whole and waits for what proves it.
    keyframe_pending: bool,
    /// Reference pictures to come before the picture is whole.
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

    /// Whether no picture can be given out before a keyframe.
    pub(crate) fn needs_keyframe(&self) -> bool {
        self.keyframe_needed
    }

    /// Whether a keyframe is to be requested: none is there.
    pub(crate) fn lacks_keyframe(&self) -> bool {
        self.keyframe_needed && !self.keyframe_pending
    }

    /// What follows refers to what was lost.
    pub(crate) fn need_keyframe(&mut self) {
        self.keyframe_needed = matches!(self.codec, Codec::Video(_));
        self.keyframe_pending = false;
    }

    /// A picture was incomplete.
    pub(crate) fn drop_picture(&mut self) {
        self.stats.frames_dropped += 1;
        self.need_keyframe();
    }

    /// A whole keyframe whose parameter sets are not known.
    pub(crate) fn drop_without_parameter_sets(&mut self) {
        self.stats.without_parameter_sets += 1;
        self.drop_picture();
    }

    /// A picture that decoding cannot begin with.
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

    /// A picture that decoding can begin with.
    pub(crate) fn key(&mut self, picture: Picture, entry: Entry) {
        self.keyframe_needed = false;
        self.keyframe_pending = false;
        self.recovering = entry.recovery;
        self.stats.keyframes += 1;
        self.emit(picture, Some(entry));
    }

    /// A packet of sound.
    pub(crate) fn sound(&mut self, picture: Picture) {
        self.emit(picture, None);
    }

    /// A keyframe is whole, though its end is not certain enough to give it out.
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
