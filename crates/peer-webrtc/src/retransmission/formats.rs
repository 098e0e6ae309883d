//! The retransmission streams of the descriptions: payload types and pairs of SSRCs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use negotiation_core::MediaKind;

use super::PAIRS_MAX;
use crate::codec::Codec;

/// The retransmission streams of the descriptions. Shared by the stack, which sets descriptions,
/// and the interceptor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Formats(Arc<Mutex<Negotiated>>);

#[derive(Debug, Default)]
struct Negotiated {
    /// The payload types of video.
    video: Vec<u8>,
    /// The payload type of each retransmission format, and of the media that it repeats (`apt`).
    rtx: Vec<(u8, u8)>,
    /// The SSRC of each retransmission stream, and of its media stream (`a=ssrc-group:FID`).
    pairs: BTreeMap<u32, u32>,
}

impl Formats {
    /// Returns the formats of an offer with these codecs.
    pub(crate) fn offered(codecs: &[Codec]) -> Self {
        let video = || codecs.iter().filter(|codec| codec.kind() == MediaKind::Video);
        let negotiated = Negotiated {
            video: video().map(|codec| codec.payload_type()).collect(),
            rtx: video()
                .filter_map(|codec| Some((codec.rtx_payload_type()?, codec.payload_type())))
                .collect(),
            pairs: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(negotiated)))
    }

    /// Uses the payload types of the remote offer.
    pub(crate) fn use_offer(&self, sdp: &str) {
        let mut negotiated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        negotiated.video = video_formats(sdp);
        negotiated.rtx = rtx_formats(sdp);
    }

    /// Takes the pairs of SSRCs from a remote description.
    pub(crate) fn described(&self, sdp: &str) {
        let mut negotiated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        negotiated.pairs = pairs(sdp).take(PAIRS_MAX).collect();
    }

    pub(super) fn meaning(&self, header: &rtc::rtp::Header) -> Meaning {
        let negotiated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let payload_type = header.payload_type;
        if let Some((_, of)) = negotiated.rtx.iter().find(|(rtx, _)| *rtx == payload_type) {
            return Meaning::Rtx {
                payload_type: *of,
                ssrc: negotiated.pairs.get(&header.ssrc).copied(),
            };
        }
        if negotiated.video.contains(&payload_type) { Meaning::Video } else { Meaning::Other }
    }
}

/// The meaning of a packet, by its payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It repeats a packet with this payload type, from this stream if the description declares
    /// one.
    Rtx {
        payload_type: u8,
        ssrc: Option<u32>,
    },
    Video,
    Other,
}

/// Parses lines such as `a=rtpmap:97 rtx/90000` with `a=fmtp:97 apt=96;rtx-time=3000`.
fn rtx_formats(sdp: &str) -> Vec<(u8, u8)> {
    let rtx: Vec<u8> = formats(sdp, "rtx").collect();
    let associated = |line: &str| {
        let (number, parameters) = line.trim_end().strip_prefix("a=fmtp:")?.split_once(' ')?;
        let number = number.parse().ok().filter(|number| rtx.contains(number))?;
        let apt = parameters.split(';').find_map(|p| p.trim().strip_prefix("apt="))?;
        Some((number, apt.parse().ok()?))
    };
    sdp.lines().filter_map(associated).collect()
}

/// Returns the payload types of the known video codecs.
fn video_formats(sdp: &str) -> Vec<u8> {
    let video = Codec::ALL.into_iter().filter(|codec| codec.kind() == MediaKind::Video);
    let mut found: Vec<u8> = video.flat_map(|codec| formats(sdp, codec.name())).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Returns the payload types that are mapped to this encoding.
fn formats<'a>(sdp: &'a str, encoding: &'a str) -> impl Iterator<Item = u8> + 'a {
    sdp.lines().filter_map(move |line| {
        let (number, rest) = line.trim_end().strip_prefix("a=rtpmap:")?.split_once(' ')?;
        let name = rest.split('/').next()?;
        // A payload type has seven bits.
        let number = number.parse().ok().filter(|number: &u8| *number < 128)?;
        name.eq_ignore_ascii_case(encoding).then_some(number)
    })
}

/// Parses `a=ssrc-group:FID 1 2` (RFC 5576), by which stream 2 repeats packets of stream 1.
fn pairs(sdp: &str) -> impl Iterator<Item = (u32, u32)> {
    sdp.lines().filter_map(|line| {
        let mut ssrcs = line.trim_end().strip_prefix("a=ssrc-group:FID ")?.split_whitespace();
        let media = ssrcs.next()?.parse().ok()?;
        Some((ssrcs.next()?.parse().ok()?, media))
    })
}

#[cfg(test)]
mod tests;
