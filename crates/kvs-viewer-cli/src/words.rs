//! Texts for people: what the session waits for, what happens, why an attempt ended.
//!
//! The library's texts use the terms ICE, DTLS and master; these do not. Stable codes are in JSON.

use negotiation_core::{AttemptEnd, AttemptReport, Config, Deadline, Event, Phase};

use super::spans::span;

/// Describes what the session does in a phase, for the text after "00:05".
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

/// Returns the sentence to print for an event; `None` if the event is shown in another way or only
/// with `--verbose`.
pub(crate) fn news(event: &Event) -> Option<String> {
    Some(match event {
        Event::Offline | Event::Online | Event::MediaPaused => event.to_string(),
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

/// Describes why an attempt ended, for the text after a colon.
pub(crate) fn end(report: &AttemptReport, config: &Config) -> String {
    let evidence = &report.evidence;
    match &report.end {
        AttemptEnd::Closed => "it was closed".into(),
        AttemptEnd::Deadline(deadline) => match deadline {
            Deadline::Offer => {
                format!("the service made no offer within {}", span(config.settings().offer_timeout))
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
                span(config.settings().establish_timeout)
            ),
            Deadline::FirstMedia => format!(
                "connected, but no picture came within {}",
                span(config.settings().first_media_timeout)
            ),
            Deadline::Grace => "the network path to the camera broke".into(),
            Deadline::Restart => {
                "the network path to the camera broke and could not be restored in time".into()
            }
            Deadline::MediaGiveUp => {
                format!("the camera sent nothing for {}", span(config.settings().media_give_up))
            }
        },
        AttemptEnd::Connect(failure) => failure.without_code(),
        AttemptEnd::LinkLost(failure) => {
            format!("the connection to the service was lost: {}", failure.without_code())
        }
        AttemptEnd::NoRelay(failure) => {
            format!("the service gave no relay (TURN) server: {}", failure.without_code())
        }
        AttemptEnd::Offer(failure) => {
            format!("the service did not take the offer: {}", failure.without_code())
        }
        AttemptEnd::UndecodableAnswer => "the camera's answer cannot be read".into(),
        AttemptEnd::AnswerRefused(failure) => {
            format!("the camera's answer cannot be used: {}", failure.without_code())
        }
        AttemptEnd::NothingAccepted => {
            "the camera accepts none of the video and audio formats it was offered".into()
        }
        AttemptEnd::Peer(failure) => {
            format!("the connection to the camera failed: {}", failure.without_code())
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

/// Returns how long the attempt waited for an answer. After a live session the list of timeouts
/// starts over, so the duration is certain only if all timeouts are equal.
fn waited_for_answer(report: &AttemptReport, config: &Config) -> Option<std::time::Duration> {
    let (first, rest) = config.settings().answer_timeouts.split_first()?;
    let lasted = report.ended.saturating_since(report.started);
    (rest.iter().all(|timeout| timeout == first) && lasted >= *first).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::{Evidence, Failure, FailureCode, Settings, Timestamp};

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
    fn end_of_an_attempt_has_no_codes() {
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
        // The timeouts of this preset differ, so the text does not name the one that passed.
        let persistent = Settings::persistent().check().expect("valid");
        let vague = end(&report(AttemptEnd::Deadline(Deadline::Answer)), &persistent);
        assert_eq!(vague, "the camera did not answer in time");
    }
}
