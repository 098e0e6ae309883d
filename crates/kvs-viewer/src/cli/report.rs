//! What the command line says: one JSON object a line for machines, sentences for people.

use std::io::{self, Write as _};
use std::time::Duration;

use negotiation_core::{
    AttemptEnd, AttemptReport, Event, Evidence, Failure, MediaKind, MediaProblem, Outcome,
    RecoveryCause, Timestamp,
};
use recording::Summary;
use serde_json::{Value, json};

use super::resources::Resources;

/// Where events go, and from when their time counts.
#[derive(Debug)]
pub(crate) struct Reporter {
    json: bool,
    /// From the start of the process to the session's origin.
    offset: Duration,
    attempt: u32,
}

impl Reporter {
    pub(crate) fn new(json: bool, offset: Duration) -> Self {
        Self { json, offset, attempt: 0 }
    }

    /// Milliseconds since the process began.
    pub(crate) fn t_ms(&self, at: Timestamp) -> u64 {
        millis(self.offset + at.since_origin())
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// An event of the session; `None` for what the caller reports itself.
    pub(crate) fn event(&mut self, at: Timestamp, event: &Event) {
        if let Event::AttemptStarted { attempt } = event {
            self.attempt = *attempt;
        }
        if let Some((name, fields)) = self.describe(event) {
            self.line(at, name, fields);
        }
    }

    /// The end of an attempt, with what the process had open before and after it.
    pub(crate) fn attempt_ended(
        &self,
        at: Timestamp,
        report: &AttemptReport,
        before: Option<Resources>,
        after: Option<Resources>,
    ) {
        let mut fields = attempt_fields(report);
        let pair = |count: fn(Resources) -> usize| json!({ "before": before.map(count), "after": after.map(count) });
        fields["descriptors"] = pair(|r| r.descriptors);
        fields["sockets"] = pair(|r| r.sockets);
        self.line(at, "attempt_ended", fields);
    }

    /// The last line.
    pub(crate) fn ended(&self, at: Timestamp, outcome: &Outcome, recording: Value, exit: u8) {
        let attempts: Vec<Value> = outcome.attempts.iter().map(attempt_fields).collect();
        self.line(
            at,
            "ended",
            json!({
                "reason": outcome.reason.code(),
                "sentence": outcome.sentence(),
                "likely_cause": outcome.likely_cause(),
                "next_step": outcome.next_step(),
                "was_live": outcome.was_live,
                "attempts_total": outcome.attempts_total,
                "attempts": attempts,
                "lasted_ms": millis(outcome.lasted),
                "recording": recording,
                "exit_code": exit,
            }),
        );
    }

    /// Any other line.
    pub(crate) fn line(&self, at: Timestamp, name: &str, fields: Value) {
        if !self.json {
            return;
        }
        let mut line = json!({ "event": name, "t_ms": self.t_ms(at), "attempt": self.attempt });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        // A reader that went away is no reason to stop watching.
        let _ = writeln!(io::stdout(), "{line}");
    }

    fn describe(&self, event: &Event) -> Option<(&'static str, Value)> {
        Some(match event {
            Event::PhaseChanged { from, to } => {
                ("phase", json!({ "from": from.as_str(), "to": to.as_str() }))
            }
            Event::AttemptStarted { .. } => ("attempt_started", json!({})),
            Event::LinkOpened { client_id } => {
                ("link_opened", json!({ "client_id": client_id.as_str() }))
            }
            Event::OfferSent { exchange } => ("offer_sent", json!({ "exchange": exchange })),
            Event::AnswerReceived { after } => {
                ("answer_received", json!({ "after_ms": millis(*after) }))
            }
            Event::MasterSeen => ("master_seen", json!({})),
            Event::Connected => ("connected", json!({})),
            Event::TrackAdded(kind) => ("track_added", json!({ "kind": kind_name(*kind) })),
            Event::KeyframeReceived => ("first_frame", json!({})),
            Event::Live => ("live", json!({})),
            Event::Disconnected => ("disconnected", json!({})),
            Event::Reconnected => ("reconnected", json!({})),
            Event::Recovering(cause) => ("recovering", json!({ "cause": cause_name(*cause) })),
            Event::Recovered => ("recovered", json!({})),
            Event::RestartRefused => ("restart_refused", json!({})),
            Event::MasterGone(cause) => ("master_gone", json!({ "cause": cause_name(*cause) })),
            Event::Offline => ("offline", json!({})),
            Event::Online => ("online", json!({})),
            Event::MediaPaused => ("media_paused", json!({})),
            Event::MediaStalled => ("media_stalled", json!({})),
            Event::MediaResumed => ("media_resumed", json!({})),
            Event::LinkLost(failure) => ("link_lost", failure_fields(failure)),
            Event::LinkReopened => ("link_reopened", json!({})),
            Event::LinkGivenUp(failure) => ("link_given_up", failure_fields(failure)),
            Event::IceServersRefreshed => ("ice_servers_refreshed", json!({})),
            Event::GoAway => ("go_away", json!({})),
            Event::RenegotiationFailed => ("renegotiation_failed", json!({})),
            Event::DeadlineArmed { timer, at } => (
                "deadline_armed",
                json!({ "deadline": timer.to_string(), "due_ms": self.t_ms(*at) }),
            ),
            Event::DeadlineFired(timer) => {
                ("deadline_fired", json!({ "deadline": timer.to_string() }))
            }
            Event::RetryScheduled { attempt, at } => {
                ("retry_scheduled", json!({ "next_attempt": attempt, "due_ms": self.t_ms(*at) }))
            }
            Event::Ignored(reason) => ("ignored", json!({ "reason": reason.code() })),
            Event::CloseStepFailed(failure) => ("close_step_failed", failure_fields(failure)),
            Event::AttemptEnded(_) | Event::Ended(_) => return None,
        })
    }
}

/// What a person reads when it happens; `None` for what only machines want.
pub(crate) fn sentence(event: &Event) -> Option<String> {
    Some(match event {
        Event::AttemptStarted { attempt } => format!("Attempt {attempt}: connecting."),
        Event::LinkOpened { client_id } => format!("Signaling is open as {client_id}."),
        Event::OfferSent { .. } => "The offer is out; waiting for the camera's answer.".into(),
        Event::AnswerReceived { after } => {
            format!("The answer came after {} ms.", millis(*after))
        }
        Event::Connected => "Connected; waiting for the first whole keyframe.".into(),
        Event::Live => "Live.".into(),
        Event::Disconnected => "The connection is silent; giving it a moment.".into(),
        Event::Reconnected => "The connection is back.".into(),
        Event::Recovering(cause) => {
            format!("Restarting the connection: {}.", cause_sentence(*cause))
        }
        Event::Recovered => "The connection is up again.".into(),
        Event::RestartRefused => {
            "The camera does not restart connections; the next loss begins a new attempt.".into()
        }
        Event::MasterGone(cause) => format!("The camera is gone: {}.", cause_sentence(*cause)),
        Event::Offline => "There is no network; waiting for it.".into(),
        Event::Online => "The network is back.".into(),
        Event::MediaPaused => "The camera pauses: it reports, but sends no media.".into(),
        Event::MediaStalled => "Media stopped; asking for a keyframe.".into(),
        Event::MediaResumed => "Media flows again.".into(),
        Event::LinkLost(failure) => format!("Signaling is lost ({failure}); media goes on."),
        Event::LinkReopened => "Signaling is open again.".into(),
        Event::LinkGivenUp(failure) => {
            format!("Signaling stays closed ({failure}); media goes on while it lasts.")
        }
        Event::GoAway => "The service will end this signaling link within a minute.".into(),
        Event::RenegotiationFailed => "A renegotiation failed; media goes on as it was.".into(),
        Event::DeadlineFired(timer) => format!("The {timer} deadline passed."),
        Event::AttemptEnded(report) => {
            format!("Attempt {} is over and closed: {}.", report.attempt, report.end)
        }
        Event::CloseStepFailed(failure) => format!("A step of closing failed: {failure}"),
        Event::PhaseChanged { .. }
        | Event::MasterSeen
        | Event::TrackAdded(_)
        | Event::KeyframeReceived
        | Event::IceServersRefreshed
        | Event::DeadlineArmed { .. }
        | Event::RetryScheduled { .. }
        | Event::Ignored(_)
        | Event::Ended(_) => return None,
    })
}

/// A finished recording, for machines.
pub(crate) fn recording_fields(summary: &Summary) -> Value {
    json!({
        "path": summary.path.display().to_string(),
        "bytes": summary.bytes,
        "duration_ms": millis(summary.duration),
        "video_frames": summary.video_frames,
        "audio_packets": summary.audio_packets,
    })
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        MediaKind::Data => "data",
    }
}

