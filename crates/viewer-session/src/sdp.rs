//! A tolerant reading of SDP text, shared by everything that reads descriptions.
//!
//! [`normalize`] runs once, where a description arrives, so that the facts, the digest and the peer
//! stack see the same lines. [`Description`] then splits those lines into the session part and the
//! media sections. Neither fails: what is missing is reported as absent, and the caller decides.

/// Longest description read, in bytes. The service carries 10 kB of payload; the C SDK accepts
/// 25 000 characters.
pub const SDP_BYTES_MAX: usize = 25_000;

/// Most media sections read.
pub const SECTIONS_MAX: usize = 64;

/// Rewrites a description so that each line is `x=value` and ends with CR LF.
///
/// Removes a byte order mark, NULs, blank lines, blanks around a line and after `x=`, and lines
/// that are not `x=value`; accepts any mix of CR and LF as line end, and line ends written out as
/// `\r\n` (a description that was escaped twice). Returns `None` when nothing is left or the first
/// line is not `v=`. Normalizing twice changes nothing.
pub fn normalize(text: &str) -> Option<String> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let unquoted = text.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest));
    let unescaped = unescape_line_ends(unquoted.unwrap_or(text));
    let mut normal = String::with_capacity(unescaped.len() + 16);
    for line in unescaped.split(['\r', '\n']) {
        let line: String = line.chars().filter(|c| *c != '\0').collect();
        let Some((kind, value)) = line_parts(&line) else { continue };
        if normal.is_empty() && kind != 'v' {
            return None;
        }
        normal.push(kind);
        normal.push('=');
        normal.push_str(value);
        normal.push_str("\r\n");
    }
    (!normal.is_empty()).then_some(normal)
}

/// `x=value`, with a letter for the type.
fn line_parts(line: &str) -> Option<(char, &str)> {
    let line = line.trim();
    let kind = line.chars().next().filter(char::is_ascii_lowercase)?;
    let value = line.get(1..)?.strip_prefix('=')?;
    Some((kind, value.trim()))
}

/// Replaces `\r\n`, `\n` and `\r` that are written out with the characters they stand for, where a
/// line can end: before the end of the text, a line end, or the next `x=`.
fn unescape_line_ends(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let mut after = from;
        let mut count = 0;
        while let Some(next) = after.strip_prefix("\\r").or_else(|| after.strip_prefix("\\n")) {
            after = next;
            count += 1;
        }
        if count > 0 && is_line_end(after) {
            out.push_str("\r\n");
            rest = after;
        } else {
            out.push('\\');
            rest = &from[1..];
        }
    }
    out.push_str(rest);
    out
}

fn is_line_end(rest: &str) -> bool {
    let mut chars = rest.trim_start_matches([' ', '\t', '\0']).chars();
    match (chars.next(), chars.next()) {
        (None | Some('\r' | '\n'), _) => true,
        (Some(kind), equals) => kind.is_ascii_lowercase() && equals == Some('='),
    }
}

/// The lines of a normalized description.
#[derive(Clone, Debug, Default)]
pub struct Description<'a> {
    /// Attributes of the session, without `a=`.
    pub attributes: Vec<&'a str>,
    /// The media sections, in their order.
    pub sections: Vec<Section<'a>>,
}

/// One media section.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The whole `m=` line, without `m=`.
    pub line: &'a str,
    /// Its attributes, without `a=`.
    pub attributes: Vec<&'a str>,
}

impl<'a> Description<'a> {
    /// Splits a description that [`normalize`] returned.
    pub fn split(normal: &'a str) -> Self {
        let mut description = Self::default();
        for line in normal.lines() {
            if let Some(line) = line.strip_prefix("m=") {
                description.sections.push(Section { line, attributes: Vec::new() });
            } else if let Some(attribute) = line.strip_prefix("a=") {
                match description.sections.last_mut() {
                    Some(section) => section.attributes.push(attribute),
                    None => description.attributes.push(attribute),
                }
            }
        }
        description
    }

