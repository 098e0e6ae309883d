//! Offers and answers: scenarios 1 to 10, 16 and 29.

use kvs_emulator::{Action, Corruption, Match, MessageType};
use kvs_viewer_tests::nat::{Kind, Network};
use negotiation_core::{Deadline, EndReason, Event, Ignored, Input, SignalingEvent, Timer};
use signaling_aws::SignalingConfig;

use crate::frame::{self, with_other_credentials};
use crate::viewer::Entry;
use crate::{ms, scenario, secs, shown};

// Shows: N3.
#[test]
fn w01_answer_never() {
    scenario(1, "", async |stage| {
        let viewer = stage.watch();
        let log = viewer.log.clone();
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::NoAnswer, 2));
        assert!(outcome.likely_cause().contains("no master"), "{}", outcome.likely_cause());
        let ids: Vec<_> = outcome.attempts.iter().filter_map(|a| a.client_id.clone()).collect();
        assert!(ids.len() == 2 && ids[0] != ids[1], "another id: {ids:?}");
        assert_eq!(log.story().matches("DeadlineFired(Answer)").count(), 2);
        shown("2 attempts under 2 ids, ended as no-answer", outcome.lasted)
    });
}

#[test]
fn w02_answer_just_before_the_deadline() {
    scenario(2, "before", async |stage| {
        stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Delay { ms: 2_400 });
        stage.camera().await;
        let mut viewer = stage.watch();
        let live = viewer.live().await;
        assert_eq!(viewer.close().await.attempts_total, 1);
        shown("live in attempt 1", live.saturating_since(Default::default()))
    });
}

#[test]
fn w02_answer_just_after_the_deadline() {
    scenario(2, "after", async |stage| {
        stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Delay { ms: 3_200 });
        stage.camera().await;
        let mut viewer = stage.watch();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        assert_eq!(outcome.attempts[0].end.code(), Deadline::Answer.as_str());
        shown("attempt 1 timed out, attempt 2 live", live.saturating_since(Default::default()))
    });
}

/// The result does not depend on the machine's speed: the arrival time of the answer in the
/// viewer's log decides what is expected.
// Shows: N5.
#[test]
fn w02_answer_around_the_deadline() {
    scenario(2, "around", async |stage| {
        stage.camera().await;
        let (mut in_time, mut late) = (0, 0);
        for offset in [-30_i64, -15, -5, 0, 5, 15, 30] {
            let held = stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Hold);
            let mut plan = stage.plan();
            // A client id rests after its use, so each session has its own.
            plan.signaling = plan.signaling.client_id(format!("door{offset}"));
            let limit = plan.settings.answer_timeouts[0];
            let mut viewer = plan.watch();
            let sent = viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
            let deadline = sent + limit;
            let release = match offset {
                0.. => deadline + ms(offset.unsigned_abs()),
                _ => sent + limit.saturating_sub(ms(offset.unsigned_abs())),
            };
            tokio::time::sleep(release.saturating_since(viewer.now())).await;
            stage.emulator.release(held);
            viewer.live().await;
            let came = viewer.log.times(is_answer)[0];
            let outcome = viewer.close().await;
            let ends: Vec<_> = outcome.attempts.iter().map(|attempt| attempt.end.code()).collect();
            if came < deadline {
                assert_eq!(ends, ["closed"], "{offset} ms: it came at {came}, before {deadline}");
                in_time += 1;
            } else {
                let timed_out = [Deadline::Answer.as_str(), "closed"];
                assert_eq!(ends, timed_out, "{offset} ms: it came at {came}, after {deadline}");
                late += 1;
            }
        }
        let what = format!(
            "released -30 to +30 ms around it: {in_time} in time and live in attempt 1, \
             {late} not, live in attempt 2"
        );
        shown(what, ms(30))
    });
}

fn is_answer(entry: &Entry) -> bool {
    matches!(entry, Entry::Input(Input::Signaling(_, SignalingEvent::Answer { .. })))
}

