//! The command line of a camera, and running it until a signal comes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peer_webrtc::Authorities;
use recording::ClipKind;
use serde_json::json;
use signaling_aws::SignalingConfig;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::camera::Camera;
use crate::config::{Behaviour, CameraConfig, FrameLog, Source, Trickle};
use crate::error::CameraError;
use crate::event::CameraEvent;

/// A camera on a KVS channel: plays a clip to every viewer, in an endless loop.
#[derive(Clone, Debug, clap::Args)]
pub struct CameraArgs {
    /// The channel, by name or by ARN
    #[arg(long, value_name = "NAME|ARN")]
    pub channel: String,
    /// The region; without it the ARN's, or that of the AWS configuration
    #[arg(long)]
    pub region: Option<String>,
    /// The control plane's URL; without it as the AWS configuration says
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// A PEM file with authorities to trust beside the system's
    #[arg(long, value_name = "PEM")]
    pub ca_file: Option<PathBuf>,
    /// A profile of the AWS configuration
    #[arg(long)]
    pub profile: Option<String>,
    /// Create the channel where it does not exist
    #[arg(long)]
    pub create_channel: bool,
    /// Codec of the bundled clip
    #[arg(long, value_enum, default_value = "h264", conflicts_with = "file")]
    pub codec: ClipCodec,
    /// Play this file (MP4, MOV, WebM or Matroska; H.264, VP8 or VP9 and Opus)
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Join the channel's storage session and send to the service (experimental: it has not met
    /// AWS)
    #[arg(long)]
    pub storage_session: bool,
    /// What is done about a client id that offers again while it has a session
    #[arg(long, value_enum, default_value = "replace")]
    pub behaviour: BehaviourKind,
    /// With --behaviour linger: how long the id of a viewer that vanished stays taken
    #[arg(long, value_name = "S", default_value_t = 55.0)]
    pub linger_seconds: f64,
    /// Look at an offer only after this time
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub answer_delay_ms: u64,
    /// Answer after gathering, with the candidates in the answer
    #[arg(long)]
    pub no_trickle: bool,
    /// Answer after gathering if the offer does not say that it trickles, as the C SDK does
    #[arg(long, conflicts_with = "no_trickle")]
    pub trickle_as_offered: bool,
    /// Drop a session that is not connected after this time
    #[arg(long, value_name = "S", default_value_t = 13.0)]
    pub connect_timeout_s: f64,
    /// A viewer that is out of reach this long has vanished
    #[arg(long, value_name = "S", default_value_t = 28.0)]
    pub disconnect_timeout_s: f64,
    /// Sessions at a time; offers beyond it meet silence
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub max_sessions: usize,
    /// Use loopback addresses too; without it when the endpoint is on loopback
    #[arg(long)]
    pub loopback: bool,
    /// Write every frame that was sent to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub frame_log: Option<PathBuf>,
    /// Write this file once connected
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// One JSON object for each event on standard output
    #[arg(long)]
    pub json: bool,
}

/// Codec of a bundled clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClipCodec {
    /// H.264 with Opus
    H264,
    /// VP8 with Opus
    Vp8,
}

/// What is done about a repeated client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BehaviourKind {
    /// Close its session and answer with a new one (JavaScript SDK)
    Replace,
    /// Answer on the connection that there is, ICE restarts included
    Renegotiate,
    /// Say nothing (C SDK)
    #[value(alias = "ignore")]
    IgnoreRepeated,
    /// Say nothing, for a while after its viewer vanished too (GStreamer)
    Linger,
}

