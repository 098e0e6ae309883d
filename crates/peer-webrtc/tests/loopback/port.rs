//! Tests the viewer's port against a bare master over loopback.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Master, h264, packet, until, within};
use crate::viewer::{PEER, Viewer, peer_config};
use negotiation_core::{
    Connectivity, FailureCode, IceServer, MediaKind, PeerCommand, PeerEvent, SdpKind, Secret,
};
use peer_webrtc::{
    CandidateKind, Codec, Control, IcePolicy, LocalTrack, Media, MediaEvent, PeerConfig, rtp,
};
use viewer_session::facts::read_description;

/// Sends a frame every few milliseconds until dropped: every tenth one, and each requested one, is
/// a keyframe.
pub(crate) struct Playing {
    task: tokio::task::JoinHandle<()>,
}

impl Playing {
    pub(crate) fn start(track: &Arc<LocalTrack>, frame: fn(u16) -> rtp::Packet) -> Self {
        let track = Arc::clone(track);
        let task = tokio::spawn(async move {
            let mut seq = 65_500_u16;
            while track.send(frame(seq)).await.is_ok() {
                seq = seq.wrapping_add(1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { task }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn pictures(seq: u16) -> rtp::Packet {
    h264(seq, u32::from(seq).wrapping_mul(450), seq.is_multiple_of(10))
}

fn sound(seq: u16) -> rtp::Packet {
    packet(seq, u32::from(seq).wrapping_mul(960), false, &[0xfc, 0xff, 0xfe])
}

pub(crate) fn connected(event: &PeerEvent) -> bool {
    *event == PeerEvent::ConnectivityChanged(Connectivity::Connected)
}

// Shows: N11.
#[tokio::test]
async fn offer_has_what_real_masters_need() {
    let mut viewer = Viewer::new(peer_config());
    let offer = viewer.offered().await;
    let text = offer.sdp.as_str();
    assert!(text.contains("a=ice-options:trickle\r\n"), "{text}");
    assert!(!text.contains("a=candidate"), "{text}");
    assert!(text.contains("a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n"), "{text}");
    assert_eq!(
        text.matches("packetization-mode=1;profile-level-id=42e01f").count(),
        1,
        "one entry: {text}"
    );
    assert!(text.contains("a=rtcp-fb:102 nack pli"), "{text}");
    assert!(text.contains("a=rtcp-fb:102 ccm fir"), "{text}");
    assert!(text.len() < 4000, "{} bytes", text.len());
    let (_, first_section) = text.split_once("m=").expect("a section");
    assert!(first_section.contains("a=ice-ufrag:"), "credentials in the section: {text}");
    assert!(first_section.contains("a=ice-pwd:"));
    let fingerprint = offer.facts.fingerprints.first().expect("a fingerprint");
    let hex = fingerprint.strip_prefix("sha-256 ").expect("sha-256");
    assert_eq!(hex, hex.to_ascii_uppercase());
    assert_eq!(offer.facts.candidates, 0);

    viewer.event(|e| matches!(e, PeerEvent::CandidateGathered(_))).await;
    let candidate = viewer.events.iter().find_map(|event| match event {
        PeerEvent::CandidateGathered(candidate) => Some(candidate.clone()),
        _ => None,
    });
    let candidate = candidate.expect("it came");
    assert_eq!(candidate.mid, offer.facts.media[0].mid);
    assert_eq!(candidate.mline_index, Some(0));
    assert_eq!(candidate.ufrag, offer.facts.ice_ufrag);
    assert!(candidate.text.contains("127.0.0.1"));
    viewer.event(|e| *e == PeerEvent::GatheringDone).await;
    viewer.close().await;
}

#[tokio::test]
async fn video_and_audio_arrive_and_are_counted() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    viewer.exchanged(&mut master).await;
    let playing = [Playing::start(&master.video, pictures), Playing::start(&master.audio, sound)];
    for wanted in [
        PeerEvent::ConnectivityChanged(Connectivity::Checking),
        PeerEvent::ConnectivityChanged(Connectivity::IceConnected),
        PeerEvent::ConnectivityChanged(Connectivity::Connected),
        PeerEvent::TrackAdded(MediaKind::Video),
        PeerEvent::TrackAdded(MediaKind::Audio),
        PeerEvent::MediaFlowing(MediaKind::Video),
        PeerEvent::MediaFlowing(MediaKind::Audio),
        PeerEvent::KeyframeReceived,
    ] {
        viewer.event(|event| *event == wanted).await;
    }

    // The application gets a stream's start, its packets, its frames and its sender reports.
    let (mut began, mut packets, mut frames, mut clocks) = (false, 0, 0, 0);
    within("packets, frames and a sender report", async {
        while packets < 50 || frames < 10 || clocks == 0 {
            match viewer.media.next().await.expect("open") {
                MediaEvent::Track { ssrc, kind, codec, .. } if ssrc == master.video.ssrc() => {
                    assert_eq!((kind, codec), (MediaKind::Video, Codec::H264));
                    assert_eq!(packets, 0, "the beginning comes first");
                    began = true;
                }
                MediaEvent::Rtp { packet, .. } if packet.header.ssrc == master.video.ssrc() => {
                    packets += 1;
                }
                MediaEvent::Frame { kind: MediaKind::Video, codec, frame, .. } => {
                    assert_eq!((codec, frame.ssrc), (Codec::H264, master.video.ssrc()));
                    assert!(frame.keyframe || frames > 0, "a keyframe comes first");
                    frames += 1;
                }
                MediaEvent::SenderReport { .. } => clocks += 1,
                _ => {}
            }
        }
    })
    .await;
    assert!(began);

    let stats = viewer.monitor.stats().await;
    let peer = stats.first().expect("one peer");
    let video = peer.streams.iter().find(|s| s.kind == MediaKind::Video).expect("a stream");
    assert!(video.packets >= 50 && video.lost == 0, "{video:?}");
    assert!(video.frames >= 10 && video.keyframes >= 1, "{video:?}");
    assert!(peer.totals.packets >= 50 && peer.totals.frames >= 10, "{:?}", peer.totals);
    assert_eq!(video.codec, Codec::H264);
    assert!(video.bitrate > 0, "{video:?}");
    let path = peer.path.expect("a pair");
    assert_eq!(path.local, CandidateKind::Host);
    assert!(matches!(path.remote, CandidateKind::Host | CandidateKind::PeerReflexive), "{path:?}");
    assert!(path.round_trip > Duration::ZERO, "{path:?}");
    assert_eq!(peer.dropped, 0);

    // A keyframe request reaches the master as PLI and as FIR.
    while master.queues.control.try_recv().is_ok() {}
    viewer.run(PeerCommand::RequestKeyframe { peer: PEER }).await.expect("asks");
    for _ in 0..2 {
        let received = within("a request", master.queues.control.recv()).await.expect("open");
        assert!(
            matches!(received, Control::KeyframeRequest { ssrc, .. } if ssrc == master.video.ssrc()),
            "{received:?}"
        );
    }

    // The end of media is reported once, and so is its return.
    drop(playing);
    viewer.events.clear();
    viewer.event(|e| *e == PeerEvent::MediaStalled).await;
    let _again = Playing::start(&master.video, pictures);
    viewer.event(|e| *e == PeerEvent::MediaFlowing(MediaKind::Video)).await;
    assert_eq!(viewer.events.iter().filter(|e| **e == PeerEvent::MediaStalled).count(), 1);
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

/// Uses loopback and all interfaces of this machine; it may have none.
#[tokio::test]
async fn default_addresses_connect() {
    let mut viewer = Viewer::new(PeerConfig::new(true));
    let mut master = Master::new(Codec::H264).await;
    viewer.exchanged(&mut master).await;
    viewer.event(connected).await;
    assert!(!viewer.events.iter().any(|event| match event {
        PeerEvent::CandidateGathered(c) => c.text.contains(" 0.0.0.0 ") || c.text.contains(" :: "),
        _ => false,
    }));
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: 57.
#[tokio::test]
async fn wrong_fingerprint_fails_dtls() {
    let handshake_limit = Duration::from_millis(500);
    let mut viewer = Viewer::new(PeerConfig { handshake_limit, ..peer_config() });
    let mut master = Master::new(Codec::H264).await;
    let offer = viewer.offered().await;
    let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
    let (before, rest) = answer.split_once("sha-256 ").expect("a fingerprint");
    let forged = format!("{before}sha-256 00:00{}", rest.get(5..).expect("hex"));
    viewer.apply(&forged).await.expect("it reads well");
    for text in master.candidates().await {
        viewer.add(&text).await.expect("adds");
    }
    viewer.event(|e| *e == PeerEvent::ConnectivityChanged(Connectivity::DtlsFailed)).await;
    assert!(!viewer.events.iter().any(connected));
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

#[tokio::test]
async fn vp8_keyframe_is_found() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::Vp8).await;
    viewer.exchanged(&mut master).await;
    // Two packets make a frame: the second ends it.
    let _playing = Playing::start(&master.video, |seq| {
        let (first, timestamp) = (seq.is_multiple_of(2), u32::from(seq / 2) * 3000);
        let payload: &[u8] = if first {
            &[0x10, 0x30, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]
        } else {
            &[0x00, 0x01]
        };
        packet(seq, timestamp, !first, payload)
    });
    viewer.event(|e| *e == PeerEvent::KeyframeReceived).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: 14.
#[tokio::test]
async fn any_candidate_form_is_tolerated() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    viewer.exchanged(&mut master).await;
    for good in [
        "",
        "end-of-candidates",
        "a=end-of-candidates",
        "candidate:",
        "candidate:1 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active",
        "candidate:1 1 TCP 1518280447 127.0.0.1 9 typ host tcptype passive",
        "candidate:1 1 udp 2122260223 4c1a4e0a-3d34-4e39-9e3c-000000000000.local 9 typ host",
        "candidate:1 1 udp 2122260223 ::1 9 typ host",
    ] {
        viewer.add(good).await.unwrap_or_else(|e| panic!("{good:?}: {e}"));
    }
    let long = format!("candidate:1 1 udp 1 127.0.0.1 9 typ host {}", "x".repeat(5000));
    for bad in ["nonsense", "candidate:1 1 udp x 127.0.0.1 99999 typ host", &long] {
        let failure = viewer.add(bad).await.expect_err("refused");
        assert_eq!(failure.code, FailureCode::BadDescription, "{bad:.40}");
    }
    viewer.event(connected).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

/// The C SDK's master accepts an offer with an invalid candidate; both ends here must too.
#[tokio::test]
async fn unreadable_candidates_do_not_fail_description() {
    const NONSENSE: &str = "a=candidate:6 1 UDP 1 bogus\r\n\
        a=candidate:7 1 udp x 127.0.0.1 99999 typ host\r\n\
        a=candidate:8 1 tcp 1518214911 127.0.0.1 9 typ host tcptype active\r\n\
        a=candidate:9 1 udp 1 127.0.0.1 9 typ imaginary\r\n";
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    let offer = viewer.offered().await;
    let offer = format!("{}{NONSENSE}", offer.sdp.as_str());
    let answer = master.stack.answer(&offer).await.expect("answers");
    let candidates = master.candidates().await;
    assert!(!candidates.is_empty());
    let lines: String = candidates.iter().map(|text| format!("a={text}\r\n")).collect();
    viewer
        .apply(&format!("{answer}{NONSENSE}{lines}a=end-of-candidates\r\n"))
        .await
        .expect("applies");
    viewer.event(connected).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

#[tokio::test]
async fn uppercase_fingerprint_among_several_is_found() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    let offer = viewer.offered().await;
    let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
    let other = "a=fingerprint:sha-512 00:11\r\na=fingerprint:SHA-256 ";
    let answer = answer.replace("a=fingerprint:sha-256 ", other);
    assert!(answer.contains(other));
    viewer.apply(&answer).await.expect("applies");
    for text in master.candidates().await {
        viewer.add(&text).await.expect("adds");
    }
    viewer.event(connected).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: 8.
#[tokio::test]
async fn answers_that_do_not_fit_are_refused() {
    let mut viewer = Viewer::new(peer_config());
    viewer.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
    // There is no offer.
    let stray = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:canarycanarycanarycanary\r\na=setup:active\r\n\
        a=rtpmap:102 H264/90000\r\n";
    let failure = viewer.apply(stray).await.expect_err("no offer is open");
    assert_eq!(failure.code, FailureCode::BadDescription);
    assert!(!failure.detail.contains("canary"), "{failure}");

    let offer = viewer.offer().await;
    let set =
        PeerCommand::SetLocal { peer: PEER, kind: SdpKind::Offer, description: offer.clone() };
    viewer.run(set).await.expect("sets");
    // Without a fingerprint, without credentials, or cut off: refused or accepted, but never a
    // panic or a hang.
    for garbage in [
        stray.replace("a=ice-ufrag:abcd\r\n", ""),
        stray.replace("m=video 9", "m=audio 9"),
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 UDP/TLS/RTP/SAVPF 0\r\n"
            .to_owned(),
    ] {
        let outcome = viewer.apply(&garbage).await;
        if let Err(failure) = outcome {
            let known = [FailureCode::BadDescription, FailureCode::Codec];
            assert!(known.contains(&failure.code), "{failure}");
            assert!(!failure.detail.contains("canary"), "{failure}");
        }
    }
    viewer.close().await;

    // A second answer arrives after the exchange.
    let mut viewer = Viewer::new(peer_config());
    let master = Master::new(Codec::H264).await;
    let offer = viewer.offered().await;
    let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
    viewer.apply(&answer).await.expect("applies");
    assert_eq!(viewer.apply(&answer).await.expect_err("stale").code, FailureCode::BadDescription);
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

#[tokio::test]
async fn answer_with_missing_or_broken_line_does_not_panic() {
    let mut viewer = Viewer::new(peer_config());
    let mut refused = 0;
    for index in 0.. {
        let master = Master::new(Codec::H264).await;
        let offer = viewer.offered().await;
        let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
        let mut lines: Vec<&str> = answer.lines().collect();
        if index / 2 >= lines.len() {
            viewer.close().await;
            master.stack.close().await.expect("closes");
            break;
        }
        let broken = lines.remove(index / 2);
        let half = broken.get(..broken.len() / 2).unwrap_or_default();
        if index % 2 == 1 {
            lines.insert(index / 2, half);
        }
        // Text that is no description never reaches the port.
        if let Ok(description) = read_description(&(lines.join("\r\n") + "\r\n")) {
            let outcome = viewer
                .run(PeerCommand::SetRemote { peer: PEER, kind: SdpKind::Answer, description })
                .await;
            if let Err(failure) = outcome {
                refused += 1;
                assert_eq!(failure.code, FailureCode::BadDescription, "{broken}: {failure}");
                assert!(
                    !failure.detail.contains("breaks the peer stack"),
                    "a panic at {broken}: {failure}"
                );
            }
        }
        viewer.close().await;
        master.stack.close().await.expect("closes");
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn new_offer_is_accepted_after_rollback() {
    let mut viewer = Viewer::new(peer_config());
    let first = viewer.offered().await;
    viewer.run(PeerCommand::Rollback { peer: PEER }).await.expect("rolls back");
    viewer.run(PeerCommand::Rollback { peer: PEER }).await.expect_err("nothing left");
    let stale = PeerCommand::SetLocal { peer: PEER, kind: SdpKind::Offer, description: first };
    assert_eq!(viewer.run(stale).await.expect_err("forgotten").code, FailureCode::BadDescription);
    let second = viewer.offer().await;
    let set =
        PeerCommand::SetLocal { peer: PEER, kind: SdpKind::Offer, description: second.clone() };
    viewer.run(set).await.expect("sets");
    let mut master = Master::new(Codec::H264).await;
    let answer = master.stack.answer(second.sdp.as_str()).await.expect("answers");
    viewer.apply(&answer).await.expect("applies");
    for text in master.candidates().await {
        viewer.add(&text).await.expect("adds");
    }
    viewer.event(connected).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: N22, 49.
#[tokio::test]
async fn close_overtakes_and_cancels() {
    let mut viewer = Viewer::new(peer_config());
    let commands = [
        viewer.submit(PeerCommand::Create { peer: PEER }),
        viewer.submit(PeerCommand::CreateOffer { peer: PEER, restart: false }),
        viewer.submit(PeerCommand::Rollback { peer: PEER }),
    ];
    let close = viewer.submit(PeerCommand::Close { peer: PEER });
    let late = viewer.submit(PeerCommand::CreateOffer { peer: PEER, restart: false });
    let again = viewer.submit(PeerCommand::Close { peer: PEER });
    for seq in commands {
        let failure = viewer.outcome(seq).await.expect_err("overtaken");
        assert_eq!(failure.code, FailureCode::Cancelled);
    }
    viewer.outcome(close).await.expect("closes");
    assert_eq!(viewer.outcome(late).await.expect_err("closed").code, FailureCode::NotOpen);
    viewer.outcome(again).await.expect("closing twice is fine");
    // Closing an absent or closed peer succeeds.
    viewer.close().await;
    let other = negotiation_core::PeerId(77);
    viewer.run(PeerCommand::Close { peer: other }).await.expect("never was");
}

// Shows: N24.
#[tokio::test]
async fn audio_flows_both_ways_and_track_survives_peer() {
    let voice = LocalTrack::new(Codec::Opus, "viewer", "microphone");
    let config = PeerConfig { audio: Media::SendRecv(Arc::clone(&voice)), ..peer_config() };
    let mut viewer = Viewer::new(config);
    for _ in 0..2 {
        let mut master = Master::new(Codec::H264).await;
        viewer.exchanged(&mut master).await;
        viewer.event(connected).await;
        assert_eq!(voice.payload_type(), Some(111));
        let speaking = Playing::start(&voice, sound);
        let media = master.queues.media.as_mut().expect("it receives");
        let received = within("the viewer's voice", media.recv()).await.expect("open");
        assert_eq!(received.packet.header.ssrc, voice.ssrc());
        viewer.close().await;
        assert_eq!(voice.payload_type(), None, "detached");
        assert!(voice.send(sound(1)).await.is_err());
        drop(speaking);
        master.stack.close().await.expect("closes");
        viewer.events.clear();
    }
}

// Shows: 41.
#[tokio::test]
async fn relay_only_uses_no_other_address() {
    let mut viewer = Viewer::new(PeerConfig { policy: IcePolicy::Relay, ..peer_config() });
    viewer.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
    let description = viewer.offer().await;
    let set = PeerCommand::SetLocal { peer: PEER, kind: SdpKind::Offer, description };
    let failure = viewer.run(set.clone()).await.expect_err("no server");
    assert_eq!(failure.code, FailureCode::Port);
    assert!(failure.detail.contains("TURN"), "{failure}");
    // The server does not answer: nothing is gathered or reported.
    let servers = vec![IceServer {
        uris: vec!["turn:127.0.0.1:9?transport=udp".to_owned()],
        username: Some(Secret::new("user")),
        password: Some(Secret::new("password")),
    }];
    viewer.run(PeerCommand::SetIceServers { peer: PEER, servers }).await.expect("takes");
    viewer.run(set).await.expect("sets");
    // Meanwhile another connection gathers from beginning to end.
    let mut other = Viewer::new(peer_config());
    other.offered().await;
    other.event(|e| *e == PeerEvent::GatheringDone).await;
    other.close().await;
    viewer.run(PeerCommand::RequestKeyframe { peer: PEER }).await.expect("takes a turn");
    assert!(
        !viewer.events.iter().any(|e| matches!(e, PeerEvent::CandidateGathered(_))),
        "{:?}",
        viewer.events
    );
    viewer.close().await;
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Both counts are of the whole process, so no other test may run in it.
#[test]
#[ignore = "run by `closed_peer_leaves_nothing_open` in a process of its own"]
fn cycles_in_a_process_of_their_own() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runs");
    runtime.block_on(async {
        let mut viewer = Viewer::new(peer_config());
        cycle(&mut viewer, 5).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        let (fds, tasks) = (descriptors(), metrics.num_alive_tasks());
        for round in 0..20 {
            cycle(&mut viewer, round % 6).await;
        }
        assert_eq!(descriptors(), fds, "descriptors");
        until("the tasks to end", || metrics.num_alive_tasks() <= tasks).await;

        // Dropping the port frees the same resources.
        viewer.offered().await;
        assert!(descriptors() > fds);
        drop(viewer);
        until("the sockets to close", || descriptors() == fds).await;
        until("the tasks to end", || metrics.num_alive_tasks() <= tasks).await;
    });
}

/// Runs a peer up to `stage` and closes it there.
async fn cycle(viewer: &mut Viewer, stage: usize) {
    let mut master = Master::new(Codec::H264).await;
    viewer.events.clear();
    match stage {
        0 => {}
        1 => drop(viewer.run(PeerCommand::Create { peer: PEER }).await),
        2 => drop(viewer.offered().await),
        3 => {
            let offer = viewer.offered().await;
            let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
            viewer.apply(&answer).await.expect("applies");
        }
        4 => {
            viewer.exchanged(&mut master).await;
        }
        _ => {
            viewer.exchanged(&mut master).await;
            let _playing = Playing::start(&master.video, pictures);
            viewer.event(|e| *e == PeerEvent::KeyframeReceived).await;
        }
    }
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

/// Runs only this ignored test of this binary, in a separate process.
pub(crate) fn in_a_process_of_its_own(name: &str) {
    let test = std::env::current_exe().expect("this test");
    let output = std::process::Command::new(test)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .output()
        .expect("runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

// Shows: N23.
#[test]
fn closed_peer_leaves_nothing_open() {
    in_a_process_of_its_own("port::cycles_in_a_process_of_their_own");
}

#[tokio::test]
async fn next_can_be_dropped_without_loss() {
    let mut viewer = Viewer::new(peer_config());
    let create = viewer.submit(PeerCommand::Create { peer: PEER });
    let offer = viewer.submit(PeerCommand::CreateOffer { peer: PEER, restart: false });
    for seq in [create, offer] {
        let brief = Duration::from_micros(50);
        while tokio::time::timeout(brief, viewer.outcome(seq)).await.is_err() {}
        viewer.outcome(seq).await.expect("done");
    }
    viewer.close().await;
}
