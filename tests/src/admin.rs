//! A client of the emulator's admin API, with one plain HTTP request per connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::stage::CHANNEL;

/// A timeout that is longer than any response takes.
const LIMIT: Duration = Duration::from_secs(10);

/// The maximum length of a response, in bytes.
const ANSWER_MAX: u64 = 1024 * 1024;

/// Requests an action on the stage's channel, such as `disconnect` or `send`.
///
/// # Panics
///
/// When the emulator refuses it.
#[must_use]
pub fn ask_channel(endpoint: &str, what: &str, body: &Value) -> Value {
    ask(endpoint, "POST", &format!("/admin/channels/{CHANNEL}/{what}"), &body.to_string())
}

/// Returns the connected clients.
///
/// # Panics
///
/// When the emulator does not respond with a list.
#[must_use]
pub fn clients(endpoint: &str) -> Vec<Value> {
    let answer = ask(endpoint, "GET", "/admin/clients", "");
    answer["clients"].as_array().expect("a list").clone()
}

/// Returns the events on all channels so far: clients that connected or disconnected.
///
/// # Panics
///
/// When the emulator does not respond with a list.
#[must_use]
pub fn events(endpoint: &str) -> Vec<Value> {
    let answer = ask(endpoint, "GET", "/admin/events", "");
    answer["events"].as_array().expect("a list").clone()
}

/// Returns the number of calls of each API operation.
///
/// # Panics
///
/// When the emulator does not respond.
#[must_use]
pub fn calls(endpoint: &str) -> Value {
    ask(endpoint, "GET", "/admin/calls", "")["calls"].clone()
}

fn ask(endpoint: &str, method: &str, path: &str, body: &str) -> Value {
    let host = endpoint.strip_prefix("http://").expect("a plain endpoint").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).expect("the emulator listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).expect("an answer");
    let (status, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(status.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
