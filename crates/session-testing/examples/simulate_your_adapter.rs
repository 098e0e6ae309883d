//! Checks a signaling port of one's own against the contract of ports, under virtual time.
//!
//! The port is that of the example `custom_signaling`. The stage is its other end: a master that
//! reports what it received and sends what a check commands.
//!
//! ```sh
//! cargo run -p session-testing --example simulate_your_adapter
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what an example is for")]

#[expect(dead_code, reason = "the stage is the master here")]
#[path = "custom_signaling/master.rs"]
mod master;
#[path = "custom_signaling/signaling.rs"]
mod signaling;

use std::sync::Arc;

use async_trait::async_trait;
use clock_tokio::TokioClock;
use session_testing::{SignalingStage, check_signaling};
use tokio::sync::mpsc;
use viewer_session::core::{Message, Sender, SignalingEvent};
use viewer_session::{Clock, SignalingInput};

use crate::master::FromViewer;
use crate::signaling::{InProcess, Links};

/// Messages that wait for the master.
const INBOX_MAX: usize = 64;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let clock = TokioClock::start();
    let report = check_signaling(&mut Stage { clock, inbox: None, last: None, links: None }).await;
    report.assert_kept();
    // A connection in this process is there at once and cannot be cut.
    assert_eq!(report.not_shown().len(), 3, "{report}");
    println!("{report}");
}

struct Stage {
    clock: TokioClock,
    inbox: Option<mpsc::Receiver<FromViewer>>,
    /// Where the last message came from.
    last: Option<FromViewer>,
    links: Option<Links>,
}

#[async_trait]
impl SignalingStage for Stage {
    type Port = InProcess;

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    async fn port(&mut self) -> InProcess {
        let (master, inbox) = mpsc::channel(INBOX_MAX);
        let port = InProcess::new(master);
        (self.inbox, self.links) = (Some(inbox), Some(port.links()));
        port
    }

    async fn received(&mut self) -> Message {
        let inbox = self.inbox.as_mut().expect("a port was made");
        let received = inbox.recv().await.expect("the port is there");
        let message = received.message.clone();
        self.last = Some(received);
        message
    }

    async fn say(&mut self, message: Message) {
        let last = self.last.as_ref().expect("the master received a message");
        let sender = Sender::Master;
        let event = match message {
            Message::Offer(body) => SignalingEvent::Offer { sender, body: Ok(body) },
            Message::Answer(body) => SignalingEvent::Answer { sender, body: Ok(body) },
            Message::Candidate(body) => SignalingEvent::Candidate { sender, body: Ok(body) },
        };
        // A viewer that is gone receives nothing.
        let _ = last.reply.send(SignalingInput::Event(last.link, event)).await;
    }

    async fn hang(&mut self, _hangs: bool) -> bool {
        false
    }

    async fn cut(&mut self) -> bool {
        false
    }

    fn open_resources(&self) -> usize {
        self.links.as_ref().map_or(0, Links::open)
    }
}
