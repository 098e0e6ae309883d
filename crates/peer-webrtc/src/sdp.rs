//! The few lines of a description that this crate itself writes or reads.

mod answer;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use negotiation_core::MediaKind;
use viewer_session::sdp::{Description, Kind, value_of};

pub(crate) use answer::{Fitted, Unfit, fit};

use crate::codec::Codec;

/// The most parameter sets of one format, and the most bytes of each: an encoder has one SPS and
/// one PPS, each of a few dozen bytes.
const PARAMETER_SETS_MAX: usize = 8;
const PARAMETER_SET_BYTES_MAX: usize = 1024;

/// One audio or video section of a description, with the formats that both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SectionFormats {
    pub(crate) mid: String,
    pub(crate) kind: MediaKind,
    /// Empty if the section is rejected.
    pub(crate) formats: Vec<Format>,
}

/// A payload type, its codec, and the parameter sets that the description gives for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) payload_type: u8,
    pub(crate) codec: Codec,
    /// `sprop-parameter-sets` (RFC 6184, 8.1): NAL units without start codes.
    pub(crate) parameter_sets: Vec<Vec<u8>>,
}

/// Returns the media sections of the remote offer.
pub(crate) fn offered_sections(offer: &str) -> Vec<SectionFormats> {
    let offer = Description::split(offer);
    let mut sections = Vec::new();
    for section in &offer.sections {
        let kind = match section.kind() {
            Kind::Audio => MediaKind::Audio,
            Kind::Video => MediaKind::Video,
            Kind::Application | Kind::Other => continue,
        };
        sections.push(SectionFormats {
            mid: section.mid().unwrap_or_default().to_owned(),
            kind,
            formats: answer::known_formats(section),
        });
    }
    sections
}

/// Decodes the parameter sets in a format's parameters; undecodable ones are left out.
fn parameter_sets(fmtp: &str) -> Vec<Vec<u8>> {
    const TOLERANT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let value = fmtp.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("sprop-parameter-sets").then_some(value)
    });
    let sets = value.unwrap_or_default().split(',').filter_map(|set| {
        let set = set.trim();
        if set.is_empty() || set.len() > PARAMETER_SET_BYTES_MAX * 4 / 3 + 4 {
            return None;
        }
        TOLERANT.decode(set).ok().filter(|set| !set.is_empty())
    });
    sets.take(PARAMETER_SETS_MAX).collect()
}

/// Returns the text to send for a description that the stack made.
///
/// - Adds `a=ice-options:trickle`: without it the KVS C SDK master answers only once it has
///   gathered all its candidates (10 s), and the stack never writes it.
/// - Removes the candidates: they are trickled once the other side's credentials are known here.
pub(crate) fn to_send(original: &str) -> String {
    let mut text = String::with_capacity(original.len() + 32);
    let mut reported = original.lines().any(|line| is_trickle(line.trim_end()));
    for line in original.lines().map(str::trim_end) {
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        text.push_str(line);
        text.push_str("\r\n");
        if !reported && line.starts_with("t=") {
            text.push_str("a=ice-options:trickle\r\n");
            reported = true;
        }
    }
    text
}

/// Returns the candidates of a description without repetitions: peers repeat them in every
/// section.
pub(crate) fn candidates(normal: &str) -> Vec<String> {
    let lines = Description::split(normal);
    let mut candidates: Vec<String> = Vec::new();
    for value in lines.all_attributes().filter(|a| value_of(a, "candidate").is_some()) {
        if candidates.iter().all(|known| known != value) {
            candidates.push(value.to_owned());
        }
    }
    candidates
}

/// Returns a remote offer in the form that the stack accepts, and its candidates. Answers are
/// rewritten by [`fit`] instead.
///
/// - Candidates are taken out, without repetitions: the stack would refuse the whole description
///   for one unreadable candidate, and peers repeat them in every section.
/// - If there is a SHA-256 fingerprint, only SHA-256 ones are kept, with the hash name in lower
///   case: the stack takes the first of a section, rejects different ones as conflicting, and does
///   not know that the name is case-insensitive (RFC 8122).
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

