//! What is known of an attempt, and what a failed session most likely suffered from.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::error::{EndReason, Failure, FailureCode, FailureKind, Ignored};
use crate::input::MediaProblem;
use crate::time::Timestamp;
use crate::types::ClientId;

/// What was seen in an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Evidence {
    /// The link opened.
    pub link_opened: bool,
    /// The service took the offer and reported no error.
    pub offer_sent: bool,
    /// TURN servers were fetched.
    pub turn_servers: bool,
    /// Any message came from the master.
    pub master_seen: bool,
    /// Candidates came from the master.
    pub remote_candidates: u32,
    /// A valid answer came; in answerer mode, ours went out.
    pub answered: bool,
    /// The service or the master offered.
    pub offered: bool,
    /// ICE restarts that were tried.
    pub restarts: u32,
    /// The platform had no network for a while.
    pub was_offline: bool,
    /// A second, different answer made the first suspect.
    pub answer_suspect: bool,
    /// ICE had a pair.
    pub ice_connected: bool,
    /// ICE and DTLS were up.
    pub connected: bool,
    /// Packets of pictures came.
    pub video_packets: bool,
    /// Packets of sound came.
    pub audio_packets: bool,
    /// Why no picture could be assembled although packets came, as reported last.
    pub media_problem: Option<MediaProblem>,
    /// Candidates of the master that the viewer's own address policy refused.
    pub candidates_refused: u32,
    /// STUN and TURN servers whose names did not resolve.
    pub unresolved_servers: u32,
    /// The attempt was live.
    pub was_live: bool,
    /// The last error that the service reported.
    pub service_error: Option<Failure>,
    /// Inputs that changed nothing, by reason.
    pub ignored: BTreeMap<Ignored, u32>,
}

impl Evidence {
    /// Every address that the master named was refused by the viewer's own policy.
    fn is_barred(&self) -> bool {
        self.candidates_refused > 0 && self.candidates_refused >= self.remote_candidates
    }
}

/// Why packets made no picture.
fn media_cause(evidence: &Evidence) -> Option<&'static str> {
    match evidence.media_problem {
        Some(MediaProblem::UnofferedPayloadType) => {
            Some("packets arrive, but of a format (payload type) that this viewer did not offer")
        }
        Some(MediaProblem::NoKeyframe) => Some(
            "pictures arrive, but never a whole one to start from (keyframe): the camera ignores the requests for one (PLI, FIR)",
        ),
        Some(MediaProblem::NoParameterSets) => {
            Some("pictures arrive, but not the settings to decode them (parameter sets: SPS, PPS)")
        }
        Some(MediaProblem::PacketLoss) => {
            Some("so many packets are lost on the way that no whole picture (keyframe) arrives")
        }
        None if evidence.video_packets => Some(
            "media arrives, but no whole keyframe: the encoder ignores keyframe requests, or loss is heavy",
        ),
        None if evidence.audio_packets => Some(
            "sound arrives, but no packet of a picture: the camera probably has no video codec that this viewer offered",
        ),
        None => None,
    }
}

/// What to do about packets that make no picture.
fn media_advice(evidence: &Evidence) -> Option<&'static str> {
    match evidence.media_problem {
        Some(MediaProblem::UnofferedPayloadType) => {
            Some("Let the camera send the format that its answer names, or update its software.")
        }
        Some(MediaProblem::NoKeyframe) => Some(
            "Let the camera's encoder honour keyframe requests (PLI, FIR), or make a keyframe every few seconds.",
        ),
        Some(MediaProblem::NoParameterSets) => Some(
            "Let the camera send SPS and PPS before each keyframe, or name them in its SDP (sprop-parameter-sets).",
        ),
        Some(MediaProblem::PacketLoss) => {
            Some("Improve the network between camera and viewer, or lower the camera's bit rate.")
        }
        None if evidence.video_packets => {
            Some("Check that the camera's encoder runs and honours PLI or FIR.")
        }
        None if evidence.audio_packets => {
            Some("Let the camera send a video codec that this viewer offers (H.264, VP8 or VP9).")
        }
        None => None,
    }
}

