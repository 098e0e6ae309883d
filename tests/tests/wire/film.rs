//! Received pictures and their content, which is compared byte by byte with the bundled clip: each
//! picture of the clip shows its number.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use negotiation_core::{MediaKind, PeerId, Timestamp};
use peer_webrtc::{MediaEvent, MediaReceiver};
use recording::{Clip, ClipKind, VideoCodec};
use tokio::time::Instant;

/// A complete received picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// The peer connection that received it.
    pub(crate) peer: PeerId,
    /// Its RTP timestamp.
    pub(crate) rtp: u32,
    /// A hash of its coded content; see [`of_the_clip`].
    pub(crate) content: u64,
    /// The time at which it was complete.
    pub(crate) at: Timestamp,
}

/// The pictures that a viewer received. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Film {
    pictures: Arc<Mutex<Vec<Picture>>>,
}

impl Film {
    /// Collects video pictures until the media ends.
    pub(crate) async fn take(self, mut media: MediaReceiver, origin: Instant) {
        while let Some(event) = media.next().await {
            if let MediaEvent::Frame { peer, kind: MediaKind::Video, frame, at, .. } = event {
                assert_eq!(frame.codec, recording::Codec::Video(VideoCodec::H264));
                let at = at.saturating_duration_since(origin.into_std());
                let content = content(length_prefixed(&frame.data));
                let (rtp, at) = (frame.rtp_timestamp, Timestamp::new(at));
                self.pictures().push(Picture { peer, rtp, content, at });
            }
        }
    }

    /// Returns all pictures so far.
    pub(crate) fn pictures(&self) -> MutexGuard<'_, Vec<Picture>> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of pictures so far.
    pub(crate) fn len(&self) -> usize {
        self.pictures().len()
    }
}

/// Returns the content of the clip's picture that shows this number. Nine of the 900 pictures code
/// the same change as another one, so the content identifies a number only in its order.
pub(crate) fn of_the_clip(counter: u64) -> Option<u64> {
    static CONTENTS: OnceLock<Vec<u64>> = OnceLock::new();
    let contents = CONTENTS.get_or_init(|| {
        let clip = Clip::bundled(ClipKind::H264Opus).expect("it is there");
        let samples = &clip.video().expect("it has pictures").samples;
        samples.iter().map(|sample| of_a_file(&sample.data)).collect()
    });
    contents.get(usize::try_from(counter).ok()?).copied()
}

/// Returns the content of a picture that was read from a file.
pub(crate) fn of_a_file(data: &[u8]) -> u64 {
    content(annex_b(data))
}

/// Returns a hash of a picture without its parameter sets, which may be sent separately.
fn content<'a>(units: impl Iterator<Item = &'a [u8]>) -> u64 {
    // The slices of a coded picture are NAL units of type 1 and 5 (H.264, table 7-1).
    let slices: Vec<_> =
        units.filter(|unit| matches!(unit.first().map(|byte| byte & 0x1f), Some(1 | 5))).collect();
    BuildHasherDefault::<DefaultHasher>::default().hash_one(slices)
}

/// Splits data into NAL units that follow their length in four bytes.
fn length_prefixed(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (unit, rest) = rest.split_at_checked(length)?;
        data = rest;
        Some(unit)
    })
}

/// Splits data into NAL units that follow start codes (H.264, annex B).
fn annex_b(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> =
        (0..data.len()).filter(|at| data[*at..].starts_with(&[0, 0, 1])).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([data.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| {
        let unit = &data[start + 3..end];
        // Zeros before the next start code are part of it.
        let kept = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        &unit[..kept]
    })
}
