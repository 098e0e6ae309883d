//! Uses a custom peer port in a session: this one prints each command to the peer connection and
//! each of its events, and delegates the work to `WebRtcPeer`.
//!
//! An adapter for another WebRTC stack has the same structure, with its stack in place of `inner`.
//! The program ends when video arrives.
//!
//! ```sh
//! cargo run -p kvs-viewer --example custom_peer -- front-door
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what an example is for")]

use async_trait::async_trait;
use clock_tokio::TokioClock;
use kvs_viewer::{Outcome, Viewer};
use peer_webrtc::WebRtcPeer;
use signaling_aws::AwsSignaling;
use viewer_session::core::{EndReason, Event, PeerCommand, Ticket};
use viewer_session::{PeerInput, PeerPort, SessionUpdate, session};

/// Prints the commands and events between the session and a peer port.
struct Printing<P> {
    inner: P,
}

#[async_trait]
impl<P: PeerPort> PeerPort for Printing<P> {
    fn submit(&mut self, ticket: Ticket, command: PeerCommand) {
        // The Debug output of commands and events has digests in place of descriptions and
        // addresses.
        println!("-> {command:?}");
        self.inner.submit(ticket, command);
    }

    async fn next(&mut self) -> PeerInput {
        // Cancel-safe, as the contract of ports requires: the only await is that of the inner port.
        let input = self.inner.next().await;
        match &input {
            PeerInput::Event(peer, event) => println!("<- {peer:?}: {event:?}"),
            PeerInput::Completed(completion) => println!("<- {completion:?}"),
        }
        input
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let channel = std::env::args().nth(1).ok_or("usage: custom_peer CHANNEL")?;
    // The builder's options become the configuration of each layer.
    let config = Viewer::watch(channel).session_config()?;
    let mut webrtc = WebRtcPeer::new(config.peer)?;
    let mut media = webrtc.media().ok_or("media can be taken once")?;
    let peer = Printing { inner: webrtc };
    let signaling = AwsSignaling::new(config.signaling);
    let seed = u64::from(std::process::id());
    let (driver, mut handle) = session(config.session, seed, signaling, peer, TokioClock::start());
    let driver = tokio::spawn(driver.run());
    // Media does not pass through the session; it must be received, or its queue fills.
    tokio::spawn(async move { while media.next().await.is_some() {} });

    let mut was_live = false;
    while let Some(update) = handle.next_event().await {
        if let SessionUpdate::Event { event: Event::Live, .. } = update {
            was_live = true;
            handle.close();
        }
    }
    let outcome: Outcome = driver.await?;
    println!("{}", outcome.sentence());
    let closed = was_live && outcome.reason == EndReason::Closed;
    if closed { Ok(()) } else { Err(outcome.next_step().into()) }
}
