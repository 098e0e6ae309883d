//! Analyses the emulator's connection log of one viewer's start.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The access key that only the camera uses.
pub(super) const CAMERA_KEY: &str = "AKIABENCHCAMERA00000";

/// The connections and requests between a viewer and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchanges {
    /// TCP connections that carried data, and TLS handshakes.
    pub(super) connections: usize,
    pub(super) handshakes: usize,
    /// HTTP requests, including the WebSocket upgrade.
    pub(super) requests: usize,
    /// Consecutive round trips before the offer was sent: TCP, TLS and requests. Unknown without a
    /// round-trip time, since parallel and sequential steps then look the same.
    pub(super) in_sequence: Option<usize>,
}

/// A step at the viewer's end, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Step {
    begin: i64,
    end: i64,
    round_trips: usize,
}

/// Counts the events on all connections except the camera's.
pub(super) fn exchanges(events: &[Value], rtt_ms: u64) -> Exchanges {
    let number = |event: &Value, field: &str| event[field].as_i64().unwrap_or_default();
    let of_camera: BTreeSet<i64> = events
        .iter()
        .filter(|event| event["access_key"] == CAMERA_KEY || event["call"] == "ConnectAsMaster")
        .map(|event| number(event, "tcp"))
        .collect();
    let half = i64::try_from(rtt_ms).unwrap_or_default() * 500;
    let mut opened = BTreeMap::new();
    let mut requested: BTreeMap<i64, i64> = BTreeMap::new();
    let mut steps = Vec::new();
    let mut offered = None;
    let (mut handshakes, mut requests) = (0, 0);
    let mut used = BTreeSet::new();
    for event in events {
        let (tcp, at) = (number(event, "tcp"), number(event, "at_us"));
        // A connection that was opened before belongs to the camera too.
        if of_camera.contains(&tcp) || (event["event"] != "opened" && !opened.contains_key(&tcp)) {
            continue;
        }
        match event["event"].as_str().unwrap_or_default() {
            "opened" => {
                opened.insert(tcp, at);
            }
            "tls" => {
                handshakes += 1;
                used.insert(tcp);
                let begin = opened.get(&tcp).copied().unwrap_or(at);
                steps.push(Step { begin, end: at - half, round_trips: 2 });
            }
            "request" => {
                requests += 1;
                if used.insert(tcp) {
                    // A first request without a TLS handshake includes the TCP handshake.
                    let begin = opened.get(&tcp).copied().unwrap_or(at);
                    steps.push(Step { begin, end: at - half, round_trips: 1 });
                }
                requested.insert(tcp, at - half);
            }
            "response" => {
                if let Some(begin) = requested.remove(&tcp) {
                    steps.push(Step { begin, end: at + half, round_trips: 1 });
                }
            }
            "received" if event["message"] == "SDP_OFFER" => {
                offered = offered.or(Some(at - half));
            }
            _ => {}
        }
    }
    let in_sequence =
        offered.filter(|_| rtt_ms > 0).map(|offered| longest(steps, offered, half / 2));
    Exchanges { connections: used.len(), handshakes, requests, in_sequence }
}

/// Returns the maximum number of round trips in consecutive steps that end before `until`. A step
/// that begins up to `slack` before the end of another counts as consecutive, since clocks and
/// timers are not exact.
fn longest(mut steps: Vec<Step>, until: i64, slack: i64) -> usize {
    steps.retain(|step| step.end <= until + slack);
    steps.sort_by_key(|step| step.end);
    let mut best: Vec<usize> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let before = steps
            .iter()
            .zip(&best)
            .take(index)
            .filter(|(other, _)| other.end <= step.begin + slack);
        let before = before.map(|(_, best)| *best).max().unwrap_or_default();
        best.push(before + step.round_trips);
    }
    best.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(ms: i64, tcp: i64, event: &str) -> Value {
        json!({ "at_us": ms * 1000, "tcp": tcp, "event": event })
    }

    /// 100 ms: one connection for two API requests, then WebSocket and ICE servers in parallel.
    #[test]
    fn parallel_round_trips_are_counted_once() {
        let mut offer = at(760, 2, "received");
        offer["message"] = "SDP_OFFER".into();
        let events = [
            at(0, 1, "opened"),
            at(250, 1, "tls"),
            at(250, 1, "request"),
            at(251, 1, "response"),
            at(351, 1, "request"),
            at(352, 1, "response"),
            at(402, 2, "opened"),
            at(405, 3, "opened"),
            at(652, 2, "tls"),
            at(652, 2, "request"),
            at(653, 2, "response"),
            at(655, 3, "tls"),
            at(655, 3, "request"),
            at(656, 3, "response"),
            offer,
            // A request after the offer does not count.
            at(760, 1, "request"),
            at(761, 1, "response"),
        ];
        let found = exchanges(&events, 100);
        let expected =
            Exchanges { connections: 3, handshakes: 3, requests: 5, in_sequence: Some(7) };
        assert_eq!(found, expected);
        assert_eq!(exchanges(&events, 0).in_sequence, None);
    }

    #[test]
    fn cameras_connections_are_left_out() {
        let mut call = at(5, 9, "request");
        call["access_key"] = CAMERA_KEY.into();
        let events = [
            at(1, 9, "opened"),
            at(2, 9, "tls"),
            call,
            at(6, 9, "response"),
            // One connection was opened before, and one carries no data.
            at(7, 4, "request"),
            at(8, 4, "response"),
            at(9, 10, "opened"),
        ];
        let none = Exchanges { connections: 0, handshakes: 0, requests: 0, in_sequence: None };
        assert_eq!(exchanges(&events, 0), none);
    }
}