impl CameraArgs {
    /// The settings these flags ask for. No network is touched; the CA file is read.
    ///
    /// # Errors
    /// Names the flag that cannot work.
    pub fn to_config(&self) -> Result<CameraConfig, CameraError> {
        let mut signaling = SignalingConfig::builder(self.channel.clone());
        if let Some(region) = &self.region {
            signaling = signaling.region(region);
        }
        if let Some(url) = &self.endpoint_url {
            signaling = signaling.endpoint_url(url);
        }
        if let Some(path) = &self.ca_file {
            signaling = signaling.ca_file(path);
        }
        if let Some(profile) = &self.profile {
            signaling = signaling.profile(profile);
        }
        let source = match (&self.file, self.codec) {
            (Some(path), _) => Source::File(path.clone()),
            (None, ClipCodec::H264) => Source::Bundled(ClipKind::H264Opus),
            (None, ClipCodec::Vp8) => Source::Bundled(ClipKind::Vp8Opus),
        };
        let behaviour = match self.behaviour {
            BehaviourKind::Replace => Behaviour::Replace,
            BehaviourKind::Renegotiate => Behaviour::Renegotiate,
            BehaviourKind::IgnoreRepeated => Behaviour::IgnoreRepeated,
            BehaviourKind::Linger => {
                Behaviour::Linger(seconds("linger-seconds", self.linger_seconds)?)
            }
        };
        let trickle = match (self.no_trickle, self.trickle_as_offered) {
            (true, _) => Trickle::Never,
            (false, true) => Trickle::WhenOffered,
            (false, false) => Trickle::Always,
        };
        let authorities = match &self.ca_file {
            None => Authorities::system(),
            Some(path) => Authorities::with_pem_file(path).map_err(|error| {
                CameraError::Setting { field: "ca-file", problem: error.to_string() }
            })?,
        };
        Ok(CameraConfig {
            source,
            storage_session: self.storage_session,
            behaviour,
            trickle,
            answer_delay: Duration::from_millis(self.answer_delay_ms),
            connect_timeout: seconds("connect-timeout-s", self.connect_timeout_s)?,
            disconnect_timeout: seconds("disconnect-timeout-s", self.disconnect_timeout_s)?,
            sessions_max: self.max_sessions,
            loopback: self.loopback.then_some(true),
            authorities,
            frame_log: self.frame_log.clone().map_or(FrameLog::Off, FrameLog::File),
            create_channel: self.create_channel,
            ..CameraConfig::new(signaling.build()?)
        })
    }
}

/// Serves until Ctrl-C or a termination signal, then closes everything.
///
/// # Errors
/// The camera did not start, or the ready file cannot be written.
pub async fn run(args: CameraArgs) -> Result<(), CameraError> {
    run_until(args, terminated()).await
}

/// Serves until `stop` is ready.
///
/// # Errors
/// The camera did not start, or the ready file cannot be written.
pub async fn run_until(
    args: CameraArgs,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), CameraError> {
    let mut stop = std::pin::pin!(stop);
    let config = args.to_config()?;
    let mut camera = tokio::select! {
        // What was opened so far is closed by being dropped.
        () = &mut stop => return Ok(()),
        camera = Camera::start(config) => camera?,
    };
    let events = camera.events();
    let told = announce(&args);
    if told.is_ok() {
        tokio::select! {
            () = stop => {}
            () = tell(events, args.json) => {}
        }
    }
    camera.shutdown().await;
    told
}

/// Tells of everything, for ever.
async fn tell(mut events: Receiver<CameraEvent>, json: bool) {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        // Nobody may be reading any more: the camera goes on without.
        let _ = if json {
            match serde_json::to_string(&event) {
                Ok(line) => writeln!(std::io::stdout(), "{line}"),
                Err(error) => Err(error.into()),
            }
        } else {
            writeln!(std::io::stderr(), "{}", for_people(&event))
        };
    }
}

