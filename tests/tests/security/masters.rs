//! Tests of the whole viewer with a hostile master and a hostile service.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvs_emulator::{
    DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Quotas, Role,
    ServiceMessage,
};
use kvs_viewer::{Session, SessionConfig};
use negotiation_core::{EndReason, Outcome, Settings};
use peer_webrtc::stack::{IcePolicy, Mdns, Stack, StackConfig, StackEvents};
use peer_webrtc::{Authorities, Codec, LocalTrack, PeerConfig};
use serde_json::json;
use signaling_aws::{MasterConnection, MasterEvent, SignalingConfig};
use tokio::time::{Instant, sleep, timeout};

use crate::service::{Answer, Script, Service};
use crate::sockets::{TEXT, frame};
use crate::{Cost, costs};

const CHANNEL: &str = "porch";

/// A time limit: some seconds for an answer, two for a connection, and reserve for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The cost of a session with its stack, the emulator, and the attacker's data.
const SESSION: Cost = Cost { time: Duration::from_secs(90), bytes: 48 << 20 };

/// A running service with a connected master.
pub(crate) struct Scene {
    emulator: Emulator,
    pub(crate) master: MasterConnection,
}

impl Scene {
    pub(crate) async fn open() -> Self {
        let quotas = Quotas { enabled: false, ..Quotas::default() };
        let config =
            EmulatorConfig { channels: vec![CHANNEL.into()], quotas, ..EmulatorConfig::default() };
        let emulator = Emulator::start(config).await.expect("started");
        let master = MasterConnection::connect(reach(&emulator)).await.expect("connected");
        Self { emulator, master }
    }

    /// Starts a viewer with short deadlines.
    pub(crate) fn watch(&self, peer: PeerConfig) -> Session {
        watch(reach(&self.emulator), peer)
    }

    /// Waits for the viewer's offer, and returns its sender and its SDP.
    pub(crate) async fn offer(&mut self) -> (String, String) {
        let wait = async {
            loop {
                if let MasterEvent::Offer { from, body: Ok(offer) } = self.master.recv().await {
                    return (from, offer.sdp.as_str().to_owned());
                }
            }
        };
        timeout(LIMIT, wait).await.expect("an offer")
    }

    /// Sends a message of any size to the viewer: the service is hostile too, so no limit applies.
    pub(crate) fn say(&self, kind: &str, body: &serde_json::Value) {
        let raw = ServiceMessage::Raw(message(kind, body));
        self.emulator.send(CHANNEL, Some(Role::Viewer), None, raw);
    }

    pub(crate) fn answer(&self, sdp: &str) {
        self.say("SDP_ANSWER", &json!({"type": "answer", "sdp": sdp}));
    }

