//! Rewrites an answer to match its offer and the stack's requirements.
//!
//! The stack refuses a whole answer for one section without `a=mid`, for a rejected section with
//! formats that have no `a=rtpmap`, for two fingerprints, for an `a=msid` without an `a=ssrc`, and
//! does not compare the formats with the offer's. Browsers accept such answers, and masters that
//! are only tested with browsers send them. So the text for the stack is rewritten: the offer's
//! sections in the offer's order, each with the understood parts of the answer's corresponding
//! section, and nothing else. `docs/decisions/0027-answers.md` describes what is accepted and why.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use negotiation_core::MediaKind;
use viewer_session::sdp::{Description, Direction, Kind, Section, value_of};

use super::{Format, SectionFormats, parameter_sets};
use crate::codec::Codec;

/// The longest quoted part of a line.
const QUOTE_MAX: usize = 80;
/// The most `a=ssrc` lines of one section that are passed to the stack.
const SOURCES_MAX: usize = 32;

/// An answer in the form that the stack accepts.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) text: String,
    pub(crate) sections: Vec<SectionFormats>,
}

/// The reason why an answer cannot be applied. Quotes the faulty line, but never one with a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// No offered format is accepted: the same offer would get no better answer.
    Codec(String),
    /// The description is incomplete, or cannot be parsed.
    Description(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Codec(text) | Self::Description(text) => f.write_str(text),
        }
    }
}

/// Fits an answer to its offer. Both texts must be normalized
/// ([`viewer_session::sdp::normalize`]).
///
/// # Errors
/// No section accepts an offered format, or the transport's parameters are missing.
pub(crate) fn fit(answer: &str, offer: &str) -> Result<Fitted, Unfit> {
    let (answer, offer) = (Description::split(answer), Description::split(offer));
    let pairs = pair(&answer, &offer);
    let leading = answer.leading();
    let mut sections = Vec::with_capacity(pairs.len());
    let mut unoffered: Vec<(Kind, Unfit)> = Vec::new();
    for (offered, answered) in pairs {
        let mut fitted = Agreed::refused(offered);
        if let Some(section) = answered.filter(|section| answer.is_accepted(section)) {
            if !shares_transport(&answer, section, leading) {
                tracing::warn!(
                    "a section of the answer has a transport of its own and is left out"
                );
            } else if offered.kind() == Kind::Application {
                fitted.accepted = true;
                fitted.answered = Some(section);
            } else {
                let formats = agree(offered, section);
                if formats.is_empty() {
                    unoffered.push((offered.kind(), complain(offered, section)));
                } else {
                    let direction = answer.direction(section).answering(offer.direction(offered));
                    fitted = Agreed {
                        offered,
                        answered: Some(section),
                        accepted: true,
                        direction,
                        formats,
                    };
                }
            }
        }
        sections.push(fitted);
    }
    refuse_unoffered(&sections, unoffered)?;
    let text = write(&answer, &sections)?;
    let sections = sections.iter().filter_map(Agreed::summary).collect();
    Ok(Fitted { text, sections })
}

/// Refuses an answer with video in an unoffered format, or with no other media left. Audio in an
/// unoffered format is left out otherwise.
fn refuse_unoffered(
    sections: &[Agreed<'_, '_>],
    unoffered: Vec<(Kind, Unfit)>,
) -> Result<(), Unfit> {
    let is_media = |kind: Kind| matches!(kind, Kind::Audio | Kind::Video);
    let is_any = sections.iter().any(|s| s.accepted && is_media(s.offered.kind()));
    for (kind, complaint) in unoffered {
        if kind == Kind::Video || !is_any {
            return Err(complaint);
        }
        tracing::warn!("sound is left out: {complaint}");
    }
    Ok(())
}

/// A section of the offer, and the agreed parameters.
struct Agreed<'o, 'a> {
    offered: &'o Section<'o>,
    answered: Option<&'a Section<'a>>,
    accepted: bool,
    direction: Direction,
    formats: Vec<Payload>,
}

