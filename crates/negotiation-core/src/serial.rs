//! The journal form: how inputs, outputs and configurations are written and read (contract, N26).
//!
//! Texts that the core never reads are written as stand-ins: a description as digest and length, a
//! candidate as number, protocol and type, a credential as nothing at all. A digest of a candidate
//! would reveal its address to anyone who tries all addresses; the number comes from what writes
//! the journal ([`CandidateMask`]). Addresses are masked
//! wherever a text for people may hold one. Written once or many times, the form is the same.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{Config, Settings};
use crate::input::{Input, PeerEvent, SignalingEvent};
use crate::output::{Message, Output, PeerCommand, SignalingCommand};
use crate::ticket::Ticket;
use crate::time::Timestamp;
use crate::types::{Candidate, ClientId, Digest, Sdp, Secret};

const ADDRESS: &str = "(address)";
const MASKED: &str = "(masked)";
const SECRET: &str = "(secret)";

/// [`crate::Failure::detail`] with its addresses masked, and anything that looks signed.
pub(crate) fn masked_detail<S: Serializer>(detail: &str, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&without_addresses(detail))
}

/// [`crate::IceServer::uris`] without host names: they hold addresses.
pub(crate) fn masked_uris<S: Serializer>(uris: &[String], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(uris.iter().map(|uri| masked_uri(uri)))
}

/// Everything of a URI that the core looks at, and the kind of server.
fn masked_uri(uri: &str) -> String {
    let scheme_known = |scheme: &str| matches!(scheme, "stun" | "stuns" | "turn" | "turns");
    let Some((scheme, rest)) = uri.split_once(':').filter(|(scheme, _)| scheme_known(scheme))
    else {
        let relays = if uri.starts_with("turn") { "turn" } else { "" };
        return format!("{relays}{MASKED}");
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let port = place.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let query = match query {
        "transport=udp" | "transport=tcp" => format!("?{query}"),
        _ => String::new(),
    };
    format!("{scheme}:{ADDRESS}{port}{query}")
}

fn without_addresses(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            let bare = word.trim_end();
            let space = &word[bare.len()..];
            // A port's duty is not to let this happen; here it would end up in a file.
            if bare.to_ascii_lowercase().contains("x-amz-") {
                return format!("{MASKED}{space}");
            }
            masked_word(bare) + space
        })
        .collect()
}

/// Masks the parts of a word that are addresses; what is around them stays.
fn masked_word(word: &str) -> String {
    let is_part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '%' | '[' | ']');
    let mut masked = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let part = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(part);
        masked.push_str(&masked_run(run));
        let other = after.find(is_part).unwrap_or(after.len());
        masked.push_str(&after[..other]);
        rest = &after[other..];
    }
    masked
}

fn masked_run(run: &str) -> String {
    let core = run.trim_end_matches(['.', ':', '-']);
    let tail = &run[core.len()..];
    if is_address(core) {
        return format!("{ADDRESS}{tail}");
    }
    // `host:1.2.3.4:5`, `udp:[::1]:5`
    match core.split_once(':') {
        Some((name, rest)) if is_address(rest) => format!("{name}:{ADDRESS}{tail}"),
        Some(_) | None => run.to_string(),
    }
}

fn is_address(text: &str) -> bool {
    let is_ip = |text: &str| {
        // An IPv6 address may name its zone.
        text.split('%').next().is_some_and(|bare| bare.parse::<IpAddr>().is_ok())
    };
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split(']').next());
    // Relays of KVS are named after their address: `1-2-3-4.t-0123.kinesisvideo...`.
    let label = text.split(['.', ':']).next().unwrap_or_default().replace('-', ".");
    is_ip(text)
        || bracketed.is_some_and(is_ip)
        || text.parse::<SocketAddr>().is_ok()
        || label.parse::<Ipv4Addr>().is_ok()
}

impl Serialize for Sdp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let text = self.as_str();
        if is_sdp_stand_in(text) {
            return to.serialize_str(text);
        }
        to.serialize_str(&format!("{:?} {} bytes", self.digest(), text.len()))
    }
}

