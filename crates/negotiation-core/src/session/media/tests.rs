//! What the peer connection notices, in each phase.

use alloc::vec;
use core::time::Duration;

use crate::session::stage::*;
use crate::{
    AttemptEnd, Connectivity, EndReason, Event, FailureCode, Ignored, Input, MediaKind,
    MediaProblem, PeerEvent, Phase, RecoveryCause, Settings, Timer,
};

/// A picture is asked for when its track is there; sound needs none, nor does what flows.
#[test]
fn n27_a_keyframe_is_asked_for_where_one_is_needed() {
    let mut stage = Stage::answered(one_retry());
    stage.asked();
    stage.notices(PeerEvent::TrackAdded(MediaKind::Audio));
    assert_eq!(stage.asked(), [""; 0]);
    stage.notices(PeerEvent::TrackAdded(MediaKind::Video));
    assert_eq!(stage.asked(), ["ask for a keyframe"]);

    let mut stage = Stage::live(one_retry());
    stage.notices(PeerEvent::TrackAdded(MediaKind::Video));
    assert_eq!(stage.asked(), [""; 0]);
    stage.notices(PeerEvent::MediaStalled);
    assert_eq!(stage.asked(), ["ask for a keyframe"]);
}

/// 24, 57: what breaks before anything is there is out of phase; then it ends the attempt.
#[test]
fn s24_s57_what_breaks_ends_the_attempt_once_there_is_something() {
    for (state, end) in [
        (Connectivity::IceFailed, AttemptEnd::IceFailed),
        (Connectivity::DtlsFailed, AttemptEnd::DtlsFailed),
        (Connectivity::ClosedByPeer, AttemptEnd::MasterGone),
    ] {
        let mut stage = Stage::offered(one_retry());
        stage.ice(state);
        assert_eq!(stage.phase(), Phase::AwaitingAnswer, "{state:?}");
        assert!(stage.ignored(Ignored::OutOfPhase));

        for connected in [false, true] {
            let mut stage = Stage::answered(one_retry());
            if connected {
                stage.ice(Connectivity::Connected);
                assert_eq!(stage.phase(), Phase::AwaitingMedia);
            }
            stage.forget();
            stage.ice(state);
            assert_eq!(stage.report().0, end);
            let gone = usize::from(state == Connectivity::ClosedByPeer);
            let told = |event: &&Event| matches!(event, Event::MasterGone(_));
            assert_eq!(stage.events().filter(told).count(), gone, "it answered just now");
        }
    }
}

/// 24: failing while a restart is under way is what the restart is for; after it, it is the end.
#[test]
fn s24_ice_that_fails_again_ends_a_restart_that_was_fruitless() {
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::IceFailed);
    assert_eq!(stage.told(&Event::Recovering(RecoveryCause::IceFailed)), 1);
    stage.settle(&[]);
    stage.ice(Connectivity::IceFailed);
    assert_eq!(stage.phase(), Phase::Recovering);
    stage.answer(answer(2));
    stage.settle(&[]);
    stage.forget();
    stage.ice(Connectivity::IceFailed);
    assert_eq!(stage.told(&Event::MasterGone(RecoveryCause::IceFailed)), 1);
    assert_eq!(stage.report().0, AttemptEnd::IceFailed);
}

/// 24: the same of a restart that waits for its link.
#[test]
fn s24_a_restart_that_waits_for_its_link_is_under_way() {
    let mut stage = Stage::live(one_retry());
    stage.link_ends(1, FailureCode::Network);
    stage.ice(Connectivity::IceFailed);
    stage.ice(Connectivity::IceFailed);
    assert_eq!(stage.phase(), Phase::Recovering);
}