fn cause_name(cause: RecoveryCause) -> &'static str {
    match cause {
        RecoveryCause::Disconnected => "disconnected",
        RecoveryCause::IceFailed => "ice-failed",
        RecoveryCause::NetworkChanged => "network-changed",
        RecoveryCause::Requested => "requested",
        RecoveryCause::ClosedByPeer => "closed-by-peer",
        RecoveryCause::Silent => "silent",
    }
}

fn cause_sentence(cause: RecoveryCause) -> &'static str {
    match cause {
        RecoveryCause::Disconnected => "nothing is heard of the camera",
        RecoveryCause::IceFailed => "no path to the camera works any more",
        RecoveryCause::NetworkChanged => "the network changed",
        RecoveryCause::Requested => "it was asked for",
        RecoveryCause::ClosedByPeer => "it closed the connection",
        RecoveryCause::Silent => "it sends nothing any more",
    }
}

fn failure_fields(failure: &Failure) -> Value {
    json!({
        "code": failure.code.as_str(),
        "api_name": failure.api_name,
        "detail": failure.detail,
    })
}

fn attempt_fields(report: &AttemptReport) -> Value {
    let deadline = match &report.end {
        AttemptEnd::Deadline(deadline) => Some(deadline.as_str()),
        AttemptEnd::Closed
        | AttemptEnd::Connect(_)
        | AttemptEnd::LinkLost(_)
        | AttemptEnd::NoRelay(_)
        | AttemptEnd::Offer(_)
        | AttemptEnd::UndecodableAnswer
        | AttemptEnd::AnswerRefused(_)
        | AttemptEnd::NothingAccepted
        | AttemptEnd::Peer(_)
        | AttemptEnd::IceFailed
        | AttemptEnd::DtlsFailed
        | AttemptEnd::MasterGone
        | AttemptEnd::RestartFailed
        | AttemptEnd::NetworkChanged
        | AttemptEnd::Resumed => None,
    };
    json!({
        "attempt": report.attempt,
        "client_id": report.client_id.as_ref().map(|id| id.as_str()),
        "lasted_ms": millis(report.ended.saturating_since(report.started)),
        "cause": report.end.code(),
        "deadline": deadline,
        "sentence": report.end.to_string(),
        "evidence": evidence_fields(&report.evidence),
    })
}

fn evidence_fields(evidence: &Evidence) -> Value {
    let ignored: serde_json::Map<String, Value> =
        evidence.ignored.iter().map(|(reason, n)| (reason.code().into(), (*n).into())).collect();
    json!({
        "link_opened": evidence.link_opened,
        "offer_sent": evidence.offer_sent,
        "turn_servers": evidence.turn_servers,
        "master_seen": evidence.master_seen,
        "remote_candidates": evidence.remote_candidates,
        "answered": evidence.answered,
        "answer_suspect": evidence.answer_suspect,
        "ice_connected": evidence.ice_connected,
        "connected": evidence.connected,
        "video_packets": evidence.video_packets,
        "audio_packets": evidence.audio_packets,
        "media_problem": evidence.media_problem.map(MediaProblem::as_str),
        "candidates_refused": evidence.candidates_refused,
        "unresolved_servers": evidence.unresolved_servers,
        "was_live": evidence.was_live,
        "service_error": evidence.service_error.as_ref().map(failure_fields),
        "ignored": ignored,
    })
}