/// Returns an attribute as the stack parses it (rtc-sdp, `read_type` and `read_value`): a
/// candidate that is missed here would be used by the stack, whatever its address.
fn attribute(line: &str) -> Option<&str> {
    line.trim_start_matches(['\r', '\n']).strip_prefix("a=").map(str::trim)
}

/// Returns a fingerprint's hash and digest.
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

/// Returns the value of the first `a=NAME:VALUE` line.
pub(crate) fn first_value<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines()
        .find_map(|line| line.trim_end().strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// Returns an error text of the parser without secrets: it may quote a line with `a=ice-pwd`.
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
    fn sent_offer_trickles() {
        let sent = to_send(OFFER);
        assert!(sent.contains("t=0 0\r\na=ice-options:trickle\r\na=group"), "{sent}");
        assert!(!sent.contains("candidate"), "{sent}");
        assert_eq!(sent.matches("ice-options").count(), 1);
        assert_eq!(to_send(&sent), sent, "once is enough");
    }

    #[test]
    fn candidates_are_extracted_without_duplicates() {
        let twice = OFFER.repeat(2);
        let (text, candidates) = to_apply(&twice);
        assert_eq!(candidates, ["candidate:1 1 udp 1 127.0.0.1 9 typ host"]);
        assert_eq!(text, twice.replace("a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n", ""));
    }

    #[test]
    fn candidates_with_any_spacing_are_extracted() {
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
    fn sha_256_is_chosen_among_several_fingerprints() {
        let several = "a=fingerprint:sha-512 CC\r\na=fingerprint:SHA-256 aa:BB\r\na=mid:0\r\n";
        assert_eq!(to_apply(several).0, "a=fingerprint:sha-256 aa:BB\r\na=mid:0\r\n");
        // Without a SHA-256 fingerprint, the stack decides.
        let other = "a=fingerprint:sha-512 CC\na=fingerprint:broken";
        assert_eq!(to_apply(other).0, other);
    }

    #[test]
    fn first_attribute_value_is_returned() {
        assert_eq!(first_value(OFFER, "mid"), Some("7"));
        assert_eq!(first_value(OFFER, "ice-ufrag"), Some("uf"));
        assert_eq!(first_value(OFFER, "ice-pwd"), None);
    }

    #[test]
    fn payload_types_are_read_from_offer() {
        let offer = "m=audio 9 X 111 9\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 125 97 96\r\n\
            a=mid:v\r\na=rtpmap:125 h264/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=125\r\n\
            a=fmtp:125 sprop-parameter-sets=Z0IAH5WoFAFuQA==,aM4G4g==,%\r\na=rtpmap:96\r\n";
        let [audio, video] = &offered_sections(offer)[..] else { panic!("two sections") };
        assert_eq!((audio.kind, audio.formats.len()), (MediaKind::Audio, 1));
        assert_eq!((video.kind, video.mid.as_str()), (MediaKind::Video, "v"));
        let [h264] = &video.formats[..] else { panic!("{video:?}") };
        assert_eq!((h264.payload_type, h264.codec), (125, Codec::H264));
        assert_eq!(h264.parameter_sets.len(), 2);
        assert_eq!(h264.parameter_sets[1], [0x68, 0xce, 0x06, 0xe2]);
    }

    #[test]
    fn parameter_sets_are_bounded() {
        let many = format!("sprop-parameter-sets={}", "Z0I=,".repeat(1000));
        assert_eq!(parameter_sets(&many).len(), PARAMETER_SETS_MAX);
        let long = format!("a=b; Sprop-Parameter-Sets={},aM4G4g", "A".repeat(9000));
        assert_eq!(parameter_sets(&long), [vec![0x68, 0xce, 0x06, 0xe2]]);
    }

    #[test]
    fn parser_error_does_not_reveal_secrets() {
        let reported = complaint(&"bad line: a=ice-pwd:canary");
        assert!(!reported.contains("canary"), "{reported}");
    }
}