/// N18: a stack that looks for a pair again by itself has lost the one it had.
#[test]
fn n18_checking_again_is_a_loss() {
    let grace = |stage: &Stage| {
        let at = stage.now + Duration::from_secs(3);
        stage.session.poll_timeout() == Some((at, Timer::Grace))
    };
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::Checking);
    assert_eq!(stage.told(&Event::Disconnected), 1);
    assert!(grace(&stage));
    stage.pass(3_000);
    assert_eq!(stage.phase(), Phase::Recovering);
    // One that is disconnected already has its grace since then.
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::Disconnected);
    stage.pass(1_000);
    stage.ice(Connectivity::Checking);
    stage.ice(Connectivity::Checking);
    assert_eq!(stage.told(&Event::Disconnected), 1);
    assert!(!grace(&stage));
    // Nothing is lost that was not connected.
    let mut stage = Stage::answered(one_retry());
    stage.ice(Connectivity::Checking);
    assert_eq!(stage.told(&Event::Disconnected), 0);
    // What is lost before media came is missed once it is live.
    stage.ice(Connectivity::Connected);
    stage.ice(Connectivity::Checking);
    assert_eq!(stage.told(&Event::Disconnected), 1);
    stage.notices(PeerEvent::KeyframeReceived);
    assert_eq!(stage.phase(), Phase::Live);
    assert!(grace(&stage));
    // A pair that comes and goes again.
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::Disconnected);
    stage.ice(Connectivity::IceConnected);
    assert!(!grace(&stage));
    stage.ice(Connectivity::Checking);
    assert!(grace(&stage));
}

/// N18, 63: while a restart is open its own deadline counts.
#[test]
fn s63_checking_under_a_restart_is_its_own_affair() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.ice(Connectivity::IceConnected);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live, "media is back while it is open");
    stage.forget();
    stage.ice(Connectivity::Checking);
    assert_eq!(stage.told(&Event::Disconnected), 0);
}

/// N27: a stall is one, and only of what was live.
#[test]
fn n27_a_stall_is_told_once_and_while_live_alone() {
    let mut stage = Stage::answered(one_retry());
    stage.ice(Connectivity::Connected);
    stage.forget();
    stage.notices(PeerEvent::MediaStalled);
    assert_eq!((stage.ignored(Ignored::OutOfPhase), stage.told(&Event::MediaStalled)), (true, 0));

    let mut stage = Stage::live(one_retry());
    stage.notices(PeerEvent::MediaStalled);
    stage.settle(&[]);
    stage.pass(10_000);
    stage.notices(PeerEvent::MediaStalled);
    assert_eq!((stage.ignored(Ignored::OutOfPhase), stage.told(&Event::MediaStalled)), (true, 1));
    stage.settle(&["ask for a keyframe"]);
    for _ in 0..20 {
        stage.pass(1_000);
        stage.settle(&[]);
    }
    assert_eq!((stage.fired(Timer::MediaGiveUp), stage.session.attempt()), (1, 2));
}

/// What is live follows what the master said that it sends.
#[test]
fn sound_alone_is_live_with_its_first_packet() {
    let mut stage = Stage::offered(one_retry());
    let mut sound = answer(1);
    sound.facts.media[0].kind = MediaKind::Audio;
    stage.answer(sound);
    stage.settle(&[]);
    stage.asked();
    stage.ice(Connectivity::Connected);
    assert_eq!((stage.phase(), stage.asked()), (Phase::AwaitingMedia, vec![]));
    stage.notices(PeerEvent::MediaFlowing(MediaKind::Video));
    assert_eq!(stage.phase(), Phase::AwaitingMedia);
    stage.notices(PeerEvent::MediaFlowing(MediaKind::Audio));
    assert_eq!(stage.phase(), Phase::Live);
}

/// N14: live without a stall, or the budget is not full again.
#[test]
fn n14_a_stall_is_no_time_to_be_forgiven_in() {
    let refilled = |stage: &Stage| stage.session.budget == Default::default();
    // Live, lost, live again: the free attempt is used up.
    let live_again = || {
        let mut stage = Stage::live(one_retry());
        stage.ice(Connectivity::ClosedByPeer);
        stage.settle(&[]);
        stage.answer(answer(1));
        stage.settle(&[]);
        stage.goes_live();
        assert!(!refilled(&stage));
        stage
    };
    let mut stage = live_again();
    stage.pass(20_000);
    stage.notices(PeerEvent::MediaStalled);
    stage.pass(20_000);
    assert!(!refilled(&stage), "it stalls");
    stage.notices(PeerEvent::MediaFlowing(MediaKind::Video));
    stage.pass(29_999);
    assert!(!refilled(&stage), "not for long enough");
    stage.pass(1);
    assert!(refilled(&stage));
    // A connection that is back brings no time to a camera that is still paused.
    let mut stage = live_again();
    stage.notices(PeerEvent::MediaStalled);
    stage.ice(Connectivity::IceFailed);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live);
    for _ in 0..3 {
        stage.notices(PeerEvent::SenderReport);
        stage.pass(20_000);
    }
    assert!(!refilled(&stage), "it is paused");
}

