//! Runs many sessions in one process; `cargo xtask bench fleet` measures this program.
//!
//! ```text
//! fleet ENDPOINT_URL REGION SESSIONS CHANNEL...
//! ```
//!
//! Credentials come from the environment. Each channel has up to ten sessions. The program prints a
//! line of JSON when all sessions are live, and ends when its standard input is closed.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use kvs_viewer::{Session, SessionConfig};
use negotiation_core::{Event, Settings};
use peer_webrtc::PeerConfig;
use signaling_aws::SignalingConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use viewer_session::SessionUpdate;

/// The maximum number of viewers of a channel: AWS's quota.
const PER_CHANNEL: usize = 10;
/// The time within which all sessions must be live.
const PATIENCE: Duration = Duration::from_secs(120);

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    // Always two worker threads, so that figures of different machines can be compared.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(run());
    // A thread may still be blocked in reading standard input.
    runtime.shutdown_background();
    ended
}

async fn run() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, region, sessions, channels @ ..] = arguments.as_slice() else {
        return Err("usage: fleet ENDPOINT_URL REGION SESSIONS CHANNEL...".into());
    };
    let sessions: usize = sessions.parse()?;
    if channels.len() * PER_CHANNEL < sessions {
        return Err(format!(
            "{sessions} sessions need {} channels",
            sessions.div_ceil(PER_CHANNEL)
        )
        .into());
    }
    let (live, mut lives) = mpsc::channel(sessions.max(1));
    let (stop, stopped) = watch::channel(());
    let mut running = JoinSet::new();
    for number in 0..sessions {
        let channel = channels.get(number / PER_CHANNEL).ok_or("too few channels")?;
        let signaling = SignalingConfig::builder(channel.clone())
            .region(region)
            .endpoint_url(endpoint)
            .build()?;
        running.spawn(session(signaling, live.clone(), stopped.clone()));
    }
    drop(live);
    let all_live = async {
        for _ in 0..sessions {
            tokio::select! {
                came = lives.recv() => came.ok_or("every session ended")?,
                Some(ended) = running.join_next() => {
                    ended??;
                    return Err(Failed::from("a session ended before all were live"));
                }
            }
        }
        Ok(())
    };
    timeout(PATIENCE, all_live).await??;
    writeln!(std::io::stdout(), r#"{{"event":"live","sessions":{sessions}}}"#)?;
    let reading = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    tokio::task::spawn_blocking(reading).await??;
    // The sessions are closed properly, so that the cameras are free for the next run.
    drop(stop);
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Runs one session and discards its media, until `stopped` changes.
async fn session(
    signaling: SignalingConfig,
    live: mpsc::Sender<()>,
    mut stopped: watch::Receiver<()>,
) -> Result<(), Failed> {
    let config = SessionConfig {
        session: Settings::persistent().check()?,
        peer: PeerConfig::new(signaling.is_loopback()),
        signaling,
        watch_network: false,
    };
    let (mut viewer, mut media) = Session::start(config)?;
    let mut live = Some(live);
    let mut stopping = false;
    loop {
        tokio::select! {
            // The sender sends no value; dropping it is the signal.
            _ = stopped.changed(), if !stopping => {
                stopping = true;
                viewer.handle.close();
            }
            reported = viewer.handle.next_event() => match reported {
                Some(SessionUpdate::Event { event: Event::Live, .. }) => {
                    if let Some(live) = live.take() {
                        live.send(()).await?;
                    }
                }
                Some(SessionUpdate::Event { event: Event::Ended(outcome), .. }) if !stopping => {
                    return Err(outcome.sentence().into());
                }
                Some(SessionUpdate::Event { event: Event::Ended(_), .. }) => break,
                Some(SessionUpdate::Event { .. } | SessionUpdate::Lagged(_)) => {}
                None => return Err("the session's task is gone".into()),
            },
            taken = media.next(), if !stopping => if taken.is_none() {
                return Err("the session's media ended".into());
            },
        }
    }
    viewer.ended().await?;
    Ok(())
}
