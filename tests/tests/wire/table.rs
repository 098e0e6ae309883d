//! The rows of part 5 of the contract that are tested with the real adapters: their numbers and
//! required outcomes. Of the rows marked L or SL, only 53 is missing: a slow resolver needs its own
//! network, so its test is in `tests/tests/network`.

/// A row of part 5.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) stimulus: &'static str,
    pub(crate) required: &'static str,
}

const fn row(
    number: u32,
    name: &'static str,
    stimulus: &'static str,
    required: &'static str,
) -> Number {
    Number { number, name, stimulus, required }
}

/// The rows that are marked L or SL.
const TABLE: &[Number] = &[
    row(1, "answer-never", "the master is silent", "RETRY, then ERR(no-answer)"),
    row(2, "answer-at-deadline", "just before and just after the deadline", "OK, or as 3"),
    row(3, "answer-stale", "the answer to attempt 1 arrives in attempt 2", "IGN, 2 unharmed"),
    row(4, "answer-duplicate", "the same answer again, at once and later", "IGN"),
    row(5, "answer-two-different", "two answers, the first right or stale", "IGN; RETRY, OK"),
    row(6, "answer-unsolicited", "before any offer, after close", "IGN"),
    row(7, "answer-malformed", "bad base64, bad JSON, empty SDP", "fails at once, RETRY"),
    row(8, "answer-rejected", "SDP the stack refuses", "RETRY once, then ERR(incompatible-sdp)"),
    row(9, "no-common-codec", "every m-line rejected", "ERR(codec), no endless retry"),
    row(10, "wrong-sender", "answer, candidate, offer of another sender", "IGN"),
    row(11, "candidates-first", "1..100 candidates before the answer", "kept, in order, OK"),
    row(12, "candidate-flood", "10,000 candidates", "bounded, counted, OK"),
    row(14, "candidate-end", "empty, null, end-of-candidates", "accepted"),
    row(15, "candidate-burst", "40 local candidates at once", "paced, none lost"),
    row(16, "offer-twice", "renegotiation while not stable", "one exchange, then one more"),
    row(17, "churn", "50 opens and closes in 10 s", "quota kept, no leak, the last is live"),
    row(18, "takeover", "our id connects elsewhere, 3 times", "ERR(replaced); live: told, KEEP"),
    row(19, "client-id-invalid", "`AWS_x`, `@`, over 256", "refused before any IO"),
    row(20, "glare", "an offer while ours is open", "one agreed description, or the attempt; OK"),
    row(22, "ice-blip", "2 s of loss", "KEEP, no offer sent"),
    row(23, "ice-disconnected", "longer than the grace", "ICE restart, OK"),
    row(24, "ice-failed", "every path is gone", "restart, then a full attempt"),
    row(25, "restart-ignored", "the master ignores the restart", "full attempt after one deadline"),
    row(26, "network-switch", "every socket dies, a new address", "OK within N18's bound"),
    row(27, "offline", "no network for a while, then back", "tries at once when told"),
    row(29, "signaling-drop-early", "socket dies before the answer", "RETRY"),
    row(30, "signaling-drop-live", "socket dies while media flows", "KEEP"),
    row(31, "go-away", "GO_AWAY, then the close", "KEEP"),
    row(32, "reconnect-ice-server", "the message", "KEEP, ICE servers fresh"),
    row(33, "half-open", "no bytes, no FIN", "found within 30 s by ping, KEEP"),
    row(34, "garbage", "frames that are no message", "IGN, stays open"),
    row(36, "status-error", "STATUS_RESPONSE for our offer", "mapped, backed off, or the end"),
    row(37, "clock-skew", "device clock 10 min off, either way", "learned once, OK"),
    row(38, "signing", "`+ / = %` in session token", "right signature, OK"),
    row(39, "credentials-expire", "credentials end before a retry", "asked again, or ERR"),
    row(40, "turn-expire", "old TURN credentials at a restart", "fresh ones are used"),
    row(41, "relay-only", "only TURN reaches the peer", "OK; else ERR(no-route)"),
    row(42, "control-plane-errors", "5xx and throttles", "retried; TURN falls back to STUN"),
    row(43, "permanent", "wrong region, no channel, no permission", "ERR at once"),
    row(44, "master-later", "the master connects 20 s after the offer", "OK, answered once"),
    row(45, "master-restart", "the master reboots mid-stream", "found, full attempt, OK"),
    row(46, "channel-full", "one viewer too many", "5 s apart, then ERR(viewer-limit)"),
    row(47, "media-never", "connected, no RTP or no keyframe", "RETRY, ERR(no-media)"),
    row(48, "media-stall", "RTP stops, ICE up", "told, PLI; paused, or a new attempt"),
    row(49, "close-anywhere", "close in every phase, twice", "closed, nothing left"),
    row(54, "record-interrupted", "SIGINT, disk full", "the file plays, the exit code tells"),
    row(55, "secrets", "trace level", "no secret in log, journal or error"),
    row(56, "suspend", "the device slept while live", "new attempt at once"),
    row(57, "dtls-fails", "ICE up, DTLS refused or silent", "RETRY, then ERR(dtls)"),
    row(58, "no-candidates", "an answer and no candidate", "OK if reachable, else ERR(no-route)"),
    row(59, "relay-outlives", "300 s of a TURN credential pass", "KEEP"),
    row(60, "ipv6-only", "only IPv6 reaches signaling and peer", "OK"),
    row(61, "local-media", "a local track cannot be had", "receive only, or ERR(local-media)"),
    row(64, "storage-new-session", "a second offer, another fingerprint", "answered on a new peer"),
    row(65, "two-viewers", "two sessions of one process", "both live, ids apart"),
    row(66, "handle-dropped", "the application drops its handle", "as close"),
    row(67, "codec-changes", "loss, wrap, another size or source", "the recording plays"),
];

impl Number {
    /// Returns the row with this number.
    pub(crate) fn of(number: u32) -> Self {
        let found = TABLE.iter().find(|row| row.number == number);
        *found.unwrap_or_else(|| panic!("{number} is not of the wire"))
    }
}
