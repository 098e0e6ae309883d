//! The service's responses and behaviour: scenarios 36 to 39, 42 to 44 and 46.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use kvs_camera::CameraEvent;
use kvs_emulator::{
    Action, Credential, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, EmulatorConfig, Match,
    MessageType, Point, Quotas, Role,
};
use negotiation_core::{EndReason, Event, FailureCode, RetryDelay, Settings};

use crate::{ms, scenario, scenario_on, secs, shown};

fn offers(times: u64) -> Match {
    Match { from: Some(Role::Viewer), ..Match::first(MessageType::SdpOffer, times) }
}

fn call(name: &str) -> Match {
    Match { call: Some(name.to_owned()), ..Match::on(Point::Call) }
}

#[test]
fn w36_transient_status_error_is_retried() {
    scenario(36, "throttled", async |stage| {
        let throttled = Action::Status { error: "ThrottlingException".to_owned(), status: 429 };
        stage.fault(offers(1), throttled);
        stage.camera().await;
        let mut viewer = stage.watch();
        viewer.live().await;
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        let [first, second] = &outcome.attempts[..] else { panic!("two attempts") };
        let failure = first.evidence.service_error.as_ref().expect("the service said so");
        assert_eq!(failure.code, FailureCode::Throttled);
        let pause = second.started.saturating_since(first.ended);
        assert!(pause >= secs(5), "{pause:?}");
        shown("mapped to throttled, backed off 5 s, live", pause)
    });
}

#[test]
fn w36_permanent_status_error_ends_session() {
    scenario(36, "permanent", async |stage| {
        let denied = Action::Status { error: "AccessDeniedException".to_owned(), status: 403 };
        stage.fault(offers(1), denied);
        stage.camera().await;
        let mut viewer = stage.watch();
        let sent = viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::AccessDenied, 1));
        shown("ended as access-denied", outcome.attempts[0].ended.saturating_since(sent))
    });
}

fn skewed(case: &'static str, offset_secs: i64) {
    let service = EmulatorConfig { clock_offset_secs: offset_secs, ..EmulatorConfig::default() };
    scenario_on(37, case, service, async |stage| {
        stage.camera().await;
        let mut viewer = stage.watch();
        let live = viewer.live().await;
        // Camera and viewer share the clock correction of this process, so only one request is
        // refused.
        let extra: u64 = stage.emulator.calls().values().map(|count| count.refused).sum();
        viewer.more_pictures(15).await;
        let pictures = stage.untouched(viewer).await;
        assert_eq!(extra, 1, "{:?}", stage.emulator.calls());
        let what = format!("learnt from 1 refusal, for calls and socket; {pictures} pictures");
        shown(what, live.saturating_since(Default::default()))
    });
}

#[test]
fn w37_clock_skew_behind() {
    skewed("behind", 600);
}

#[test]
fn w37_clock_skew_ahead() {
    skewed("ahead", -600);
}

#[test]
fn w38_signing() {
    const TOKEN: &str = "a+b/c==%2F%+=/ end";
    let credential = Credential::new("AKIAHARD", "s/+=%key", Some(TOKEN.to_owned()));
    let service = EmulatorConfig { credentials: vec![credential], ..EmulatorConfig::default() };
    scenario_on(38, "", service, async |stage| {
        let token = || Some(TOKEN.to_owned());
        let signed = stage.signaling().credentials("AKIAHARD", "s/+=%key", token());
        stage.camera_with(|camera| camera.signaling = signed.build().expect("valid")).await;
        for channel in
            [stage.channel.clone(), stage.emulator.channel_arn(&stage.channel).expect("one")]
        {
            let mut plan = stage.plan();
            plan.signaling = signaling_aws::SignalingConfig::builder(channel)
                .region(stage.emulator.region())
                .endpoint_url(stage.emulator.endpoint())
                .credentials("AKIAHARD", "s/+=%key", token())
                .client_id("a-Viewer_1.x");
            let mut viewer = plan.watch();
            viewer.live().await;
            viewer.close().await;
        }
        let refused: u64 = stage.emulator.calls().values().map(|count| count.refused).sum();
        assert_eq!(refused, 0, "{:?}", stage.emulator.calls());
        shown("every call and both sockets verified, by name and by ARN", ms(0))
    });
}

