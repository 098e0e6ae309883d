//! What a failed session most likely suffered from, and what to do about it: texts for the owner of
//! a camera who does not know WebRTC, with the exact term in brackets.

use alloc::borrow::Cow;
use alloc::format;

use crate::error::{EndReason, Failure};
use crate::evidence::{AttemptEnd, AttemptReport, Evidence, Outcome};
use crate::input::MediaProblem;

/// The likely cause, and the next step.
pub(crate) struct Diagnosis {
    /// A part of a sentence.
    pub(crate) cause: Cow<'static, str>,
    /// A whole sentence.
    pub(crate) advice: Cow<'static, str>,
}

fn plain(cause: &'static str, advice: &'static str) -> Diagnosis {
    Diagnosis { cause: cause.into(), advice: advice.into() }
}

impl Outcome {
    /// Reads the evidence. What was seen while the session was live does not explain why it is not
    /// live any more, so only the attempts after that count.
    pub(crate) fn diagnosis(&self) -> Diagnosis {
        match self.reason {
            EndReason::Closed if self.was_live => {
                plain("it was closed on request", "Nothing needs to be done.")
            }
            EndReason::Closed => plain(
                "it was closed on request before a picture came",
                "Start it again; the first picture takes a few seconds.",
            ),
            EndReason::NoAnswer => self.no_answer(),
            EndReason::NoOffer => plain(
                "the recording service was joined, and sent no picture (storage session without an offer)",
                "Check that the channel records (storage mode) and that its camera is on and streams to it.",
            ),
            EndReason::BadAnswer => plain(
                "the camera's answer cannot be read (no base64 JSON with an SDP)",
                "Update the camera's software, or report its answer to its maker.",
            ),
            EndReason::IncompatibleSdp => plain(
                "the camera's answer does not fit the request (SDP answer and offer)",
                "Update the camera's software, or report its answer to its maker.",
            ),
            EndReason::Codec => self.codec(),
            EndReason::NoRoute => self.no_route(),
            EndReason::Dtls => plain(
                "the camera can be reached, but the secure handshake did not finish (DTLS)",
                "Check the camera's clock and certificate, and that no firewall filters UDP.",
            ),
            EndReason::NoMedia => self.no_media(),
            EndReason::Signaling => plain(
                "the service cannot be reached from here (KVS signaling)",
                "Check the network, the region and the endpoint, then try again.",
            ),
            EndReason::AccessDenied if self.failure_names_region() => plain(
                "the credentials or the request are for another region",
                "Check the region (--region, AWS_REGION, or the one in the channel's ARN).",
            ),
            EndReason::AccessDenied => plain(
                "the credentials are wrong, or not allowed to do this",
                "Check the access key and secret, and allow kinesisvideo:ConnectAsViewer, DescribeSignalingChannel, GetSignalingChannelEndpoint and GetIceServerConfig on the channel.",
            ),
            EndReason::ExpiredCredentials => plain(
                "the temporary credentials have expired",
                "Get fresh credentials and start again.",
            ),
            EndReason::NoCredentials => plain(
                "no AWS credentials were found",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a profile with AWS_PROFILE.",
            ),
            EndReason::NoChannel => plain(
                "there is no such channel in this region and account",
                "Check the channel's name or ARN, and the region.",
            ),
            EndReason::InvalidClientId => {
                plain("the service refuses the client id", "Choose another client id.")
            }
            EndReason::InvalidArgument => plain(
                "an argument is missing, or the service refuses it",
                "Check the channel's name or ARN, and the region.",
            ),
            EndReason::StorageMode => plain(
                "the channel records to a stream: its camera answers no viewer directly (storage mode)",
                "Join the storage session instead, or switch the channel's storage off.",
            ),
            EndReason::ViewerLimit => plain(
                "the channel has as many viewers as it admits",
                "Close another viewer of this channel, and try again in a minute.",
            ),
            EndReason::Throttled => plain(
                "too many requests to this channel or account",
                "Wait a minute and start fewer sessions at once.",
            ),
            EndReason::Replaced => plain(
                "another viewer connects with the same client id, and the two displace each other",
                "Give each viewer a client id of its own.",
            ),
            EndReason::Tls => plain(
                "the service's certificate is not trusted, or is for another name (TLS)",
                "Check the endpoint's name and the CA file.",
            ),
            EndReason::LocalMedia => plain(
                "the camera or microphone of this device cannot be used",
                "Grant access to the device, or start receive-only.",
            ),
            EndReason::PeerFailed => {
                plain("this program failed (peer connection)", "Report it, with the log.")
            }
        }
    }

