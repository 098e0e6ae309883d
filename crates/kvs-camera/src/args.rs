//! The command line of a camera, which runs until a signal comes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use negotiation_core::Failure;
use peer_webrtc::Authorities;
use recording::ClipKind;
use serde_json::json;
use signaling_aws::SignalingConfig;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::camera::Camera;
use crate::config::{Behaviour, CameraConfig, Source, Trickle};
use crate::error::CameraError;
use crate::event::CameraEvent;
use crate::frame_log::FrameLog;

/// The headings of the help, in order.
const SERVICE: &str = "Channel and service";
const MEDIA: &str = "Media";
const MASTER: &str = "Behaviour as a master";
const SCRIPTS: &str = "Scripts and logs";

/// A camera on a KVS channel: plays a clip to every viewer, in an endless loop.
#[derive(Clone, Debug, clap::Args)]
pub struct CameraArgs {
    /// Channel, by name or ARN
    #[arg(long, value_name = "NAME|ARN", help_heading = SERVICE)]
    pub channel: String,
    /// Create the channel if it does not exist
    #[arg(long, help_heading = SERVICE)]
    pub create_channel: bool,
    /// AWS region [default: the ARN's, or that of the AWS configuration]
    #[arg(long, help_heading = SERVICE)]
    pub region: Option<String>,
    /// URL of the control plane, as for an emulator [default: AWS's]
    #[arg(long, value_name = "URL", help_heading = SERVICE)]
    pub endpoint_url: Option<String>,
    /// Allow a plain http:// URL beyond this machine, where others on the path can read and use
    /// the signed requests
    #[arg(long, help_heading = SERVICE)]
    pub allow_plain_http: bool,
    /// Trust the authorities in this PEM file in addition to the system's
    #[arg(long, value_name = "PEM", help_heading = SERVICE)]
    pub ca_file: Option<PathBuf>,
    /// Profile of the AWS configuration
    #[arg(long, help_heading = SERVICE)]
    pub profile: Option<String>,
    /// Use loopback addresses as candidates [default: if the endpoint is on loopback]
    #[arg(long, help_heading = SERVICE)]
    pub loopback: bool,
    /// Codec of the bundled clip
    #[arg(
        long,
        value_enum,
        default_value = "h264",
        conflicts_with = "file",
        help_heading = MEDIA
    )]
    pub codec: ClipCodec,
    /// Play this file: MP4, MOV, WebM or Matroska with H.264, VP8 or VP9, and Opus
    #[arg(long, value_name = "PATH", help_heading = MEDIA)]
    pub file: Option<PathBuf>,
    /// Send no audio
    #[arg(long, help_heading = MEDIA)]
    pub no_audio: bool,
    /// Resend lost packets on a retransmission stream (RTX) if the viewer takes one, as GStreamer
    /// does [default: on the media stream, as the C SDK does]
    #[arg(long, help_heading = MEDIA)]
    pub rtx: bool,
    /// Join the channel's storage session and send to the service (experimental)
    #[arg(long, help_heading = MEDIA)]
    pub storage_session: bool,
    /// What to do when a client id that has a session offers again
    #[arg(long, value_enum, default_value = "replace", help_heading = MASTER)]
    pub behaviour: BehaviourKind,
    /// With --behaviour linger: seconds that the id of a viewer that vanished stays taken
    #[arg(long, value_name = "S", default_value_t = 55.0, help_heading = MASTER)]
    pub linger_seconds: f64,
    /// Wait this many milliseconds before reading an offer
    #[arg(long, value_name = "MS", default_value_t = 0, help_heading = MASTER)]
    pub answer_delay_ms: u64,
    /// Put all candidates into the answer, which waits for them
    #[arg(long, help_heading = MASTER)]
    pub no_trickle: bool,
    /// Put all candidates into the answer if the offer does not announce trickle, as the C SDK
    /// does
    #[arg(long, conflicts_with = "no_trickle", help_heading = MASTER)]
    pub trickle_as_offered: bool,
    /// Drop a session that is not connected after this many seconds
    #[arg(long, value_name = "S", default_value_t = 13.0, help_heading = MASTER)]
    pub connect_timeout_s: f64,
    /// Drop a session after its viewer has been out of reach for this many seconds
    #[arg(long, value_name = "S", default_value_t = 28.0, help_heading = MASTER)]
    pub disconnect_timeout_s: f64,
    /// Sessions at a time; further offers are not answered
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = MASTER)]
    pub max_sessions: usize,
    /// Write every frame that was sent to this file, one JSON object a line
    #[arg(long, value_name = "FILE", help_heading = SCRIPTS)]
    pub frame_log: Option<PathBuf>,
    /// Write this file once connected
    #[arg(long, value_name = "FILE", help_heading = SCRIPTS)]
    pub ready_file: Option<PathBuf>,
    /// Print one JSON object for each event on standard output
    #[arg(long, help_heading = SCRIPTS)]
    pub json: bool,
}

