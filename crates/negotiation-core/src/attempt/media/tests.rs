//! What the peer connection notices, in each phase.

use alloc::vec;
use core::time::Duration;

use crate::session::harness::*;
use crate::{
    AttemptEnd, Connectivity, EndReason, Event, FailureCode, Ignored, Input, MediaKind,
    MediaProblem, PeerEvent, Phase, RecoveryCause, Settings, Timer,
};

/// A keyframe is requested when the video track is there; audio needs none, nor does video that
/// flows.
#[test]
fn n27_keyframe_is_requested_where_one_is_needed() {
    let mut harness = Harness::answered(one_retry());
    harness.commands();
    harness.notices(PeerEvent::TrackAdded(MediaKind::Audio));
    assert_eq!(harness.commands(), [""; 0]);
    harness.notices(PeerEvent::TrackAdded(MediaKind::Video));
    assert_eq!(harness.commands(), ["ask for a keyframe"]);

    let mut harness = Harness::live(one_retry());
    harness.notices(PeerEvent::TrackAdded(MediaKind::Video));
    assert_eq!(harness.commands(), [""; 0]);
    harness.notices(PeerEvent::MediaStalled);
    assert_eq!(harness.commands(), ["ask for a keyframe"]);
}

/// 24, 57: what breaks before anything is there is out of phase; then it ends the attempt.
#[test]
fn s24_s57_what_breaks_ends_the_attempt_once_there_is_something() {
    for (state, end) in [
        (Connectivity::IceFailed, AttemptEnd::IceFailed),
        (Connectivity::DtlsFailed, AttemptEnd::DtlsFailed),
        (Connectivity::ClosedByPeer, AttemptEnd::MasterGone),
    ] {
        let mut harness = Harness::offered(one_retry());
        harness.ice(state);
        assert_eq!(harness.phase(), Phase::AwaitingAnswer, "{state:?}");
        assert!(harness.ignored(Ignored::OutOfPhase));

        for connected in [false, true] {
            let mut harness = Harness::answered(one_retry());
            if connected {
                harness.ice(Connectivity::Connected);
                assert_eq!(harness.phase(), Phase::AwaitingMedia);
            }
            harness.forget();
            harness.ice(state);
            assert_eq!(harness.report().0, end);
            let gone = usize::from(state == Connectivity::ClosedByPeer);
            let expected = |event: &&Event| matches!(event, Event::MasterGone(_));
            assert_eq!(harness.events().filter(expected).count(), gone, "it answered just now");
        }
    }
}

/// 24: failing while a restart is under way is what the restart is for; after it, it is the end.
#[test]
fn s24_ice_that_fails_again_ends_a_restart_that_was_fruitless() {
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.reported(&Event::Recovering(RecoveryCause::IceFailed)), 1);
    harness.settle(&[]);
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.phase(), Phase::Recovering);
    harness.answer(answer(2));
    harness.settle(&[]);
    harness.forget();
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.reported(&Event::MasterGone(RecoveryCause::IceFailed)), 1);
    assert_eq!(harness.report().0, AttemptEnd::IceFailed);
}

/// 24: the same of a restart that waits for its connection.
#[test]
fn s24_restart_that_waits_for_its_connection_is_under_way() {
    let mut harness = Harness::live(one_retry());
    harness.link_ends(1, FailureCode::Network);
    harness.ice(Connectivity::IceFailed);
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.phase(), Phase::Recovering);
}

/// N18: a stack that looks for a pair again by itself has lost the one it had.
#[test]
fn n18_checking_again_is_a_loss() {
    let grace = |harness: &Harness| {
        let at = harness.now + Duration::from_secs(3);
        harness.session.poll_timeout() == Some((at, Timer::Grace))
    };
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::Checking);
    assert_eq!(harness.reported(&Event::Disconnected), 1);
    assert!(grace(&harness));
    harness.pass(3_000);
    assert_eq!(harness.phase(), Phase::Recovering);
    // One that is disconnected already has its grace since then.
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::Disconnected);
    harness.pass(1_000);
    harness.ice(Connectivity::Checking);
    harness.ice(Connectivity::Checking);
    assert_eq!(harness.reported(&Event::Disconnected), 1);
    assert!(!grace(&harness));
    // Nothing is lost that was not connected.
    let mut harness = Harness::answered(one_retry());
    harness.ice(Connectivity::Checking);
    assert_eq!(harness.reported(&Event::Disconnected), 0);
    // What is lost before media came is missed once it is live.
    harness.ice(Connectivity::Connected);
    harness.ice(Connectivity::Checking);
    assert_eq!(harness.reported(&Event::Disconnected), 1);
    harness.notices(PeerEvent::KeyframeReceived);
    assert_eq!(harness.phase(), Phase::Live);
    assert!(grace(&harness));
    // A pair that comes and goes again.
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::Disconnected);
    harness.ice(Connectivity::IceConnected);
    assert!(!grace(&harness));
    harness.ice(Connectivity::Checking);
    assert!(grace(&harness));
}

