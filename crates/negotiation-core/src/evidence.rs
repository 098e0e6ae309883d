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
    /// The connection opened.
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
    /// The names of the video codecs that were offered, as far as known.
    pub video_offered: Vec<String>,
    /// The answer accepted the requested media, and the master sends none of it.
    pub sends_nothing: bool,
    /// The last error that the service reported about a message or a join.
    pub service_error: Option<Failure>,
    /// Why the ICE servers could not be fetched, the last time that they could not.
    pub ice_servers_error: Option<Failure>,
    /// Why no signaling connection was open at the end, where none was.
    pub link_down: Option<Failure>,
    /// Inputs that changed nothing, by reason.
    pub ignored: BTreeMap<Ignored, u32>,
}

impl Evidence {
    /// Every address that the master named was refused by the viewer's own policy.
    pub(crate) fn is_barred(&self) -> bool {
        self.candidates_refused > 0 && self.candidates_refused >= self.remote_candidates
    }

    /// Adds inputs that changed nothing.
    pub(crate) fn count_ignored(&mut self, more: BTreeMap<Ignored, u32>) {
        for (reason, times) in more {
            let count = self.ignored.entry(reason).or_insert(0);
            *count = count.saturating_add(times);
        }
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
    /// The connection could not be opened.
    Connect(Failure),
    /// The connection ended before the answer.
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
    /// The master refused an ICE restart.
    RestartFailed,
    /// The master answered a later offer with a new connection: it was restarted, or it does not
    /// support ICE restarts.
    StartedOver,
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
            Self::Offer => "the service sent no request in time (SDP offer)",
            Self::Answer => "the camera did not answer in time (SDP answer)",
            Self::Establish => "no connection to the camera came up in time (ICE, DTLS)",
            Self::FirstMedia => "no picture or sound came in time (first keyframe or packet)",
            Self::Restart => "the connection was lost and could not be restored (ICE restart)",
            Self::Grace => "the connection was lost (ICE disconnected)",
            Self::MediaGiveUp => "no picture and no sound came any more",
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
            Self::StartedOver => "started-over",
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
            | Self::StartedOver
            | Self::NetworkChanged
            | Self::Resumed => false,
        }
    }

    /// Whether the service throttled requests.
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
            | Self::StartedOver
            | Self::NetworkChanged
            | Self::Resumed => false,
        }
    }

    /// The end of a session whose last attempt ended like this.
    pub(crate) fn reason(&self, ice_connected: bool, connected: bool) -> EndReason {
        match self {
            Self::Closed => EndReason::Closed,
            Self::Deadline(Deadline::Answer) => EndReason::NoAnswer,
            Self::Deadline(Deadline::Offer) => EndReason::NoOffer,
            Self::Deadline(Deadline::Establish) if ice_connected => EndReason::Dtls,
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
            Self::MasterGone if connected => EndReason::NoMedia,
            Self::MasterGone
            | Self::RestartFailed
            | Self::StartedOver
            | Self::NetworkChanged
            | Self::Resumed => EndReason::NoRoute,
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
            Self::Closed => f.write_str("closed on request"),
            Self::Deadline(deadline) => write!(f, "{deadline}"),
            Self::Connect(failure) => {
                write!(f, "the connection to the service did not open (signaling): {failure}")
            }
            Self::LinkLost(failure) => write!(
                f,
                "the connection to the service was lost before the camera answered (signaling): {failure}"
            ),
            Self::NoRelay(failure) => write!(f, "no relay could be had (TURN): {failure}"),
            Self::Offer(failure) => {
                write!(f, "the request to the camera could not be sent (SDP offer): {failure}")
            }
            Self::UndecodableAnswer => f.write_str("the camera's answer cannot be read (SDP answer)"),
            Self::AnswerRefused(failure) => {
                write!(f, "the camera's answer cannot be used (SDP answer): {failure}")
            }
            Self::NothingAccepted => f.write_str(
                "the camera's answer brings no picture and no sound (SDP answer)",
            ),
            Self::Peer(failure) => write!(f, "the peer connection failed: {failure}"),
            Self::IceFailed => f.write_str("nothing gets through to the camera (ICE failed)"),
            Self::DtlsFailed => f.write_str("the secure handshake with the camera failed (DTLS)"),
            Self::MasterGone => f.write_str("the camera closed the connection"),
            Self::RestartFailed => {
                f.write_str("the camera refused to restore the connection (ICE restart)")
            }
            Self::StartedOver => f.write_str(
                "the camera began a new connection: it was restarted, or cannot restore one (ICE restart)",
            ),
            Self::NetworkChanged => f.write_str("the network of this device changed"),
            Self::Resumed => f.write_str("this device slept"),
        }
    }
}

