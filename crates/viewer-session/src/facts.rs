//! What adapters read out of descriptions and candidates for the core, which never parses SDP.

use std::collections::BTreeSet;

use negotiation_core::{
    Description, Digest, MediaKind, MediaSection, Sdp, SdpSummary, Undecodable,
};

pub use crate::sdp::SDP_BYTES_MAX;
use crate::sdp::{self, Kind, SECTIONS_MAX, Section, value_of};

/// Reads a description that came from outside. Its text is normalized ([`sdp::normalize`]), so that
/// the facts and the peer stack read the same lines.
///
/// A description without a media section is read too: it accepts nothing, and that is what the
/// session reports.
///
/// # Errors
/// The text is empty, too long, or does not begin as SDP does.
pub fn read_description(text: &str) -> Result<Description, Undecodable> {
    if text.len() > SDP_BYTES_MAX {
        return Err(Undecodable);
    }
    let text = sdp::normalize(text).ok_or(Undecodable)?;
    let lines = sdp::Description::split(&text);
    if lines.sections.len() > SECTIONS_MAX {
        return Err(Undecodable);
    }
    let facts = facts(&lines);
    Ok(Description { sdp: Sdp::new(&text), facts })
}

fn facts(lines: &sdp::Description<'_>) -> SdpSummary {
    let mut fingerprints: Vec<String> = Vec::new();
    for line in lines.all_attributes().filter_map(|a| value_of(a, "fingerprint")) {
        if fingerprints.iter().all(|known| known != line) {
            fingerprints.push(line.to_owned());
        }
    }
    // Peers repeat them in every section.
    let candidates: BTreeSet<_> =
        lines.all_attributes().filter_map(|a| value_of(a, "candidate")).collect();
    SdpSummary {
        ice_ufrag: lines.transport("ice-ufrag").map(str::to_owned),
        ice_pwd: lines.transport("ice-pwd").map(|pwd| Digest::of(pwd.as_bytes())),
        fingerprints,
        media: lines.sections.iter().filter_map(|s| section(lines, s)).collect(),
        candidates: u16::try_from(candidates.len()).unwrap_or(u16::MAX),
        video_codecs: video_codecs(lines),
    }
}

/// Most codecs that are named, and the longest name.
const CODECS_MAX: usize = 16;
const CODEC_NAME_MAX: usize = 32;

/// The names in `a=rtpmap:98 VP8/90000` of the video sections, without retransmission and error
/// correction.
fn video_codecs(lines: &sdp::Description<'_>) -> Vec<String> {
    const HELPERS: [&str; 4] = ["rtx", "red", "ulpfec", "flexfec-03"];
    let video = lines.sections.iter().filter(|section| section.kind() == Kind::Video);
    let maps = video.flat_map(|section| &section.attributes).filter_map(|a| value_of(a, "rtpmap"));
    let mut names: Vec<String> = Vec::new();
    for map in maps {
        let name = map.split_whitespace().nth(1).and_then(|codec| codec.split('/').next());
        let Some(name) = name.filter(|name| name.len() <= CODEC_NAME_MAX) else { continue };
        let helps = HELPERS.iter().any(|helper| name.eq_ignore_ascii_case(helper));
        let printable = name.chars().all(|c| c.is_ascii_graphic());
        if printable && !helps && names.len() < CODECS_MAX && !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn section(lines: &sdp::Description<'_>, section: &Section<'_>) -> Option<MediaSection> {
    let kind = match section.kind() {
        Kind::Audio => MediaKind::Audio,
        Kind::Video => MediaKind::Video,
        Kind::Application => MediaKind::Data,
        Kind::Other => return None,
    };
    Some(MediaSection {
        kind,
        mid: section.mid().map(str::to_owned),
        accepted: lines.is_accepted(section),
        sends: kind == MediaKind::Data || lines.direction(section).sends,
    })
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
    fn answer_gives_its_facts() {
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
    fn sections_own_direction_counts_before_the_sessions() {
        let facts = |text: &str| read_description(text).expect("valid").facts;
        let session = ANSWER.replace("t=0 0\r\n", "t=0 0\r\na=inactive\r\n");
        assert!(facts(&session).sends(MediaKind::Video));
        let none = session.replace("a=sendonly\r\n", "");
        assert!(!facts(&none).sends(MediaKind::Video));
    }

    #[test]
    fn every_line_end_gives_the_same_description() {
        let plain = read_description(ANSWER);
        for end in ["\n", "\r\r\n", " \r\n", "\\r\\n", "\0\r\n"] {
            assert_eq!(read_description(&ANSWER.replace("\r\n", end)), plain, "{end:?}");
        }
    }

    /// Contract 8 and 9: such an answer accepts nothing, which is not the same as unreadable.
    #[test]
    fn description_without_a_section_is_read() {
        let head = ANSWER.split("m=video").next().expect("a head");
        for text in [head, "v=0\r\n"] {
            assert!(read_description(text).expect("read").facts.media.is_empty(), "{text}");
        }
    }

    #[test]
    fn video_codecs_are_named_once_and_in_order() {
        let maps = "a=rtpmap:102 H264/90000\r\na=rtpmap:103 rtx/90000\r\n\
            a=rtpmap:104 H264/90000\r\na=rtpmap:98 VP8/90000\r\na=sendonly\r\n";
        let text = ANSWER.replace("a=sendonly\r\n", maps);
        let facts = read_description(&text).expect("valid").facts;
        assert_eq!(facts.video_codecs, ["H264", "VP8"]);
        assert_eq!(read_description(ANSWER).expect("valid").facts.video_codecs, [""; 0]);
    }

    #[test]
    fn nonsense_is_undecodable() {
        for text in ["", " ", "hello", "{}", &"v=0\r\n".repeat(10_000)] {
            assert_eq!(read_description(text), Err(Undecodable), "{:.20}", text);
        }
    }
}