impl<'de> Deserialize<'de> for Sdp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if !is_sdp_stand_in(&text) {
            return Err(D::Error::custom("expected a description's digest and length"));
        }
        Ok(Self::new(&text))
    }
}

fn is_sdp_stand_in(text: &str) -> bool {
    let mut words = text.split(' ');
    let digest = words.next().is_some_and(|word| digest(word).is_some());
    digest
        && words.next().is_some_and(|length| length.parse::<u32>().is_ok())
        && words.next() == Some("bytes")
        && words.next().is_none()
}

#[derive(Serialize, Deserialize)]
struct CandidateForm {
    text: String,
    mid: Option<String>,
    mline_index: Option<u16>,
    ufrag: Option<String>,
}

impl Serialize for Candidate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let verbatim = self.is_end() || is_candidate_stand_in(&self.text);
        // Without a mask it cannot be distinguished from another one.
        let text = if verbatim { self.text.to_string() } else { stand_in(0, &self.text) };
        let form = CandidateForm {
            text,
            mid: self.mid.clone(),
            mline_index: self.mline_index,
            ufrag: self.ufrag.clone(),
        };
        form.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Candidate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let CandidateForm { text, mid, mline_index, ufrag } = CandidateForm::deserialize(from)?;
        let candidate = Self { text: text.into(), mid, mline_index, ufrag };
        if !candidate.is_end() && !is_candidate_stand_in(&candidate.text) {
            return Err(D::Error::custom("expected a candidate's number, protocol and type"));
        }
        Ok(candidate)
    }
}

/// Gives each candidate of a journal a number, the same whenever it comes again, from which nothing
/// can be learned of its text.
#[derive(Clone, Default)]
pub struct CandidateMask {
    numbers: BTreeMap<Digest, u32>,
    given: u32,
}

impl CandidateMask {
    /// Candidates with numbers of their own; one more is another each time that it comes.
    const NUMBERS_MAX: usize = 65_536;

    /// The candidate with a stand-in for its text. One that is masked, or only marks that no more
    /// will come, stays as it is.
    #[must_use]
    pub fn masked(&mut self, candidate: &Candidate) -> Candidate {
        if candidate.is_end() || is_candidate_stand_in(&candidate.text) {
            return candidate.clone();
        }
        let digest = Digest::of(candidate.text.as_bytes());
        let number = match self.numbers.get(&digest) {
            Some(number) => *number,
            None => {
                self.given = self.given.saturating_add(1);
                if self.numbers.len() < Self::NUMBERS_MAX {
                    self.numbers.insert(digest, self.given);
                }
                self.given
            }
        };
        Candidate { text: stand_in(number, &candidate.text).into(), ..candidate.clone() }
    }

    /// The input with each candidate masked; `None` where it has none.
    #[must_use]
    pub fn masked_input(&mut self, input: &Input) -> Option<Input> {
        let signaling = if let Input::Signaling(
            link,
            SignalingEvent::Candidate { sender, body: Ok(candidate) },
        ) = input
        {
            let body = Ok(self.masked(candidate));
            Some(Input::Signaling(*link, SignalingEvent::Candidate { sender: *sender, body }))
        } else {
            None
        };
        if let Input::Peer(peer, PeerEvent::CandidateGathered(candidate)) = input {
            return Some(Input::Peer(*peer, PeerEvent::CandidateGathered(self.masked(candidate))));
        }
        signaling
    }

    /// The output with each candidate masked; `None` where it has none.
    #[must_use]
    pub fn masked_output(&mut self, output: &Output) -> Option<Output> {
        if let Output::Signaling(
            ticket,
            SignalingCommand::Send { link, message: Message::Candidate(candidate) },
        ) = output
        {
            let message = Message::Candidate(self.masked(candidate));
            return Some(Output::Signaling(
                *ticket,
                SignalingCommand::Send { link: *link, message },
            ));
        }
        if let Output::Peer(ticket, PeerCommand::AddCandidate { peer, candidate }) = output {
            let candidate = self.masked(candidate);
            return Some(Output::Peer(
                *ticket,
                PeerCommand::AddCandidate { peer: *peer, candidate },
            ));
        }
        None
    }
}