/// The codecs of a bundled clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClipCodec {
    /// H.264 with Opus
    H264,
    /// VP8 with Opus
    Vp8,
}

/// The handling of an offer from a client id that has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BehaviourKind {
    /// Close its session and answer with a new one (JavaScript SDK)
    Replace,
    /// Answer on the existing connection, including ICE restarts
    Renegotiate,
    /// Do not answer (C SDK)
    #[value(alias = "ignore")]
    IgnoreRepeated,
    /// Do not answer, nor for a while after the viewer vanished (GStreamer)
    Linger,
}

impl CameraArgs {
    /// Returns the configuration of these flags. Does not use the network; reads the CA file.
    ///
    /// # Errors
    /// Names the flag with an invalid value.
    pub fn to_config(&self) -> Result<CameraConfig, CameraError> {
        let mut signaling = SignalingConfig::builder(self.channel.clone());
        if let Some(region) = &self.region {
            signaling = signaling.region(region);
        }
        if let Some(url) = &self.endpoint_url {
            signaling = signaling.endpoint_url(url);
        }
        signaling = signaling.allow_plain_http(self.allow_plain_http);
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
            audio: !self.no_audio,
            rtx: self.rtx,
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

/// Runs the camera until Ctrl-C or a signal that ends the process (SIGTERM, SIGHUP), then closes
/// everything.
///
/// # Errors
/// The camera did not start, another master took its channel, or the ready file cannot be written.
pub async fn run(args: CameraArgs) -> Result<(), CameraError> {
    run_until(args, terminated()).await
}

/// Runs the camera until `stop` is ready.
///
/// # Errors
/// As [`run`].
pub async fn run_until(
    args: CameraArgs,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), CameraError> {
    let mut stop = std::pin::pin!(stop);
    let config = args.to_config()?;
    let start = async {
        config.signaling.check_environment().await?;
        Camera::start_noting(config, waiting).await
    };
    let mut camera = tokio::select! {
        // Dropping `start` closes what it has opened.
        () = &mut stop => return Ok(()),
        camera = start => camera?,
    };
    let events = camera.events();
    let mut ended = announce(&args);
    if ended.is_ok() {
        tokio::select! {
            () = stop => {}
            reported = tell(events, args.json) => ended = reported,
        }
    }
    camera.shutdown().await;
    ended
}

/// Prints why the camera does not start yet.
fn waiting(failure: &Failure) {
    // The result is ignored: if standard error is closed, there is no reader.
    let _ = writeln!(
        std::io::stderr(),
        "The channel cannot be reached yet, trying again for some seconds: {failure}"
    );
}

/// Prints every event, until another master has taken the channel for good.
async fn tell(mut events: Receiver<CameraEvent>, json: bool) -> Result<(), CameraError> {
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        };
        // The result is ignored: the camera continues without a reader.
        let _ = if json {
            match serde_json::to_string(&event) {
                Ok(line) => writeln!(std::io::stdout(), "{line}"),
                Err(error) => Err(error.into()),
            }
        } else {
            writeln!(std::io::stderr(), "{}", for_people(&event))
        };
        if let CameraEvent::Displaced { times } = event {
            return Err(CameraError::Displaced { times });
        }
    }
}

fn for_people(event: &CameraEvent) -> String {
    // Client ids come from the network and must not control the terminal.
    let shown = |client_id: &str| client_id.escape_debug().to_string();
    match event {
        CameraEvent::SignalingConnected => "Connected to the channel.".to_owned(),
        CameraEvent::SignalingLost { failure } => {
            format!("The connection to the channel was lost, connecting again: {failure}")
        }
        CameraEvent::Displaced { .. } => "Another master took this channel.".to_owned(),
        CameraEvent::Offer { client_id, session } => {
            format!("{} offers (session {session}).", shown(client_id))
        }
        CameraEvent::OfferIgnored { client_id, reason } => {
            format!("{} offers and is not answered: {reason}.", shown(client_id))
        }
        CameraEvent::CodecMismatch { client_id, session, kind, sends, offered } => {
            let offered: Vec<String> = offered.iter().map(|codec| shown(codec)).collect();
            let offered =
                if offered.is_empty() { "no codec".to_owned() } else { offered.join(", ") };
            format!(
                "{} gets no {kind} (session {session}): this camera sends {sends}, and the viewer \
                 offers {offered}.",
                shown(client_id)
            )
        }
        CameraEvent::Answer { client_id, session } => {
            format!("{} was answered (session {session}).", shown(client_id))
        }
        CameraEvent::ViewerJoined { client_id, session } => {
            format!("{} is watching (session {session}).", shown(client_id))
        }
        CameraEvent::ViewerLeft { client_id, session, reason, frames } => {
            let who = shown(client_id);
            format!("{who} left (session {session}, {frames} frames sent): {reason}.")
        }
    }
}