/// Provides an expired session token at first, and the token `next` from then on.
#[derive(Debug)]
struct Renewing {
    requested: Arc<AtomicU32>,
    next: &'static str,
}

impl ProvideCredentials for Renewing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let requested = self.requested.fetch_add(1, Ordering::Relaxed);
        let token = if requested == 0 { "old" } else { self.next };
        let until = SystemTime::now().checked_add(Duration::from_secs(3600));
        let made = Credentials::new("AKIATEMP", "temp", Some(token.to_owned()), until, "test");
        future::ProvideCredentials::ready(Ok(made))
    }
}

fn temporary() -> EmulatorConfig {
    let credential = |id: &str, token: Option<&str>| {
        Credential::new(
            id,
            if token.is_some() { "temp" } else { DEFAULT_SECRET_ACCESS_KEY },
            token.map(str::to_owned),
        )
    };
    let mut old = credential("AKIATEMP", Some("old"));
    old.expires_at_secs = Some(1);
    let fresh = credential("AKIATEMP", Some("fresh"));
    let camera = credential(DEFAULT_ACCESS_KEY_ID, None);
    EmulatorConfig { credentials: vec![camera, old, fresh], ..EmulatorConfig::default() }
}

#[test]
fn w39_renewed_credentials_are_used() {
    scenario_on(39, "renewed", temporary(), async |stage| {
        stage.camera().await;
        let requested = Arc::<AtomicU32>::default();
        let provider = Renewing { requested: Arc::clone(&requested), next: "fresh" };
        let mut plan = stage.plan();
        plan.signaling =
            plan.signaling.credentials_provider(SharedCredentialsProvider::new(provider));
        let mut viewer = plan.watch();
        let live = viewer.live().await;
        viewer.more_pictures(5).await;
        assert_eq!(viewer.close().await.attempts_total, 1);
        assert_eq!(requested.load(Ordering::Relaxed), 2);
        shown("asked for again once, live in attempt 1", live.saturating_since(Default::default()))
    });
}

#[test]
fn w39_expired_credentials_end_session() {
    scenario_on(39, "not renewed", temporary(), async |stage| {
        let provider = Renewing { requested: Arc::default(), next: "old" };
        let mut plan = stage.plan();
        plan.signaling =
            plan.signaling.credentials_provider(SharedCredentialsProvider::new(provider));
        let outcome = plan.watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::ExpiredCredentials, 1));
        shown("ended as expired-credentials", outcome.lasted)
    });
}

#[test]
fn w42_control_plane_errors() {
    scenario(42, "5xx and throttles", async |stage| {
        stage.camera().await;
        let refuse = |status, error: &str| Action::Refuse {
            status,
            error: error.to_owned(),
            message: "Later.".to_owned(),
        };
        let endpoint = |times| Match { times: Some(times), ..call("GetSignalingChannelEndpoint") };
        let failing = stage.fault(endpoint(2), refuse(503, "ServiceUnavailable"));
        let throttling = stage.fault(endpoint(1), refuse(429, "ThrottlingException"));
        let mut plan = stage.plan();
        plan.settings.retries = 5;
        plan.settings.throttle_delay = secs(1);
        plan.settings.retry_delay = RetryDelay::FullJitter { base: ms(300), cap: secs(2) };
        let mut viewer = plan.watch();
        let live = viewer.live().await;
        viewer.more_pictures(5).await;
        let outcome = viewer.close().await;
        assert_eq!((stage.hits(failing), stage.hits(throttling)), (2, 1));
        let what = format!("live in attempt {}", outcome.attempts_total);
        shown(what, live.saturating_since(Default::default()))
    });
}

