//! Composes the paragraph at the end (what happened, why, and what to do) from the session's
//! outcome and the command's arguments.

use negotiation_core::{AttemptEnd, Config, EndReason, Failure, FailureCode, Outcome, Phase};

use super::spans::span;
use super::words::{activity, end};

/// The facts that the command line adds to the outcome.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The channel, as given on the command line.
    pub(crate) channel: String,
    pub(crate) config: Config,
    /// Whether the service is on this machine.
    pub(crate) is_loopback: bool,
    /// The profile that was given on the command line.
    pub(crate) profile: Option<String>,
}

/// The reason why a session ended, for people and for machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What happened.
    pub(crate) headline: String,
    pub(crate) likely_cause: String,
    pub(crate) next_step: String,
}

impl Summary {
    /// Composes the summary. `phase` is the phase in which the session was closed; `is_offline`
    /// means that the platform has no network.
    pub(crate) fn of(outcome: &Outcome, context: &Context, phase: Phase, is_offline: bool) -> Self {
        if is_offline && outcome.reason != EndReason::Closed {
            return Self {
                headline: headline(outcome, context, phase),
                likely_cause: "this computer has no network connection".to_owned(),
                next_step: "Connect this computer to a network, then try again.".to_owned(),
            };
        }
        Self {
            headline: headline(outcome, context, phase),
            likely_cause: plain(&likely_cause(outcome)),
            next_step: plain(&next_step(outcome, context)),
        }
    }
}

fn headline(outcome: &Outcome, context: &Context, phase: Phase) -> String {
    let channel = short(&context.channel);
    if outcome.reason == EndReason::Closed {
        return match outcome.was_live {
            true => "Closed.".to_owned(),
            false => format!("Closed before it was live, while {}.", activity(phase)),
        };
    }
    let why = outcome.attempts.last().map_or_else(
        || outcome.reason.code().replace('-', " "),
        |attempt| end(attempt, &context.config),
    );
    if outcome.was_live {
        return format!("{channel} was live and is lost: {why}.");
    }
    if outcome.attempts_total < 2 {
        return format!("{channel} is not live: {why}.");
    }
    let (attempts, lasted) = (outcome.attempts_total, span(outcome.lasted));
    format!("{channel} is not live after {attempts} attempts in {lasted}: {why}.")
}

fn likely_cause(outcome: &Outcome) -> String {
    match last_failure(outcome) {
        Some(failure) if is_region(failure) => {
            "the request went to another region than the channel's".into()
        }
        Some(failure) if lacks_region(failure) => "no region is configured".into(),
        Some(_) | None => outcome.likely_cause(),
    }
}

/// Replaces KVS's word "master" with "camera" for people.
fn plain(text: &str) -> String {
    text.replace("master", "camera")
}

/// Returns the outcome's advice, with the options of this command line where they apply.
fn next_step(outcome: &Outcome, context: &Context) -> String {
    if let Some(failure) = last_failure(outcome) {
        if lacks_region(failure) {
            return "Give the channel's region with --region or AWS_REGION, or give its ARN."
                .into();
        }
        if is_region(failure) {
            return "Give the channel's region with --region or AWS_REGION.".into();
        }
    }
    match outcome.reason {
        EndReason::NoCredentials if context.profile.is_some() => {
            "Choose a profile of ~/.aws/config or ~/.aws/credentials with --profile, or set \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                .into()
        }
        EndReason::Signaling if context.is_loopback => {
            "Start the service on this machine (kvs-viewer emulator), or check --endpoint-url and \
             AWS_ENDPOINT_URL."
                .into()
        }
        EndReason::InvalidClientId => "Choose another id with --client-id.".into(),
        EndReason::Replaced => "Give each viewer a --client-id of its own, or leave it out.".into(),
        EndReason::StorageMode => {
            "Join the storage session with --storage-session, or switch the channel's storage off."
                .into()
        }
        EndReason::Tls => "Check --endpoint-url and --ca-file.".into(),
        EndReason::Closed
        | EndReason::NoAnswer
        | EndReason::NoOffer
        | EndReason::BadAnswer
        | EndReason::IncompatibleSdp
        | EndReason::Codec
        | EndReason::NoRoute
        | EndReason::Dtls
        | EndReason::NoMedia
        | EndReason::Signaling
        | EndReason::AccessDenied
        | EndReason::ExpiredCredentials
        | EndReason::NoCredentials
        | EndReason::NoChannel
        | EndReason::InvalidArgument
        | EndReason::ViewerLimit
        | EndReason::Throttled
        | EndReason::LocalMedia
        | EndReason::PeerFailed => outcome.next_step(),
    }
}

