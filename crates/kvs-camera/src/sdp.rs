//! The few lines of descriptions that a master itself writes or reads.

/// The most codec names of a viewer that are quoted, and the most characters of one.
const NAMES_MAX: usize = 16;
const NAME_MAX: usize = 32;

/// Returns whether an offer announces that candidates may come later.
pub(crate) fn trickles(offer: &str) -> bool {
    let mut options =
        offer.lines().filter_map(|line| line.trim_end().strip_prefix("a=ice-options:"));
    options.any(|options| options.split(' ').any(|option| option == "trickle"))
}

/// Returns whether an offer lists a codec, by the name in its `a=rtpmap` line (in any case, RFC
/// 4855).
pub(crate) fn lists_codec(offer: &str, name: &str) -> bool {
    offer
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("a=rtpmap:")?.split_once(' '))
        .filter_map(|(_, encoding)| encoding.split('/').next())
        .any(|encoding| encoding.eq_ignore_ascii_case(name))
}

/// Returns the codecs that an offer lists for a kind of media (`video`, `audio`), by the names in
/// its `a=rtpmap` lines. Formats that only repair or wrap others are left out.
pub(crate) fn offered_codecs(offer: &str, kind: &str) -> Vec<String> {
    const REPAIR: [&str; 6] = ["rtx", "red", "ulpfec", "flexfec-03", "telephone-event", "CN"];
    let mut found: Vec<String> = Vec::new();
    let mut is_wanted = false;
    for line in offer.lines().map(str::trim_end) {
        if let Some(section) = line.strip_prefix("m=") {
            is_wanted = section.split(' ').next() == Some(kind);
        }
        let name = line.strip_prefix("a=rtpmap:").and_then(|map| map.split_once(' '));
        let Some((_, encoding)) = name.filter(|_| is_wanted) else { continue };
        let name: String = encoding.chars().take_while(|c| *c != '/').take(NAME_MAX).collect();
        let is_known = found.iter().any(|known| known.eq_ignore_ascii_case(&name));
        let is_repair = REPAIR.iter().any(|repair| repair.eq_ignore_ascii_case(&name));
        if !is_known && !is_repair && found.len() < NAMES_MAX {
            found.push(name);
        }
    }
    found
}

/// Rejects the sections of an answer that are of these kinds (RFC 3264, 6): sets port 0, and
/// removes them from the BUNDLE group (RFC 8843, 7.3.3).
pub(crate) fn reject(answer: &str, kinds: &[&str]) -> String {
    let is_rejected = |section: &str| {
        let kind = section.strip_prefix("m=").and_then(|rest| rest.split(' ').next());
        kind.is_some_and(|kind| kinds.contains(&kind))
    };
    let sections = sections(answer);
    let mids: Vec<&str> =
        sections.iter().filter(|section| is_rejected(section)).filter_map(|s| mid(s)).collect();
    let mut text = String::with_capacity(answer.len());
    for section in &sections {
        if !is_rejected(section) {
            for line in section.lines().map(str::trim_end) {
                match line.strip_prefix("a=group:BUNDLE") {
                    Some(group) => {
                        let kept = group.split_whitespace().filter(|mid| !mids.contains(mid));
                        let kept: Vec<&str> = kept.collect();
                        if !kept.is_empty() {
                            push_line(&mut text, &format!("a=group:BUNDLE {}", kept.join(" ")));
                        }
                    }
                    None => push_line(&mut text, line),
                }
            }
            continue;
        }
        for line in section.lines().map(str::trim_end) {
            let mut words = line.splitn(3, ' ');
            if let (true, Some(kind), Some(_), Some(rest)) =
                (line.starts_with("m="), words.next(), words.next(), words.next())
            {
                push_line(&mut text, &format!("{kind} 0 {rest}"));
                push_line(&mut text, "c=IN IP4 0.0.0.0");
            } else if line.starts_with("a=mid:") {
                push_line(&mut text, line);
                push_line(&mut text, "a=inactive");
            }
        }
    }
    text
}

/// Returns the mid and index of the first accepted section, to which the answer's candidates
/// belong.
pub(crate) fn first_accepted(answer: &str) -> (Option<String>, u16) {
    let sections = sections(answer);
    let media = sections.iter().filter(|section| section.starts_with("m="));
    let accepted = media.enumerate().find(|(_, section)| section.split(' ').nth(1) != Some("0"));
    match accepted {
        Some((index, section)) => {
            (mid(section).map(str::to_owned), u16::try_from(index).unwrap_or_default())
        }
        None => (None, 0),
    }
}

/// Splits a description into the session part and each media section.
fn sections(description: &str) -> Vec<&str> {
    let starts = description.match_indices("\nm=").map(|(at, _)| at + 1);
    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([description.len()]);
    starts.iter().zip(ends).filter_map(|(start, end)| description.get(*start..end)).collect()
}

