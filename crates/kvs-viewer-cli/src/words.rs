//! Plain words for people: what is waited for, what happens, why an attempt ended.
//!
//! The library's own texts speak of ICE, DTLS and masters; these do not. Stable codes are in JSON.

use negotiation_core::{
    AttemptEnd, AttemptReport, Config, Deadline, Event, Failure, MediaKind, Phase, RecoveryCause,
};

use super::spans::{millis, span};

/// What the session does in a phase, after "00:05".
pub(crate) fn activity(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "starting",
        Phase::Connecting => "connecting to the service",
        Phase::Offering => "preparing the offer to the camera",
        Phase::AwaitingAnswer => "waiting for the camera to answer",
        Phase::AwaitingOffer => "waiting for the service to make an offer",
        Phase::Answering => "answering the offer",
        Phase::Establishing => "opening a network path to the camera",
        Phase::AwaitingMedia => "connected, waiting for the first picture",
        Phase::Live => "live",
        Phase::Recovering => "restoring the connection to the camera",
        Phase::Closing => "closing the connection",
        Phase::BackingOff => "waiting before the next attempt",
        Phase::Ended => "ended",
    }
}

/// What a person reads when it happens, unless it is shown in another way; `None` for what is
/// printed with `--verbose` alone.
pub(crate) fn news(event: &Event) -> Option<String> {
    Some(match event {
        Event::Offline => "This computer has no network connection.".into(),
        Event::Online => "The network connection is back.".into(),
        Event::MediaPaused => "The camera paused: it is connected, but sends no video.".into(),
        Event::PhaseChanged { .. }
        | Event::AttemptStarted { .. }
        | Event::LinkOpened { .. }
        | Event::OfferSent { .. }
        | Event::AnswerReceived { .. }
        | Event::MasterSeen
        | Event::Connected
        | Event::TrackAdded(_)
        | Event::KeyframeReceived
        | Event::Live
        | Event::Disconnected
        | Event::Reconnected
        | Event::Recovering(_)
        | Event::Recovered
        | Event::MasterGone(_)
        | Event::MediaStalled
        | Event::MediaResumed
        | Event::RestartRefused
        | Event::MasterLearned(_)
        | Event::LinkNotReopened(_)
        | Event::LinkLost(_)
        | Event::LinkReopened
        | Event::LinkGivenUp(_)
        | Event::IceServersRefreshed
        | Event::GoAway
        | Event::RenegotiationFailed
        | Event::DeadlineArmed { .. }
        | Event::DeadlineFired(_)
        | Event::AttemptEnded(_)
        | Event::RetryScheduled { .. }
        | Event::Ignored(_)
        | Event::CloseStepFailed(_)
        | Event::Ended(_) => return None,
    })
}

