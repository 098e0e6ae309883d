//! Candidates and the senders of messages: scenarios 10 to 15 and 58.

use kvs_emulator::{Action, Injection, MessageType, Place, Sender};
use kvs_viewer_tests::nat::{Kind, Network};
use negotiation_core::{EndReason, Event, Ignored, Message, Output, PeerCommand, SignalingCommand};
use serde_json::{Value, json};

use crate::frame;
use crate::viewer::{Entry, Watching};
use crate::{ms, scenario, secs, shown};

/// Returns the number of the master's candidates that were given to the peer connection.
fn added(viewer: &Watching) -> usize {
    viewer.log.count(|entry| {
        matches!(entry, Entry::Output(Output::Peer(_, PeerCommand::AddCandidate { .. })))
    })
}

fn is_answered(event: &Event) -> bool {
    matches!(event, Event::AnswerReceived { .. })
}

fn is_sent(event: &Event) -> bool {
    matches!(event, Event::OfferSent { .. })
}

#[test]
fn w10_wrong_sender() {
    scenario(10, "another", async |stage| {
        let earlier = stage.live().await;
        let sdp = earlier.answers()[0].sdp.as_str().to_owned();
        earlier.close().await;
        stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Delay { ms: 700 });
        let mut viewer = stage.watch();
        let sent = viewer.until("the offer", is_sent).await;
        let stranger = Value::from("another-viewer");
        for (kind, payload) in [
            ("SDP_ANSWER", json!({ "type": "answer", "sdp": sdp })),
            ("SDP_OFFER", json!({ "type": "offer", "sdp": sdp })),
            ("ICE_CANDIDATE", json!({ "candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host" })),
        ] {
            stage.tell_viewers(frame::message(kind, &payload, Some(&stranger)));
        }
        let ignored = viewer.ignored(Ignored::Foreign).await;
        viewer.live().await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.count(is_answered), 1);
        let pictures = stage.untouched(viewer).await;
        let what = format!("all 3 ignored, {pictures} pictures, none lost");
        shown(what, ignored.saturating_since(sent))
    });
}

#[test]
fn w10_every_form_of_master_sender_is_accepted() {
    scenario(10, "names of the master", async |stage| {
        let master = ["", "AWS_DEFAULT_SINGLE_MASTER"].map(Value::from);
        for sender in [None, Some(Value::Null)].into_iter().chain(master.map(Some)) {
            let mut plan = stage.plan();
            plan.settings.retries = 0;
            let mut viewer = plan.watch();
            viewer.until("the offer", is_sent).await;
            let nothing = json!({ "type": "answer", "sdp": "" });
            stage.tell_viewers(frame::message("SDP_ANSWER", &nothing, sender.as_ref()));
            // The answer counts as the master's, and is invalid.
            let outcome = viewer.ended().await;
            assert_eq!(outcome.reason, EndReason::BadAnswer, "{sender:?}");
        }
        shown("absent, null, \"\" and AWS_DEFAULT_SINGLE_MASTER are the master", ms(0))
    });
}

