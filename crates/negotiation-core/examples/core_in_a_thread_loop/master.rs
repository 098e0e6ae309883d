//! A master on a thread of its own. It gets offers, and answers as its habit is.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use negotiation_core::{
    Candidate, ConnectionId, Description, Input, MediaKind, MediaSection, Sdp, SdpSummary,
    Sender as From, SignalingEvent,
};

/// An offer as it reaches the master, with the way back to the viewer.
pub(crate) struct Offer {
    /// The connection it came on.
    pub(crate) link: ConnectionId,
    /// Where the answer goes.
    pub(crate) reply: Sender<Input>,
}

/// What a master does with offers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// Answers each of them, its candidates first.
    Answers,
    /// Answers none.
    Silent,
    /// The answers to the first ones get lost.
    LosesAnswers(u32),
}

/// Starts a master; it ends when no sender of offers is left.
pub(crate) fn start(habit: Habit) -> Sender<Offer> {
    let (offers, inbox) = channel();
    thread::spawn(move || serve(habit, &inbox));
    offers
}

fn serve(habit: Habit, inbox: &Receiver<Offer>) {
    let mut lost = match habit {
        Habit::Answers => 0,
        Habit::Silent => u32::MAX,
        Habit::LosesAnswers(count) => count,
    };
    for Offer { link, reply } in inbox {
        if lost > 0 {
            lost -= 1;
            continue;
        }
        let events = [candidate(1), candidate(2), answer()];
        for event in events {
            // A viewer that is gone needs no answer.
            let _ = reply.send(Input::Signaling(link, event));
        }
    }
}

fn answer() -> SignalingEvent {
    let video =
        MediaSection { kind: MediaKind::Video, mid: Some("0".into()), accepted: true, sends: true };
    let facts = SdpSummary { media: vec![video], ..SdpSummary::default() };
    // The core never reads the text; a real adapter reads the facts out of it.
    let body = Ok(Description { sdp: Sdp::new("an answer"), facts });
    SignalingEvent::Answer { sender: From::Master, body }
}

fn candidate(number: u32) -> SignalingEvent {
    let candidate = Candidate {
        text: format!("candidate:{number} 1 udp 1 127.0.0.1 9 typ host").into(),
        mid: Some("0".into()),
        mline_index: Some(0),
        ufrag: None,
    };
    SignalingEvent::Candidate { sender: From::Master, body: Ok(candidate) }
}
