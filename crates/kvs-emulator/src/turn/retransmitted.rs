//! Allocate requests that a client sends twice, because the response to the first was lost or late:
//! the second gets the same response (RFC 8656, 7.2). Another request for an allocation that the
//! client has is refused with 437, by the protocol's crate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long a response is kept: longer than a client repeats a request (RFC 8489, 6.2.1).
const KEPT: Duration = Duration::from_secs(40);
/// Most clients with a kept response.
const CLIENTS_MAX: usize = 1024;

/// RFC 8656, 18.1: the request that opens an allocation, and its success response.
const ALLOCATE: [u8; 2] = [0x00, 0x03];
const ALLOCATED: [u8; 2] = [0x01, 0x03];

/// The last success response of each client.
#[derive(Debug, Default)]
pub(super) struct Responses {
    by_client: BTreeMap<SocketAddr, (Instant, Vec<u8>)>,
}

impl Responses {
    /// The response to a request that was answered before.
    pub(super) fn find(&self, client: SocketAddr, request: &[u8], now: Instant) -> Option<&[u8]> {
        let (sent, response) = self.by_client.get(&client)?;
        let is_same = request.get(..2) == Some(&ALLOCATE)
            && transaction(request).is_some_and(|id| transaction(response) == Some(id));
        let is_kept = now.saturating_duration_since(*sent) < KEPT;
        (is_same && is_kept).then_some(response)
    }

    /// Keeps a response if it is an Allocate success response.
    pub(super) fn keep(&mut self, client: SocketAddr, response: &[u8], now: Instant) {
        if response.get(..2) != Some(&ALLOCATED) {
            return;
        }
        if self.by_client.len() >= CLIENTS_MAX && !self.by_client.contains_key(&client) {
            let oldest = self.by_client.iter().min_by_key(|(_, (sent, _))| *sent);
            let oldest = oldest.map(|(client, _)| *client);
            oldest.and_then(|client| self.by_client.remove(&client));
        }
        self.by_client.insert(client, (now, response.to_vec()));
    }
}

/// The magic cookie and the transaction id (RFC 8489, 5).
fn transaction(message: &[u8]) -> Option<&[u8]> {
    message.get(4..20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: [u8; 2], id: u8) -> Vec<u8> {
        let mut message = Vec::from(kind);
        message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.extend([id; 12]);
        message
    }

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn retransmitted_transaction_of_same_client_is_answered_again() {
        let (mut responses, now) = (Responses::default(), Instant::now());
        let success = message(ALLOCATED, 7);
        responses.keep(client(1), &success, now);
        // A refusal is no success.
        responses.keep(client(2), &message([0x01, 0x13], 7), now);
        let found = |from, request: &[u8], now| responses.find(from, request, now).is_some();
        assert_eq!(responses.find(client(1), &message(ALLOCATE, 7), now), Some(&success[..]));
        assert!(!found(client(1), &message(ALLOCATE, 8), now), "another transaction");
        assert!(!found(client(1), &message([0x00, 0x04], 7), now), "a refresh");
        assert!(!found(client(2), &message(ALLOCATE, 7), now), "another client");
        assert!(!found(client(1), &ALLOCATE, now), "no whole header");
        assert!(!found(client(1), &message(ALLOCATE, 7), now + KEPT), "after its time");
    }

    #[test]
    fn kept_responses_are_bounded() {
        let (mut responses, now) = (Responses::default(), Instant::now());
        for port in 1..=2000 {
            let at = now + Duration::from_millis(u64::from(port));
            responses.keep(client(port), &message(ALLOCATED, 1), at);
        }
        assert_eq!(responses.by_client.len(), CLIENTS_MAX);
        assert!(!responses.by_client.contains_key(&client(1)), "the oldest went");
    }
}
