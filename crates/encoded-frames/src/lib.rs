//! Encoded frames out of the RTP packets of one stream.
//!
//! [`FrameAssembler`] puts the packets of one track in order, finds whole frames, and reports the first
//! keyframe, losses and when a keyframe is needed.
//!
//! Nothing here reads a clock or knows a peer connection: arrival times are given by the caller, as
//! [`Duration`](std::time::Duration) since any fixed moment. The packets are [`rtp::Packet`], the
//! type that `webrtc`'s tracks deliver.

#![forbid(unsafe_code)]

mod assembler;
mod codec;
mod end_mark;
mod frame;
pub mod h264;
mod reorder;
mod vpx;

pub use assembler::{AssemblerConfig, FrameAssembler};
pub use codec::{AudioCodec, Codec, VideoCodec, opus_packet_ticks};
pub use frame::{Frame, MediaStats, ParameterSets};

/// The RTP types of this crate's API: those of `rtc-rtp`, which `rtc` and `webrtc` re-export.
pub mod rtp {
    pub use rtc_rtp::header::Header;
    pub use rtc_rtp::packet::Packet;
}