#[test]
fn w03_answer_stale() {
    scenario(3, "", async |stage| {
        // Attempt 1 receives an answer, but cannot connect.
        let network = Network::default();
        network.block(&Kind::ALL);
        stage.camera().await;
        let mut viewer = stage.plan_over(&network).watch();
        viewer.until("an answer", |e| matches!(e, Event::AnswerReceived { .. })).await;
        let first = viewer.answers()[0].sdp.as_str().to_owned();
        viewer.until("the retry", |e| matches!(e, Event::RetryScheduled { .. })).await;
        network.unblock();
        viewer.live().await;
        let reported = viewer.now();
        assert_eq!(stage.tell_viewers(frame::answer(&first)), 1);
        let ignored = viewer.until("an ignored answer", |event| {
            matches!(event, Event::Ignored(Ignored::SecondAnswer | Ignored::Unsolicited))
        });
        let ignored = ignored.await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.count(|event| *event == Event::MediaStalled), 0);
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        shown("ignored, attempt 2 goes on", ignored.saturating_since(reported))
    });
}

#[test]
fn w04_answer_duplicate() {
    scenario(4, "", async |stage| {
        let copies = Action::Duplicate { copies: 2, every_ms: 1_000 };
        stage.fault_from_camera(MessageType::SdpAnswer, 1, copies);
        let viewer = stage.live().await;
        viewer.more_pictures(45).await;
        assert_eq!(viewer.answers().len(), 3, "all copies came");
        let at = viewer.ignored_so_far(Ignored::Duplicate);
        assert!(at.is_some(), "{}", viewer.log.story());
        let pictures = stage.untouched(viewer).await;
        shown(format!("2 copies ignored, {pictures} pictures, none lost"), ms(0))
    });
}

#[test]
fn w05_answer_two_different_first_right() {
    scenario(5, "first right", async |stage| {
        stage.camera().await;
        let mut viewer = stage.watch();
        viewer.until("an answer", |e| matches!(e, Event::AnswerReceived { .. })).await;
        let reported = viewer.now();
        let other = with_other_credentials(viewer.answers()[0].sdp.as_str());
        assert_eq!(stage.tell_viewers(frame::answer(&other)), 1);
        let ignored = viewer.ignored(Ignored::SecondAnswer).await;
        viewer.more_pictures(15).await;
        let pictures = stage.untouched(viewer).await;
        let what = format!("the second ignored, {pictures} pictures, none lost");
        shown(what, ignored.saturating_since(reported))
    });
}

// Shows: N4.
#[test]
fn w05_answer_two_different_first_stale() {
    scenario(5, "first stale", async |stage| {
        // The stale answer belongs to an earlier viewer with this id.
        let earlier = stage.live().await;
        let stale = earlier.answers()[0].sdp.as_str().to_owned();
        earlier.close().await;
        stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Delay { ms: 500 });
        let mut plan = stage.plan();
        // A long establish deadline shows that the suspect deadline ended the attempt early.
        plan.settings.establish_timeout = secs(30);
        let mut viewer = plan.watch();
        viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
        let reported = viewer.now();
        stage.tell_viewers(frame::answer(&stale));
        viewer.ignored(Ignored::SecondAnswer).await;
        let live = viewer.live().await;
        viewer.more_pictures(5).await;
        let fired = Event::DeadlineFired(Timer::Establish);
        assert_eq!(viewer.count(|event| *event == fired), 1, "{}", viewer.log.story());
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        assert!(outcome.attempts[0].evidence.answer_suspect);
        let took = live.saturating_since(reported);
        assert!(took < secs(15), "{took:?}");
        shown("suspect, given up early, attempt 2 live", took)
    });
}

