//! Received media on its way to the application.

use std::sync::Arc;
use std::time::Instant;

use encoded_frames::Frame;
use negotiation_core::{MediaKind, PeerId};

use crate::codec::Codec;
use crate::mailbox::Mailbox;
use crate::stats::MediaTotals;

/// Something about received media.
#[derive(Clone, Debug)]
pub enum MediaEvent {
    /// A stream began; its frames follow. A stream whose SSRC or codec changes begins anew.
    Track {
        /// The peer connection.
        peer: PeerId,
        /// The stream.
        ssrc: u32,
        /// What it carries.
        kind: MediaKind,
        /// How.
        codec: Codec,
    },
    /// A whole frame, in the order of decoding. After a loss, the next picture is a keyframe, which was
    /// requested.
    Frame {
        /// The peer connection.
        peer: PeerId,
        /// What it carries.
        kind: MediaKind,
        /// How, as it was negotiated.
        codec: Codec,
        /// The frame. Its arrival counts from the moment the port was made, and no two sources share
        /// an epoch, also over several peer connections.
        frame: Frame,
        /// When its last packet was read from the socket.
        at: Instant,
    },
    /// A packet, if [`PeerConfig::rtp_events`](crate::PeerConfig::rtp_events) asks for them. Packets
    /// come as they arrived: resent ones late.
    Rtp {
        /// The peer connection.
        peer: PeerId,
        /// What it carries.
        kind: MediaKind,
        /// The packet; its header names the stream.
        packet: rtc::rtp::Packet,
        /// When it was read from the socket.
        at: Instant,
    },
    /// The sender's clock, for playing two streams in sync (RFC 3550, 6.4.1).
    SenderReport {
        /// The peer connection.
        peer: PeerId,
        /// The stream.
        ssrc: u32,
        /// NTP time, 32.32 fixed point.
        ntp: u64,
        /// The same moment in the stream's RTP clock.
        rtp: u32,
        /// When it came.
        at: Instant,
    },
    /// The peer connection is closed; nothing of it follows.
    Ended {
        /// The peer connection.
        peer: PeerId,
        /// What came in over all its streams.
        totals: MediaTotals,
    },
}

/// The application's end of received media.
pub struct MediaReceiver {
    mailbox: Arc<Mailbox<MediaEvent>>,
}

impl MediaReceiver {
    pub(crate) fn new(mailbox: Arc<Mailbox<MediaEvent>>) -> Self {
        Self { mailbox }
    }

    /// The next event; `None` once the port is dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<MediaEvent> {
        self.mailbox.next().await
    }

    /// Frames (and packets, where they are asked for) lost because they were not taken in time.
    pub fn lost(&self) -> u64 {
        self.mailbox.lost()
    }
}

impl Drop for MediaReceiver {
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}