#[test]
fn w42_turn_failure_falls_back_to_stun() {
    scenario(42, "TURN", async |stage| {
        stage.camera().await;
        // The viewer requests ICE servers first: the camera does so when it receives an offer.
        let once = Match { times: Some(1), ..call("GetIceServerConfig") };
        let failing = stage.fault(once, Action::Hang { ms: None });
        let mut plan = stage.plan();
        plan.settings.ice_servers_timeout = secs(1);
        let mut viewer = plan.watch();
        let live = viewer.live().await;
        viewer.more_pictures(5).await;
        let outcome = viewer.close().await;
        assert_eq!(stage.hits(failing), 1);
        assert_eq!(outcome.attempts_total, 1);
        assert!(!outcome.attempts[0].evidence.turn_servers);
        shown("live without TURN, in attempt 1", live.saturating_since(Default::default()))
    });
}

#[test]
fn w43_permanent_failure_ends_session() {
    scenario(43, "", async |stage| {
        let mut longest = Duration::ZERO;
        let mut reported = Vec::new();
        for case in ["no channel", "wrong secret", "wrong region"] {
            let mut plan = stage.plan();
            plan.settings.retries = 10;
            let name = if case == "no channel" { "elsewhere" } else { &stage.channel };
            let secret = if case == "wrong secret" { "no" } else { DEFAULT_SECRET_ACCESS_KEY };
            let region =
                if case == "wrong region" { "eu-central-1" } else { stage.emulator.region() };
            plan.signaling = signaling_aws::SignalingConfig::builder(name)
                .region(region)
                .endpoint_url(stage.emulator.endpoint())
                .credentials(DEFAULT_ACCESS_KEY_ID, secret, None);
            let outcome = plan.watch().ended().await;
            assert_eq!(outcome.attempts_total, 1, "{case}");
            let expected = match case {
                "no channel" => EndReason::NoChannel,
                _ => EndReason::AccessDenied,
            };
            assert_eq!(outcome.reason, expected, "{case}");
            let error = outcome.attempts[0].end.to_string();
            assert!(error.contains("Exception"), "the API's own name: {error}");
            reported.push(format!("{case}: {}", outcome.reason));
            longest = longest.max(outcome.lasted);
        }
        shown(reported.join(", "), longest)
    });
}

#[test]
fn w44_later_master_gets_stored_offer() {
    scenario(44, "", async |stage| {
        let mut plan = stage.plan();
        plan.settings = Settings::one_retry();
        let mut viewer = plan.watch();
        let sent = viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
        tokio::time::sleep(secs(20)).await;
        stage.camera().await;
        let came = viewer.now();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        let answers = stage.camera_told(|event| matches!(event, CameraEvent::Answer { .. }));
        assert_eq!((answers, viewer.answers().len()), (1, 1), "answered once");
        let pictures = stage.untouched(viewer).await;
        let waited = came.saturating_since(sent);
        let what = format!("it came after {waited:.0?}, answered once; {pictures} pictures");
        shown(what, live.saturating_since(came))
    });
}

#[test]
fn w46_channel_full() {
    let quotas = Quotas { viewers_max: 1, ..Quotas::default() };
    scenario_on(46, "", EmulatorConfig { quotas, ..EmulatorConfig::default() }, async |stage| {
        let first = stage.live().await;
        let mut plan = stage.plan();
        plan.signaling = stage.signaling().client_id("second");
        let outcome = plan.watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::ViewerLimit, 2));
        let [one, two] = &outcome.attempts[..] else { panic!("two attempts") };
        let pause = two.started.saturating_since(one.ended);
        assert!(pause >= secs(5), "{pause:?}");
        let pictures = stage.untouched(first).await;
        assert!(pictures > 30);
        let what = format!("2 attempts, {pause:.1?} apart, ended as viewer-limit");
        shown(what, outcome.lasted)
    });
}