    /// The attempts after the last one that was live.
    pub(crate) fn since_live(&self) -> &[AttemptReport] {
        let last = self.attempts.iter().rposition(|a| a.evidence.was_live);
        self.attempts.get(last.map_or(0, |at| at + 1)..).unwrap_or_default()
    }

    fn newest<T>(&self, found: impl Fn(&Evidence) -> Option<T>) -> Option<T> {
        self.since_live().iter().rev().find_map(|attempt| found(&attempt.evidence))
    }

    fn any(&self, seen: impl Fn(&Evidence) -> bool) -> bool {
        self.newest(|evidence| seen(evidence).then_some(())).is_some()
    }

    /// A camera that was live more than once, and whose loss ended the session.
    fn is_lost_again_and_again(&self) -> bool {
        let live = self.attempts.iter().filter(|attempt| attempt.evidence.was_live).count();
        live > 1 && self.attempts.last().is_some_and(|attempt| attempt.evidence.was_live)
    }

    fn lost_again_and_again() -> Diagnosis {
        plain(
            "the camera goes away again and again",
            "Check the camera's power and network, and whether its software restarts.",
        )
    }

    fn no_answer(&self) -> Diagnosis {
        let error = |evidence: &Evidence| evidence.service_error.clone();
        if let Some(failure) = self.newest(error) {
            return Diagnosis {
                cause: format!("the service reported an error: {failure}").into(),
                advice: "Check the channel, the region and the client id.".into(),
            };
        }
        if let Some(failure) = self.newest(|evidence| evidence.link_down.clone()) {
            return Diagnosis {
                cause: format!(
                    "the connection to the service was lost while the answer was awaited, and could not be opened again: {failure}"
                )
                .into(),
                advice: "Check this device's network, then try again.".into(),
            };
        }
        if self.since_live().last().is_some_and(|attempt| attempt.evidence.was_offline) {
            return plain(
                "this device had no network while the answer was awaited",
                "Check this device's network, then try again.",
            );
        }
        if self.any(|evidence| evidence.master_seen) {
            if self.repeats_client_id() {
                return plain(
                    "the camera is alive, but the answer to the first request was lost, and it does not answer the same client id again",
                    "Wait a minute and try again, or let each attempt use a client id of its own (without --fixed-client-id).",
                );
            }
            return plain(
                "the camera is alive, since it sent something, but its answer was lost or never made (SDP answer)",
                "Try again in a minute; if that does not help, restart the camera.",
            );
        }
        if self.attempts.iter().any(|attempt| attempt.evidence.answered) {
            return plain(
                "the camera answered before and answers no more: it is off, or lost its connection to the service without noticing",
                "Check that the camera is on; if it is, restart it.",
            );
        }
        if self.repeats_client_id() {
            return plain(
                "no master is connected to the channel, or the camera still holds the earlier session of this client id",
                "Check that the camera is on; then wait a minute, or let each attempt use a client id of its own (without --fixed-client-id).",
            );
        }
        plain(
            "no master is connected to this channel: the camera is off or set up for another channel, or it is busy with an earlier viewer",
            "Check that the camera is on and connected to this channel and region, then try again in a minute. If it shows that it is connected, restart it.",
        )
    }

    /// The last attempt used the client id of an earlier one whose offer was sent.
    fn repeats_client_id(&self) -> bool {
        let Some((last, earlier)) = self.attempts.split_last() else { return false };
        last.client_id.is_some()
            && earlier.iter().any(|a| a.client_id == last.client_id && a.evidence.offer_sent)
    }

    fn codec(&self) -> Diagnosis {
        if self.any(|evidence| evidence.sends_nothing) {
            return plain(
                "the camera accepts the connection, and sends neither picture nor sound on it (SDP answer: recvonly or inactive)",
                "Switch the camera's picture and sound on.",
            );
        }
        let offered = self.offered();
        Diagnosis {
            cause: format!("the camera has no format in common with this viewer (codec){offered}")
                .into(),
            advice: "Let the camera send H.264, VP8 or VP9, and Opus or G.711.".into(),
        }
    }