impl<'o> Agreed<'o, '_> {
    fn refused(offered: &'o Section<'o>) -> Self {
        let direction = Direction { sends: false, receives: false };
        Self { offered, answered: None, accepted: false, direction, formats: Vec::new() }
    }

    fn summary(&self) -> Option<SectionFormats> {
        let kind = match self.offered.kind() {
            Kind::Audio => MediaKind::Audio,
            Kind::Video => MediaKind::Video,
            Kind::Application | Kind::Other => return None,
        };
        Some(SectionFormats {
            mid: self.offered.mid().unwrap_or_default().to_owned(),
            kind,
            formats: self.formats.iter().filter_map(Payload::format).collect(),
        })
    }
}

/// A payload type that both sides support.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Payload {
    number: u8,
    /// The value after the number in `a=rtpmap`.
    map: String,
    fmtp: String,
    feedback: Vec<String>,
    codec: Option<Codec>,
}

impl Payload {
    fn format(&self) -> Option<Format> {
        let parameter_sets = parameter_sets(&self.fmtp);
        Some(Format { payload_type: self.number, codec: self.codec?, parameter_sets })
    }
}

/// Returns the formats of a section that this crate supports.
pub(super) fn known_formats(section: &Section<'_>) -> Vec<Format> {
    payloads(section, None).iter().filter_map(Payload::format).collect()
}

/// Pairs each section of the offer with the answer's section for it. Sections correspond by
/// position (RFC 3264, 6), but an `a=mid` of a section of the same kind takes precedence, because
/// masters reorder sections and leave some out.
fn pair<'o, 'a>(
    answer: &'a Description<'a>,
    offer: &'o Description<'o>,
) -> Vec<(&'o Section<'o>, Option<&'a Section<'a>>)> {
    let mut taken = vec![false; answer.sections.len()];
    let mut pairs: Vec<_> = offer.sections.iter().map(|offered| (offered, None)).collect();
    let mut assign = |choose: &dyn Fn(usize, &Section<'o>, usize, &Section<'a>) -> bool| {
        for (place, (offered, answered)) in pairs.iter_mut().enumerate() {
            if answered.is_some() {
                continue;
            }
            let found = answer.sections.iter().enumerate().find(|(at, section)| {
                let free = taken.get(*at) == Some(&false);
                free && section.kind() == offered.kind() && choose(place, offered, *at, section)
            });
            if let Some((at, section)) = found {
                *answered = Some(section);
                if let Some(taken) = taken.get_mut(at) {
                    *taken = true;
                }
            }
        }
    };
    assign(&|_, offered, _, section| section.mid().is_some() && section.mid() == offered.mid());
    assign(&|place, _, at, _| place == at);
    assign(&|_, _, _, _| true);
    pairs
}

/// Returns whether a section uses the transport of the whole connection. A section without its own
/// credentials does.
fn shares_transport(
    answer: &Description<'_>,
    section: &Section<'_>,
    leading: Option<&Section<'_>>,
) -> bool {
    let ufrag = |section: &Section<'_>| section.value("ice-ufrag").map(str::to_owned);
    match (ufrag(section), leading.and_then(ufrag)) {
        (Some(own), Some(leading)) => own == leading,
        (Some(own), None) => answer.transport("ice-ufrag") == Some(own.as_str()),
        (None, _) => true,
    }
}

/// Returns the offered formats that the answer's section accepts. A codec may have another number
/// than in the offer (RFC 3264, 6.1); its packets may then use either.
fn agree(offered: &Section<'_>, answered: &Section<'_>) -> Vec<Payload> {
    let ours = payloads(offered, None);
    let theirs = payloads(answered, Some(&ours));
    let used: BTreeSet<u8> = theirs.iter().map(|payload| payload.number).collect();
    let mut agreed: Vec<Payload> = Vec::new();
    for mut payload in theirs {
        let same_codec = |known: &&Payload| is_same_codec(&known.map, &payload.map);
        let by_number = ours.iter().find(|known| known.number == payload.number);
        let Some(known) = by_number.filter(same_codec).or_else(|| ours.iter().find(same_codec))
        else {
            continue;
        };
        payload.codec = known.codec;
        let number = known.number;
        let as_offered = (!used.contains(&number) && !is_repair(&payload.map))
            .then(|| Payload { number, ..payload.clone() })
            .filter(|_| agreed.iter().all(|other| other.number != number));
        agreed.push(payload);
        agreed.extend(as_offered);
    }
    // A repair format is useless without the format that it repairs.
    let numbers: BTreeSet<u8> =
        agreed.iter().filter(|p| !is_repair(&p.map)).map(|payload| payload.number).collect();
    agreed.retain(|payload| match associated(&payload.fmtp) {
        Some(apt) => numbers.contains(&apt),
        None => !is_repair(&payload.map),
    });
    agreed
}

