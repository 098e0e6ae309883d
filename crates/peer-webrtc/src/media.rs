//! Received media for the application.

use std::sync::Arc;
use std::time::Instant;

use encoded_frames::Frame;
use negotiation_core::{MediaKind, PeerId};

use crate::codec::Codec;
use crate::mailbox::Mailbox;
use crate::stats::MediaTotals;

/// An event of received media.
#[derive(Clone, Debug)]
pub enum MediaEvent {
    /// A stream started; its frames follow. A change of SSRC or codec starts a new stream.
    Track {
        /// The peer connection.
        peer: PeerId,
        /// The SSRC of the stream.
        ssrc: u32,
        /// Whether it is video or audio.
        kind: MediaKind,
        /// The negotiated codec.
        codec: Codec,
    },
    /// A complete frame, in decoding order. After a loss the next picture is a keyframe, which was
    /// requested.
    Frame {
        /// The peer connection.
        peer: PeerId,
        /// Whether it is video or audio.
        kind: MediaKind,
        /// The negotiated codec.
        codec: Codec,
        /// The frame. Its arrival is relative to the creation of the port, and no two sources
        /// share an epoch, even over several peer connections.
        frame: Frame,
        /// The arrival of the frame's last packet.
        at: Instant,
    },
    /// A packet, if [`PeerConfig::rtp_events`](crate::PeerConfig::rtp_events) is on. Packets come
    /// in the order of arrival: resent ones late.
    Rtp {
        /// The peer connection.
        peer: PeerId,
        /// Whether it is video or audio.
        kind: MediaKind,
        /// The packet; its header has the stream's SSRC.
        packet: rtc::rtp::Packet,
        /// When the packet arrived.
        at: Instant,
    },
    /// The sender's clock, for playing two streams in sync (RFC 3550, 6.4.1).
    SenderReport {
        /// The peer connection.
        peer: PeerId,
        /// The SSRC of the stream.
        ssrc: u32,
        /// NTP time, 32.32 fixed point.
        ntp: u64,
        /// The RTP timestamp of the same moment.
        rtp: u32,
        /// When the report arrived.
        at: Instant,
    },
    /// The peer connection closed; no event of it follows.
    Ended {
        /// The peer connection.
        peer: PeerId,
        /// The totals of all its streams.
        totals: MediaTotals,
    },
}

/// Receives media events for the application.
pub struct MediaReceiver {
    mailbox: Arc<Mailbox<MediaEvent>>,
}

impl MediaReceiver {
    pub(crate) fn new(mailbox: Arc<Mailbox<MediaEvent>>) -> Self {
        Self { mailbox }
    }

    /// Returns the next event; `None` once the port is dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<MediaEvent> {
        self.mailbox.next().await
    }

    /// Returns how many frames (and packets, if requested) were lost because the application did
    /// not read them in time.
    pub fn lost(&self) -> u64 {
        self.mailbox.lost()
    }
}

impl Drop for MediaReceiver {
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}