/// Reports that the camera is connected.
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

/// Writes a file atomically: under its name it never appears half written.
fn write_whole(path: &Path, line: &str) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    // Remove a symbolic link at this path instead of following it.
    let _ = std::fs::remove_file(&part);
    let mut file = std::fs::File::create_new(&part)?;
    writeln!(file, "{line}")?;
    std::fs::rename(&part, path)
}

fn seconds(field: &'static str, value: f64) -> Result<Duration, CameraError> {
    Duration::try_from_secs_f64(value).map_err(|_| CameraError::Setting {
        field,
        problem: format!("{value} is no number of seconds"),
    })
}

/// Returns at Ctrl-C, or when the system signals the process to end, such as when its terminal is
/// closed.
async fn terminated() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let requested = {
        use tokio::signal::unix::SignalKind;
        async {
            tokio::select! {
                () = signalled(SignalKind::terminate()) => {}
                () = signalled(SignalKind::hangup()) => {}
            }
        }
    };
    #[cfg(not(unix))]
    let requested = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = requested => {}
    }
}

#[cfg(unix)]
async fn signalled(kind: tokio::signal::unix::SignalKind) {
    match tokio::signal::unix::signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{IgnoredOffer, LeaveReason};
    use clap::Parser;
    use negotiation_core::FailureCode;

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
    fn invalid_flag_is_named_in_error() {
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
    fn help_lists_every_flag_under_a_heading() {
        use clap::CommandFactory as _;
        let command = Cli::command();
        let without: Vec<_> = command
            .get_arguments()
            .filter(|arg| arg.get_id() != "help" && arg.get_help_heading().is_none())
            .map(|arg| arg.get_id().to_string())
            .collect();
        assert_eq!(without, [""; 0]);
    }

    #[test]
    fn printed_events_contain_no_code_identifiers() {
        let (client_id, session) = ("door".to_owned(), 3);
        let left = CameraEvent::ViewerLeft {
            client_id: client_id.clone(),
            session,
            reason: LeaveReason::NeverConnected,
            frames: 0,
        };
        let text = for_people(&left);
        assert_eq!(
            text,
            "door left (session 3, 0 frames sent): no connection to the viewer could be made."
        );
        let reason = IgnoredOffer::Repeated;
        let text = for_people(&CameraEvent::OfferIgnored { client_id: client_id.clone(), reason });
        assert!(text.ends_with("its client id has a session already."), "{text}");
        let offered = vec!["VP8".to_owned(), "evil\u{1b}[2J".to_owned()];
        let mismatch = CameraEvent::CodecMismatch {
            client_id,
            session,
            kind: "video",
            sends: "H264",
            offered,
        };
        let text = for_people(&mismatch);
        assert!(text.contains("sends H264, and the viewer offers VP8, evil\\u{1b}[2J"), "{text}");
        let json = serde_json::to_value(&mismatch).expect("an object");
        assert_eq!(
            (&json["event"], &json["sends"], &json["offered"][0]),
            (&"codec_mismatch".into(), &"H264".into(), &"VP8".into())
        );
    }

    #[test]
    fn missing_channel_error_names_create_flag() {
        let failure = |code| CameraError::Connect(Failure::new(code, "x")).to_string();
        assert!(failure(FailureCode::NoChannel).ends_with("--create-channel creates it"));
        assert!(!failure(FailureCode::AccessDenied).contains("--create-channel"));
    }

    /// Sends the signal of a closed terminal. Without a handler it would end this process.
    #[cfg(unix)]
    #[tokio::test]
    async fn hangup_signal_ends_camera_in_order() {
        let mut ended = std::pin::pin!(terminated());
        tokio::select! {
            biased;
            // The first poll installs the signal handlers.
            () = &mut ended => panic!("nothing has happened yet"),
            () = std::future::ready(()) => {}
        }
        let process = std::process::id().to_string();
        let sent = std::process::Command::new("kill").args(["-HUP", &process]).status();
        assert!(sent.expect("kill runs").success());
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
    }

    #[test]
    fn ready_file_is_written_atomically() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("ready.json");
        write_whole(&path, "{}").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "{}\n");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