/// What ended an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AttemptEnd {
    /// The application closed the session.
    Closed,
    /// A deadline passed.
    Deadline(Deadline),
    /// The link could not be opened.
    Connect(Failure),
    /// The link ended before the answer.
    LinkLost(Failure),
    /// The ICE servers could not be had, and only a relay may be used.
    NoRelay(Failure),
    /// The offer could not be sent, or the service refused it.
    Offer(Failure),
    /// An answer came that cannot be decoded.
    UndecodableAnswer,
    /// The peer stack refuses the answer.
    AnswerRefused(Failure),
    /// The master accepts none of the offered media.
    NothingAccepted,
    /// The peer stack failed.
    Peer(Failure),
    /// ICE gave up, or stayed disconnected.
    IceFailed,
    /// DTLS was refused.
    DtlsFailed,
    /// The master closed its end.
    MasterGone,
    /// The master refused an ICE restart, or it brought nothing.
    RestartFailed,
    /// The network changed while the session was being set up, or could not be followed.
    NetworkChanged,
    /// The device slept.
    Resumed,
}

/// A deadline that ends an attempt by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Deadline {
    /// No offer came.
    Offer,
    /// No valid answer came.
    Answer,
    /// ICE and DTLS did not come up.
    Establish,
    /// No media that counts came.
    FirstMedia,
    /// ICE stayed disconnected.
    Grace,
    /// The ICE restart was not answered, or brought nothing.
    Restart,
    /// Media stayed away.
    MediaGiveUp,
}

impl Deadline {
    /// A stable name, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Establish => "establish",
            Self::FirstMedia => "first-media",
            Self::Grace => "grace",
            Self::Restart => "restart",
            Self::MediaGiveUp => "media-give-up",
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offer => "no offer came before its deadline",
            Self::Answer => "no answer came before its deadline",
            Self::Establish => "ICE and DTLS were not up before their deadline",
            Self::FirstMedia => "no whole keyframe or packet came before its deadline",
            Self::Restart => "the ICE restart was not answered, or brought nothing",
            Self::Grace => "ICE stayed disconnected",
            Self::MediaGiveUp => "media stayed away",
        })
    }
}

impl AttemptEnd {
    /// A stable code, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Deadline(deadline) => deadline.as_str(),
            Self::Connect(_) => "connect",
            Self::LinkLost(_) => "link-lost",
            Self::NoRelay(_) => "no-relay",
            Self::Offer(_) => "offer",
            Self::UndecodableAnswer => "undecodable-answer",
            Self::AnswerRefused(_) => "answer-refused",
            Self::NothingAccepted => "nothing-accepted",
            Self::Peer(_) => "peer",
            Self::IceFailed => "ice-failed",
            Self::DtlsFailed => "dtls-failed",
            Self::MasterGone => "master-gone",
            Self::RestartFailed => "restart-failed",
            Self::NetworkChanged => "network-changed",
            Self::Resumed => "resumed",
        }
    }

    /// Whether no further attempt can do better (contract, N16).
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Connect(failure)
            | Self::LinkLost(failure)
            | Self::NoRelay(failure)
            | Self::Offer(failure)
            | Self::Peer(failure) => failure.kind() == FailureKind::Permanent,
            Self::AnswerRefused(failure) => failure.code == FailureCode::Codec,
            Self::NothingAccepted => true,
            Self::Closed
            | Self::Deadline(_)
            | Self::UndecodableAnswer
            | Self::IceFailed
            | Self::DtlsFailed
            | Self::MasterGone
            | Self::RestartFailed
            | Self::NetworkChanged
            | Self::Resumed => false,
        }
    }

    /// Whether the service asked for fewer requests.
    pub(crate) fn is_throttle(&self) -> bool {
        match self {
            Self::Connect(failure)
            | Self::LinkLost(failure)
            | Self::Offer(failure)
            | Self::NoRelay(failure) => failure.kind() == FailureKind::Throttled,
            Self::Closed
            | Self::Deadline(_)
            | Self::Peer(_)
            | Self::UndecodableAnswer
            | Self::AnswerRefused(_)
            | Self::NothingAccepted
            | Self::IceFailed
            | Self::DtlsFailed
            | Self::MasterGone
            | Self::RestartFailed
            | Self::NetworkChanged
            | Self::Resumed => false,
        }
    }

    /// The end of a session whose last attempt ended like this.
    pub(crate) fn reason(&self, evidence: &Evidence) -> EndReason {
        match self {
            Self::Closed => EndReason::Closed,
            Self::Deadline(Deadline::Answer) => EndReason::NoAnswer,
            Self::Deadline(Deadline::Offer) => EndReason::NoOffer,
            Self::Deadline(Deadline::Establish) if evidence.ice_connected => EndReason::Dtls,
            Self::Deadline(Deadline::Establish | Deadline::Grace | Deadline::Restart) => {
                EndReason::NoRoute
            }
            Self::Deadline(Deadline::FirstMedia | Deadline::MediaGiveUp) => EndReason::NoMedia,
            Self::Connect(failure) | Self::LinkLost(failure) | Self::Offer(failure) => {
                signaling_reason(failure)
            }
            Self::NoRelay(failure) => {
                let reason = signaling_reason(failure);
                if reason == EndReason::Signaling { EndReason::NoRoute } else { reason }
            }
            Self::UndecodableAnswer => EndReason::BadAnswer,
            Self::AnswerRefused(failure) if failure.code == FailureCode::Codec => EndReason::Codec,
            Self::AnswerRefused(_) => EndReason::IncompatibleSdp,
            Self::NothingAccepted => EndReason::Codec,
            Self::Peer(failure) if failure.code == FailureCode::LocalMedia => EndReason::LocalMedia,
            Self::Peer(failure) if failure.code == FailureCode::Codec => EndReason::Codec,
            Self::Peer(_) => EndReason::PeerFailed,
            Self::IceFailed => EndReason::NoRoute,
            Self::DtlsFailed => EndReason::Dtls,
            Self::MasterGone if evidence.connected => EndReason::NoMedia,
            Self::MasterGone | Self::RestartFailed | Self::NetworkChanged | Self::Resumed => {
                EndReason::NoRoute
            }
        }
    }
}