    /// The video codecs that were offered, as the end of a sentence.
    fn offered(&self) -> Cow<'static, str> {
        let named = |evidence: &Evidence| {
            (!evidence.video_offered.is_empty()).then(|| evidence.video_offered.join(", "))
        };
        let known = self.attempts.iter().rev().find_map(|attempt| named(&attempt.evidence));
        known.map_or("".into(), |codecs| format!("; offered for pictures: {codecs}").into())
    }

    fn no_route(&self) -> Diagnosis {
        if let Some(report) = self.attempts.last() {
            match report.end {
                AttemptEnd::NetworkChanged => {
                    return plain(
                        "the network of this device changed again and again while it connected",
                        "Wait until the network stays the same, then try again.",
                    );
                }
                AttemptEnd::MasterGone if self.since_live().is_empty() => {}
                AttemptEnd::MasterGone => {
                    return plain(
                        "the camera closed the connection, or began a new one, before it was up",
                        "Try again in a minute; if that does not help, restart the camera.",
                    );
                }
                AttemptEnd::NoRelay(_) => {
                    return plain(
                        "only a relay may be used, and the service gave none (TURN)",
                        "Allow kinesisvideo:GetIceServerConfig on the channel, or do not demand a relay (--relay-only).",
                    );
                }
                AttemptEnd::Closed
                | AttemptEnd::Deadline(_)
                | AttemptEnd::Connect(_)
                | AttemptEnd::LinkLost(_)
                | AttemptEnd::Offer(_)
                | AttemptEnd::UndecodableAnswer
                | AttemptEnd::AnswerRefused(_)
                | AttemptEnd::NothingAccepted
                | AttemptEnd::Peer(_)
                | AttemptEnd::IceFailed
                | AttemptEnd::DtlsFailed
                | AttemptEnd::RestartFailed
                | AttemptEnd::StartedOver
                | AttemptEnd::Resumed => {}
            }
        }
        if self.is_lost_again_and_again() {
            return Self::lost_again_and_again();
        }
        let barred = |evidence: &Evidence| {
            evidence
                .is_barred()
                .then_some((evidence.candidates_refused, evidence.remote_candidates))
        };
        if let Some((refused, named)) = self.newest(barred) {
            return Diagnosis {
                cause: format!(
                    "this viewer refuses {refused} of the {named} addresses that the camera named (--remote-addresses)"
                )
                .into(),
                advice: "Allow them with --remote-addresses any, or connect the camera to the same network.".into(),
            };
        }
        if self.any(|evidence| evidence.answered && evidence.remote_candidates == 0) {
            return plain(
                "the camera answered, but named no address to reach it at (ICE candidates)",
                "Check the camera's network; restart the camera.",
            );
        }
        if self.was_live && self.since_live().is_empty() {
            return plain(
                "the connection was live, and then nothing got through any more",
                "Check the network of this device and of the camera.",
            );
        }
        if let Some(count) =
            self.newest(|e| (e.unresolved_servers > 0).then_some(e.unresolved_servers))
        {
            return Diagnosis {
                cause: format!(
                    "nothing gets through between the two networks, and the names of {count} servers that help with that did not resolve (STUN, TURN)"
                )
                .into(),
                advice: "Check the network's name resolution (DNS).".into(),
            };
        }
        plain(
            "a firewall or router lets nothing through between this device and the camera (NAT), and no relay helped (TURN)",
            "Allow UDP to port 443 and above on both sides, or check the camera's network.",
        )
    }

    fn no_media(&self) -> Diagnosis {
        if self.is_lost_again_and_again() {
            return Self::lost_again_and_again();
        }
        if self.was_live && self.since_live().is_empty() {
            return plain(
                "the camera was live, and then sent nothing more or closed the connection",
                "Check that the camera is on; if it is, restart it.",
            );
        }
        if let Some(problem) = self.newest(|evidence| evidence.media_problem) {
            return packets_without_picture(problem);
        }
        if self.any(|evidence| evidence.video_packets) {
            return plain(
                "pictures arrive, but never a whole one to start from (keyframe): the camera ignores the requests for one, or too many packets are lost",
                "Check the camera's encoder (it has to honour PLI or FIR) and the network.",
            );
        }
        if self.any(|evidence| evidence.audio_packets) {
            let offered = self.offered();
            return Diagnosis {
                cause: format!(
                    "sound arrives, but no packet of a picture: the camera probably sends pictures in no format that this viewer offered (codec){offered}"
                )
                .into(),
                advice: "Let the camera send H.264, VP8 or VP9, or check that its picture is switched on.".into(),
            };
        }
        plain(
            "the connection is up, but the camera sends nothing",
            "Check that the camera's picture is switched on, and restart the camera.",
        )
    }

    /// The service's own words speak of a region.
    fn failure_names_region(&self) -> bool {
        let names = |failure: &Failure| failure.detail.to_ascii_lowercase().contains("region");
        self.attempts.last().is_some_and(|attempt| match &attempt.end {
            AttemptEnd::Connect(failure)
            | AttemptEnd::LinkLost(failure)
            | AttemptEnd::NoRelay(failure)
            | AttemptEnd::Offer(failure) => names(failure),
            AttemptEnd::Closed
            | AttemptEnd::Deadline(_)
            | AttemptEnd::UndecodableAnswer
            | AttemptEnd::AnswerRefused(_)
            | AttemptEnd::NothingAccepted
            | AttemptEnd::Peer(_)
            | AttemptEnd::IceFailed
            | AttemptEnd::DtlsFailed
            | AttemptEnd::MasterGone
            | AttemptEnd::RestartFailed
            | AttemptEnd::StartedOver
            | AttemptEnd::NetworkChanged
            | AttemptEnd::Resumed => false,
        })
    }
}