    pub(crate) fn candidate(&self, text: &str) {
        self.say("ICE_CANDIDATE", &json!({"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0}));
    }

    pub(crate) async fn close(self) {
        self.master.close().await;
        self.emulator.shutdown().await;
    }
}

fn watch(signaling: SignalingConfig, peer: PeerConfig) -> Session {
    let settings = Settings {
        answer_timeouts: vec![Duration::from_secs(8)],
        establish_timeout: Duration::from_secs(2),
        first_media_timeout: Duration::from_secs(2),
        ..Settings::never()
    };
    let session = settings.check().expect("it can work");
    let config = SessionConfig { session, signaling, peer, watch_network: false };
    Session::start(config).expect("it can work").0
}

fn message(kind: &str, body: &serde_json::Value) -> String {
    let payload = STANDARD.encode(body.to_string());
    json!({"messageType": kind, "messagePayload": payload}).to_string()
}

fn reach(emulator: &Emulator) -> SignalingConfig {
    SignalingConfig::builder(CHANNEL)
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
        .build()
        .expect("it can work")
}

/// Returns an answer of a well-behaved master, and the stack and queues that must be kept alive.
pub(crate) async fn honest_answer(offer: &str) -> (String, Stack, StackEvents) {
    let config = StackConfig {
        codecs: vec![Codec::H264, Codec::Opus],
        bind: vec!["127.0.0.1:0".to_owned()],
        policy: IcePolicy::All,
        mdns: Mdns::Ignore,
        authorities: Authorities::system(),
        detour: None,
        media_queue: 0,
        rtx: false,
    };
    let (stack, queues) = Stack::build(&config).await.expect("built");
    for codec in [Codec::H264, Codec::Opus] {
        stack.add_track(&LocalTrack::new(codec, "s", codec.name())).await.expect("attached");
    }
    let answer = stack.answer(offer).await.expect("an answer");
    (answer, stack, queues)
}

/// Runs a session with a changed answer, and returns its outcome and the time from the answer to
/// it.
async fn verdict_on(make: impl FnOnce(&str) -> String) -> (Outcome, Duration) {
    let mut scene = Scene::open().await;
    let viewer = scene.watch(PeerConfig::new(true));
    let (_, offer) = scene.offer().await;
    let (answer, stack, queues) = honest_answer(&offer).await;
    let began = Instant::now();
    scene.answer(&make(&answer));
    let outcome = timeout(LIMIT, viewer.ended()).await.expect("the end").expect("no panic");
    let took = began.elapsed();
    // The session has ended, so the well-behaved stack is not needed any more.
    stack.close().await.expect("closed");
    drop(queues);
    scene.close().await;
    (outcome, took)
}

#[test]
fn ten_thousand_candidates_without_an_answer_end_as_no_answer() {
    let outcome = costs(SESSION, "10,000 candidates, no answer", async || {
        let service = Service::start(Script {
            upgrade: Answer::Bytes((0..10_000).flat_map(|n| text(&candidate(n))).collect()),
            ..Script::default()
        });
        let service = service.await;
        let viewer = watch(service.reach().build().expect("it can work"), PeerConfig::new(true));
        timeout(LIMIT, viewer.ended()).await.expect("the end").expect("no panic")
    });
    assert_eq!(outcome.reason, EndReason::NoAnswer, "{outcome:?}");
    let evidence = &outcome.attempts[0].evidence;
    // At most 128 candidates are held, and all others are counted.
    assert_eq!(evidence.remote_candidates, 128, "{evidence:?}");
    assert_eq!(evidence.ignored.values().sum::<u32>(), 10_000 - 128, "{evidence:?}");
}

/// Returns a candidate message as a WebSocket frame.
fn text(candidate: &str) -> Vec<u8> {
    let body = json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0});
    frame(TEXT, message("ICE_CANDIDATE", &body).as_bytes())
}

#[test]
fn thousands_of_candidates_after_the_answer_end_as_no_route() {
    let (outcome, spent) = costs(SESSION, "thousands of candidates, no route", async || {
        let mut scene = Scene::open().await;
        let viewer = scene.watch(PeerConfig::new(true));
        let (_, offer) = scene.offer().await;
        let (answer, stack, _queues) = honest_answer(&offer).await;
        // The answer's credentials stay valid, and no host responds at the candidates' addresses.
        stack.close().await.expect("closed");
        let before = cpu_time();
        scene.answer(&answer);
        flood(&scene).await;
        let outcome = timeout(LIMIT, viewer.ended()).await.expect("the end").expect("no panic");
        let spent = cpu_time().saturating_sub(before);
        scene.close().await;
        (outcome, spent)
    });
    assert_eq!(outcome.reason, EndReason::NoRoute, "{outcome:?}");
    eprintln!("security: processor time of the whole process: {spent:?}");
}

/// Sends candidates for as long as the session waits for a connection, and slowly enough that the
/// viewer does not fall behind in the emulator.
async fn flood(scene: &Scene) {
    for n in 0..5_000_u32 {
        scene.candidate(&candidate(n));
        if n % 50 == 49 {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The addresses are in and near TEST-NET-3, so no host responds.
fn candidate(n: u32) -> String {
    let [_, b, c, d] = n.to_be_bytes();
    format!("candidate:{n} 1 udp {n} 203.{b}.{c}.{d} 4242 typ host")
}

/// Returns the user and system time of this process (`/proc/self/stat`, fields 14 and 15, in
/// hundredths of a second).
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |n: usize| after_name.split_whitespace().nth(n).and_then(|t| t.parse::<u64>().ok());
    Duration::from_millis(10 * (field(11).unwrap_or(0) + field(12).unwrap_or(0)))
}

/// A name for the output, and a function that changes a well-behaved answer.
type Bomb = (&'static str, fn(&str) -> String);

/// The maximum length of a session description that is read.
const SDP_MAX: usize = 25_000;

/// Appends `line` with increasing numbers until the answer has its maximum length.
fn filled(answer: &str, line: impl Fn(usize) -> String) -> String {
    let mut text = answer.to_owned();
    for n in 0.. {
        let line = line(n);
        if text.len() + line.len() > SDP_MAX - 2 {
            return text;
        }
        text.push_str(&line);
        text.push_str("\r\n");
    }
    text
}

/// Replaces each number in the answer by this one.
fn numbers(answer: &str, number: &str) -> String {
    let mut text = String::new();
    let mut in_number = false;
    for c in answer.chars() {
        let digit = c.is_ascii_digit();
        if digit && !in_number {
            text.push_str(number);
        } else if !digit {
            text.push(c);
        }
        in_number = digit;
    }
    text.replace(&format!("v={number}"), "v=0")
}

const BOMBS: [Bomb; 20] = [
    ("attributes", |a| filled(a, |n| format!("a=x{n}:y"))),
    ("sections", |a| filled(a, |n| format!("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{n}"))),
    ("64 sections", |a| {
        let more =
            |n| format!("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:x{n}\r\n");
        a.to_owned() + &(0..60).map(more).collect::<String>()
    }),
    ("payload types", |a| {
        let types: String = (0..6000).map(|n| format!(" {}", n % 128)).collect();
        a.replacen("SAVPF", &format!("SAVPF{types}"), 1)
    }),
    ("codecs", |a| filled(a, |n| format!("a=rtpmap:{} X{n}/90000/9", n % 256))),
    ("parameters", |a| filled(a, |n| format!("a=fmtp:{} {}", n % 256, "a=b;".repeat(50)))),
    ("a long parameter", |a| filled(a, |_| format!("a=fmtp:96 {}", "x=y;".repeat(2000)))),
    ("fingerprints", |a| filled(a, |n| format!("a=fingerprint:sha-256 {n:02X}:AA"))),
    ("sources", |a| filled(a, |n| format!("a=ssrc:{n} cname:c{n}"))),
    ("simulcast", |a| filled(a, |n| format!("a=rid:{n} send\r\na=simulcast:send {n}"))),
    ("extensions", |a| filled(a, |n| format!("a=extmap:{} urn:x:{n}", n % 300))),
    ("candidates", |a| {
        filled(a, |n| format!("a=candidate:{n} 1 udp {n} 203.0.113.{} {n} typ host", n % 250))
    }),
    ("bundles", |a| filled(a, |n| format!("a=group:BUNDLE {n}"))),
    ("nines", |a| numbers(a, "99999999999999999999999999")),
    ("greatest numbers", |a| numbers(a, "4294967295")),
    ("zeros", |a| numbers(a, "0")),
    ("minus", |a| numbers(a, "-1")),
    ("half", |a| a[..a.len() / 2].to_owned()),
    ("no media", |a| a.split("m=").next().unwrap_or_default().to_owned()),
    ("longest", |a| a.to_owned() + &"a=x\r\n".repeat((SDP_MAX - a.len()) / 5)),
];

#[test]
fn oversized_answers_end_with_a_reason() {
    for (name, make) in BOMBS {
        let (outcome, took) = costs(SESSION, name, async || verdict_on(make).await);
        // Some changes are harmless, but then no peer connects. No session is live.
        assert!(!outcome.was_live, "{name}: {outcome:?}");
        assert_ne!(outcome.reason, EndReason::Closed, "{name}");
        eprintln!("security: {name}: {:?} after {took:?}", outcome.reason);
    }
}

#[test]
fn oversized_candidates_do_not_end_session() {
    let outcome = costs(SESSION, "gigantic candidates", async || {
        let mut scene = Scene::open().await;
        let viewer = scene.watch(PeerConfig::new(true));
        let (_, offer) = scene.offer().await;
        let (answer, stack, _queues) = honest_answer(&offer).await;
        scene.answer(&answer);
        for text in [
            "candidate:".to_owned() + &"9".repeat(40_000),
            format!("candidate:1 1 udp {} 203.0.113.1 99999999 typ host", "9".repeat(900)),
            "candidate:1 999999 udp 1 203.0.113.1 0 typ host".to_owned(),
            "candidate:1 1 udp 1 [::1]%eth0 9 typ host".to_owned(),
            "candidate:1 1 udp 1 evil.example.com 9 typ host".to_owned(),
            format!("candidate:1 1 udp 1 203.0.113.1 9 typ host{}", " a b".repeat(300)),
            "candidate:1 1 udp 1 203.0.113.1 9 typ relay raddr 999.9.9.9 rport -1".to_owned(),
            "\u{0}\u{1b}[31m\u{202e}".to_owned(),
        ] {
            scene.candidate(&text);
        }
        let outcome = timeout(LIMIT, viewer.ended()).await.expect("the end").expect("no panic");
        stack.close().await.expect("closed");
        scene.close().await;
        outcome
    });
    // The well-behaved stack may know the viewer's candidates and connect, or not; in either case
    // none of the sent candidates ends the session.
    let known = [EndReason::NoRoute, EndReason::NoMedia, EndReason::Dtls];
    assert!(known.contains(&outcome.reason), "{outcome:?}");
}
