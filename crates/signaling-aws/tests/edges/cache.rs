//! A session requests nothing that an earlier one learned: endpoints, ICE servers, the clock; and
//! the events that invalidate the cache (contract, N16, N21 and scenario 37).

use std::pin::pin;

use crate::support::{Port, calls, emulator, reach, requested};
use futures_util::FutureExt as _;
use kvs_emulator::{
    Action, Emulator, EmulatorConfig, Fault, Match, Point, ServiceMessage, TurnConfig,
};
use negotiation_core::{ConnectionId, FailureCode, SignalingCommand, SignalingEvent};
use signaling_aws::MasterConnection;

fn turn() -> TurnConfig {
    TurnConfig { servers: vec![vec!["turn:127.0.0.1:9".into()]], ..TurnConfig::default() }
}

async fn with_turn() -> Emulator {
    emulator(EmulatorConfig { turn: turn(), ..EmulatorConfig::default() }).await
}

/// Opens a connection and fetches ICE servers, as a session does; returns the number of requests
/// and how many of them were refused.
async fn session(emulator: &Emulator, id: &str) -> (u64, u64) {
    let before = requested(emulator);
    let mut port = Port::new(reach(emulator, id));
    port.connect(1, None).await;
    port.ice_servers(1).await;
    // The first session requests the storage mode concurrently.
    while storage_questions(emulator) == 0 {
        tokio::task::yield_now().await;
    }
    port.disconnect(1).await;
    let after = requested(emulator);
    (after.0 - before.0, after.1 - before.1)
}

fn storage_questions(emulator: &Emulator) -> u64 {
    calls(emulator, "DescribeMediaStorageConfiguration")
}

#[tokio::test]
async fn second_session_uses_the_cache_of_the_first() {
    let emulator = with_turn().await;
    let first = session(&emulator, "first").await;
    let second = session(&emulator, "second").await;
    println!("requests: {} for the first session, {} for the second", first.0, second.0);
    // ARN, endpoints, storage mode, ICE servers and the socket; then the socket alone.
    assert_eq!((first, second), ((5, 0), (1, 0)));
    emulator.shutdown().await;
}

/// Scenario 37: only the first call needs an extra round trip.
// Shows: N16, 37.
#[tokio::test]
async fn wrong_clock_costs_one_request_per_process() {
    for clock_offset_secs in [-600, 600] {
        let config = EmulatorConfig { turn: turn(), clock_offset_secs, ..Default::default() };
        let emulator = emulator(config).await;
        let first = session(&emulator, "first").await;
        let second = session(&emulator, "second").await;
        println!("clock off by {clock_offset_secs} s: {first:?}, then {second:?}");
        assert_eq!((first, second), ((6, 1), (1, 0)), "{clock_offset_secs}");
        emulator.shutdown().await;
    }
}

#[tokio::test]
async fn concurrent_sessions_with_wrong_clock_all_open() {
    let config = EmulatorConfig { clock_offset_secs: 600, ..Default::default() };
    let emulator = emulator(config).await;
    // The delay lets all three sign before the first is refused.
    let matches = Match {
        call: Some("DescribeSignalingChannel".into()),
        times: Some(3),
        ..Match::on(Point::Call)
    };
    let later = Fault::new(matches, Action::Delay { ms: 500 });
    let later = emulator.faults().add(later).expect("a fault");
    let sessions = ["a", "b", "c"].map(|id| {
        let mut port = Port::new(reach(&emulator, id));
        async move { port.connect(1, None).await }
    });
    let opened = futures_util::future::join_all(sessions).await;
    assert_eq!((opened.len(), emulator.faults().hits(later)), (3, 3));
    emulator.shutdown().await;
}

/// N21: a session that requests ICE servers again gets a new response of the service, and after
/// RECONNECT_ICE_SERVER every session does.
// Shows: N21.
#[tokio::test]
async fn ice_servers_are_requested_again_after_reconnect_message() {
    let emulator = with_turn().await;
    let requested = || calls(&emulator, "GetIceServerConfig");
    let mut port = Port::new(reach(&emulator, "first"));
    port.connect(1, None).await;
    assert_eq!((port.ice_servers(1).await.len(), requested()), (1, 1));
    port.ice_servers(1).await;
    assert_eq!(requested(), 2, "the session asks again because something failed");
    let mut other = Port::new(reach(&emulator, "second"));
    other.connect(1, None).await;
    other.ice_servers(1).await;
    assert_eq!(requested(), 2, "another session uses what the process knows");

    emulator.send("door", None, Some("first"), ServiceMessage::ReconnectIceServer);
    assert_eq!(port.event().await, SignalingEvent::ReconnectIceServer);
    let mut third = Port::new(reach(&emulator, "third"));
    third.connect(1, None).await;
    third.ice_servers(1).await;
    assert_eq!(requested(), 3);
    emulator.shutdown().await;
}