fn signaling_reason(failure: &Failure) -> EndReason {
    use FailureCode as Code;
    match failure.code {
        Code::NoChannel => EndReason::NoChannel,
        Code::AccessDenied => EndReason::AccessDenied,
        Code::ExpiredCredentials => EndReason::ExpiredCredentials,
        Code::NoCredentials => EndReason::NoCredentials,
        Code::InvalidClientId => EndReason::InvalidClientId,
        Code::InvalidArgument | Code::TooBig => EndReason::InvalidArgument,
        Code::StorageMode => EndReason::StorageMode,
        Code::ViewerLimit => EndReason::ViewerLimit,
        Code::Throttled => EndReason::Throttled,
        Code::Replaced => EndReason::Replaced,
        Code::Tls => EndReason::Tls,
        Code::Dns
        | Code::Network
        | Code::Service
        | Code::TimedOut
        | Code::Closed
        | Code::NotOpen
        | Code::BadDescription
        | Code::Codec
        | Code::LocalMedia
        | Code::AddressPolicy
        | Code::Port
        | Code::Cancelled => EndReason::Signaling,
    }
}

impl fmt::Display for AttemptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the application"),
            Self::Deadline(deadline) => write!(f, "{deadline}"),
            Self::Connect(failure) => write!(f, "signaling did not open: {failure}"),
            Self::LinkLost(failure) => write!(f, "signaling was lost before the answer: {failure}"),
            Self::NoRelay(failure) => write!(f, "no relay could be had: {failure}"),
            Self::Offer(failure) => write!(f, "the offer did not go out: {failure}"),
            Self::UndecodableAnswer => f.write_str("the answer could not be decoded"),
            Self::AnswerRefused(failure) => write!(f, "the answer was refused: {failure}"),
            Self::NothingAccepted => f.write_str("the answer accepts none of the offered media"),
            Self::Peer(failure) => write!(f, "the peer connection failed: {failure}"),
            Self::IceFailed => f.write_str("ICE failed"),
            Self::DtlsFailed => f.write_str("DTLS failed"),
            Self::MasterGone => f.write_str("the master closed its end"),
            Self::RestartFailed => f.write_str("the ICE restart was refused"),
            Self::NetworkChanged => f.write_str("the network changed"),
            Self::Resumed => f.write_str("the device slept"),
        }
    }
}