fn mid(section: &str) -> Option<&str> {
    section.lines().find_map(|line| line.trim_end().strip_prefix("a=mid:"))
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

/// Returns the ICE user name fragment of a description.
pub(crate) fn ice_ufrag(description: &str) -> Option<&str> {
    description.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:"))
}

/// Adds the candidates to each section of an answer, and marks that no more follow.
pub(crate) fn with_candidates(answer: &str, candidates: &[String]) -> String {
    let mut text = String::with_capacity(answer.len() + candidates.len() * 200);
    let mut in_section = false;
    let end_section = |text: &mut String, in_section: bool| {
        if in_section {
            for candidate in candidates {
                text.push_str(&format!("a={candidate}\r\n"));
            }
            text.push_str("a=end-of-candidates\r\n");
        }
    };
    for line in answer.lines().map(str::trim_end) {
        if line.starts_with("a=ice-options:") {
            continue;
        }
        if line.starts_with("m=") {
            end_section(&mut text, in_section);
            in_section = true;
        }
        text.push_str(line);
        text.push_str("\r\n");
    }
    end_section(&mut text, in_section);
    text
}

/// Returns a parser's error text without secrets: it may quote a line.
pub(crate) fn without_secrets(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let lower = text.to_ascii_lowercase();
    if ["ice-pwd", "crypto:", "credential", "password"].iter().any(|word| lower.contains(word)) {
        return "it breaks in a line that holds a secret".to_owned();
    }
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\nt=0 0\r\na=ice-options:trickle\r\nm=audio 9 X 1\r\na=mid:0\r\n\
        a=ice-ufrag:abcd\r\nm=video 9 X 2\r\na=mid:1\r\n";

    #[test]
    fn candidates_are_added_to_each_answer_section() {
        let text = with_candidates(ANSWER, &["candidate:1 1 udp 1 127.0.0.1 9 typ host".into()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(text.matches("a=candidate:1 ").count(), 2);
        assert_eq!(lines.last(), Some(&"a=end-of-candidates"));
        let video = lines.iter().position(|line| line.starts_with("m=video")).expect("there");
        assert_eq!(lines[video - 1], "a=end-of-candidates");
        assert!(!trickles(&text));
    }

    #[test]
    fn rejected_section_has_port_0_and_no_place_in_the_bundle() {
        let answer = "v=0\r\na=group:BUNDLE 0 1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n\
            c=IN IP4 1.2.3.4\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=candidate:1 1 udp 1 x 9\r\n\
            a=rtpmap:96 VP8/90000\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\n\
            a=ice-ufrag:abcd\r\na=sendonly\r\n";
        let rejected = reject(answer, &["video"]);
        let expected = "v=0\r\na=group:BUNDLE 1\r\nm=video 0 UDP/TLS/RTP/SAVPF 96 97\r\n\
            c=IN IP4 0.0.0.0\r\na=mid:0\r\na=inactive\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
            a=mid:1\r\na=ice-ufrag:abcd\r\na=sendonly\r\n";
        assert_eq!(rejected, expected);
        assert_eq!(first_accepted(&rejected), (Some("1".to_owned()), 1));
        assert_eq!(first_accepted(answer), (Some("0".to_owned()), 0));
        assert_eq!(reject(answer, &[]), answer);
        let nothing = reject(answer, &["video", "audio"]);
        assert!(!nothing.contains("BUNDLE") && nothing.matches(" 0 UDP").count() == 2, "{nothing}");
        assert_eq!(first_accepted(&nothing), (None, 0));
    }

    #[test]
    fn offered_codecs_are_named_by_kind_and_bounded() {
        let offer = "v=0\r\nm=audio 9 X 111 8\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 X 96\r\n\
            a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=rtpmap:98 VP8/90000\r\n\
            a=rtpmap:99 AV1/90000\r\n";
        assert_eq!(offered_codecs(offer, "video"), ["VP8", "AV1"]);
        assert_eq!(offered_codecs(offer, "audio"), ["opus"]);
        let many: String =
            (0..100).map(|n| format!("a=rtpmap:{n} C{n}{}/9\r\n", "x".repeat(99))).collect();
        let names = offered_codecs(&format!("m=video 9 X 1\r\n{many}"), "video");
        assert_eq!((names.len(), names[0].len()), (NAMES_MAX, NAME_MAX));
    }

    #[test]
    fn description_lines_are_parsed() {
        assert!(trickles(ANSWER));
        assert!(trickles("a=ice-options:ice2 trickle"));
        assert!(!trickles("a=ice-options:renomination"));
        assert_eq!(ice_ufrag(ANSWER), Some("abcd"));
        assert!(lists_codec("a=rtpmap:96 h264/90000\r\n", "H264"));
        assert!(!lists_codec("a=rtpmap:96 H264/90000\r\na=fmtp:96 VP8/1", "VP8"));
    }

    #[test]
    fn parser_errors_do_not_reveal_secrets() {
        assert!(!without_secrets(&"bad line a=ice-pwd:hunter2").contains("hunter2"));
        assert_eq!(without_secrets(&"bad line\r\nm=x"), "bad linem=x");
    }
}
