//! Events and outcomes as sentences for someone who owns a camera.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::error::Failure;
use crate::evidence::Outcome;
use crate::master::RecoveryCause;
use crate::output::Event;
use crate::types::MediaKind;

/// One sentence. It holds no secret and no address.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhaseChanged { from, to } => write!(f, "Phase: {from} -> {to}."),
            Self::AttemptStarted { attempt } => write!(f, "Attempt {attempt} begins."),
            Self::LinkOpened { client_id } => {
                write!(f, "The signaling connection is open, as client {client_id}.")
            }
            Self::OfferSent { exchange: 1 } => f.write_str("The offer is sent."),
            Self::OfferSent { exchange } => write!(f, "Offer {exchange} of this attempt is sent."),
            Self::AnswerReceived { after } => {
                write!(f, "The answer came after {} ms.", after.as_millis())
            }
            Self::MasterSeen => f.write_str("The camera sent its first message."),
            Self::Connected => f.write_str("Connected; waiting for the first keyframe."),
            Self::TrackAdded(kind) => write!(f, "The camera sends {kind}."),
            Self::KeyframeReceived => f.write_str("The first keyframe came."),
            Self::Live => f.write_str("Live."),
            Self::Disconnected => {
                f.write_str("Nothing comes from the camera; waiting for a moment.")
            }
            Self::Reconnected => f.write_str("The connection is back."),
            Self::Recovering(cause) => write!(f, "Restoring the connection: {cause}."),
            Self::Recovered => f.write_str("The connection is restored."),
            Self::RestartRefused => f.write_str(
                "The camera does not restore a connection (ICE restart): \
                 a loss begins a new attempt at once.",
            ),
            Self::MasterLearned(_) => {
                f.write_str("Something about the camera was learned for later.")
            }
            Self::MasterGone(cause) => write!(f, "The camera is gone: {cause}."),
            Self::Offline => f.write_str("This computer has no network connection."),
            Self::Online => f.write_str("The network connection is back."),
            Self::MediaPaused => {
                f.write_str("The camera paused: it is connected, but sends no video.")
            }
            Self::MediaStalled => {
                f.write_str("The video stopped; waiting for the camera to go on.")
            }
            Self::MediaResumed => f.write_str("The video goes on."),
            Self::LinkLost(failure) => write!(
                f,
                "The signaling connection is lost, video goes on: {}.",
                failure.without_code()
            ),
            Self::LinkReopened => f.write_str("The signaling connection is open again."),
            Self::LinkNotReopened(failure) => write!(
                f,
                "The signaling connection could not be opened again: {}.",
                failure.without_code()
            ),
            Self::LinkGivenUp(failure) => write!(
                f,
                "The signaling connection stays closed, video goes on: {}.",
                failure.without_code()
            ),
            Self::IceServersRefreshed => f.write_str("Fresh STUN and TURN servers are there."),
            Self::GoAway => {
                f.write_str("The service will close this signaling connection within a minute.")
            }
            Self::RenegotiationFailed => f.write_str("A renegotiation failed; video goes on."),
            Self::DeadlineArmed { timer, .. } => write!(f, "The {timer} deadline is set."),
            Self::DeadlineFired(timer) => write!(f, "The {timer} deadline passed."),
            Self::AttemptEnded(report) => {
                write!(f, "Attempt {} is over and closed: {}.", report.attempt, report.end)
            }
            Self::RetryScheduled { attempt, .. } => write!(f, "Attempt {attempt} is scheduled."),
            Self::Ignored(reason) => write!(f, "Ignored: {reason}."),
            Self::CloseStepFailed(failure) => {
                write!(f, "A step of closing failed: {}.", failure.without_code())
            }
            Self::Ended(outcome) => write!(f, "Ended. {outcome}"),
        }
    }
}

/// As [`Outcome::sentence`].
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

/// A part of a sentence.
impl fmt::Display for RecoveryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "nothing comes from the camera any more",
            Self::IceFailed => "the network path to the camera broke",
            Self::NetworkChanged => "this computer's network changed",
            Self::Requested => "a restart was requested",
            Self::ClosedByPeer => "it closed the connection",
            Self::Silent => "it sends nothing any more",
        })
    }
}

/// `audio`, `video` or `data`.
impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Data => "data",
        })
    }
}

impl Failure {
    /// What the service or the system reported, without [`Failure::code`]: a part of a sentence for
    /// people.
    pub fn without_code(&self) -> String {
        let mut text = self.detail.clone();
        match &self.api_name {
            Some(name) if text.is_empty() => text.clone_from(name),
            Some(name) => text = format!("{text} ({name})"),
            None if text.is_empty() => text = self.code.as_str().replace('-', " "),
            None => {}
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::string::ToString as _;
    use core::time::Duration;

    use super::*;
    use crate::error::{FailureCode, Ignored};
    use crate::evidence::{AttemptEnd, AttemptReport, Evidence};
    use crate::time::{Timer, Timestamp};

    #[test]
    fn every_kind_of_event_is_one_sentence() {
        let failure = || Failure::new(FailureCode::Network, "reset");
        let report = AttemptReport {
            attempt: 1,
            client_id: None,
            started: Timestamp::ZERO,
            ended: Timestamp::from_millis(31_000),
            end: AttemptEnd::MasterGone,
            evidence: Evidence::default(),
        };
        let events = [
            Event::AttemptStarted { attempt: 1 },
            Event::MasterSeen,
            Event::TrackAdded(MediaKind::Audio),
            Event::OfferSent { exchange: 2 },
            Event::AnswerReceived { after: Duration::from_millis(5) },
            Event::Recovering(RecoveryCause::Disconnected),
            Event::MasterGone(RecoveryCause::Silent),
            Event::RestartRefused,
            Event::MediaStalled,
            Event::LinkLost(failure()),
            Event::LinkNotReopened(failure()),
            Event::LinkGivenUp(failure()),
            Event::CloseStepFailed(failure()),
            Event::DeadlineFired(Timer::Answer),
            Event::AttemptEnded(Box::new(report)),
            Event::Ignored(Ignored::SecondAnswer),
        ];
        for event in events {
            let text = event.to_string();
            assert!(text.ends_with('.') && !text.contains("..") && !text.contains('{'), "{text}");
            assert!(text.starts_with(char::is_uppercase) && !text.contains("  "), "{text}");
        }
    }

    #[test]
    fn failure_without_its_code_names_what_is_known() {
        let named = Failure::new(FailureCode::AccessDenied, "no such key").named("BadKey");
        assert_eq!(named.without_code(), "no such key (BadKey)");
        let undescribed = Failure::new(FailureCode::AccessDenied, "").named("BadKey");
        assert_eq!(undescribed.without_code(), "BadKey");
        assert_eq!(Failure::new(FailureCode::NoChannel, "").without_code(), "no channel");
    }

    #[test]
    fn outcome_is_its_sentence() {
        let reason = crate::error::EndReason::Closed;
        let (attempts, lasted) = (alloc::vec![], Duration::ZERO);
        let outcome = Outcome { reason, was_live: true, attempts_total: 1, attempts, lasted };
        assert_eq!(outcome.to_string(), outcome.sentence());
        let ended = Event::Ended(Box::new(outcome)).to_string();
        assert_eq!(ended, "Ended. Closed after having been live.");
    }
}