/// The peer port reports why it could assemble no picture.
fn packets_without_picture(problem: MediaProblem) -> Diagnosis {
    match problem {
        MediaProblem::UnofferedPayloadType => plain(
            "packets arrive, but in a format that was not agreed on (payload type)",
            "Update the camera's software: it has to send the format that its own answer names.",
        ),
        MediaProblem::NoKeyframe => plain(
            "pictures arrive, but never a whole one to start from (keyframe, IDR): the camera ignores the requests for one (PLI, FIR)",
            "Let the camera's encoder honour such requests, or make a keyframe every few seconds.",
        ),
        MediaProblem::NoParameterSets => plain(
            "pictures arrive, but not what is needed to decode them (parameter sets: SPS, PPS)",
            "Let the camera send SPS and PPS before each keyframe, or name them in its answer (sprop-parameter-sets).",
        ),
        MediaProblem::PacketLoss => plain(
            "so many packets are lost on the way that no whole picture arrives (keyframe)",
            "Improve the network between camera and viewer, or lower the camera's bit rate.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FailureCode;
    use crate::time::Timestamp;
    use crate::types::ClientId;
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::time::Duration;

    fn failure(code: FailureCode) -> Failure {
        Failure::new(code, "")
    }

    fn outcome(reason: EndReason, evidence: Evidence) -> Outcome {
        let (started, ended) = (Timestamp::ZERO, Timestamp::from_millis(1000));
        let no_route = reason == EndReason::NoRoute;
        let end = if no_route { AttemptEnd::IceFailed } else { AttemptEnd::MasterGone };
        let report = AttemptReport { attempt: 1, client_id: None, started, ended, end, evidence };
        let lasted = Duration::from_secs(1);
        Outcome { reason, was_live: false, attempts_total: 1, attempts: vec![report], lasted }
    }

    /// N14, N17: a camera that is lost again within the refill time.
    // Shows: N14.
    #[test]
    fn camera_that_goes_away_again_and_again_is_named() {
        let live = || Evidence { was_live: true, ..Evidence::default() };
        let mut lost = outcome(EndReason::NoMedia, live());
        lost.was_live = true;
        lost.attempts.extend(outcome(EndReason::NoMedia, live()).attempts);
        for reason in [EndReason::NoMedia, EndReason::NoRoute] {
            lost.reason = reason;
            assert!(lost.likely_cause().contains("again and again"), "{}", lost.likely_cause());
        }
    }

    // Shows: N17.
    #[test]
    fn closing_before_the_first_picture_is_distinguished() {
        let mut closed = outcome(EndReason::Closed, Evidence::default());
        assert!(closed.likely_cause().contains("before a picture"), "{}", closed.likely_cause());
        closed.was_live = true;
        assert!(!closed.likely_cause().contains("before a picture"), "{}", closed.likely_cause());
    }

    /// N17: an attempt without an answer has many causes, and each has its own words.
    // Shows: N17.
    #[test]
    fn causes_of_a_missing_answer_are_distinguished() {
        let cause = |evidence: Evidence| outcome(EndReason::NoAnswer, evidence).likely_cause();
        let error = failure(FailureCode::InvalidArgument).named("InvalidArgumentException");
        let service = Evidence { service_error: Some(error), ..Evidence::default() };
        assert!(cause(service).contains("InvalidArgumentException"));
        let down = Some(failure(FailureCode::Network));
        let link = Evidence { link_down: down, ..Evidence::default() };
        assert!(cause(link).contains("could not be opened again"));
        let offline = Evidence { was_offline: true, ..Evidence::default() };
        assert!(cause(offline).contains("no network"));
        let turn = Some(failure(FailureCode::Service));
        let turn = Evidence { ice_servers_error: turn, ..Evidence::default() };
        assert!(cause(turn).contains("no master is connected"), "TURN is not why");
        let mut deaf = outcome(
            EndReason::NoAnswer,
            Evidence { was_live: true, answered: true, ..Evidence::default() },
        );
        deaf.was_live = true;
        deaf.attempts.extend(outcome(EndReason::NoAnswer, Evidence::default()).attempts);
        assert!(deaf.likely_cause().contains("answers no more"), "{}", deaf.likely_cause());
        assert!(deaf.next_step().contains("restart it"), "{}", deaf.next_step());
    }

    /// A master that holds the session of a repeated client id.
    #[test]
    fn repeated_client_id_is_named_where_the_answer_was_lost() {
        let sent = Evidence { offer_sent: true, master_seen: true, ..Evidence::default() };
        let mut fixed = outcome(EndReason::NoAnswer, sent.clone());
        fixed.attempts.extend(outcome(EndReason::NoAnswer, sent).attempts);
        assert!(!fixed.next_step().contains("--fixed-client-id"));
        for attempt in &mut fixed.attempts {
            attempt.client_id = ClientId::new("door").ok();
        }
        assert!(fixed.next_step().contains("--fixed-client-id"), "{}", fixed.next_step());

        let mut unsent = fixed.clone();
        unsent.attempts[0].evidence.offer_sent = false;
        assert!(!unsent.next_step().contains("--fixed-client-id"), "no camera holds that id");
        fixed.attempts[0].client_id = ClientId::new("porch").ok();
        assert!(!fixed.next_step().contains("--fixed-client-id"), "the id is another");
    }

    // Shows: N17.
    #[test]
    fn every_media_problem_has_a_cause_and_advice_of_its_own() {
        let with = |evidence| outcome(EndReason::NoMedia, evidence);
        let problem = |media_problem| with(Evidence { media_problem, ..Evidence::default() });
        let mut reported: Vec<_> = MediaProblem::ALL.map(|p| problem(Some(p))).into();
        reported.push(problem(None));
        reported.push(with(Evidence { video_packets: true, ..Evidence::default() }));
        let offered = vec!["H264".to_string(), "VP8".to_string()];
        let sound = Evidence { audio_packets: true, video_offered: offered, ..Evidence::default() };
        reported.push(with(sound));
        for (i, outcome) in reported.iter().enumerate() {
            for other in &reported[..i] {
                assert_ne!(outcome.likely_cause(), other.likely_cause());
                assert_ne!(outcome.next_step(), other.next_step());
            }
        }
        assert!(
            reported[6].likely_cause().ends_with("H264, VP8"),
            "{}",
            reported[6].likely_cause()
        );
    }

    // Shows: N17.
    #[test]
    fn causes_of_a_missing_route_are_distinguished() {
        let cause = |evidence| outcome(EndReason::NoRoute, evidence).likely_cause();
        let barred = Evidence {
            answered: true,
            remote_candidates: 2,
            candidates_refused: 2,
            ..Evidence::default()
        };
        assert!(cause(barred.clone()).contains("2 of the 2 addresses"));
        let partly = Evidence { candidates_refused: 1, ..barred };
        assert!(cause(partly).contains("firewall"));
        let names = Evidence { unresolved_servers: 3, ..Evidence::default() };
        assert!(cause(names).contains("3 servers"));
        let mut moved = outcome(EndReason::NoRoute, Evidence::default());
        moved.attempts[0].end = AttemptEnd::NetworkChanged;
        assert!(moved.likely_cause().contains("network of this device changed"));
        let mut region = outcome(EndReason::AccessDenied, Evidence::default());
        let scoped = "Credential should be scoped to a valid region";
        let denied = Failure::new(FailureCode::AccessDenied, scoped);
        region.attempts[0].end = AttemptEnd::Connect(denied);
        assert!(region.next_step().contains("--region"), "{}", region.next_step());
        let silent = Evidence { sends_nothing: true, ..Evidence::default() };
        let silent = outcome(EndReason::Codec, silent);
        assert!(silent.likely_cause().contains("neither picture nor sound"));
    }
}