fn last_failure(outcome: &Outcome) -> Option<&Failure> {
    match &outcome.attempts.last()?.end {
        AttemptEnd::Connect(failure)
        | AttemptEnd::LinkLost(failure)
        | AttemptEnd::NoRelay(failure)
        | AttemptEnd::Offer(failure)
        | AttemptEnd::AnswerRefused(failure)
        | AttemptEnd::Peer(failure) => Some(failure),
        AttemptEnd::Closed
        | AttemptEnd::Deadline(_)
        | AttemptEnd::UndecodableAnswer
        | AttemptEnd::NothingAccepted
        | AttemptEnd::IceFailed
        | AttemptEnd::DtlsFailed
        | AttemptEnd::MasterGone
        | AttemptEnd::RestartFailed
        | AttemptEnd::StartedOver
        | AttemptEnd::NetworkChanged
        | AttemptEnd::Resumed => None,
    }
}

/// Whether a request was signed for another region. The service refuses it like one with a wrong
/// key; only the text differs ("Credential should be scoped to a valid region").
fn is_region(failure: &Failure) -> bool {
    failure.code == FailureCode::AccessDenied && failure.detail.contains("scoped to a valid region")
}

/// Whether the region is missing. This is detected before any request, so the failure has no API
/// name.
fn lacks_region(failure: &Failure) -> bool {
    failure.code == FailureCode::InvalidArgument
        && failure.api_name.is_none()
        && failure.detail.starts_with("no region")
}

/// Returns the name within an ARN, which is long.
pub(crate) fn short(channel: &str) -> &str {
    let name = channel.split_once(":channel/").and_then(|(_, rest)| rest.split('/').next());
    name.unwrap_or(channel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::{AttemptReport, Deadline, Evidence, Settings, Timestamp};
    use std::time::Duration;

    fn context() -> Context {
        let config = Settings::one_retry().check().expect("valid");
        Context { channel: "front-door".into(), config, is_loopback: false, profile: None }
    }

    fn outcome(reason: EndReason, end: AttemptEnd, attempts: u32) -> Outcome {
        let (started, ended) = (Timestamp::ZERO, Timestamp::from_millis(30_500));
        let evidence = Evidence::default();
        let last =
            AttemptReport { attempt: attempts, client_id: None, started, ended, end, evidence };
        let lasted = Duration::from_secs(66);
        Outcome { reason, was_live: false, attempts_total: attempts, attempts: vec![last], lasted }
    }

    #[test]
    fn headline_has_reason_attempts_and_duration() {
        let silent = AttemptEnd::Deadline(Deadline::Answer);
        let summary =
            Summary::of(&outcome(EndReason::NoAnswer, silent, 2), &context(), Phase::Ended, false);
        assert_eq!(
            summary.headline,
            "front-door is not live after 2 attempts in 1m 6s: the camera did not answer within 30 s."
        );
        assert!(summary.next_step.contains("camera is on"), "{summary:?}");
        assert!(summary.likely_cause.contains("no camera is connected"), "{summary:?}");
    }

    #[test]
    fn early_close_names_what_was_awaited() {
        let closed = outcome(EndReason::Closed, AttemptEnd::Closed, 1);
        let summary = Summary::of(&closed, &context(), Phase::AwaitingAnswer, false);
        assert_eq!(
            summary.headline,
            "Closed before it was live, while waiting for the camera to answer."
        );
    }

    #[test]
    fn missing_or_wrong_region_is_named_with_its_option() {
        let missing = Failure::new(FailureCode::InvalidArgument, "no region: give one");
        let wrong = Failure::new(
            FailureCode::AccessDenied,
            "Credential should be scoped to a valid region, not 'eu-west-1'",
        )
        .named("InvalidSignatureException");
        for (reason, failure) in
            [(EndReason::InvalidArgument, missing), (EndReason::AccessDenied, wrong)]
        {
            let ended = outcome(reason, AttemptEnd::Connect(failure), 1);
            let summary = Summary::of(&ended, &context(), Phase::Ended, false);
            assert!(summary.next_step.contains("--region"), "{summary:?}");
            assert!(summary.likely_cause.contains("region"), "{summary:?}");
        }
    }

    #[test]
    fn missing_network_is_reported_as_cause() {
        let failure = Failure::new(FailureCode::Dns, "the host name does not resolve");
        let ended = outcome(EndReason::Signaling, AttemptEnd::Connect(failure), 1);
        let summary = Summary::of(&ended, &context(), Phase::Ended, true);
        assert_eq!(summary.likely_cause, "this computer has no network connection");
    }

    #[test]
    fn arn_is_shortened_to_its_name() {
        let arn = "arn:aws:kinesisvideo:us-west-2:123456789012:channel/front-door/1700000000000";
        assert_eq!(short(arn), "front-door");
        assert_eq!(short("porch"), "porch");
    }
}