/// One attempt, told when it is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AttemptReport {
    /// Its number, from 1.
    pub attempt: u32,
    /// The id that it used, once the link was open.
    pub client_id: Option<ClientId>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, before anything was closed.
    pub ended: Timestamp,
    /// What ended it.
    pub end: AttemptEnd,
    /// What was seen in it.
    pub evidence: Evidence,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Outcome {
    /// Why, as a stable code.
    pub reason: EndReason,
    /// Whether the session was live at any time.
    pub was_live: bool,
    /// How many attempts there were.
    pub attempts_total: u32,
    /// The last attempts, at most [`Outcome::ATTEMPTS_MAX`], the newest last.
    pub attempts: Vec<AttemptReport>,
    /// From open to the end.
    pub lasted: Duration,
}

impl Outcome {
    /// How many attempts are told in full.
    pub const ATTEMPTS_MAX: usize = 16;

    /// What happened, in one sentence for people.
    pub fn sentence(&self) -> String {
        if self.reason == EndReason::Closed {
            return if self.was_live {
                "Closed after having been live.".to_string()
            } else {
                "Closed before it was live.".to_string()
            };
        }
        let end = self.attempts.last().map(|a| a.end.to_string()).unwrap_or_default();
        if self.was_live {
            let again = if self.since_live().is_empty() { "" } else { ", and not live again" };
            return format!("Lost after having been live{again}: {end}.");
        }
        let times = if self.attempts_total == 1 { "attempt" } else { "attempts" };
        format!("Not live after {} {times}: {end}.", self.attempts_total)
    }

    /// The attempts after the last one that was live.
    fn since_live(&self) -> &[AttemptReport] {
        let last = self.attempts.iter().rposition(|a| a.evidence.was_live);
        self.attempts.get(last.map_or(0, |at| at + 1)..).unwrap_or_default()
    }

