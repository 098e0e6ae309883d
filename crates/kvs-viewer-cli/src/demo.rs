//! `kvs-viewer demo`: runs emulator, camera and viewer in one process, and drops the first answer.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use kvs_camera::{Camera, CameraConfig, FrameLog, Source};
use kvs_emulator::{Action, Credential, Emulator, EmulatorConfig, Fault, Match, MessageType, Role};
use negotiation_core::{Mode, RetryDelay, Settings};
use peer_webrtc::{Codec, Media, PeerConfig};
use recording::{ClipKind, Recorder};
use signaling_aws::SignalingConfig;

use super::args::OutputArgs;
use super::exit::Exit;
use super::log;
use super::spans::span;
use super::status::Status;
use super::summary::Context;
use super::watch::watch;
use super::{Started, complain};
use kvs_viewer::SessionConfig;
use kvs_viewer::record::codecs_for;

const CHANNEL: &str = "demo";

/// Show a lost answer, the retry, and live video, all on this machine.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Use a storage session (experimental): the service makes the offers, and the first offer is
    /// lost instead of an answer
    #[arg(long, help_heading = "Demo")]
    storage_session: bool,
    /// Use the default timeouts (30 s for the answer, 6 s before the retry) instead of short ones
    #[arg(long, help_heading = "Demo")]
    real_deadlines: bool,
    /// Write every frame that the camera sends to this file, as JSON, one per line
    #[arg(long, value_name = "FILE", help_heading = "Demo")]
    frame_log: Option<PathBuf>,
}

/// The access key of the demo: generated for one run, or that of the environment.
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Keys {
    fn choose() -> Self {
        let env = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        match (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => Self { id, secret, token: env("AWS_SESSION_TOKEN") },
            // Keys of this kind suffice for an emulator on loopback that runs only during the demo.
            (Some(_) | None, _) => {
                let random = || format!("{:016x}", RandomState::new().hash_one(CHANNEL));
                Self { id: "DEMO".into(), secret: random() + &random(), token: None }
            }
        }
    }
}

pub(crate) async fn run(args: DemoArgs, started: Started) -> Exit {
    log::start(args.output.log);
    if let Some(Err(error)) = args.output.record.as_ref().map(Recorder::check) {
        return complain(Exit::refused(&error), &error.to_string());
    }
    let keys = Keys::choose();
    let emulator = EmulatorConfig {
        credentials: vec![Credential::new(&keys.id, &keys.secret, keys.token.clone())],
        channels: vec![CHANNEL.into()],
        storage_channels: args.storage_session.then(|| CHANNEL.into()).into_iter().collect(),
        faults: vec![Fault { matches: lost(args.storage_session), action: Action::Drop }],
        ..EmulatorConfig::default()
    };
    let emulator = match Emulator::start(emulator).await {
        Ok(emulator) => emulator,
        Err(error) => return complain(Exit::Internal, &format!("the emulator: {error}")),
    };
    let exit = with_camera(&args, &emulator, &keys, started).await;
    emulator.shutdown().await;
    exit
}

/// Matches the message to drop: the first answer, or in a storage session the first offer.
fn lost(storage_session: bool) -> Match {
    if storage_session {
        let offer = Match::first(MessageType::SdpOffer, 1);
        Match { from: Some(Role::Master), ..offer }
    } else {
        Match::first(MessageType::SdpAnswer, 1)
    }
}

async fn with_camera(args: &DemoArgs, emulator: &Emulator, keys: &Keys, started: Started) -> Exit {
    let signaling = || {
        SignalingConfig::builder(CHANNEL)
            .storage_session(args.storage_session)
            .region(emulator.region())
            .endpoint_url(emulator.endpoint())
            .credentials(&keys.id, &keys.secret, keys.token.clone())
            // The environment may enable AWS's FIPS or dual-stack endpoints.
            .fips(false)
            .dual_stack(false)
            .build()
    };
    let (camera, viewer) = match (signaling(), signaling()) {
        (Ok(camera), Ok(viewer)) => (camera, viewer),
        (Err(error), _) | (_, Err(error)) => return complain(Exit::Internal, &error.to_string()),
    };
    let containers = args.output.containers();
    let codecs = codecs_for(&containers);
    let video = codecs.iter().find(|codec| [Codec::H264, Codec::Vp8].contains(codec));
    let is_h264 = video == Some(&Codec::H264);
    let clip = if is_h264 { ClipKind::H264Opus } else { ClipKind::Vp8Opus };
    let mut camera = CameraConfig { source: Source::Bundled(clip), ..CameraConfig::new(camera) };
    if let Some(path) = &args.frame_log {
        camera.frame_log = FrameLog::File(path.clone());
    }
    camera.storage_session = args.storage_session;
    let status = Status::start(args.output.verbosity());
    let session = match settings(args) {
        Ok(session) => session,
        Err(error) => return complain(Exit::Internal, &error.to_string()),
    };
    if !args.real_deadlines && !args.storage_session {
        // Like a real camera, this one gives up a viewer that never connects, before the retry.
        camera.connect_timeout = ANSWER_TIMEOUT - Duration::from_secs(1);
        status.say(&format!(
            "The demo uses short timeouts: {} for the answer, {} before the retry \
             (--real-deadlines uses the defaults).",
            span(ANSWER_TIMEOUT),
            span(RETRY_DELAY),
        ));
    }
    status.say(match args.storage_session {
        false => "An emulator on this machine plays the service, and loses the camera's first answer.",
        true => "An emulator on this machine plays the service, and loses its first offer to the viewer.",
    });
    let camera = match Camera::start(camera).await {
        Ok(camera) => camera,
        Err(error) => return complain(Exit::of_camera(&error), &format!("the camera: {error}")),
    };
    let audio = if args.output.takes_audio() { Media::RecvOnly } else { Media::Off };
    let peer = PeerConfig { codecs, audio, ..PeerConfig::new(true) };
    let context = Context {
        channel: CHANNEL.into(),
        config: session.clone(),
        is_loopback: true,
        profile: None,
    };
    let config = SessionConfig { session, signaling: viewer, peer, watch_network: false };
    let exit = watch(config, context, &args.output, started).await;
    camera.shutdown().await;
    exit
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
const RETRY_DELAY: Duration = Duration::from_secs(2);

fn settings(args: &DemoArgs) -> Result<negotiation_core::Config, negotiation_core::ConfigError> {
    let mut settings = Settings::one_retry();
    if args.storage_session {
        settings.mode = Mode::Answerer;
    } else if !args.real_deadlines {
        settings.answer_timeouts = vec![ANSWER_TIMEOUT];
        settings.retry_delay = RetryDelay::Fixed(RETRY_DELAY);
    }
    settings.check()
}