impl fmt::Debug for CandidateMask {
    /// What is kept here contains addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CandidateMask({} candidates)", self.numbers.len())
    }
}

/// RFC 8839, 5.1: foundation, component, transport, priority, address, port, `typ`, type.
fn stand_in(number: u32, text: &str) -> String {
    let known = |words: &[&'static str], found: Option<&str>| {
        let found = found.unwrap_or_default();
        words.iter().find(|word| found.eq_ignore_ascii_case(word)).copied().unwrap_or("-")
    };
    let protocol = known(&PROTOCOLS, text.split_whitespace().nth(2));
    let kind = known(&KINDS, text.split_whitespace().skip_while(|word| *word != "typ").nth(1));
    format!("@{number} {protocol} {kind}")
}

const PROTOCOLS: [&str; 3] = ["udp", "tcp", "-"];
const KINDS: [&str; 5] = ["host", "srflx", "prflx", "relay", "-"];

fn is_candidate_stand_in(text: &str) -> bool {
    let mut words = text.split(' ');
    // Journals of version 1 have a digest in place of the number.
    let named = words.next().is_some_and(|word| digest(word).is_some() || is_number(word));
    named
        && words.next().is_some_and(|word| PROTOCOLS.contains(&word))
        && words.next().is_some_and(|word| KINDS.contains(&word))
        && words.next().is_none()
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(SECRET)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if String::deserialize(from)? != SECRET {
            return Err(D::Error::custom("a secret does not belong here"));
        }
        Ok(Self::new(SECRET))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        digest(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("expected a digest"))
    }
}

/// `@7`
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('@').filter(|digits| digits.len() <= 10);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads what `Debug` of [`Digest`] writes.
fn digest(text: &str) -> Option<Digest> {
    let hex = text.strip_prefix('#').filter(|hex| hex.len() == 16)?;
    let lower = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    lower.then(|| u64::from_str_radix(hex, 16).ok()).flatten().map(Digest)
}