/// Returns the distinct formats of a section in its order. A format without `a=rtpmap` has the
/// meaning that the offer or RFC 3551 gives its number.
fn payloads(section: &Section<'_>, offered: Option<&[Payload]>) -> Vec<Payload> {
    let mut payloads: Vec<Payload> = Vec::new();
    for number in section.formats().filter_map(|format| format.parse::<u8>().ok()) {
        if number > 127 || payloads.iter().any(|known| known.number == number) {
            continue;
        }
        let offered = offered.and_then(|all| all.iter().find(|known| known.number == number));
        let map = of_number(section, "rtpmap", number).filter(|map| clock_rate(map).is_some());
        let map = map.map(str::to_owned).or_else(|| offered.map(|known| known.map.clone()));
        let Some(map) = map.or_else(|| static_format(number).map(str::to_owned)) else { continue };
        let of_all = |value: &str| {
            let (of, rest) = value.split_once(char::is_whitespace)?;
            (of == "*" || of.parse() == Ok(number)).then(|| rest.trim().to_owned())
        };
        let codec = Codec::ALL.into_iter().find(|codec| {
            codec.payload_type() == number && name(&map).eq_ignore_ascii_case(codec.name())
        });
        payloads.push(Payload {
            number,
            fmtp: of_number(section, "fmtp", number).unwrap_or_default().to_owned(),
            feedback: section.values("rtcp-fb").filter_map(of_all).collect(),
            codec: codec.or_else(|| by_name(&map)),
            map,
        });
    }
    payloads
}

/// Returns the value after a payload type in an attribute such as `a=rtpmap:96 VP8/90000`.
fn of_number<'a>(section: &Section<'a>, name: &str, number: u8) -> Option<&'a str> {
    section.values(name).find_map(|value| {
        let (of, rest) = value.split_once(char::is_whitespace)?;
        (of.parse() == Ok(number)).then(|| rest.trim())
    })
}

fn by_name(map: &str) -> Option<Codec> {
    Codec::ALL.into_iter().find(|codec| name(map).eq_ignore_ascii_case(codec.name()))
}

fn name(map: &str) -> &str {
    map.split('/').next().unwrap_or_default().trim()
}

fn clock_rate(map: &str) -> Option<u32> {
    map.split('/').nth(1)?.trim().parse().ok()
}

/// Compares two codecs. Names are case-insensitive (RFC 8866, 6.6), and the number of channels is
/// ignored.
fn is_same_codec(one: &str, other: &str) -> bool {
    name(one).eq_ignore_ascii_case(name(other)) && clock_rate(one) == clock_rate(other)
}

fn is_repair(map: &str) -> bool {
    name(map).eq_ignore_ascii_case("rtx")
}

/// Returns the payload type that a retransmission format repairs (RFC 4588, 8.1).
fn associated(fmtp: &str) -> Option<u8> {
    fmtp.split(';').find_map(|part| part.trim().strip_prefix("apt=")?.trim().parse().ok())
}

/// Returns the format that RFC 3551 (6) fixes for a number, for formats that cameras send.
fn static_format(number: u8) -> Option<&'static str> {
    match number {
        0 => Some("PCMU/8000"),
        8 => Some("PCMA/8000"),
        9 => Some("G722/8000"),
        _ => None,
    }
}

