//! Records a camera for some seconds.
//!
//! ```sh
//! cargo run -p kvs-viewer --features recording --example record -- front-door door.mp4 10
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what an example is for")]

use std::time::Duration;

use kvs_viewer::{RecordingUpdate, prelude::*};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [channel, path, seconds] = &arguments[..] else {
        return Err("usage: record CHANNEL FILE SECONDS".into());
    };
    let seconds = Duration::from_secs(seconds.parse()?);
    let mut viewer = Viewer::watch(channel).record_to(path).await?;
    let mut end = None;
    loop {
        let update = match end {
            Some(end) => tokio::select! {
                update = viewer.next() => update,
                () = tokio::time::sleep_until(end) => {
                    viewer.close();
                    viewer.next().await
                }
            },
            None => viewer.next().await,
        };
        match update {
            Some(Update::Event(Event::Live)) => end = Some(tokio::time::Instant::now() + seconds),
            Some(Update::Recording(RecordingUpdate::Finished(summary))) => {
                println!("{} frames of video in {path}", summary.video_frames);
            }
            Some(Update::Recording(RecordingUpdate::Failed(error))) => return Err(error.into()),
            Some(_) => {}
            None => break,
        }
    }
    let outcome = viewer.closed().await;
    if outcome.reason == EndReason::Closed { Ok(()) } else { Err(outcome.sentence().into()) }
}