/// Any event in a sentence, for `--verbose` and `replay`.
pub(crate) fn event(event: &Event) -> String {
    if let Some(text) = news(event) {
        return text;
    }
    match event {
        Event::PhaseChanged { from, to } => format!("Phase: {from} -> {to}."),
        Event::AttemptStarted { attempt } => format!("Attempt {attempt} begins."),
        Event::LinkOpened { client_id } => {
            format!("The signaling connection is open, as client {client_id}.")
        }
        Event::OfferSent { exchange: 1 } => "The offer is sent.".into(),
        Event::OfferSent { exchange } => format!("Offer {exchange} of this attempt is sent."),
        Event::AnswerReceived { after } => {
            format!("The answer came after {} ms.", millis(*after))
        }
        Event::MasterSeen => "The camera sent its first message.".into(),
        Event::Connected => "Connected; waiting for the first keyframe.".into(),
        Event::TrackAdded(kind) => format!("The camera sends {}.", kind_words(*kind)),
        Event::KeyframeReceived => "The first keyframe came.".into(),
        Event::Live => "Live.".into(),
        Event::Disconnected => "Nothing comes from the camera; waiting for a moment.".into(),
        Event::Reconnected => "The connection is back.".into(),
        Event::RestartRefused => {
            "The camera does not restore a connection (ICE restart): a loss begins a new attempt at once.".into()
        }
        Event::MasterLearned(_) => "Something about the camera was learned for later.".into(),
        Event::LinkNotReopened(failure) => format!(
            "The signaling connection could not be opened again: {}.",
            failure_words(failure)
        ),
        Event::LinkLost(failure) => {
            format!("The signaling connection is lost, video goes on: {}.", failure_words(failure))
        }
        Event::LinkReopened => "The signaling connection is open again.".into(),
        Event::LinkGivenUp(failure) => format!(
            "The signaling connection stays closed, video goes on: {}.",
            failure_words(failure)
        ),
        Event::IceServersRefreshed => "Fresh STUN and TURN servers are there.".into(),
        Event::GoAway => "The service will close this signaling connection within a minute.".into(),
        Event::RenegotiationFailed => "A renegotiation failed; video goes on.".into(),
        Event::DeadlineArmed { timer, .. } => format!("The {timer} deadline is set."),
        Event::DeadlineFired(timer) => format!("The {timer} deadline passed."),
        Event::AttemptEnded(report) => {
            format!("Attempt {} is over and closed: {}.", report.attempt, report.end)
        }
        Event::RetryScheduled { attempt, .. } => format!("Attempt {attempt} is scheduled."),
        Event::Ignored(reason) => format!("Ignored: {reason}."),
        Event::CloseStepFailed(failure) => {
            format!("A step of closing failed: {}.", failure_words(failure))
        }
        Event::Ended(outcome) => format!("Ended. {}", outcome.sentence()),
        Event::Recovering(cause) => {
            format!("{}; restoring the connection.", capital(cause_words(*cause)))
        }
        Event::Recovered => "The connection is restored.".into(),
        Event::MasterGone(cause) => format!("The camera is gone: {}.", cause_words(*cause)),
        Event::MediaStalled => "The video stopped; waiting for the camera to go on.".into(),
        Event::MediaResumed => "The video goes on.".into(),
        Event::Offline | Event::Online | Event::MediaPaused => String::new(),
    }
}

/// Why an attempt ended, after a colon.
pub(crate) fn end(report: &AttemptReport, config: &Config) -> String {
    let evidence = &report.evidence;
    match &report.end {
        AttemptEnd::Closed => "it was closed".into(),
        AttemptEnd::Deadline(deadline) => match deadline {
            Deadline::Offer => {
                format!("the service made no offer within {}", span(config.offer_timeout))
            }
            Deadline::Answer => match waited_for_answer(report, config) {
                Some(waited) => format!("the camera did not answer within {}", span(waited)),
                None => "the camera did not answer in time".into(),
            },
            Deadline::Establish if evidence.ice_connected => {
                "the secure connection (DTLS) to the camera was not made in time".into()
            }
            Deadline::Establish => format!(
                "no network path to the camera worked within {}",
                span(config.establish_timeout)
            ),
            Deadline::FirstMedia => format!(
                "connected, but no picture came within {}",
                span(config.first_media_timeout)
            ),
            Deadline::Grace => "the network path to the camera broke".into(),
            Deadline::Restart => {
                "the network path to the camera broke and could not be restored in time".into()
            }
            Deadline::MediaGiveUp => {
                format!("the camera sent nothing for {}", span(config.media_give_up))
            }
        },
        AttemptEnd::Connect(failure) => failure_words(failure),
        AttemptEnd::LinkLost(failure) => {
            format!("the connection to the service was lost: {}", failure_words(failure))
        }
        AttemptEnd::NoRelay(failure) => {
            format!("the service gave no relay (TURN) server: {}", failure_words(failure))
        }
        AttemptEnd::Offer(failure) => {
            format!("the service did not take the offer: {}", failure_words(failure))
        }
        AttemptEnd::UndecodableAnswer => "the camera's answer cannot be read".into(),
        AttemptEnd::AnswerRefused(failure) => {
            format!("the camera's answer cannot be used: {}", failure_words(failure))
        }
        AttemptEnd::NothingAccepted => {
            "the camera accepts none of the video and audio formats it was offered".into()
        }
        AttemptEnd::Peer(failure) => {
            format!("the connection to the camera failed: {}", failure_words(failure))
        }
        AttemptEnd::IceFailed => "no network path to the camera works".into(),
        AttemptEnd::DtlsFailed => "the secure connection (DTLS) to the camera failed".into(),
        AttemptEnd::MasterGone => "the camera closed the connection".into(),
        AttemptEnd::RestartFailed => {
            "the network path broke, and the camera refused to restore it (ICE restart)".into()
        }
        AttemptEnd::StartedOver => {
            "the camera began a new connection: it was restarted, or cannot restore one (ICE restart)"
                .into()
        }
        AttemptEnd::NetworkChanged => "this computer's network changed".into(),
        AttemptEnd::Resumed => "this computer slept".into(),
    }
}

