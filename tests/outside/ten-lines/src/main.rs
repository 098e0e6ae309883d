//! Prints the first 30 frames of a camera.
use kvs_viewer::prelude::*;
#[tokio::main]
async fn main() -> Result<(), InvalidOption> {
    let mut viewer = Viewer::watch("front-door").await?;
    for _ in 0..30 {
        let Some(frame) = viewer.next_frame().await else { break };
        println!("{frame}");
    }
    Ok(())
}
