//! The few lines of descriptions that a master writes or reads itself.

/// Whether an offer says that candidates may come later.
pub(crate) fn trickles(offer: &str) -> bool {
    let mut options =
        offer.lines().filter_map(|line| line.trim_end().strip_prefix("a=ice-options:"));
    options.any(|options| options.split(' ').any(|option| option == "trickle"))
}

/// Whether an offer lists a codec, by the name of its `a=rtpmap` line (in any case, RFC 4855).
pub(crate) fn lists_codec(offer: &str, name: &str) -> bool {
    offer
        .lines()
        .filter_map(|line| line.trim_end().strip_prefix("a=rtpmap:")?.split_once(' '))
        .filter_map(|(_, encoding)| encoding.split('/').next())
        .any(|encoding| encoding.eq_ignore_ascii_case(name))
}

/// The ICE user name of a description.
pub(crate) fn ice_ufrag(description: &str) -> Option<&str> {
    description.lines().find_map(|line| line.trim_end().strip_prefix("a=ice-ufrag:"))
}

/// An answer that holds its candidates, at the end of each section, and says there are no more.
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

/// What a parser complains of, without what must not be printed: it may quote a line.
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
    fn an_answer_can_hold_its_candidates() {
        let text = with_candidates(ANSWER, &["candidate:1 1 udp 1 127.0.0.1 9 typ host".into()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(text.matches("a=candidate:1 ").count(), 2);
        assert_eq!(lines.last(), Some(&"a=end-of-candidates"));
        let video = lines.iter().position(|line| line.starts_with("m=video")).expect("there");
        assert_eq!(lines[video - 1], "a=end-of-candidates");
        assert!(!trickles(&text));
    }

    #[test]
    fn lines_are_found() {
        assert!(trickles(ANSWER));
        assert!(trickles("a=ice-options:ice2 trickle"));
        assert!(!trickles("a=ice-options:renomination"));
        assert_eq!(ice_ufrag(ANSWER), Some("abcd"));
        assert!(lists_codec("a=rtpmap:96 h264/90000\r\n", "H264"));
        assert!(!lists_codec("a=rtpmap:96 H264/90000\r\na=fmtp:96 VP8/1", "VP8"));
    }

    #[test]
    fn complaints_keep_secrets() {
        assert!(!without_secrets(&"bad line a=ice-pwd:hunter2").contains("hunter2"));
        assert_eq!(without_secrets(&"bad line\r\nm=x"), "bad linem=x");
    }
}
