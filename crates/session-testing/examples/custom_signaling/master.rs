//! A master in a task of its own.

use tokio::sync::mpsc;
use viewer_session::SignalingInput;
use viewer_session::core::{ConnectionId, Message, Sender, SignalingEvent};
use viewer_session::facts::read_description;

/// What a viewer sent, with the way back to it.
pub(crate) struct FromViewer {
    /// The connection it came on.
    pub(crate) link: ConnectionId,
    /// What was sent.
    pub(crate) message: Message,
    /// Where answers go.
    pub(crate) reply: mpsc::Sender<SignalingInput>,
}

/// What a master does with offers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    /// The answers to the first ones get lost.
    LosesAnswers(u32),
    /// Answers none.
    Silent,
}

const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 127.0.0.1\r\na=mid:0\r\na=sendonly\r\n\
    a=ice-ufrag:here\r\na=ice-pwd:not-a-secret-of-anybody\r\na=fingerprint:sha-256 00:11\r\n";

/// Starts a master; it ends with the last sender.
pub(crate) fn start(habit: Habit) -> mpsc::Sender<FromViewer> {
    let (sender, mut inbox) = mpsc::channel::<FromViewer>(16);
    tokio::spawn(async move {
        let mut lost = match habit {
            Habit::LosesAnswers(count) => count,
            Habit::Silent => u32::MAX,
        };
        while let Some(FromViewer { link, message, reply }) = inbox.recv().await {
            if !matches!(message, Message::Offer(_)) {
                continue;
            }
            if lost > 0 {
                lost -= 1;
                continue;
            }
            let body = read_description(ANSWER);
            let answer = SignalingEvent::Answer { sender: Sender::Master, body };
            // A viewer that is gone needs no answer.
            let _ = reply.send(SignalingInput::Event(link, answer)).await;
        }
    });
    sender
}