fn complain(offered: &Section<'_>, answered: &Section<'_>) -> Unfit {
    let names = |section: &Section<'_>, known: Option<&[Payload]>| {
        let names: BTreeSet<String> = payloads(section, known)
            .iter()
            .filter(|payload| !is_repair(&payload.map))
            .map(|payload| plain(name(&payload.map)))
            .collect();
        let names: Vec<String> = names.into_iter().take(8).collect();
        if names.is_empty() { "unknown".to_owned() } else { names.join(", ") }
    };
    let kind = match offered.kind() {
        Kind::Audio => "sound",
        Kind::Video => "pictures",
        Kind::Application | Kind::Other => "data",
    };
    let line = plain(&format!("m={}", answered.line));
    if answered.formats().all(|format| format.parse::<u8>().is_err()) {
        let complaint = format!("the answer names no format for {kind}: \"{line}\"");
        return Unfit::Description(complaint);
    }
    let map = answered.values("rtpmap").next();
    let line = map.map_or(line, |map| plain(&format!("a=rtpmap:{map}")));
    let (theirs, ours) = (names(answered, Some(&payloads(offered, None))), names(offered, None));
    Unfit::Codec(format!(
        "the format of the answer's {kind} is {theirs}; offered: {ours} (\"{line}\")"
    ))
}

/// Returns the printable part of the other side's text, for quoting.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(QUOTE_MAX).collect()
}

fn write(answer: &Description<'_>, sections: &[Agreed<'_, '_>]) -> Result<String, Unfit> {
    let missing = |name: &str| Unfit::Description(format!("the answer has no a={name} line"));
    let ufrag = answer.transport("ice-ufrag").ok_or_else(|| missing("ice-ufrag"))?;
    let password = answer.transport("ice-pwd").ok_or_else(|| missing("ice-pwd"))?;
    let fingerprint = fingerprint(answer)?;
    let mut text = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned();
    if answer.attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case("ice-lite")) {
        text.push_str("a=ice-lite\r\n");
    }
    let mids: String = sections
        .iter()
        .filter(|section| section.accepted)
        .filter_map(|section| section.offered.mid())
        .fold(String::new(), |all, mid| all + " " + mid);
    let mut line = |args: fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = text.write_fmt(args);
        text.push_str("\r\n");
    };
    line(format_args!("a=group:BUNDLE{mids}"));
    line(format_args!("a=fingerprint:sha-256 {fingerprint}"));
    line(format_args!("a=ice-options:trickle"));
    // RFC 8842, 5.3: an answer is active or passive. One without a role is most likely active.
    let is_passive =
        answer.transport("setup").is_some_and(|role| role.eq_ignore_ascii_case("passive"));
    let setup = if is_passive { "passive" } else { "active" };
    for section in sections {
        let port = if section.accepted { 9 } else { 0 };
        let mid = section.offered.mid().unwrap_or_default();
        let kind = match section.offered.kind() {
            Kind::Application => {
                line(format_args!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"));
                None
            }
            Kind::Audio => Some("audio"),
            Kind::Video => Some("video"),
            Kind::Other => continue,
        };
        // The stack needs readable formats in a rejected section too.
        let refused = payloads(section.offered, None);
        let formats = if section.accepted { &section.formats } else { &refused };
        if let Some(kind) = kind {
            let numbers: String = formats.iter().map(|p| format!(" {}", p.number)).collect();
            line(format_args!("m={kind} {port} UDP/TLS/RTP/SAVPF{numbers}"));
        }
        line(format_args!("c=IN IP4 0.0.0.0"));
        line(format_args!("a=mid:{mid}"));
        line(format_args!("a=ice-ufrag:{ufrag}"));
        line(format_args!("a=ice-pwd:{password}"));
        line(format_args!("a=setup:{setup}"));
        if kind.is_none() {
            let section = section.answered;
            let port = section.and_then(|s| s.value("sctp-port").or_else(|| s.value("sctpmap")));
            let port = port.and_then(|port| port.split_whitespace().next()?.parse::<u16>().ok());
            line(format_args!("a=sctp-port:{}", port.unwrap_or(5000)));
            let size = section.and_then(|s| s.value("max-message-size")?.parse::<u32>().ok());
            if let Some(size) = size {
                line(format_args!("a=max-message-size:{size}"));
            }
            continue;
        }
        line(format_args!("a={}", section.direction.as_str()));
        line(format_args!("a=rtcp-mux"));
        for payload in formats {
            let Payload { number, map, fmtp, feedback, codec: _ } = payload;
            line(format_args!("a=rtpmap:{number} {map}"));
            if !fmtp.is_empty() {
                line(format_args!("a=fmtp:{number} {fmtp}"));
            }
            for feedback in feedback {
                line(format_args!("a=rtcp-fb:{number} {feedback}"));
            }
        }
        if let Some(answered) = section.answered {
            for extension in extensions(section.offered, answered) {
                line(format_args!("a=extmap:{extension}"));
            }
            for source in sources(answered) {
                line(format_args!("a={source}"));
            }
        }
    }
    Ok(text)
}