// Shows: N9.
#[test]
fn w11_candidates_first() {
    scenario(11, "", async |stage| {
        let answer = stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Hold);
        stage.camera().await;
        // The camera's own candidates arrive first too, and no packet of it reaches the viewer
        // before the answer.
        let network = Network::default();
        let mut plan = stage.plan_over(&network);
        plan.settings.answer_timeouts = vec![secs(30)];
        let mut viewer = plan.watch();
        let sent = viewer.until("the offer", is_sent).await;
        for n in 1..=97 {
            stage.tell_viewers(frame::candidate(&format!(
                "candidate:{n} 1 udp 2113937151 127.0.0.1 {} typ host",
                20_000 + n
            )));
        }
        viewer.until("the master", |event| *event == Event::MasterSeen).await;
        let waited = tokio::time::timeout(secs(20), async {
            while stage.hits(answer) == 0 || viewer.candidates() < 98 {
                tokio::time::sleep(ms(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "the answer and {} candidates came", viewer.candidates());
        assert_eq!(added(&viewer), 0, "they wait for the answer");
        assert_eq!(stage.emulator.release(answer), 1);
        let live = viewer.live().await;
        assert!(added(&viewer) >= 98, "{}", added(&viewer));
        assert_eq!(in_order(&viewer), 97, "in order");
        viewer.more_pictures(15).await;
        let pictures = stage.untouched(viewer).await;
        let what = format!("98 kept, then applied in order; {pictures} pictures, none lost");
        shown(what, live.saturating_since(sent))
    });
}

/// Returns the number of numbered candidates that were given to the peer connection in order.
fn in_order(viewer: &Watching) -> usize {
    let mut expected = 1;
    viewer.log.each(|entry| {
        if let Entry::Output(Output::Peer(_, PeerCommand::AddCandidate { candidate, .. })) = entry
            && candidate.text.starts_with(&format!("candidate:{expected} "))
        {
            expected += 1;
        }
    });
    expected - 1
}

// Shows: N9.
#[test]
fn w12_candidate_flood() {
    scenario(12, "", async |stage| {
        let what = Injection::Candidates { count: 10_000, sender: Sender::Absent };
        let flood = Action::Inject { what, place: Place::After };
        let flood = stage.fault_from_camera(MessageType::SdpAnswer, 1, flood);
        stage.camera().await;
        let mut plan = stage.plan();
        // From this address no check leaves the machine, whatever its target.
        plan.peer.bind = vec!["127.0.0.1:0".to_owned()];
        let mut viewer = plan.watch();
        let sent = viewer.until("the offer", is_sent).await;
        let live = viewer.live().await;
        let waited = tokio::time::timeout(secs(110), async {
            while viewer.candidates() < 10_000 {
                tokio::time::sleep(ms(100)).await;
            }
        });
        assert!(waited.await.is_ok(), "{} came", viewer.candidates());
        assert_eq!(stage.hits(flood), 1);
        let taken = added(&viewer);
        assert!(taken <= 256, "{taken}");
        viewer.more_pictures(30).await;
        let film = viewer.film.clone();
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 1);
        let counted: u32 = outcome.attempts[0].evidence.ignored.values().sum();
        assert!(counted > 9_700, "{counted}");
        let pictures = film.pictures().clone();
        let pictures = stage.none_lost(&pictures);
        let what =
            format!("{taken} taken, {counted} counted, live; {pictures} pictures, none lost");
        shown(what, live.saturating_since(sent))
    });
}

#[test]
fn w14_candidate_end() {
    scenario(14, "", async |stage| {
        stage.camera().await;
        let mut viewer = stage.watch();
        viewer.until("the offer", is_sent).await;
        let reported = viewer.now();
        let ends = [
            Value::Null,
            Value::from(""),
            json!({ "candidate": "" }),
            json!({ "candidate": null, "sdpMid": "0", "sdpMLineIndex": 0 }),
            json!({ "candidate": "a=end-of-candidates", "sdpMid": "0", "sdpMLineIndex": 0 }),
        ];
        for end in &ends {
            stage.tell_viewers(frame::from_master("ICE_CANDIDATE", end));
        }
        let live = viewer.live().await;
        for end in &ends {
            stage.tell_viewers(frame::from_master("ICE_CANDIDATE", end));
        }
        viewer.more_pictures(15).await;
        for reason in [Ignored::Undecodable, Ignored::RefusedCandidate, Ignored::Unknown] {
            assert_eq!(viewer.ignored_so_far(reason), None, "{reason}");
        }
        let pictures = stage.untouched(viewer).await;
        let what = format!("5 forms, before and after; {pictures} pictures, none lost");
        shown(what, live.saturating_since(reported))
    });
}

// Shows: N11.
#[test]
fn w15_candidate_burst() {
    scenario(15, "", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        plan.settings.establish_timeout = secs(20);
        // Each bound address becomes a candidate.
        plan.peer.bind = (1..=40).map(|n| format!("127.0.0.{n}:0")).collect();
        let mut viewer = plan.watch();
        viewer.until("an answer", is_answered).await;
        let answered = viewer.now();
        let live = viewer.live().await;
        let sent = |viewer: &Watching| {
            viewer.log.times(|entry| {
                let Entry::Output(Output::Signaling(_, SignalingCommand::Send { message, .. })) =
                    entry
                else {
                    return false;
                };
                matches!(message, Message::Candidate(_))
            })
        };
        let waited = tokio::time::timeout(secs(30), async {
            while sent(&viewer).len() < 40 {
                tokio::time::sleep(ms(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{} of 40", sent(&viewer).len());
        let times = sent(&viewer);
        for window in times.windows(21) {
            assert!(window[20].saturating_since(window[0]) >= secs(1), "21 within a second");
        }
        assert_eq!(viewer.ignored_so_far(Ignored::Status), None, "the service complains of none");
        viewer.more_pictures(15).await;
        let pictures = stage.untouched(viewer).await;
        let what = format!(
            "{} sent in {:.1} s, at most 20 a second, live; {pictures} pictures, none lost",
            times.len(),
            times[times.len() - 1].saturating_since(times[0]).as_secs_f64()
        );
        shown(what, live.saturating_since(answered))
    });
}

#[test]
fn w58_no_candidates_and_reachable() {
    scenario(58, "reachable", async |stage| {
        let dropped = stage.fault_from_camera(MessageType::IceCandidate, 1_000, Action::Drop);
        stage.camera().await;
        let mut viewer = stage.watch();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        assert!(stage.hits(dropped) > 0);
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 1);
        assert_eq!(outcome.attempts[0].evidence.remote_candidates, 0);
        shown("live by a peer-reflexive pair", live.saturating_since(Default::default()))
    });
}

#[test]
fn w58_no_candidates_and_unreachable() {
    scenario(58, "unreachable", async |stage| {
        stage.fault_from_camera(MessageType::IceCandidate, 1_000, Action::Drop);
        stage.camera().await;
        let network = Network::default();
        network.block(&Kind::ALL);
        let outcome = stage.plan_over(&network).watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::NoRoute, 2));
        let cause = outcome.likely_cause();
        assert!(cause.contains("named no address"), "{cause}");
        shown(format!("ended as no-route: {cause}"), outcome.lasted)
    });
}