/// The report of one attempt, made when it is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AttemptReport {
    /// Its number, from 1.
    pub attempt: u32,
    /// The id that it used, once the connection was open.
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
    /// How many attempts are reported in full.
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

    /// What most likely went wrong, read from the evidence: a part of a sentence for people.
    pub fn likely_cause(&self) -> String {
        self.diagnosis().cause.into_owned()
    }

    /// What to do next, in whole sentences for people.
    pub fn next_step(&self) -> String {
        self.diagnosis().advice.into_owned()
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
    fn names_for_machines_are_these() {
        assert_eq!(Deadline::FirstMedia.as_str(), "first-media");
        assert_eq!(AttemptEnd::Deadline(Deadline::Grace).code(), "grace");
        assert_eq!(AttemptEnd::LinkLost(failure(FailureCode::Closed)).code(), "link-lost");
        assert_eq!(AttemptEnd::Resumed.code(), "resumed");
    }

    #[test]
    fn evidence_of_a_live_attempt_does_not_explain_a_later_failure() {
        let seen = Evidence {
            was_live: true,
            master_seen: true,
            video_packets: true,
            ..Default::default()
        };
        let mut lost = Outcome { was_live: true, ..outcome(EndReason::NoMedia, seen) };
        assert_eq!(
            lost.sentence(),
            "Lost after having been live: the camera closed the connection."
        );
        assert!(lost.likely_cause().contains("sent nothing more"), "{}", lost.likely_cause());
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
        assert!(lost.likely_cause().contains("never a whole one"), "{}", lost.likely_cause());
    }

    #[test]
    fn only_the_service_reports_a_throttle() {
        assert!(AttemptEnd::Connect(failure(FailureCode::Throttled)).is_throttle());
        assert!(AttemptEnd::Offer(failure(FailureCode::ViewerLimit)).is_throttle());
        assert!(AttemptEnd::NoRelay(failure(FailureCode::Throttled)).is_throttle());
        assert!(AttemptEnd::LinkLost(failure(FailureCode::Throttled)).is_throttle());
        assert!(!AttemptEnd::Peer(failure(FailureCode::Throttled)).is_throttle());
        assert!(!AttemptEnd::Connect(failure(FailureCode::Network)).is_throttle());
        assert!(!AttemptEnd::Deadline(Deadline::Answer).is_throttle());
    }

    #[test]
    fn master_that_left_is_no_media_only_after_connecting() {
        assert_eq!(AttemptEnd::MasterGone.reason(true, true), EndReason::NoMedia);
        assert_eq!(AttemptEnd::MasterGone.reason(true, false), EndReason::NoRoute);
    }

    #[test]
    fn what_the_peer_stack_names_is_named_in_the_end() {
        let reason = |code| AttemptEnd::Peer(failure(code)).reason(false, false);
        assert_eq!(reason(FailureCode::Codec), EndReason::Codec);
        assert_eq!(reason(FailureCode::LocalMedia), EndReason::LocalMedia);
        assert_eq!(reason(FailureCode::Port), EndReason::PeerFailed);
    }

    #[test]
    fn evidence_distinguishes_causes() {
        let cause = |reason, evidence| outcome(reason, evidence).likely_cause();
        let nowhere = Evidence { answered: true, ..Evidence::default() };
        let somewhere = Evidence { remote_candidates: 2, ..nowhere.clone() };
        assert!(cause(EndReason::NoRoute, nowhere).contains("named no address"));
        assert!(cause(EndReason::NoRoute, somewhere).contains("firewall"));
        assert!(cause(EndReason::NoRoute, Evidence::default()).contains("firewall"));
        let packets = Evidence { video_packets: true, ..Evidence::default() };
        assert!(cause(EndReason::NoMedia, packets).contains("keyframe"));
        assert!(cause(EndReason::NoMedia, Evidence::default()).contains("sends nothing"));
    }

    #[test]
    fn outcome_is_printed_in_whole_sentences() {
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