/// N18, 63: while a restart is open its own deadline counts.
#[test]
fn s63_checking_under_a_restart_is_its_own_affair() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.ice(Connectivity::IceConnected);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live, "media is back while it is open");
    harness.forget();
    harness.ice(Connectivity::Checking);
    assert_eq!(harness.reported(&Event::Disconnected), 0);
}

/// N27: a stall is one, and only of what was live.
#[test]
fn n27_stall_is_reported_once_and_while_live_alone() {
    let mut harness = Harness::answered(one_retry());
    harness.ice(Connectivity::Connected);
    harness.forget();
    harness.notices(PeerEvent::MediaStalled);
    assert_eq!(
        (harness.ignored(Ignored::OutOfPhase), harness.reported(&Event::MediaStalled)),
        (true, 0)
    );

    let mut harness = Harness::live(one_retry());
    harness.notices(PeerEvent::MediaStalled);
    harness.settle(&[]);
    harness.pass(10_000);
    harness.notices(PeerEvent::MediaStalled);
    assert_eq!(
        (harness.ignored(Ignored::OutOfPhase), harness.reported(&Event::MediaStalled)),
        (true, 1)
    );
    harness.settle(&["ask for a keyframe"]);
    for _ in 0..20 {
        harness.pass(1_000);
        harness.settle(&[]);
    }
    assert_eq!((harness.fired(Timer::MediaGiveUp), harness.session.attempt()), (1, 2));
}

/// Live follows the media that the master's answer announced.
#[test]
fn sound_alone_is_live_with_its_first_packet() {
    let mut harness = Harness::offered(one_retry());
    let mut sound = answer(1);
    sound.facts.media[0].kind = MediaKind::Audio;
    harness.answer(sound);
    harness.settle(&[]);
    harness.commands();
    harness.ice(Connectivity::Connected);
    assert_eq!((harness.phase(), harness.commands()), (Phase::AwaitingMedia, vec![]));
    harness.notices(PeerEvent::MediaFlowing(MediaKind::Video));
    assert_eq!(harness.phase(), Phase::AwaitingMedia);
    harness.notices(PeerEvent::MediaFlowing(MediaKind::Audio));
    assert_eq!(harness.phase(), Phase::Live);
}

/// N14: live without a stall, or the budget is not full again.
#[test]
fn n14_stall_is_no_time_to_be_forgiven_in() {
    let refilled = |harness: &Harness| harness.session.cx.policy.budget == Default::default();
    // Live, lost, live again: the free attempt is used up.
    let live_again = || {
        let mut harness = Harness::live(one_retry());
        harness.ice(Connectivity::ClosedByPeer);
        harness.settle(&[]);
        harness.answer(answer(1));
        harness.settle(&[]);
        harness.goes_live();
        assert!(!refilled(&harness));
        harness
    };
    let mut harness = live_again();
    harness.pass(20_000);
    harness.notices(PeerEvent::MediaStalled);
    harness.pass(20_000);
    assert!(!refilled(&harness), "it stalls");
    harness.notices(PeerEvent::MediaFlowing(MediaKind::Video));
    harness.pass(29_999);
    assert!(!refilled(&harness), "not for long enough");
    harness.pass(1);
    assert!(refilled(&harness));
    // A connection that is back brings no time to a camera that is still paused.
    let mut harness = live_again();
    harness.notices(PeerEvent::MediaStalled);
    harness.ice(Connectivity::IceFailed);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live);
    for _ in 0..3 {
        harness.notices(PeerEvent::SenderReport);
        harness.pass(20_000);
    }
    assert!(!refilled(&harness), "it is paused");
}