/// How long the answer of an attempt was waited for. Attempts that follow a live session begin the
/// list of timeouts anew, so it is known for certain only where all are the same.
fn waited_for_answer(report: &AttemptReport, config: &Config) -> Option<std::time::Duration> {
    let (first, rest) = config.answer_timeouts.split_first()?;
    let lasted = report.ended.saturating_since(report.started);
    (rest.iter().all(|timeout| timeout == first) && lasted >= *first).then_some(*first)
}

/// A failure without its code: what the service or the system says.
pub(crate) fn failure_words(failure: &Failure) -> String {
    match (failure.detail.as_str(), &failure.api_name) {
        ("", Some(name)) => name.clone(),
        ("", None) => failure.code.as_str().replace('-', " "),
        (detail, Some(name)) => format!("{detail} ({name})"),
        (detail, None) => detail.to_owned(),
    }
}

fn cause_words(cause: RecoveryCause) -> &'static str {
    match cause {
        RecoveryCause::Disconnected => "nothing comes from the camera any more",
        RecoveryCause::IceFailed => "the network path to the camera broke",
        RecoveryCause::NetworkChanged => "this computer's network changed",
        RecoveryCause::Requested => "a restart was asked for",
        RecoveryCause::ClosedByPeer => "it closed the connection",
        RecoveryCause::Silent => "it sends nothing any more",
    }
}

pub(crate) fn kind_words(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "sound",
        MediaKind::Video => "video",
        MediaKind::Data => "data",
    }
}

/// The text as the beginning of a sentence.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().collect::<String>());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::{Evidence, FailureCode, Ignored, Settings, Timer, Timestamp};
    use std::time::Duration;

    fn report(end: AttemptEnd) -> AttemptReport {
        AttemptReport {
            attempt: 1,
            client_id: None,
            started: Timestamp::ZERO,
            ended: Timestamp::from_millis(31_000),
            end,
            evidence: Evidence::default(),
        }
    }

    #[test]
    fn the_end_of_an_attempt_has_no_codes() {
        let config = Settings::one_retry().check().expect("valid");
        let words = |what| end(&report(what), &config);
        assert_eq!(
            words(AttemptEnd::Deadline(Deadline::Answer)),
            "the camera did not answer within 30 s"
        );
        let refused = Failure::new(FailureCode::AccessDenied, "no such key").named("BadKey");
        assert_eq!(words(AttemptEnd::Connect(refused)), "no such key (BadKey)");
        let bare = Failure::new(FailureCode::NoChannel, "");
        assert_eq!(words(AttemptEnd::Connect(bare)), "no channel");
        // The timeouts of this preset differ, so the one that passed is not named.
        let persistent = Settings::persistent().check().expect("valid");
        let vague = end(&report(AttemptEnd::Deadline(Deadline::Answer)), &persistent);
        assert_eq!(vague, "the camera did not answer in time");
    }

    #[test]
    fn every_event_is_a_sentence() {
        let failure = || Failure::new(FailureCode::Network, "reset");
        let events = [
            Event::AttemptStarted { attempt: 1 },
            Event::MasterSeen,
            Event::TrackAdded(MediaKind::Audio),
            Event::OfferSent { exchange: 2 },
            Event::AnswerReceived { after: Duration::from_millis(5) },
            Event::Recovering(RecoveryCause::Disconnected),
            Event::MediaStalled,
            Event::LinkLost(failure()),
            Event::CloseStepFailed(failure()),
            Event::DeadlineFired(Timer::Answer),
            Event::AttemptEnded(Box::new(report(AttemptEnd::MasterGone))),
            Event::Ignored(Ignored::SecondAnswer),
        ];
        for told in events {
            let text = event(&told);
            assert!(text.ends_with('.') && !text.contains("..") && !text.contains("{"), "{text}");
            assert!(text.starts_with(char::is_uppercase), "{text}");
        }
    }
}