#[test]
fn w06_answer_unsolicited() {
    scenario(6, "", async |stage| {
        let earlier = stage.live().await;
        let answer = frame::answer(earlier.answers()[0].sdp.as_str());
        earlier.close().await;
        // The offer waits for the ICE servers, while the connection is open.
        let call =
            Match { call: Some("GetIceServerConfig".into()), times: Some(1), ..Match::on(CALL) };
        stage.fault(call, Action::Delay { ms: 3_000 });
        let mut viewer = stage.watch();
        viewer.until("the link", |e| matches!(e, Event::LinkOpened { .. })).await;
        assert_eq!(viewer.count(|e| matches!(e, Event::OfferSent { .. })), 0);
        let reported = viewer.now();
        assert_eq!(stage.tell_viewers(&*answer), 1);
        let ignored = viewer.ignored(Ignored::Unsolicited).await;
        viewer.live().await;
        viewer.more_pictures(15).await;
        viewer.handle.close();
        // This answer arrives on the connection of a session that is closing.
        stage.tell_viewers(answer);
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Closed, 1));
        shown("ignored before the offer and at the close", ignored.saturating_since(reported))
    });
}

const CALL: kvs_emulator::Point = kvs_emulator::Point::Call;

fn malformed(case: &'static str, how: Corruption) {
    scenario(7, case, async |stage| {
        let fault = stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Corrupt { how });
        stage.camera().await;
        let mut plan = stage.plan();
        plan.settings.answer_timeouts = vec![secs(30)];
        let mut viewer = plan.watch();
        viewer.until("the attempt's end", |e| matches!(e, Event::AttemptEnded(_))).await;
        let live = viewer.live().await;
        let fired = Event::DeadlineFired(Timer::Answer);
        assert_eq!(viewer.count(|event| *event == fired), 0, "it does not wait for the timer");
        viewer.more_pictures(5).await;
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        assert_eq!(outcome.attempts[0].end.code(), "undecodable-answer");
        assert_eq!(stage.hits(fault), 1);
        let first = &outcome.attempts[0];
        let lasted = first.ended.saturating_since(first.started);
        assert!(lasted < secs(15), "{lasted:?}");
        let took = live.saturating_since(first.ended);
        shown(format!("attempt 1 failed after {:.2} s, attempt 2 live", lasted.as_secs_f64()), took)
    });
}

#[test]
fn w07_answer_malformed_base64() {
    malformed("base64", Corruption::Base64);
}

#[test]
fn w07_answer_malformed_json() {
    malformed("JSON", Corruption::Json);
}

#[test]
fn w07_answer_malformed_sdp() {
    malformed("SDP", Corruption::Sdp);
}

#[test]
fn w08_answer_rejected() {
    scenario(8, "", async |stage| {
        let earlier = stage.live().await;
        let right = earlier.answers()[0].sdp.as_str().to_owned();
        earlier.close().await;
        // The answer can be decoded but not applied: no section has a fingerprint.
        let wrong = frame::without(&right, "a=fingerprint:");
        stage.camera_off().await;
        let mut plan = stage.plan();
        plan.settings.retries = 10;
        let mut viewer = plan.watch();
        for _ in 0..2 {
            viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
            stage.tell_viewers(frame::answer(&wrong));
        }
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::IncompatibleSdp, 2));
        shown(outcome.sentence(), outcome.lasted)
    });
}

#[test]
fn w09_no_common_codec() {
    scenario(9, "", async |stage| {
        let earlier = stage.live().await;
        let right = earlier.answers()[0].sdp.as_str().to_owned();
        earlier.close().await;
        stage.camera_off().await;
        // A rejected section has port 0 (RFC 3264, 6).
        let wrong = frame::changed(&right, |line| {
            let rest = line.strip_prefix("m=")?;
            let (media, rest) = rest.split_once(' ')?;
            Some(format!("m={media} 0 {}", rest.split_once(' ')?.1))
        });
        let mut plan = stage.plan();
        plan.settings.retries = 10;
        let mut viewer = plan.watch();
        let sent = viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
        stage.tell_viewers(frame::answer(&wrong));
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Codec, 1));
        let ended = outcome.attempts[0].ended;
        shown("ended as codec after 1 attempt", ended.saturating_since(sent))
    });
}

