//! Watches a camera and prints what happens, until Ctrl-C or the end.
//!
//! ```sh
//! cargo run -p kvs-viewer --example watch -- front-door
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what an example is for")]
#![expect(clippy::wildcard_enum_match_arm, reason = "an example needs few updates")]

use kvs_viewer::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let channel = std::env::args().nth(1).ok_or("usage: watch CHANNEL [SECONDS]")?;
    let seconds = std::env::args().nth(2).map(|text| text.parse()).transpose()?;
    let mut viewer = Viewer::watch(channel).await?;
    let control = viewer.control();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(seconds.unwrap_or(u64::MAX))).await;
        // Closing the session notifies the camera and closes the connections.
        control.close();
    });
    while let Some(update) = viewer.next().await {
        match update {
            Update::Event(event) => eprintln!("{event}"),
            Update::Frame(frame) if frame.is_keyframe => println!("{frame}"),
            Update::FramesLost(count) => eprintln!("{count} frames lost: too slow"),
            _ => {}
        }
    }
    let outcome = viewer.closed().await;
    eprintln!("{outcome}");
    if outcome.reason == EndReason::Closed { Ok(()) } else { Err(outcome.next_step().into()) }
}