fn for_people(event: &CameraEvent) -> String {
    // Ids come from the network; a terminal must not obey them.
    let shown = |client_id: &str| client_id.escape_debug().to_string();
    match event {
        CameraEvent::SignalingConnected => "connected to the channel".to_owned(),
        CameraEvent::SignalingLost { failure } => {
            format!("the link to the channel is lost, connecting again: {failure}")
        }
        CameraEvent::Offer { client_id, session } => {
            format!("{} offers: session {session}", shown(client_id))
        }
        CameraEvent::OfferIgnored { client_id, reason } => {
            format!("{} offers, and is ignored: {reason:?}", shown(client_id))
        }
        CameraEvent::Answer { client_id, session } => {
            format!("{} is answered: session {session}", shown(client_id))
        }
        CameraEvent::ViewerJoined { client_id, session } => {
            format!("{} watches: session {session}", shown(client_id))
        }
        CameraEvent::ViewerLeft { client_id, session, reason, frames } => {
            let who = shown(client_id);
            format!("{who} is gone: session {session}, {reason:?}, {frames} frames sent")
        }
    }
}

/// Says that the camera is connected.
fn announce(args: &CameraArgs) -> Result<(), CameraError> {
    let line = json!({ "event": "ready", "channel": args.channel }).to_string();
    if let Some(path) = &args.ready_file {
        write_whole(path, &line)
            .map_err(|source| CameraError::File { path: path.clone(), source })?;
    }
    let (stream, written) = if args.json {
        ("standard output", writeln!(std::io::stdout(), "{line}"))
    } else {
        let line = format!("The camera is on channel {}.", args.channel);
        ("standard error", writeln!(std::io::stderr(), "{line}"))
    };
    written.map_err(|source| CameraError::File { path: PathBuf::from(stream), source })
}

/// Under its name the file is never seen half written.
fn write_whole(path: &Path, line: &str) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, format!("{line}\n"))?;
    std::fs::rename(&part, path)
}

fn seconds(field: &'static str, value: f64) -> Result<Duration, CameraError> {
    Duration::try_from_secs_f64(value).map_err(|_| CameraError::Setting {
        field,
        problem: format!("{value} is no number of seconds"),
    })
}

async fn terminated() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        camera: CameraArgs,
    }

    fn config(flags: &[&str]) -> Result<CameraConfig, CameraError> {
        let words = ["camera", "--channel", "door"].iter().chain(flags);
        Cli::try_parse_from(words).expect("parses").camera.to_config()
    }

    #[test]
    fn flags_become_settings() {
        let plain = config(&[]).expect("valid");
        assert_eq!(plain.source, Source::Bundled(ClipKind::H264Opus));
        assert_eq!((plain.behaviour, plain.trickle), (Behaviour::Replace, Trickle::Always));
        assert_eq!(plain.connect_timeout, Duration::from_secs(13));
        let linger = config(&["--behaviour", "linger", "--codec", "vp8", "--no-trickle"]);
        let linger = linger.expect("valid");
        assert_eq!(linger.behaviour, Behaviour::Linger(Duration::from_secs(55)));
        assert_eq!(linger.source, Source::Bundled(ClipKind::Vp8Opus));
        assert_eq!(linger.trickle, Trickle::Never);
        let ignore = config(&["--behaviour", "ignore", "--file", "x.mp4"]).expect("valid");
        assert_eq!(ignore.behaviour, Behaviour::IgnoreRepeated);
        assert_eq!(ignore.source, Source::File("x.mp4".into()));
    }

    #[test]
    fn wrong_flags_are_named() {
        let message = |flags: &[&str]| config(flags).expect_err("refused").to_string();
        assert!(message(&["--endpoint-url", "ftp://x"]).starts_with("endpoint_url"));
        assert!(message(&["--connect-timeout-s=-1"]).starts_with("connect-timeout-s"));
        assert!(message(&["--behaviour=linger", "--linger-seconds=nan"]).starts_with("linger"));
        assert!(
            Cli::try_parse_from(["camera", "--channel=x", "--codec=vp8", "--file=y"]).is_err(),
            "a codec is the bundled clip's alone"
        );
    }

    #[test]
    fn the_ready_file_is_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("ready.json");
        write_whole(&path, "{}").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{}\n");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
