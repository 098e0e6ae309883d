//! RTP to a playable file, and a file to RTP.
//!
//! [`Recorder`] takes the frames (or the RTP packets, in the order of arrival) of one video and one
//! audio track and writes a file that is playable at any moment: fragmented MP4 for H.264, WebM for
//! VP8 or VP9, Matroska for all of them, with Opus or (not in WebM) G.711 audio. [`RecorderHandle`]
//! runs a recorder on its own thread behind a bounded queue, so that a slow disk never delays
//! media. The crate `encoded-frames` lies in between: its [`FrameAssembler`] puts packets in order
//! and assembles frames.
//!
//! [`Clip`] goes the other way: it reads a file (two come with the crate) into frames, and
//! [`Packetizer`] cuts those into RTP packets.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("clip.webm");
//! use recording::{Clip, ClipKind, Codec, Packetizer, PacketizerConfig, Recorder, RecorderConfig};
//! use std::time::Duration;
//!
//! let clip = Clip::bundled(ClipKind::Vp8Opus)?;
//! let video = clip.video().ok_or("no video")?;
//! let mut recorder = Recorder::create(&path, RecorderConfig::default())?;
//! let track = recorder.add_video(video.codec)?;
//! let mut packetizer =
//!     Packetizer::new(Codec::Video(video.codec), PacketizerConfig::new(0x1234, 96, 0));
//! for sample in video.samples.iter().take(30) {
//!     let arrival = Duration::from_micros(sample.pts * 100 / 9);
//!     for packet in packetizer.packetize(&sample.data, u32::try_from(sample.pts)?)? {
//!         recorder.push_rtp(track, arrival, packet)?;
//!     }
//! }
//! assert_eq!(recorder.finish()?.video_frames, 30);
//! # Ok(())
//! # }
//! ```
//!
//! No code in this crate reads a clock or uses a peer connection: the caller passes arrival times,
//! as [`Duration`](std::time::Duration) since any fixed moment. The packets are [`rtp::Packet`],
//! the type that `webrtc`'s tracks deliver.

#![forbid(unsafe_code)]

mod clip;
mod container;
mod error;
mod handle;
mod live;
mod mux;
mod packetizer;
mod picture_order;
mod recorder;
mod target;
mod timeline;

pub use clip::{AudioTrack, Clip, ClipError, ClipKind, ClipProblem, ClipSample, VideoTrack};
pub use container::Container;
pub use encoded_frames::{
    AssemblerConfig, AudioCodec, Codec, Frame, FrameAssembler, MediaStats, ParameterSets,
    VideoCodec, opus_packet_ticks, rtp,
};
pub use error::RecordError;
pub use handle::{FailureHook, RecorderHandle};
pub use live::LiveOutput;
pub use packetizer::{PacketizeError, Packetizer, PacketizerConfig};
pub use recorder::{Recorder, RecorderConfig, Summary, TrackId};
pub use timeline::SenderReport;
