//! Prints the events for machines: one JSON object a line.

use std::time::Duration;

use negotiation_core::{
    AttemptEnd, AttemptReport, Event, Evidence, Failure, MediaKind, MediaProblem, Outcome,
    RecoveryCause, Timestamp,
};
use recording::Summary as Recording;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::output::Lines;
use super::resources::Resources;
use super::spans::millis;
use super::summary::Summary;

/// Writes events with their time since the start of the process.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// The output, with `--json`.
    to: Option<Lines>,
    /// The time from the start of the process to the session's origin.
    offset: Duration,
    attempt: u32,
    /// The number of events that did not reach the output.
    lost: u64,
}

/// A line; the fields are in this order for human readers.
#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    t_ms: u64,
    attempt: u64,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Reporter {
    pub(crate) fn new(to: Option<Lines>, offset: Duration) -> Self {
        Self { to, offset, attempt: 0, lost: 0 }
    }

    /// Returns the milliseconds since the process began.
    pub(crate) fn t_ms(&self, at: Timestamp) -> u64 {
        millis(self.offset + at.since_origin())
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Prints an event of the session, unless the caller prints it in another form.
    pub(crate) fn event(&mut self, at: Timestamp, event: &Event) {
        if let Event::AttemptStarted { attempt } = event {
            self.attempt = *attempt;
        }
        if let Some((name, fields)) = self.describe(event) {
            self.line(at, name, fields);
        }
    }

    /// Prints the end of an attempt, with the descriptors that were open before and after it.
    pub(crate) fn attempt_ended(
        &mut self,
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

    /// Prints the last line. Waits for room in the queue, for a limited time.
    pub(crate) async fn ended(
        &mut self,
        at: Timestamp,
        outcome: &Outcome,
        summary: &Summary,
        (recording, live): (Value, Value),
        exit: u8,
    ) {
        let Some(to) = self.to.clone() else { return };
        let attempts: Vec<Value> = outcome.attempts.iter().map(attempt_fields).collect();
        self.lost += to.take_lost();
        let fields = json!({
            "reason": outcome.reason.code(),
            "sentence": outcome.sentence(),
            "likely_cause": summary.likely_cause,
            "next_step": summary.next_step,
            "was_live": outcome.was_live,
            "attempts_total": outcome.attempts_total,
            "attempts": attempts,
            "lasted_ms": millis(outcome.lasted),
            "recording": recording,
            "output": live,
            "events_lost": self.lost,
            "exit_code": exit,
        });
        to.last(self.form(at, "ended", fields)).await;
    }

    /// Counts events that were lost before they reached this reporter.
    pub(crate) fn events_lost(&mut self, at: Timestamp, count: u64) {
        if let Some(to) = &self.to {
            to.add_lost(count);
            self.tell_lost(at);
        }
    }

    /// Prints any other line.
    pub(crate) fn line(&mut self, at: Timestamp, name: &str, fields: Value) {
        self.tell_lost(at);
        if let Some(to) = &self.to {
            to.line(self.form(at, name, fields));
        }
    }

    /// Prints how many events were lost since the last report, if the queue has room.
    fn tell_lost(&mut self, at: Timestamp) {
        let Some(to) = &self.to else { return };
        let count = to.take_lost();
        if count == 0 {
            return;
        }
        if to.try_line(self.form(at, "events_lost", json!({ "count": count }))) {
            self.lost += count;
        } else {
            to.add_lost(count);
        }
    }

    fn form(&self, at: Timestamp, event: &str, fields: Value) -> String {
        let mut fields = match fields {
            Value::Object(fields) => fields,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        };
        // The end of an attempt may be printed after the next attempt has begun.
        let attempt = fields.remove("attempt").and_then(|attempt| attempt.as_u64());
        let attempt = attempt.unwrap_or(self.attempt.into());
        let line = Line { event, t_ms: self.t_ms(at), attempt, fields };
        // Maps of strings and numbers can always be converted to JSON.
        serde_json::to_string(&line).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
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
            Event::MasterLearned(known) => (
                "master_learned",
                json!({
                    "answers_restarts": known.answers_restarts,
                    "answers_repeated_id": known.answers_repeated_id,
                }),
            ),
            Event::MasterGone(cause) => ("master_gone", json!({ "cause": cause_name(*cause) })),
            Event::Offline => ("offline", json!({})),
            Event::Online => ("online", json!({})),
            Event::MediaPaused => ("media_paused", json!({})),
            Event::MediaStalled => ("media_stalled", json!({})),
            Event::MediaResumed => ("media_resumed", json!({})),
            Event::LinkLost(failure) => ("link_lost", failure_fields(failure)),
            Event::LinkReopened => ("link_reopened", json!({})),
            Event::LinkNotReopened(failure) => ("link_not_reopened", failure_fields(failure)),
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

/// Formats a finished recording as JSON.
pub(crate) fn recording_fields(summary: &Recording) -> Value {
    json!({
        "path": summary.path.display().to_string(),
        "bytes": summary.bytes,
        "duration_ms": millis(summary.duration),
        "video_frames": summary.video_frames,
        "audio_packets": summary.audio_packets,
    })
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
        | AttemptEnd::StartedOver
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
    let ignored: Map<String, Value> =
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
        "video_offered": evidence.video_offered,
        "sends_nothing": evidence.sends_nothing,
        "service_error": evidence.service_error.as_ref().map(failure_fields),
        "ice_servers_error": evidence.ice_servers_error.as_ref().map(failure_fields),
        "link_down": evidence.link_down.as_ref().map(failure_fields),
        "ignored": ignored,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::testing::stalled;

    #[test]
    fn events_beyond_the_queue_are_counted_and_reported() {
        let (lines, reader) = stalled();
        let mut reporter =
            Reporter { to: Some(lines), offset: Duration::ZERO, attempt: 3, lost: 0 };
        let at = Timestamp::from_millis(7);
        const LINES: u64 = 5000;
        for _ in 0..LINES {
            reporter.line(at, "stats", json!({ "a": 1 }));
        }
        let first = reader.recv().expect("a line");
        assert_eq!(first, "{\"event\":\"stats\",\"t_ms\":7,\"attempt\":3,\"a\":1}");
        // Reading all queued lines makes room. Some losses were reported already if the writer took
        // its first line late.
        let (mut read, mut told_before) = (1, 0);
        while let Ok(line) = reader.recv_timeout(Duration::from_millis(500)) {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            match line["event"] == "events_lost" {
                true => told_before += line["count"].as_u64().expect("a number"),
                false => read += 1,
            }
        }
        reporter.line(at, "live", json!({ "attempt": 2 }));
        let reported = reader.recv().expect("a line");
        let lost = LINES - read;
        let count = lost - told_before;
        assert_eq!(
            reported,
            format!("{{\"event\":\"events_lost\",\"t_ms\":7,\"attempt\":3,\"count\":{count}}}")
        );
        let next = reader.recv().expect("a line");
        assert_eq!(next, "{\"event\":\"live\",\"t_ms\":7,\"attempt\":2}", "one attempt, its own");
        assert_eq!(reporter.lost, lost);
    }
}
