//! Assembles encoded frames from the RTP packets of one stream.
//!
//! [`FrameAssembler`] puts the packets of one track in order, finds complete frames, and reports
//! the first keyframe, losses and when a keyframe is needed.
//!
//! Nothing here reads a clock or uses a peer connection: the caller passes arrival times, as
//! [`Duration`](std::time::Duration) since any fixed moment. The packets are [`rtp::Packet`], the
//! type that `webrtc`'s tracks deliver.

//!
//! ```
//! use std::time::Duration;
//!
//! use encoded_frames::{Codec, FrameAssembler, VideoCodec, rtp};
//!
//! let mut assembler = FrameAssembler::new(Codec::Video(VideoCodec::Vp8));
//! // A keyframe of 320x240 in one packet: the payload descriptor, then the frame (RFC 7741, 4.2).
//! let payload = [0x10, 0x30, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 0x00];
//! let header = rtp::Header { version: 2, marker: true, payload_type: 96, ..Default::default() };
//! let packet = rtp::Packet { header, payload: payload.to_vec().into() };
//! assembler.push(Duration::ZERO, packet);
//! // In a running stream the next frame's packet shows that this one is whole.
//! assembler.flush();
//! let frame = assembler.pop().expect("a frame");
//! assert!(frame.keyframe);
//! assert_eq!(frame.size, Some((320, 240)));
//! ```
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