/// N21: many RECONNECT_ICE_SERVER messages cause one request.
// Shows: N21, 32.
#[tokio::test]
async fn burst_of_reconnect_ice_server_causes_one_request() {
    // The emulator queues this many messages for a slow reader.
    const BURST: u64 = 50;
    let emulator = with_turn().await;
    let requested = || calls(&emulator, "GetIceServerConfig");
    let mut port = Port::new(reach(&emulator, "burst"));
    port.connect(1, None).await;
    port.ice_servers(1).await;
    for _ in 0..BURST {
        emulator.send("door", None, Some("burst"), ServiceMessage::ReconnectIceServer);
    }
    assert_eq!(port.event().await, SignalingEvent::ReconnectIceServer);
    // A session requests the servers after each such event.
    port.ice_servers(1).await;
    emulator.send("door", None, Some("burst"), ServiceMessage::GoAway);
    assert_eq!(port.event().await, SignalingEvent::GoAway, "nothing else was reported");
    println!("{BURST} RECONNECT_ICE_SERVER cost {} GetIceServerConfig", requested() - 1);
    assert_eq!(requested(), 2);
    emulator.shutdown().await;
}

/// N16: after a throttled call, no session makes this call for the channel for some time.
// Shows: N16.
#[tokio::test]
async fn throttled_ice_servers_are_not_requested_again_at_once() {
    let emulator = with_turn().await;
    let matches = Match { call: Some("GetIceServerConfig".into()), ..Match::on(Point::Call) };
    let throttle = Action::Refuse {
        status: 400,
        error: "ClientLimitExceededException".into(),
        message: "Rate exceeded".into(),
    };
    let id = emulator.faults().add(Fault::new(matches, throttle)).expect("a fault");
    let mut port = Port::new(reach(&emulator, "throttled"));
    port.connect(1, None).await;
    let fetch = || SignalingCommand::FetchIceServers { link: ConnectionId(1) };
    for _ in 0..20 {
        let failure = port.run(fetch()).await.expect_err("throttled");
        assert_eq!(failure.code, FailureCode::Throttled, "{failure}");
    }
    // One request, repeated within its call limit.
    assert!(emulator.faults().hits(id) <= 3, "{}", emulator.faults().hits(id));
    emulator.shutdown().await;
}

/// The storage mode of a channel is requested once, and again by an attempt after a failed one if
/// the last request was long ago.
#[tokio::test]
async fn storage_mode_is_requested_once_for_a_channel() {
    let emulator = emulator(EmulatorConfig::default()).await;
    session(&emulator, "first").await;
    for id in ["second", "third"] {
        let mut port = Port::new(reach(&emulator, id));
        port.connect(1, None).await;
        port.ice_servers(1).await;
        port.disconnect(1).await;
    }
    assert_eq!(storage_questions(&emulator), 1);
    emulator.shutdown().await;
}

