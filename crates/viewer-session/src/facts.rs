//! What adapters read out of descriptions and candidates for the core, which never parses SDP.

use std::collections::BTreeSet;

use negotiation_core::{Description, Digest, Facts, MediaFact, MediaKind, Sdp, Undecodable};
use sdp_types::{Attribute, Media, Session};

/// Longest description taken, in bytes. The service carries 10 kB of payload; the C SDK takes
/// 25 000 characters.
pub const SDP_BYTES_MAX: usize = 25_000;

/// Most media sections taken.
const SECTIONS_MAX: usize = 64;

/// Reads a description that came from outside.
///
/// # Errors
/// The text is empty, too long, or no SDP.
pub fn read_description(text: &str) -> Result<Description, Undecodable> {
    if text.trim().is_empty() || text.len() > SDP_BYTES_MAX {
        return Err(Undecodable);
    }
    let session = Session::parse(text.as_bytes()).map_err(|_| Undecodable)?;
    if session.medias.is_empty() || session.medias.len() > SECTIONS_MAX {
        return Err(Undecodable);
    }
    Ok(Description { sdp: Sdp::new(text), facts: facts(&session) })
}

fn facts(session: &Session) -> Facts {
    let all = || {
        let sections = session.medias.iter().map(|media| media.attributes.as_slice());
        core::iter::once(session.attributes.as_slice()).chain(sections)
    };
    let first = |name: &str| all().find_map(|attributes| value(attributes, name));
    let mut fingerprints: Vec<String> = Vec::new();
    for line in all().flatten().filter(|a| a.attribute == "fingerprint") {
        let line = line.value.clone().unwrap_or_default();
        if !fingerprints.contains(&line) {
            fingerprints.push(line);
        }
    }
    // Peers repeat them in every section.
    let candidates: BTreeSet<_> =
        all().flatten().filter(|a| a.attribute == "candidate").map(|a| &a.value).collect();
    Facts {
        ice_ufrag: first("ice-ufrag").map(str::to_owned),
        ice_pwd: first("ice-pwd").map(|pwd| Digest::of(pwd.as_bytes())),
        fingerprints,
        media: session.medias.iter().filter_map(|m| section(session, m)).collect(),
        candidates: u16::try_from(candidates.len()).unwrap_or(u16::MAX),
    }
}

fn section(session: &Session, media: &Media) -> Option<MediaFact> {
    let kind = match media.media.as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "application" => MediaKind::Data,
        _ => return None,
    };
    let has = |name: &str| media.attributes.iter().any(|a| a.attribute == name);
    // RFC 8843: a bundled section may have port 0 and still be alive when it says bundle-only.
    let direction = direction(&media.attributes).or_else(|| direction(&session.attributes));
    let carries = kind == MediaKind::Data || direction != Some("inactive");
    let accepted = (media.port != 0 || has("bundle-only")) && carries;
    let sends = kind == MediaKind::Data || !matches!(direction, Some("recvonly" | "inactive"));
    Some(MediaFact {
        kind,
        mid: value(&media.attributes, "mid").map(str::to_owned),
        accepted,
        sends,
    })
}

/// What a section's own direction says, or the session's where it has none (RFC 8866, 6.7).
fn direction(attributes: &[Attribute]) -> Option<&str> {
    const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let names = attributes.iter().map(|a| a.attribute.as_str());
    names.into_iter().find(|name| DIRECTIONS.contains(name))
}

fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.attribute == name).and_then(|a| a.value.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=fingerprint:sha-256 AA:BB\r\na=group:BUNDLE 0 1\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:uf\r\n\
        a=ice-pwd:secretpassword\r\na=sendonly\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=inactive\r\n";

    #[test]
    fn an_answer_gives_its_facts() {
        let description = read_description(ANSWER).expect("valid");
        let facts = description.facts;
        assert_eq!(facts.ice_ufrag.as_deref(), Some("uf"));
        assert_eq!(facts.fingerprints, ["sha-256 AA:BB"]);
        assert_eq!(facts.candidates, 1);
        assert!(facts.sends(MediaKind::Video));
        assert!(!facts.sends(MediaKind::Audio));
        assert!(!facts.refuses_everything());
        let repeated = format!("{ANSWER}a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n");
        let facts = read_description(&repeated).expect("valid").facts;
        assert_eq!(facts.candidates, 1, "each counts once");
    }

    /// Scenario 9: a data channel alone is not what anybody watches.
    #[test]
    fn media_that_is_refused_or_inactive_is_nothing_whatever_the_data_channel_is() {
        const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
            c=IN IP4 0.0.0.0\r\na=mid:2\r\n";
        let facts = |text: &str| read_description(text).expect("valid").facts;
        let with_data = format!("{ANSWER}{DATA}");
        assert!(!facts(&with_data).refuses_everything());
        assert!(facts(&with_data.replace("m=video 9", "m=video 0")).refuses_everything());
        assert!(facts(&with_data.replace("sendonly", "inactive")).refuses_everything());
        let head = ANSWER.split("m=video").next().expect("a head");
        let data_alone = format!("{head}{DATA}");
        assert!(!facts(&data_alone).refuses_everything());
        assert!(facts(&data_alone.replace("application 9", "application 0")).refuses_everything());
    }

    #[test]
    fn a_sections_own_direction_counts_before_the_sessions() {
        let facts = |text: &str| read_description(text).expect("valid").facts;
        let session = ANSWER.replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n");
        assert!(facts(&session).sends(MediaKind::Video));
        let none = session.replace("a=sendonly\r\n", "");
        assert!(!facts(&none).sends(MediaKind::Video));
    }

    #[test]
    fn lf_line_ends_are_taken() {
        assert!(read_description(&ANSWER.replace("\r\n", "\n")).is_ok());
    }

    #[test]
    fn nonsense_is_undecodable() {
        for text in ["", " ", "hello", "{}", "v=0\r\n", &"v=0\r\n".repeat(10_000)] {
            assert_eq!(read_description(text), Err(Undecodable), "{:.20}", text);
        }
    }
}
