//! The few lines of a description that this crate writes or reads itself.

use crate::codec::Codec;

/// Payload types have seven bits.
const PAYLOAD_TYPES_MAX: usize = 128;

/// The text to send for a description that the stack made.
///
/// - `a=ice-options:trickle` is added: without it the KVS C SDK master answers only once it has
///   gathered all its candidates (10 s), and the stack never writes it.
/// - Candidates go: they trickle, once the other side's credentials are known here.
pub(crate) fn to_send(original: &str) -> String {
    let mut text = String::with_capacity(original.len() + 32);
    let mut told = original.lines().any(|line| is_trickle(line.trim_end()));
    for line in original.lines().map(str::trim_end) {
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        text.push_str(line);
        text.push_str("\r\n");
        if !told && line.starts_with("t=") {
            text.push_str("a=ice-options:trickle\r\n");
            told = true;
        }
    }
    text
}

/// A description of the other side's as the stack can take it, and its candidates.
///
/// - Candidates are taken out, each once: the stack would refuse the whole description for one that
///   it cannot read, and peers repeat them in every section.
/// - Of a certificate's fingerprints the SHA-256 alone is kept, wherever there is one, with its
///   hash's name in lower case: the stack takes the first of a section, calls others conflicting,
///   and does not know that the name may have any case (RFC 8122).
pub(crate) fn to_apply(original: &str) -> (String, Vec<String>) {
    let mut text = String::with_capacity(original.len());
    let mut candidates: Vec<String> = Vec::new();
    let has_sha256 = original.lines().filter_map(fingerprint).any(|(hash, _)| is_sha256(hash));
    for line in original.split_inclusive('\n') {
        let trimmed = line.trim_end();
        if let Some(candidate) = attribute(line).filter(|a| a.starts_with("candidate:")) {
            if candidates.iter().all(|known| known != candidate) {
                candidates.push(candidate.to_owned());
            }
        } else if let Some((hash, digest)) = fingerprint(trimmed).filter(|_| has_sha256) {
            if is_sha256(hash) {
                text.push_str("a=fingerprint:sha-256 ");
                text.push_str(digest);
                text.push_str(&line[trimmed.len()..]);
            }
        } else {
            text.push_str(line);
        }
    }
    (text, candidates)
}

/// An attribute as the stack reads it (rtc-sdp, `read_type` and `read_value`): what is left of a
/// candidate here would be tried by the stack, whatever its address.
fn attribute(line: &str) -> Option<&str> {
    line.trim_start_matches(['\r', '\n']).strip_prefix("a=").map(str::trim)
}

/// A fingerprint's hash and digest.
fn fingerprint(line: &str) -> Option<(&str, &str)> {
    line.trim_end().strip_prefix("a=fingerprint:")?.split_once(' ')
}

fn is_sha256(hash: &str) -> bool {
    hash.eq_ignore_ascii_case("sha-256")
}

fn is_trickle(line: &str) -> bool {
    line.strip_prefix("a=ice-options:")
        .is_some_and(|options| options.split(' ').any(|option| option == "trickle"))
}

/// The value of the first `a=NAME:VALUE` line.
pub(crate) fn first_value<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines()
        .find_map(|line| line.trim_end().strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// What the payload types of an offer mean, as far as this crate knows the codecs.
pub(crate) fn payload_types(offer: &str) -> Vec<(u8, Codec)> {
    offer.lines().filter_map(|line| payload_type(line.trim_end())).take(PAYLOAD_TYPES_MAX).collect()
}

/// `a=rtpmap:102 H264/90000`
fn payload_type(line: &str) -> Option<(u8, Codec)> {
    let (number, rest) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
    let name = rest.split('/').next()?;
    let codec = Codec::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))?;
    Some((number.parse().ok()?, codec))
}

/// A parser's complaint without what must not be printed: it may quote a line with `a=ice-pwd`.
pub(crate) fn complaint(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let secret = ["ice-pwd", "crypto:", "credential", "password"];
    let lower = text.to_ascii_lowercase();
    if secret.iter().any(|word| lower.contains(word)) {
        return "it breaks in a line that holds a secret".to_owned();
    }
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rtc::sdp::description::session::SessionDescription;

    use super::*;

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 102\r\na=mid:7\r\na=ice-ufrag:uf\r\n\
        a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\na=recvonly\r\n";

    #[test]
    fn a_sent_offer_trickles() {
        let sent = to_send(OFFER);
        assert!(sent.contains("t=0 0\r\na=ice-options:trickle\r\na=group"), "{sent}");
        assert!(!sent.contains("candidate"), "{sent}");
        assert_eq!(sent.matches("ice-options").count(), 1);
        assert_eq!(to_send(&sent), sent, "once is enough");
    }

    #[test]
    fn candidates_are_taken_out_once() {
        let twice = OFFER.repeat(2);
        let (text, candidates) = to_apply(&twice);
        assert_eq!(candidates, ["candidate:1 1 udp 1 127.0.0.1 9 typ host"]);
        assert_eq!(text, twice.replace("a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n", ""));
    }

    #[test]
    fn candidates_are_taken_out_however_they_are_spaced() {
        let session = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 102\r\n";
        let candidate = "candidate:1 1 udp 1 127.0.0.1 9 typ host";
        for line in ["a=", "a= ", "a=\t", "a=\u{a0}", "\ra=", "\r\ra=\u{b}"] {
            for end in ["\n", "\r\n", " \r\n", ""] {
                let text = format!("{session}{line}{candidate}{end}");
                let stack = SessionDescription::unmarshal(&mut Cursor::new(&text));
                let attributes = &stack.expect("readable").media_descriptions[0].attributes;
                assert!(attributes[0].is_ice_candidate(), "the stack finds it: {line:?}");
                assert_eq!(to_apply(&text), (session.to_owned(), vec![candidate.to_owned()]));
            }
        }
    }

    #[test]
    fn of_several_fingerprints_the_sha_256_is_applied() {
        let several = "a=fingerprint:sha-512 CC\r\na=fingerprint:SHA-256 aa:BB\r\na=mid:0\r\n";
        assert_eq!(to_apply(several).0, "a=fingerprint:sha-256 aa:BB\r\na=mid:0\r\n");
        // Where there is none, the stack decides.
        let other = "a=fingerprint:sha-512 CC\na=fingerprint:broken";
        assert_eq!(to_apply(other).0, other);
    }

    #[test]
    fn values_are_found() {
        assert_eq!(first_value(OFFER, "mid"), Some("7"));
        assert_eq!(first_value(OFFER, "ice-ufrag"), Some("uf"));
        assert_eq!(first_value(OFFER, "ice-pwd"), None);
    }

    #[test]
    fn payload_types_are_those_of_the_offer() {
        let offer = "a=rtpmap:111 opus/48000/2\r\na=rtpmap:125 h264/90000\na=rtpmap:97 rtx/90000\n\
            a=rtpmap:300 VP8/90000\na=rtpmap:x VP8/90000\na=rtpmap:9\n";
        assert_eq!(payload_types(offer), [(111, Codec::Opus), (125, Codec::H264)]);
    }

    #[test]
    fn a_complaint_keeps_secrets() {
        let told = complaint(&"bad line: a=ice-pwd:canary");
        assert!(!told.contains("canary"), "{told}");
    }
}