/// Several viewers of a camera connect at once: their ICE server requests share one call.
#[tokio::test]
async fn concurrent_ice_requests_of_a_master_share_one_call() {
    let turn = TurnConfig { ttl_secs: 30, ..turn() };
    let emulator = emulator(EmulatorConfig { turn, ..EmulatorConfig::default() }).await;
    let config = reach(&emulator, "unused").build().expect("valid");
    let link = MasterConnection::connect(config).await.expect("connected");
    let matches = Match { call: Some("GetIceServerConfig".into()), ..Match::on(Point::Call) };
    let late = Fault::new(matches, Action::Delay { ms: 300 });
    let late = emulator.faults().add(late).expect("a fault");
    let requested = || emulator.faults().hits(late);
    let first = link.ice_source();
    let first = tokio::spawn(async move { first.fetch().await });
    while requested() == 0 {
        tokio::task::yield_now().await;
    }
    let mut several = pin!(futures_util::future::join_all((0..8).map(|_| {
        let source = link.ice_source();
        async move { source.fetch().await }
    })));
    assert!(several.as_mut().now_or_never().is_none(), "they wait for the answer");
    // The task that started the call is aborted long before the response.
    first.abort();
    let several = several.await;
    assert!(
        several.iter().all(|reported| reported.as_ref().is_ok_and(|servers| servers.len() == 1))
    );
    assert_eq!(requested(), 1);
    // A later fetch makes a new call.
    link.ice_servers().await.expect("told");
    assert_eq!(requested(), 2);
    link.close().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn short_lived_turn_credentials_are_not_cached() {
    let turn = TurnConfig { ttl_secs: 30, ..turn() };
    let emulator = emulator(EmulatorConfig { turn, ..EmulatorConfig::default() }).await;
    for (n, id) in (1..).zip(["first", "second"]) {
        let mut port = Port::new(reach(&emulator, id));
        port.connect(1, None).await;
        port.ice_servers(1).await;
        assert_eq!(calls(&emulator, "GetIceServerConfig"), n);
    }
    emulator.shutdown().await;
}

// Shows: N21.
#[tokio::test]
async fn go_away_makes_the_next_connection_resolve_endpoints() {
    let emulator = emulator(EmulatorConfig::default()).await;
    let requested = || calls(&emulator, "GetSignalingChannelEndpoint");
    let mut port = Port::new(reach(&emulator, "first"));
    let id = port.connect(1, None).await;
    port.connect(2, Some(id.clone())).await;
    assert_eq!(requested(), 1);
    emulator.send("door", None, None, ServiceMessage::GoAway);
    while port.event().await != SignalingEvent::GoAway {}
    port.connect(3, Some(id)).await;
    assert_eq!(requested(), 2);
    emulator.shutdown().await;
}

/// A channel that was deleted and created again has another ARN, which the attempt finds.
#[tokio::test]
async fn recreated_channel_is_resolved_within_attempt() {
    let emulator = emulator(EmulatorConfig::default()).await;
    session(&emulator, "first").await;
    let before = emulator.channel_arn("door").expect("it is there");
    remake(&emulator, &before).await;
    assert_ne!(emulator.channel_arn("door"), Some(before));
    let mut port = Port::new(reach(&emulator, "second"));
    assert_eq!(port.connect(1, None).await.as_str(), "second");
    emulator.shutdown().await;
}

#[tokio::test]
async fn refusal_of_a_cached_endpoint_is_reported_after_one_renewal() {
    let emulator = emulator(EmulatorConfig::default()).await;
    session(&emulator, "first").await;
    let refuse =
        Action::Refuse { status: 403, error: "AccessDeniedException".into(), message: "no".into() };
    let fault = Fault::new(Match::on(Point::Upgrade), refuse);
    emulator.faults().add(fault).expect("a fault");
    let requested = calls(&emulator, "GetSignalingChannelEndpoint");
    let failure = Port::new(reach(&emulator, "second")).open(1).await.expect_err("refused");
    assert_eq!(failure.code, FailureCode::AccessDenied);
    assert_eq!(failure.api_name.as_deref(), Some("AccessDeniedException"));
    assert_eq!(calls(&emulator, "GetSignalingChannelEndpoint"), requested + 1);
    emulator.shutdown().await;
}

/// Scenario 42: a service that fails briefly causes a short delay, but no failed attempt.
// Shows: 42.
#[tokio::test]
async fn calls_that_fail_twice_are_retried() {
    for (status, error) in [(500, "InternalFailure"), (400, "ClientLimitExceededException")] {
        let emulator = emulator(EmulatorConfig::default()).await;
        let matches = Match {
            call: Some("DescribeSignalingChannel".into()),
            times: Some(2),
            ..Match::on(Point::Call)
        };
        let refuse = Action::Refuse { status, error: error.into(), message: "later".into() };
        let id = emulator.faults().add(Fault::new(matches, refuse)).expect("a fault");
        let mut port = Port::new(reach(&emulator, "viewer"));
        port.connect(1, None).await;
        assert_eq!(emulator.faults().hits(id), 2);
        emulator.shutdown().await;
    }
}

async fn remake(emulator: &Emulator, arn: &str) {
    use aws_sdk_kinesisvideo::config::{BehaviorVersion, Region};
    let keys = aws_credential_types::Credentials::new(
        kvs_emulator::DEFAULT_ACCESS_KEY_ID,
        kvs_emulator::DEFAULT_SECRET_ACCESS_KEY,
        None,
        None,
        "owner",
    );
    let config = aws_sdk_kinesisvideo::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(emulator.region().to_owned()))
        .credentials_provider(keys)
        .endpoint_url(emulator.endpoint())
        .build();
    let owner = aws_sdk_kinesisvideo::Client::from_conf(config);
    owner.delete_signaling_channel().channel_arn(arn).send().await.expect("deleted");
    // The name becomes free when the deletion is complete, and the ARN contains the second of
    // the creation.
    loop {
        if owner.create_signaling_channel().channel_name("door").send().await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
