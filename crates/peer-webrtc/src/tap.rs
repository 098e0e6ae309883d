//! An interceptor that passes arriving packets to a queue.
//!
//! The stack drops RTCP at the end of its chain and the first RTP packets of a track that it has
//! not opened yet (observed over TURN). This tap is the interceptor closest to the application, so
//! it gets every packet that SRTP accepted, with the time at which it was read from the socket.
//! With a media queue, RTP ends here: the stack has opened its track by then, and a second
//! delivery through that track would be useless.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::mpsc;

/// An RTP packet and its arrival.
#[derive(Clone, Debug)]
pub struct RtpArrival {
    /// The packet.
    pub packet: rtc::rtp::Packet,
    /// When it was read from the socket.
    pub at: Instant,
}

/// The RTCP messages of the other side that an application needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The other side's clock at an RTP timestamp (RFC 3550, 6.4.1).
    SenderReport {
        /// The SSRC of the stream.
        ssrc: u32,
        /// NTP time, 32.32 fixed point.
        ntp: u64,
        /// The RTP timestamp of the same moment.
        rtp: u32,
        /// When the report arrived.
        at: Instant,
    },
    /// The other side needs a keyframe to continue (PLI or FIR).
    KeyframeRequest {
        /// The SSRC of the local stream.
        ssrc: u32,
        /// When the request arrived.
        at: Instant,
    },
    /// The stream has ended.
    Bye {
        /// The SSRC of the stream.
        ssrc: u32,
    },
}

/// Counts what did not fit into the tap's queues.
#[derive(Debug, Default)]
pub struct TapLosses {
    rtp: AtomicU64,
    control: AtomicU64,
}

impl TapLosses {
    /// Returns how many RTP packets were lost because they were not read in time.
    pub fn rtp(&self) -> u64 {
        self.rtp.load(Ordering::Relaxed)
    }

    /// Returns how many RTCP packets were lost because they were not read in time.
    pub fn control(&self) -> u64 {
        self.control.load(Ordering::Relaxed)
    }
}

/// The interceptor that passes packets to the queues.
pub(crate) struct Tap {
    media: Option<mpsc::Sender<RtpArrival>>,
    control: mpsc::Sender<Control>,
    losses: Arc<TapLosses>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Tap {
    pub(crate) fn new(
        media: Option<mpsc::Sender<RtpArrival>>,
        control: mpsc::Sender<Control>,
        losses: Arc<TapLosses>,
    ) -> Self {
        Self { media, control, losses, read: VecDeque::new(), write: VecDeque::new() }
    }

    pub(crate) fn rtp(&self, at: Instant, packet: rtc::rtp::Packet) {
        let Some(media) = &self.media else { return };
        if media.try_send(RtpArrival { packet, at }).is_err() {
            self.losses.rtp.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn rtcp(&self, at: Instant, packet: &dyn rtc::rtcp::Packet) {
        let packet = packet.as_any();
        if let Some(report) = packet.downcast_ref::<SenderReport>() {
            let (ssrc, ntp, rtp) = (report.ssrc, report.ntp_time, report.rtp_time);
            self.say(Control::SenderReport { ssrc, ntp, rtp, at });
        } else if let Some(pli) = packet.downcast_ref::<PictureLossIndication>() {
            self.say(Control::KeyframeRequest { ssrc: pli.media_ssrc, at });
        } else if let Some(fir) = packet.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                self.say(Control::KeyframeRequest { ssrc: entry.ssrc, at });
            }
        } else if let Some(bye) = packet.downcast_ref::<Goodbye>() {
            for ssrc in &bye.sources {
                self.say(Control::Bye { ssrc: *ssrc });
            }
        }
    }

    fn say(&self, control: Control) {
        if self.control.try_send(control).is_err() {
            self.losses.control.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(packet) = &mut msg.message.packet
            && self.media.is_some()
        {
            self.rtp(msg.now, std::mem::take(packet));
            return Ok(());
        }
        if let Packet::Rtcp(packets) = &msg.message.packet {
            for packet in packets {
                self.rtcp(msg.now, packet.as_ref());
            }
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::interceptor::AttributedPacket;
    use rtc::rtcp::payload_feedbacks::full_intra_request::FirEntry;
    use rtc::shared::TransportContext;

    fn tagged(packet: Packet) -> TaggedPacket {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(packet),
        }
    }

    #[test]
    fn packets_are_queued_and_rtcp_passes_on() {
        let (media_tx, mut media) = mpsc::channel(1);
        let (control_tx, mut control) = mpsc::channel(8);
        let losses = Arc::new(TapLosses::default());
        let mut tap = Tap::new(Some(media_tx), control_tx, Arc::clone(&losses));

        for _ in 0..2 {
            tap.handle_read(tagged(Packet::Rtp(rtc::rtp::Packet::default()))).expect("passes");
            assert!(tap.poll_read().is_none(), "delivered once");
        }
        assert!(media.try_recv().is_ok());
        assert_eq!(losses.rtp(), 1, "a full queue is counted");

        let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc: 5 };
        let fir = FullIntraRequest {
            sender_ssrc: 0,
            media_ssrc: 0,
            fir: vec![FirEntry { ssrc: 6, sequence_number: 1 }],
        };
        let report = SenderReport { ssrc: 7, ntp_time: 8, rtp_time: 9, ..Default::default() };
        let compound: Vec<Box<dyn rtc::rtcp::Packet>> =
            vec![Box::new(report), Box::new(pli), Box::new(fir)];
        tap.handle_read(tagged(Packet::Rtcp(compound))).expect("passes");
        assert!(tap.poll_read().is_some());
        let reported: Vec<_> = std::iter::from_fn(|| control.try_recv().ok()).collect();
        assert!(matches!(reported[0], Control::SenderReport { ssrc: 7, ntp: 8, rtp: 9, .. }));
        assert!(matches!(reported[1], Control::KeyframeRequest { ssrc: 5, .. }));
        assert!(matches!(reported[2], Control::KeyframeRequest { ssrc: 6, .. }));

        // Without a media queue the packet goes on to the stack.
        let mut tap = Tap::new(None, mpsc::channel(1).0, losses);
        tap.handle_read(tagged(Packet::Rtp(rtc::rtp::Packet::default()))).expect("passes");
        assert!(tap.poll_read().is_some());
    }
}