impl Serialize for ClientId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ClientId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ticket {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Timestamp {
    /// Seconds and all nine digits after them: a replay needs the very moment.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let at = self.since_origin();
        to.collect_str(&format_args!("{}.{:09}", at.as_secs(), at.subsec_nanos()))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        text.split_once('.')
            .filter(|(secs, nanos)| digits(secs) && digits(nanos) && nanos.len() == 9)
            .and_then(|(secs, nanos)| {
                Some(Self::new(Duration::new(secs.parse().ok()?, nanos.parse().ok()?)))
            })
            .ok_or_else(|| D::Error::custom("expected seconds with nine digits after the point"))
    }
}

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.settings().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Settings::deserialize(from)?.check().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Completion, ConnectionId, Description, Done, Failure, FailureCode, IceServer, PeerId,
        SdpSummary, Sender, Undecodable,
    };

    fn form(value: &impl Serialize) -> String {
        serde_json::to_string(value).expect("it can be written")
    }

    fn answer(text: &str) -> Input {
        let body = Ok(Description { sdp: Sdp::new(text), facts: SdpSummary::default() });
        Input::Signaling(ConnectionId(1), SignalingEvent::Answer { sender: Sender::Master, body })
    }

    fn candidate(text: &str) -> Candidate {
        Candidate { text: text.into(), mid: Some("0".into()), mline_index: None, ufrag: None }
    }

    fn servers() -> Input {
        let servers = alloc::vec![IceServer {
            uris: alloc::vec!["turn:1-2-3-4.t-0a.kinesisvideo.example:443?transport=udp".into()],
            username: Some(Secret::new("user-canary")),
            password: Some(Secret::new("pass-canary")),
        }];
        let ticket = Ticket { attempt: 1, seq: 2 };
        Input::Completed(Completion { ticket, outcome: Ok(Done::IceServers(servers)) })
    }

    // Shows: N26.
    #[test]
    fn nothing_secret_and_no_address_is_written() {
        let failure = Failure::new(
            FailureCode::Network,
            "connect to 10.9.8.7:443 and [fe80::1%eth0]:9, fe80::7, https://x/?X-Amz-Signature=canary",
        );
        let written = [
            form(&answer("v=0\r\na=ice-pwd:canary\r\nc=IN IP4 10.9.8.7\r\n")),
            form(&candidate("candidate:1 1 udp 9 10.9.8.7 9 typ srflx raddr 10.9.8.7 rport 1")),
            form(&servers()),
            form(&failure),
        ]
        .join("\n");
        for hidden in ["canary", "10.9.8.7", "1-2-3-4", "fe80"] {
            assert!(!written.contains(hidden), "{hidden} in {written}");
        }
        assert!(written.contains("udp srflx"), "{written}");
        assert!(written.contains("turn:(address):443?transport=udp"), "{written}");
    }

    #[test]
    fn what_was_written_is_read_and_written_the_same() {
        let undecodable = SignalingEvent::Answer { sender: Sender::Other, body: Err(Undecodable) };
        for input in [
            Input::Open,
            Input::Online(false),
            answer("v=0\r\n"),
            servers(),
            Input::Signaling(ConnectionId(3), undecodable),
            Input::Signaling(
                ConnectionId(1),
                SignalingEvent::Candidate { sender: Sender::Master, body: Ok(candidate("a=")) },
            ),
        ] {
            let once = form(&input);
            let read: Input = serde_json::from_str(&once).expect("it can be read");
            assert_eq!(form(&read), once);
        }
        let config = Settings::persistent().check().expect("valid");
        assert_eq!(serde_json::from_str::<Config>(&form(&config)).expect("read"), config);
        let at = Timestamp::new(Duration::new(12, 34));
        assert_eq!(form(&at), "\"12.000000034\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&form(&at)).expect("read"), at);
    }

    #[test]
    fn equal_texts_have_equal_stand_ins_and_others_have_not() {
        assert_eq!(form(&answer("v=0\r\na")), form(&answer("v=0\r\na")));
        assert_ne!(form(&answer("v=0\r\na")), form(&answer("v=0\r\nb")));
        let mut mask = CandidateMask::default();
        let (one, two) = (candidate("candidate:1"), candidate("candidate:2"));
        assert_eq!(form(&mask.masked(&one)), form(&mask.masked(&one)));
        assert_ne!(form(&mask.masked(&one)), form(&mask.masked(&two)));
    }

    /// N26: an address cannot be found by trying: the same candidates under other addresses have
    /// the same journal.
    #[test]
    fn n26_journal_form_of_a_candidate_hides_its_address() {
        let journal = |host: &str| {
            let mut mask = CandidateMask::default();
            let texts = [
                format!("candidate:1 1 udp 2113937151 {host}.7 4242 typ host"),
                format!(
                    "candidate:2 1 udp 1845501695 {host}.8 4243 typ srflx raddr {host}.7 rport 1"
                ),
            ];
            texts.map(|text| form(&mask.masked(&candidate(&text)))).join("\n")
        };
        assert_eq!(journal("192.168.1"), journal("10.20.30"));
        let unmasked = form(&candidate("candidate:1 1 udp 9 10.9.8.7 9 typ host"));
        assert_eq!(unmasked, form(&candidate("candidate:1 1 udp 9 10.9.8.6 9 typ host")));
        let debug = format!("{:?}", CandidateMask::default());
        assert_eq!(debug, "CandidateMask(0 candidates)");
    }

    #[test]
    fn mask_covers_every_input_and_output_with_a_candidate() {
        let mut mask = CandidateMask::default();
        let secret = || candidate("candidate:1 1 udp 9 10.9.8.7 9 typ host");
        let inputs = [
            Input::Signaling(
                ConnectionId(1),
                SignalingEvent::Candidate { sender: Sender::Master, body: Ok(secret()) },
            ),
            Input::Peer(PeerId(1), PeerEvent::CandidateGathered(secret())),
        ];
        for input in inputs {
            let masked = mask.masked_input(&input).expect("it has a candidate");
            assert!(form(&masked).contains("@1 udp host"), "{masked:?}");
        }
        let ticket = Ticket { attempt: 1, seq: 1 };
        let message = Message::Candidate(secret());
        let outputs = [
            Output::Signaling(ticket, SignalingCommand::Send { link: ConnectionId(1), message }),
            Output::Peer(
                ticket,
                PeerCommand::AddCandidate { peer: PeerId(1), candidate: secret() },
            ),
        ];
        for output in outputs {
            let masked = mask.masked_output(&output).expect("it has a candidate");
            assert!(form(&masked).contains("@1 udp host"), "{masked:?}");
        }
        assert_eq!(mask.masked_input(&Input::Open), None);
        for number in ["@", "@x", "@12345678901", "1"] {
            assert!(!is_number(number), "{number}");
        }
    }

    #[test]
    fn secret_is_refused_by_the_journal_form() {
        for bad in [
            "v=0",
            "#00 3 bytes",
            "#0123456789ABCDEF 3 bytes",
            "#0123456789abcdef",
            "#0123456789abcdef x bytes",
            "#0123456789abcdef 3 octets",
            "#0123456789abcdef 3 bytes more",
            "v=0 3 bytes",
        ] {
            assert!(serde_json::from_str::<Sdp>(&form(&bad)).is_err(), "{bad}");
            let written = form(&Sdp::new(bad));
            assert_ne!(written, form(&bad), "{bad} is not written as it is");
        }
        assert!(serde_json::from_str::<Sdp>("3").is_err());
        assert!(serde_json::from_str::<Secret>("\"open sesame\"").is_err());
        for bad in [
            "\"1\"",
            "\"+1.000000000\"",
            "\"1.+00000000\"",
            "\"1.5\"",
            "\"-1.000000000\"",
            "\"1.0000000000\"",
            "1.5",
        ] {
            assert!(serde_json::from_str::<Timestamp>(bad).is_err(), "{bad}");
        }
        let mut settings = Settings::one_retry();
        settings.retries = 5000;
        assert!(serde_json::from_str::<Config>(&form(&settings)).is_err());
    }

    #[test]
    fn candidate_is_read_as_it_was_written_and_in_no_other_form() {
        let real = candidate("candidate:1 1 udp 9 10.9.8.7 9 typ host");
        let once = form(&real);
        let read: Candidate = serde_json::from_str(&once).expect("it can be read");
        assert_eq!(form(&read), once);
        let end: Candidate = serde_json::from_str(&form(&candidate(""))).expect("the end");
        assert!(end.is_end());
        for bad in [
            "candidate:1 1 udp 9 10.9.8.7 9 typ host",
            "#0123456789abcdef",
            "#0123456789abcdef udp",
            "#0123456789abcdef udp host more",
            "#0123456789abcdef sctp host",
            "#0123456789abcdef udp guest",
            "#0123456789abcde udp host",
            "udp host",
        ] {
            let text = once.replacen(&*read.text, bad, 1);
            assert!(serde_json::from_str::<Candidate>(&text).is_err(), "{bad}");
            assert_ne!(form(&candidate(bad)), text, "{bad} is not written as it is");
        }
    }

    #[test]
    fn words_around_an_address_stay() {
        assert_eq!(
            without_addresses("tcp connect 127.0.0.1:80: refused (os error 111) at 12:30."),
            "tcp connect (address): refused (os error 111) at 12:30."
        );
        assert_eq!(
            without_addresses("host:1.2.3.4:5 udp:[::1]:5."),
            "host:(address) udp:(address)."
        );
        let masked = without_addresses("a 1.2.3.4, b");
        assert_eq!(without_addresses(&masked), masked);
    }
}