    /// What most likely went wrong, read from the evidence.
    pub fn likely_cause(&self) -> &'static str {
        // What was seen while it was live says nothing of why it is not any more.
        let failed = self.since_live();
        let any = |seen: fn(&Evidence) -> bool| failed.iter().any(|a| seen(&a.evidence));
        match self.reason {
            EndReason::Closed => "the application closed the session",
            EndReason::NoAnswer if any(|e| e.master_seen) => {
                "the master is alive, since it sent something, but its answer was lost or never made"
            }
            EndReason::NoAnswer => {
                "no master is connected to the channel, or it is busy with an earlier session"
            }
            EndReason::NoOffer => "the storage session was joined, and the service made no offer",
            EndReason::BadAnswer => {
                "the master sends an answer that is not base64 JSON with an SDP"
            }
            EndReason::IncompatibleSdp => "the master's answer does not fit the offer",
            EndReason::Codec => "the master has no codec in common with this viewer",
            EndReason::NoRoute if any(Evidence::is_barred) => {
                "this viewer's own address policy refuses every address that the camera named"
            }
            EndReason::NoRoute if any(|e| e.answered && e.remote_candidates == 0) => {
                "the master answered, but named no address to reach it at"
            }
            EndReason::NoRoute if self.was_live && failed.is_empty() => {
                "the connection was live, and then no address pair got through any more"
            }
            EndReason::NoRoute
                if self.attempts.last().is_some_and(|a| a.end == AttemptEnd::MasterGone) =>
            {
                "the other side closed the connection, or began a new one, before it was up"
            }
            EndReason::NoRoute => {
                "a firewall or NAT lets no address pair through, and no relay helped"
            }
            EndReason::Dtls => "addresses work, but the secure handshake did not finish",
            EndReason::NoMedia if self.was_live && failed.is_empty() => {
                "the camera was live, and then fell silent or closed the connection"
            }
            EndReason::NoMedia => failed
                .iter()
                .rev()
                .find_map(|a| media_cause(&a.evidence))
                .unwrap_or("connected, but the camera sends no media"),
            EndReason::Signaling => "the signaling service cannot be reached from here",
            EndReason::AccessDenied => "the credentials are wrong, or not allowed to do this",
            EndReason::ExpiredCredentials => "the temporary credentials have expired",
            EndReason::NoCredentials => "no AWS credentials were found",
            EndReason::NoChannel => "there is no such channel in this region and account",
            EndReason::InvalidClientId => "the service refuses the client id",
            EndReason::InvalidArgument => "an argument is missing, or the service refuses it",
            EndReason::StorageMode => {
                "the channel records to a stream: it answers no peer-to-peer viewer"
            }
            EndReason::ViewerLimit => "the channel has as many viewers as it admits",
            EndReason::Throttled => "too many requests to this channel or account",
            EndReason::Replaced => "another viewer connects with the same client id",
            EndReason::Tls => "the service's certificate is not trusted, or is for another name",
            EndReason::LocalMedia => "the camera or microphone asked for cannot be had",
            EndReason::PeerFailed => "the peer stack failed",
        }
    }

    /// What to do next, in one sentence for people.
    pub fn next_step(&self) -> &'static str {
        match self.reason {
            EndReason::Closed => "Nothing.",
            EndReason::NoAnswer => {
                "Check that the camera is on and connected to this channel and region, then try again in a minute."
            }
            EndReason::NoOffer => {
                "Check that the channel is in storage mode and that its camera streams to it."
            }
            EndReason::BadAnswer | EndReason::IncompatibleSdp => {
                "Update the camera's software, or report its answer to its maker."
            }
            EndReason::Codec => "Let the camera send H.264, VP8 or VP9, and Opus.",
            EndReason::NoRoute if self.since_live().iter().any(|a| a.evidence.is_barred()) => {
                "Allow the camera's addresses (--remote-addresses any), or let the camera use an address of the network."
            }
            EndReason::NoRoute
                if self.since_live().iter().any(|a| a.evidence.unresolved_servers > 0) =>
            {
                "Check the network's name resolution (DNS): the names of STUN or TURN servers do not resolve."
            }
            EndReason::NoRoute => {
                "Allow UDP to port 443 and above on both sides, or check the camera's network."
            }
            EndReason::Dtls => {
                "Check the camera's certificate and clock, and that UDP is not filtered."
            }
            EndReason::NoMedia => self
                .since_live()
                .iter()
                .rev()
                .find_map(|a| media_advice(&a.evidence))
                .unwrap_or("Check that the camera's encoder runs, and restart the camera."),
            EndReason::Signaling => {
                "Check the network, the region and the endpoint, then try again."
            }
            EndReason::AccessDenied => {
                "Check the access key and secret, and allow kinesisvideo:ConnectAsViewer, DescribeSignalingChannel, GetSignalingChannelEndpoint and GetIceServerConfig on the channel."
            }
            EndReason::ExpiredCredentials => "Get fresh credentials and start again.",
            EndReason::NoCredentials => {
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or choose a profile with AWS_PROFILE."
            }
            EndReason::NoChannel => "Check the channel's name or ARN, and the region.",
            EndReason::InvalidClientId => "Choose another client id.",
            EndReason::InvalidArgument => "Check the channel's name or ARN, and the region.",
            EndReason::StorageMode => {
                "Join the storage session instead, or switch the channel's storage off."
            }
            EndReason::ViewerLimit => {
                "Close another viewer of this channel, and try again in a minute."
            }
            EndReason::Throttled => "Wait a minute and start fewer sessions at once.",
            EndReason::Replaced => "Give each viewer a client id of its own.",
            EndReason::Tls => "Check the endpoint's name and the CA file.",
            EndReason::LocalMedia => "Grant access to the device, or start receive-only.",
            EndReason::PeerFailed => "Report it, with the log.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

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

    #[test]
    fn the_names_for_machines_are_these() {
        assert_eq!(Deadline::FirstMedia.as_str(), "first-media");
        assert_eq!(AttemptEnd::Deadline(Deadline::Grace).code(), "grace");
        assert_eq!(AttemptEnd::LinkLost(failure(FailureCode::Closed)).code(), "link-lost");
        assert_eq!(AttemptEnd::Resumed.code(), "resumed");
    }

    #[test]
    fn what_was_seen_while_it_was_live_says_nothing_of_why_it_is_not() {
        let seen = Evidence {
            was_live: true,
            master_seen: true,
            video_packets: true,
            ..Default::default()
        };
        let mut lost = Outcome { was_live: true, ..outcome(EndReason::NoMedia, seen) };
        assert_eq!(lost.sentence(), "Lost after having been live: the master closed its end.");
        assert!(lost.likely_cause().contains("fell silent"), "{}", lost.likely_cause());
        lost.attempts.extend(outcome(EndReason::NoAnswer, Evidence::default()).attempts);
        lost.reason = EndReason::NoAnswer;
        assert!(lost.sentence().starts_with("Lost after having been live, and not live again"));
        assert!(lost.likely_cause().contains("no master is connected"), "{}", lost.likely_cause());
        let mut cut =
            outcome(EndReason::NoRoute, Evidence { was_live: true, ..Default::default() });
        cut.was_live = true;
        assert!(cut.likely_cause().contains("any more"), "{}", cut.likely_cause());
        cut.attempts.extend(outcome(EndReason::NoRoute, Evidence::default()).attempts);
        assert!(cut.likely_cause().contains("firewall"), "{}", cut.likely_cause());
        let mut gone = outcome(EndReason::NoRoute, Evidence::default());
        gone.attempts[0].end = AttemptEnd::MasterGone;
        assert!(gone.likely_cause().contains("before it was up"), "{}", gone.likely_cause());
        let silent = Evidence { video_packets: true, ..Evidence::default() };
        lost.attempts.extend(outcome(EndReason::NoMedia, silent).attempts);
        lost.reason = EndReason::NoMedia;
        assert!(lost.likely_cause().contains("no whole keyframe"), "{}", lost.likely_cause());
    }

    #[test]
    fn only_what_the_service_says_is_a_throttle() {
        assert!(AttemptEnd::Connect(failure(FailureCode::Throttled)).is_throttle());
        assert!(AttemptEnd::Offer(failure(FailureCode::ViewerLimit)).is_throttle());
        assert!(AttemptEnd::NoRelay(failure(FailureCode::Throttled)).is_throttle());
        assert!(AttemptEnd::LinkLost(failure(FailureCode::Throttled)).is_throttle());
        assert!(!AttemptEnd::Peer(failure(FailureCode::Throttled)).is_throttle());
        assert!(!AttemptEnd::Connect(failure(FailureCode::Network)).is_throttle());
        assert!(!AttemptEnd::Deadline(Deadline::Answer).is_throttle());
    }

    #[test]
    fn a_master_that_left_is_no_media_once_it_was_connected_and_no_route_before() {
        let connected = Evidence { connected: true, ..Evidence::default() };
        assert_eq!(AttemptEnd::MasterGone.reason(&connected), EndReason::NoMedia);
        assert_eq!(AttemptEnd::MasterGone.reason(&Evidence::default()), EndReason::NoRoute);
    }

    #[test]
    fn what_the_peer_stack_names_is_named_in_the_end() {
        let reason = |code| AttemptEnd::Peer(failure(code)).reason(&Evidence::default());
        assert_eq!(reason(FailureCode::Codec), EndReason::Codec);
        assert_eq!(reason(FailureCode::LocalMedia), EndReason::LocalMedia);
        assert_eq!(reason(FailureCode::Port), EndReason::PeerFailed);
    }

    #[test]
    fn the_evidence_tells_causes_apart() {
        let cause = |reason, evidence| outcome(reason, evidence).likely_cause();
        let nowhere = Evidence { answered: true, ..Evidence::default() };
        let somewhere = Evidence { remote_candidates: 2, ..nowhere.clone() };
        assert!(cause(EndReason::NoRoute, nowhere).contains("named no address"));
        assert!(cause(EndReason::NoRoute, somewhere).contains("firewall"));
        assert!(cause(EndReason::NoRoute, Evidence::default()).contains("firewall"));
        let packets = Evidence { video_packets: true, ..Evidence::default() };
        assert!(cause(EndReason::NoMedia, packets).contains("keyframe"));
        assert!(cause(EndReason::NoMedia, Evidence::default()).contains("no media"));
    }

    #[test]
    fn people_are_told_in_whole_sentences() {
        let mut ended = outcome(EndReason::NoChannel, Evidence::default());
        assert!(ended.sentence().starts_with("Not live after 1 attempt: "), "{}", ended.sentence());
        ended.attempts_total = 2;
        assert!(ended.sentence().starts_with("Not live after 2 attempts: "));
        for reason in EndReason::ALL {
            let next = outcome(reason, Evidence::default()).next_step();
            assert!(next.ends_with('.') && next.len() > "Nothing".len(), "{reason}: {next}");
        }
        assert_ne!(
            outcome(EndReason::NoChannel, Evidence::default()).next_step(),
            outcome(EndReason::Codec, Evidence::default()).next_step()
        );
    }
}