    /// The direction of a section: its own, else the session's (RFC 8866, 6.7), else both ways.
    pub fn direction(&self, section: &Section<'a>) -> Direction {
        let find = |attributes: &[&str]| attributes.iter().find_map(|line| Direction::read(line));
        find(&section.attributes)
            .or_else(|| find(&self.attributes))
            .unwrap_or(Direction { sends: true, receives: true })
    }

    /// Whether a section is accepted: port 0 refuses it (RFC 3264, 6), unless it is bundle-only
    /// (RFC 8843, 6), and an inactive section of audio or video carries nothing.
    pub fn is_accepted(&self, section: &Section<'a>) -> bool {
        let carries = section.kind() == Kind::Application
            || self.direction(section) != Direction { sends: false, receives: false };
        (section.port() != Some(0) || section.has("bundle-only")) && carries
    }

    /// The section whose transport counts: that of the first accepted video section, else of the
    /// first accepted section. All others are bundled with it.
    pub fn leading(&self) -> Option<&Section<'a>> {
        let mut accepted = self.sections.iter().filter(|section| self.is_accepted(section));
        let first = accepted.next();
        let is_video = |section: &&Section<'_>| section.kind() == Kind::Video;
        first.filter(is_video).or_else(|| accepted.find(is_video)).or(first)
    }

    /// The value of a transport attribute such as `ice-ufrag`: that of the leading section, else of
    /// the session, else of any section.
    pub fn transport(&self, name: &str) -> Option<&'a str> {
        let leading = self.leading().and_then(|section| section.value(name));
        let any = || self.sections.iter().find_map(|section| section.value(name));
        leading.or_else(|| value(&self.attributes, name)).or_else(any)
    }

    /// Every attribute, of the session first.
    pub fn all_attributes(&self) -> impl Iterator<Item = &'a str> {
        let sections = self.sections.iter().flat_map(|section| section.attributes.iter());
        self.attributes.iter().chain(sections).copied()
    }
}

/// What a section is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
    /// `m=application`: the data channels.
    Application,
    /// Anything else.
    Other,
}

/// Which way the media of a section goes, as its author sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// The author sends.
    pub sends: bool,
    /// The author receives.
    pub receives: bool,
}

impl Direction {
    fn read(attribute: &str) -> Option<Self> {
        let is = |name: &str| attribute.eq_ignore_ascii_case(name);
        let (sends, receives) = if is("sendrecv") {
            (true, true)
        } else if is("sendonly") {
            (true, false)
        } else if is("recvonly") {
            (false, true)
        } else if is("inactive") {
            (false, false)
        } else {
            return None;
        };
        Some(Self { sends, receives })
    }

    /// What is left of an answer's direction where the offer has this one.
    #[must_use]
    pub fn answering(self, offered: Self) -> Self {
        Self { sends: self.sends && offered.receives, receives: self.receives && offered.sends }
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match (self.sends, self.receives) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }
}

impl<'a> Section<'a> {
    /// The words of the `m=` line.
    fn words(&self) -> impl Iterator<Item = &'a str> {
        self.line.split_whitespace()
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self.words().next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "audio" => Kind::Audio,
            "video" => Kind::Video,
            "application" => Kind::Application,
            _ => Kind::Other,
        }
    }

    /// Its port; `None` where the line has none.
    pub fn port(&self) -> Option<u32> {
        self.words().nth(1)?.split('/').next()?.parse().ok()
    }

    /// Its formats: payload types of audio and video.
    pub fn formats(&self) -> impl Iterator<Item = &'a str> {
        self.words().skip(3)
    }

    /// The value of the first attribute of this name.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        value(&self.attributes, name)
    }

    /// The values of all attributes of this name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter_map(move |attribute| value_of(attribute, name))
    }

    /// Whether it has an attribute of this name.
    pub fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|attribute| name_of(attribute).eq_ignore_ascii_case(name))
    }

    /// Its `mid`, where it has one.
    pub fn mid(&self) -> Option<&'a str> {
        self.value("mid").filter(|mid| !mid.is_empty())
    }
}