/// A change to an answer, with its name.
type NamedChange = (&'static str, fn(&str) -> String);

/// Contract 8: answers that a browser accepts are accepted in the first attempt.
#[test]
fn w08_answers_that_browsers_accept() {
    let changes: [NamedChange; 4] = [
        ("no mid", |sdp| frame::without(sdp, "a=mid:")),
        ("line ends", |sdp| sdp.replace("\r\n", " \r\r\n\0")),
        ("audio refused with unknown formats", |sdp| {
            frame::changed(sdp, |line| {
                line.starts_with("m=audio").then(|| "m=audio 0 UDP/TLS/RTP/SAVPF 99".to_owned())
            })
        }),
        ("another number", |sdp| sdp.replace(":102 ", ":120 ").replace("SAVPF 102", "SAVPF 120")),
    ];
    for (name, change) in changes {
        scenario(8, name, async |stage| {
            stage.camera().await;
            let mut plan = stage.plan();
            plan.tamper = Some(change);
            let mut viewer = plan.watch();
            let live = viewer.live().await;
            viewer.more_pictures(5).await;
            assert_eq!(viewer.close().await.attempts_total, 1);
            shown("live in attempt 1", live.saturating_since(Default::default()))
        });
    }
}

/// Contract 9: the answer has a codec that was not offered.
#[test]
fn w09_codec_that_was_not_offered() {
    scenario(9, "not offered", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        plan.settings.retries = 10;
        plan.tamper = Some(|sdp| sdp.replace("H264/90000", "H265/90000"));
        let outcome = plan.watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Codec, 1));
        assert!(outcome.sentence().contains("H265"), "{}", outcome.sentence());
        shown("ended as codec after 1 attempt", outcome.lasted)
    });
}

#[test]
fn w16_offer_twice() {
    scenario(16, "", async |stage| {
        stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Delay { ms: 800 });
        stage.camera_with(|camera| camera.behaviour = kvs_camera::Behaviour::Renegotiate).await;
        let mut viewer = stage.watch();
        viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
        for _ in 0..3 {
            viewer.handle.control().renegotiate();
        }
        let second = |event: &Event| *event == Event::OfferSent { exchange: 2 };
        let requested = viewer.until("the second exchange", second).await;
        let is_answer = |event: &Event| matches!(event, Event::AnswerReceived { .. });
        let answered = viewer.until("its answer", is_answer).await.saturating_since(requested);
        viewer.more_pictures(15).await;
        assert_eq!(viewer.offers(false), 2, "{}", viewer.log.story());
        let pictures = stage.untouched(viewer).await;
        shown(format!("3 wishes made 1 more exchange, {pictures} pictures, none lost"), answered)
    });
}

#[test]
fn w19_client_id_invalid() {
    scenario(19, "", async |stage| {
        for id in ["AWS_x".to_owned(), "a@b".to_owned(), "x".repeat(257)] {
            let refused = SignalingConfig::builder(&stage.channel).client_id(id).build();
            assert_eq!(refused.expect_err("refused").field, signaling_aws::Field::ClientId);
        }
        assert!(stage.emulator.calls().is_empty(), "nothing was asked of the service");
        shown("3 ids refused, no call was made", ms(0))
    });
}

fn dropped_early(case: &'static str, code: Option<u16>) {
    scenario(29, case, async |stage| {
        let matches = Match { times: Some(1), ..Match::every(MessageType::SdpAnswer) };
        let whose = kvs_emulator::Target::Recipient;
        let fault = stage.fault(matches, Action::CloseSocket { whose, code });
        stage.camera().await;
        let mut viewer = stage.watch();
        let live = viewer.live().await;
        viewer.more_pictures(5).await;
        let outcome = viewer.close().await;
        assert_eq!((outcome.attempts_total, stage.hits(fault)), (2, 1));
        assert_eq!(outcome.attempts[0].end.code(), "link-lost");
        let took = live.saturating_since(outcome.attempts[0].ended);
        shown("attempt 1 lost its link, attempt 2 live", took)
    });
}

#[test]
fn w29_signaling_drop_early_by_a_close() {
    dropped_early("close", Some(1001));
}

#[test]
fn w29_signaling_drop_early_by_a_cut() {
    dropped_early("cut", None);
}
