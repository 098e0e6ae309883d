//! Requests a keyframe.

use rtc::rtcp::Packet;
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

/// Builds a keyframe request of both kinds, PLI and FIR, since a source may know only one. The
/// number distinguishes a new FIR from a repetition (RFC 5104, 4.3.1.1).
pub(crate) fn request(ssrc: u32, sequence_number: u8) -> Vec<Box<dyn Packet>> {
    let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
    let fir = FullIntraRequest {
        sender_ssrc: 0,
        media_ssrc: 0,
        fir: vec![FirEntry { ssrc, sequence_number }],
    };
    vec![Box::new(pli), Box::new(fir)]
}