/// Returns the SHA-256 fingerprint: the stack verifies no other.
fn fingerprint(answer: &Description<'_>) -> Result<String, Unfit> {
    let leading = answer.leading().map(|section| section.attributes.as_slice()).unwrap_or_default();
    let all = || {
        let all = leading.iter().copied().chain(answer.all_attributes());
        all.filter_map(|attribute| value_of(attribute, "fingerprint"))
    };
    let read = |line: &str| {
        let (hash, digest) = line.split_once(char::is_whitespace)?;
        let digest = digest.trim();
        // A digest has 32 bytes as hexadecimal digits with colons between them.
        let is_digest =
            digest.len() == 95 && digest.chars().all(|c| c == ':' || c.is_ascii_hexdigit());
        (hash.eq_ignore_ascii_case("sha-256") && is_digest).then(|| digest.to_ascii_uppercase())
    };
    if let Some(digest) = all().find_map(read) {
        return Ok(digest);
    }
    Err(Unfit::Description(match all().next() {
        Some(line) => {
            format!("the answer has no SHA-256 fingerprint: \"a=fingerprint:{}\"", plain(line))
        }
        None => "the answer has no a=fingerprint line".to_owned(),
    }))
}

/// Returns the offered header extensions that the answer accepts (RFC 8285, 6).
fn extensions(offered: &Section<'_>, answered: &Section<'_>) -> Vec<String> {
    let read = |value: &str| {
        let mut words = value.split_whitespace();
        let id: u8 = words.next()?.split('/').next()?.parse().ok()?;
        let uri = words.next()?.to_owned();
        (1..=14).contains(&id).then_some((id, uri))
    };
    let known: BTreeSet<String> =
        offered.values("extmap").filter_map(|v| read(v).map(|(_, uri)| uri)).collect();
    let mut ids = BTreeSet::new();
    let agreed = answered.values("extmap").filter_map(read);
    agreed
        .filter(|(id, uri)| known.contains(uri) && ids.insert(*id))
        .map(|(id, uri)| format!("{id} {uri}"))
        .collect()
}

/// Returns the attributes that identify the sources of a section. With `a=msid` alone, the stack
/// would refuse the answer.
fn sources(answered: &Section<'_>) -> Vec<String> {
    let number =
        |text: &str| text.split_whitespace().next().and_then(|ssrc| ssrc.parse::<u32>().ok());
    let ssrcs: BTreeSet<u32> =
        answered.values("ssrc").filter_map(number).take(SOURCES_MAX).collect();
    if ssrcs.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for group in answered.values("ssrc-group") {
        let words: Vec<&str> = group.split_whitespace().collect();
        if let [semantics @ ("FID" | "FEC-FR"), one, other] = words[..]
            && let (Ok(one), Ok(other)) = (one.parse::<u32>(), other.parse::<u32>())
            && lines.len() < SOURCES_MAX
        {
            lines.push(format!("ssrc-group:{semantics} {one} {other}"));
        }
    }
    let msid = answered.value("msid").map(|msid| msid.split_whitespace().collect::<Vec<_>>());
    if let Some([stream, track]) = msid.as_deref() {
        lines.push(format!("msid:{stream} {track}"));
    }
    for value in answered.values("ssrc") {
        if let Some((ssrc, rest)) = value.split_once(char::is_whitespace)
            && ssrc.parse::<u32>().is_ok_and(|ssrc| ssrcs.contains(&ssrc))
            && lines.len() < 4 * SOURCES_MAX
        {
            lines.push(format!("ssrc:{ssrc} {}", rest.trim()));
        } else if value.parse::<u32>().is_ok_and(|ssrc| ssrcs.contains(&ssrc)) {
            lines.push(format!("ssrc:{value} cname:-"));
        }
    }
    lines
}

#[cfg(test)]
mod tests;