/// N14, N17: a camera that freezes each time it was live spends the budget.
#[test]
fn n17_camera_that_freezes_again_and_again_is_given_up() {
    let give_up = Duration::from_secs(20);
    let mut harness = Harness::live(Settings { media_give_up: give_up, ..one_retry() });
    for _ in 0..3 {
        harness.pass(2_000);
        harness.notices(PeerEvent::MediaStalled);
        harness.pass(20_000);
        harness.settle(&[]);
        harness.pass(6_000);
        harness.settle(&[]);
        if harness.phase() == Phase::Ended {
            break;
        }
        harness.answer(answer(1));
        harness.settle(&[]);
        harness.goes_live();
    }
    assert_eq!(harness.phase(), Phase::Ended);
}

#[test]
fn evidence_distinguishes_video_and_audio() {
    let mut harness = Harness::answered(one_retry());
    harness.ice(Connectivity::Connected);
    harness.notices(PeerEvent::MediaFlowing(MediaKind::Audio));
    harness.pass(10_000);
    let (_, evidence) = harness.report();
    assert!(evidence.audio_packets && !evidence.video_packets);
}

#[test]
fn reported_media_problem_is_in_the_evidence_until_a_keyframe_comes() {
    let failed = |problems: &[MediaProblem], keyframe: bool| {
        let mut harness = Harness::answered(one_retry());
        harness.ice(Connectivity::Connected);
        for problem in problems {
            harness.notices(PeerEvent::MediaProblem(*problem));
        }
        if keyframe {
            harness.notices(PeerEvent::KeyframeReceived);
            harness.give(Input::Close);
        } else {
            harness.pass(10_000);
        }
        harness.report().1.media_problem
    };
    use MediaProblem::{NoKeyframe, PacketLoss};
    assert_eq!(failed(&[NoKeyframe, PacketLoss], false), Some(PacketLoss), "the newest counts");
    assert_eq!(failed(&[NoKeyframe], true), None);
}

#[test]
fn unresolved_servers_and_refused_addresses_are_counted() {
    let mut harness = Harness::answered(one_retry());
    harness.notices(PeerEvent::IceServersUnresolved(1));
    harness.notices(PeerEvent::IceServersUnresolved(u32::MAX));
    for (n, code) in [(3, FailureCode::AddressPolicy), (4, FailureCode::Port)] {
        harness.candidate(candidate(n));
        harness.fails("add candidate", code);
    }
    harness.give(Input::Close);
    let (_, evidence) = harness.report();
    assert_eq!(evidence.unresolved_servers, u32::MAX);
    assert_eq!(evidence.candidates_refused, 1);
}

/// Scenario 9: no retry where a retry cannot help.
#[test]
fn answer_with_a_codec_never_offered_ends_the_session() {
    let mut harness = Harness::offered(one_retry());
    harness.answer(answer(1));
    harness.fails("set remote", FailureCode::Codec);
    harness.settle(&[]);
    let ended = harness.events().find_map(|event| {
        let Event::Ended(outcome) = event else { return None };
        Some((outcome.reason, outcome.attempts_total))
    });
    assert_eq!(ended, Some((EndReason::Codec, 1)));
}

/// N12: connected without media is not live.
// Shows: N12.
#[test]
fn answer_that_sends_on_no_section_ends_the_session() {
    let silent = || {
        let mut silent = answer(1);
        let mut video = silent.facts.media[0].clone();
        video.sends = false;
        silent.facts.media =
            vec![video.clone(), crate::MediaSection { kind: MediaKind::Audio, ..video }];
        silent
    };
    let mut harness = Harness::offered(one_retry());
    harness.answer(silent());
    let (end, evidence) = harness.report();
    assert_eq!((end, evidence.sends_nothing), (AttemptEnd::NothingAccepted, true));
    // Sound that was not requested is no media either.
    let mut harness = Harness::offered(Settings { receive_video: false, ..one_retry() });
    harness.answer(answer(1));
    assert_eq!(harness.report().0, AttemptEnd::NothingAccepted);
    // Where no media was requested, the connection alone counts.
    let settings = Settings { receive_video: false, receive_audio: false, ..one_retry() };
    let mut harness = Harness::offered(settings);
    harness.answer(silent());
    harness.settle(&[]);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live);
}

#[test]
fn count_of_candidates_does_not_overflow() {
    let mut harness = Harness::answered(one_retry());
    harness.session.cx.evidence.remote_candidates = u32::MAX;
    harness.candidate(candidate(7));
    harness.give(Input::Close);
    assert_eq!(harness.report().1.remote_candidates, u32::MAX);
}
