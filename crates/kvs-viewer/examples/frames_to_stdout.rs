//! Writes a camera's H.264 to standard output, for a player.
//!
//! ```sh
//! cargo run -p kvs-viewer --example frames_to_stdout -- front-door | ffplay -f h264 -
//! ```
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Write as _};

use kvs_viewer::prelude::*;
use kvs_viewer::{Codec, VideoCodec};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let channel = std::env::args().nth(1).ok_or("usage: frames_to_stdout CHANNEL [FRAMES]")?;
    let most = std::env::args().nth(2).map(|text| text.parse()).transpose()?;
    let mut viewer = Viewer::watch(channel).await?;
    let mut written = 0_u64;
    while most.is_none_or(|most: u64| written < most) {
        let Some(frame) = viewer.next_frame().await else {
            return Err(viewer.closed().await.sentence().into());
        };
        if frame.codec != Codec::Video(VideoCodec::H264) {
            continue;
        }
        // Each frame is flushed, so that the player shows it at once.
        let mut output = std::io::stdout().lock();
        match output.write_all(&frame.bytes).and_then(|()| output.flush()) {
            Ok(()) => written += 1,
            // The player was closed.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error.into()),
        }
    }
    viewer.close();
    viewer.closed().await;
    Ok(())
}