/// The value of the first attribute of this name.
pub fn value<'a>(attributes: &[&'a str], name: &str) -> Option<&'a str> {
    attributes.iter().find_map(|attribute| value_of(attribute, name))
}

/// The value of an attribute, if it has this name. Names are compared without case: masters write
/// `SENDRECV` and `Fingerprint`.
pub fn value_of<'a>(attribute: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = attribute.split_once(':')?;
    found.trim_end().eq_ignore_ascii_case(name).then(|| value.trim())
}

fn name_of(attribute: &str) -> &str {
    attribute.split_once(':').map_or(attribute, |(name, _)| name.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 X 96\r\na=mid:0\r\n";

    #[test]
    fn every_line_end_gives_the_same_text() {
        let ends =
            ["\n", "\r", "\r\r\n", "\r\n\r\n", "  \r\n", "\t\n", "\0\r\n", "\r\n\0", "\\r\\n"];
        for end in ends.into_iter().chain(["\\n", "\\r\\n\r\n", "\\r\\n\n", "\u{a0}\n", "\n  "]) {
            assert_eq!(normalize(&PLAIN.replace("\r\n", end)).as_deref(), Some(PLAIN), "{end:?}");
        }
    }

    #[test]
    fn what_surrounds_a_description_is_removed() {
        for (before, after) in [
            ("\u{feff}", ""),
            ("", "\0\0\0"),
            ("\r\n \t", " \r\n\r\n"),
            ("\"", "\""),
            ("", "junk\r\n"),
        ] {
            let text = format!("{before}{PLAIN}{after}");
            assert_eq!(normalize(&text).as_deref(), Some(PLAIN), "{text:?}");
        }
        let escaped = format!("\"{}\"", PLAIN.replace("\r\n", "\\r\\n"));
        assert_eq!(normalize(&escaped).as_deref(), Some(PLAIN));
    }

    #[test]
    fn backslash_within_a_line_stays() {
        let text = format!("{PLAIN}a=x:C:\\new\\root\\r\r\n");
        let kept = normalize(&text).expect("an SDP");
        assert!(kept.contains("a=x:C:\\new\\root\r\n"), "{kept:?}");
        assert_eq!(normalize(&kept).as_deref(), Some(kept.as_str()));
    }

    #[test]
    fn text_that_does_not_begin_with_a_version_is_no_description() {
        for text in ["", " ", "\0", "hello", "{}", "m=video 9 X 96\r\nv=0\r\n", "offer= true"] {
            assert_eq!(normalize(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_and_directions_have_any_case() {
        let text = "v=0\r\na=INACTIVE\r\nm=Video 9/2 X 96 97\r\na=Mid: 7 \r\nm=audio 0 X 0\r\na=SendOnly\r\n";
        let normal = normalize(text).expect("an SDP");
        let read = Description::split(&normal);
        let [video, audio] = &read.sections[..] else { panic!("{read:?}") };
        assert_eq!((video.kind(), video.port(), video.mid()), (Kind::Video, Some(9), Some("7")));
        assert_eq!(video.formats().collect::<Vec<_>>(), ["96", "97"]);
        assert_eq!(read.direction(video).as_str(), "inactive");
        assert_eq!(read.direction(audio).as_str(), "sendonly");
        assert!(!read.is_accepted(video) && !read.is_accepted(audio));
    }

    #[test]
    fn leading_section_is_the_accepted_video() {
        let text = |ports: [u16; 3]| {
            let [audio, video, data] = ports;
            format!(
                "v=0\r\na=ice-ufrag:s\r\nm=audio {audio} X 0\r\na=ice-ufrag:a\r\n\
                 m=video {video} X 96\r\nm=application {data} X y\r\na=ice-ufrag:d\r\n"
            )
        };
        for (ports, expected) in
            [([9, 9, 9], "s"), ([9, 0, 9], "a"), ([0, 0, 9], "d"), ([0, 0, 0], "s")]
        {
            let text = text(ports);
            assert_eq!(Description::split(&text).transport("ice-ufrag"), Some(expected), "{text}");
        }
    }
}