/// N14, N17: a camera that freezes each time it was live spends the budget.
#[test]
fn n17_a_camera_that_freezes_again_and_again_is_given_up() {
    let give_up = Duration::from_secs(20);
    let mut stage = Stage::live(Settings { media_give_up: give_up, ..one_retry() });
    for _ in 0..3 {
        stage.pass(2_000);
        stage.notices(PeerEvent::MediaStalled);
        stage.pass(20_000);
        stage.settle(&[]);
        stage.pass(6_000);
        stage.settle(&[]);
        if stage.phase() == Phase::Ended {
            break;
        }
        stage.answer(answer(1));
        stage.settle(&[]);
        stage.goes_live();
    }
    assert_eq!(stage.phase(), Phase::Ended);
}

#[test]
fn evidence_tells_pictures_and_sound_apart() {
    let mut stage = Stage::answered(one_retry());
    stage.ice(Connectivity::Connected);
    stage.notices(PeerEvent::MediaFlowing(MediaKind::Audio));
    stage.pass(10_000);
    let (_, evidence) = stage.report();
    assert!(evidence.audio_packets && !evidence.video_packets);
}

#[test]
fn reported_media_problem_is_in_the_evidence_until_a_keyframe_comes() {
    let failed = |problems: &[MediaProblem], keyframe: bool| {
        let mut stage = Stage::answered(one_retry());
        stage.ice(Connectivity::Connected);
        for problem in problems {
            stage.notices(PeerEvent::MediaProblem(*problem));
        }
        if keyframe {
            stage.notices(PeerEvent::KeyframeReceived);
            stage.give(Input::Close);
        } else {
            stage.pass(10_000);
        }
        stage.report().1.media_problem
    };
    use MediaProblem::{NoKeyframe, PacketLoss};
    assert_eq!(failed(&[NoKeyframe, PacketLoss], false), Some(PacketLoss), "the newest counts");
    assert_eq!(failed(&[NoKeyframe], true), None);
}

#[test]
fn unresolved_servers_and_refused_addresses_are_counted() {
    let mut stage = Stage::answered(one_retry());
    stage.notices(PeerEvent::IceServersUnresolved(1));
    stage.notices(PeerEvent::IceServersUnresolved(u32::MAX));
    for (n, code) in [(3, FailureCode::AddressPolicy), (4, FailureCode::Port)] {
        stage.candidate(candidate(n));
        stage.fails("add candidate", code);
    }
    stage.give(Input::Close);
    let (_, evidence) = stage.report();
    assert_eq!(evidence.unresolved_servers, u32::MAX);
    assert_eq!(evidence.candidates_refused, 1);
}

/// Scenario 9: no retry where a retry cannot help.
#[test]
fn answer_with_a_codec_never_offered_ends_the_session() {
    let mut stage = Stage::offered(one_retry());
    stage.answer(answer(1));
    stage.fails("set remote", FailureCode::Codec);
    stage.settle(&[]);
    let ended = stage.events().find_map(|event| {
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
            vec![video.clone(), crate::MediaFact { kind: MediaKind::Audio, ..video }];
        silent
    };
    let mut stage = Stage::offered(one_retry());
    stage.answer(silent());
    let (end, evidence) = stage.report();
    assert_eq!((end, evidence.sends_nothing), (AttemptEnd::NothingAccepted, true));
    // Sound that was not requested is no media either.
    let mut stage = Stage::offered(Settings { receive_video: false, ..one_retry() });
    stage.answer(answer(1));
    assert_eq!(stage.report().0, AttemptEnd::NothingAccepted);
    // Where nothing was asked for, the connection is all there is.
    let settings = Settings { receive_video: false, receive_audio: false, ..one_retry() };
    let mut stage = Stage::offered(settings);
    stage.answer(silent());
    stage.settle(&[]);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live);
}

#[test]
fn count_of_candidates_does_not_overflow() {
    let mut stage = Stage::answered(one_retry());
    let attempt = stage.session.attempt.as_mut().expect("open");
    attempt.evidence.remote_candidates = u32::MAX;
    stage.candidate(candidate(7));
    stage.give(Input::Close);
    assert_eq!(stage.report().1.remote_candidates, u32::MAX);
}
