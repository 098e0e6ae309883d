//! The nouns that cross the core's edge: ids, descriptions, candidates, ICE servers.
//!
//! Text that the core never reads is opaque here, and whatever is secret is redacted in `Debug`.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// A viewer's id on a channel.
///
/// 1 to 256 characters of `[a-zA-Z0-9_.-]`, not starting with `AWS_` in any case
/// (KVS developer guide, ConnectAsViewer: the service keeps that prefix for itself).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The longest id, in characters.
    pub const CHARS_MAX: usize = 256;

    /// Parses an id.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, InvalidClientId> {
        if text.is_empty() {
            return Err(InvalidClientId::Empty);
        }
        if text.len() > Self::CHARS_MAX {
            return Err(InvalidClientId::TooLong { chars: text.chars().count() });
        }
        if let Some(found) = text.chars().find(|c| !is_id_char(*c)) {
            return Err(InvalidClientId::Character { found });
        }
        if text.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("AWS_")) {
            return Err(InvalidClientId::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

/// Which rule a client id breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidClientId {
    /// It has no character.
    Empty,
    /// It is longer than [`ClientId::CHARS_MAX`].
    TooLong {
        /// Its length in characters.
        chars: usize,
    },
    /// It has a character outside `[a-zA-Z0-9_.-]`.
    Character {
        /// The first such character.
        found: char,
    },
    /// It starts with `AWS_`, in any case.
    Reserved,
}

impl fmt::Display for InvalidClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a client id needs at least one character"),
            Self::TooLong { chars } => {
                write!(f, "a client id has at most {} characters, not {chars}", ClientId::CHARS_MAX)
            }
            Self::Character { found } => write!(
                f,
                "a client id is made of letters, digits, '_', '.' and '-'; found {found:?}"
            ),
            Self::Reserved => f.write_str(
                "a client id must not start with \"AWS_\": the service keeps that prefix",
            ),
        }
    }
}

impl core::error::Error for InvalidClientId {}

/// One signaling socket of this session. Numbered by the core, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectionId(pub u32);

/// One peer connection of this session. Numbered by the core, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerId(pub u32);

/// A text that must never be printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A STUN or TURN server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URIs.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::masked_uris"))]
    pub uris: Vec<String>,
    /// TURN user name; secret, since it is half of a credential.
    pub username: Option<Secret>,
    /// TURN password.
    pub password: Option<Secret>,
}

/// A session description's text: opaque to the core, redacted in `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sdp {
    /// Computed once: it is compared with every description that comes later.
    digest: Digest,
    text: Arc<str>,
}

impl Sdp {
    /// Wraps a description's text.
    pub fn new(text: &str) -> Self {
        Self { digest: Digest::of(text.as_bytes()), text: text.into() }
    }

    /// The text, for the port that needs it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A digest of the text, for comparing and for logs.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sdp({} bytes, {:?})", self.text.len(), self.digest)
    }
}

/// A 64-bit FNV-1a digest: equal texts have equal digests on every platform.
///
/// It distinguishes duplicates from different texts; it is no cryptographic hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::EMPTY.and(bytes)
    }

    /// The digest of no bytes.
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// The digest of what was digested so far, followed by `bytes`.
    fn and(self, bytes: &[u8]) -> Self {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        Self(bytes.iter().fold(self.0, step))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}", self.0)
    }
}

/// What a description is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SdpKind {
    /// It proposes.
    Offer,
    /// It settles.
    Answer,
}

/// A description together with what an adapter read out of it for the core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Description {
    /// The text, opaque to the core.
    pub sdp: Sdp,
    /// The summary of the text, as far as the core needs it.
    pub facts: SdpSummary,
}

/// What an adapter read out of a description. The core never parses SDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SdpSummary {
    /// `a=ice-ufrag`, of the first section that has one.
    pub ice_ufrag: Option<String>,
    /// A digest of `a=ice-pwd`; the password itself is a secret.
    pub ice_pwd: Option<Digest>,
    /// `a=fingerprint` lines, in order, without duplicates.
    pub fingerprints: Vec<String>,
    /// The media sections, in order.
    pub media: Vec<MediaSection>,
    /// How many `a=candidate` lines the text has.
    pub candidates: u16,
    /// The names of the video codecs (`a=rtpmap`), in order, without duplicates, as far as known.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub video_codecs: Vec<String>,
}

impl SdpSummary {
    /// Whether the description's author will send media of this kind.
    pub fn sends(&self, kind: MediaKind) -> bool {
        self.media.iter().any(|m| m.kind == kind && m.accepted && m.sends)
    }

    /// Whether all pictures and sound are refused; where there are none, everything else. A
    /// description without any section accepts nothing.
    pub fn refuses_everything(&self) -> bool {
        let is_media = |m: &&MediaSection| m.kind != MediaKind::Data;
        let has_media = self.media.iter().any(|m| is_media(&m));
        self.media.iter().filter(|m| !has_media || is_media(m)).all(|m| !m.accepted)
    }
}

/// One media section of a description.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MediaSection {
    /// What the section carries.
    pub kind: MediaKind,
    /// `a=mid`.
    pub mid: Option<String>,
    /// False for a section that carries nothing: rejected by port 0, or `a=inactive`.
    pub accepted: bool,
    /// The author sends here (`sendonly` or `sendrecv`; always true of an accepted data section).
    pub sends: bool,
}

/// What a media section or a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Data channels.
    Data,
}

/// An ICE candidate, as trickled.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// `candidate:...`; empty or `end-of-candidates` marks the end of candidates.
    pub text: Arc<str>,
    /// `sdpMid`.
    pub mid: Option<String>,
    /// `sdpMLineIndex`.
    pub mline_index: Option<u16>,
    /// The ICE generation it belongs to, where it names one.
    pub ufrag: Option<String>,
}

impl Candidate {
    /// Whether this only marks the end of candidates.
    pub fn is_end(&self) -> bool {
        let text = self.text.trim();
        let text = text.strip_prefix("a=").unwrap_or(text);
        text.is_empty() || text == "end-of-candidates"
    }

    /// A digest of what makes two candidates the same.
    pub fn digest(&self) -> Digest {
        let parts = [self.mid.as_deref(), self.ufrag.as_deref()];
        let all = parts.into_iter().fold(Digest::of(self.text.as_bytes()), |digest, part| {
            digest.and(&[0]).and(part.unwrap_or_default().as_bytes())
        });
        all.and(&self.mline_index.unwrap_or(u16::MAX).to_be_bytes())
    }
}

impl fmt::Debug for Candidate {
    /// Addresses are masked: only the digest shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Candidate(mid {:?}, {:?})", self.mid, self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    // Shows: 19.
    #[test]
    fn client_ids_follow_the_service() {
        assert!(ClientId::new("viewer-1.a_B").is_ok());
        assert_eq!(ClientId::new(""), Err(InvalidClientId::Empty));
        assert_eq!(ClientId::new("aws_x"), Err(InvalidClientId::Reserved));
        assert_eq!(ClientId::new("AWS_x"), Err(InvalidClientId::Reserved));
        assert_eq!(ClientId::new("a@b"), Err(InvalidClientId::Character { found: '@' }));
        assert_eq!(ClientId::new("é"), Err(InvalidClientId::Character { found: 'é' }));
        assert!(ClientId::new(&"x".repeat(256)).is_ok());
        assert_eq!(ClientId::new(&"x".repeat(257)), Err(InvalidClientId::TooLong { chars: 257 }));
    }

    /// Scenario 9: pictures and sound are judged where there are any, data where there is nothing
    /// else.
    #[test]
    fn data_channel_is_no_media() {
        use MediaKind::{Audio, Data, Video};
        let refuses = |sections: &[(MediaKind, bool)]| {
            let section =
                |(kind, accepted)| MediaSection { kind, mid: None, accepted, sends: accepted };
            let media = sections.iter().copied().map(section).collect();
            SdpSummary { media, ..SdpSummary::default() }.refuses_everything()
        };
        assert!(refuses(&[(Video, false), (Audio, false), (Data, true)]));
        assert!(refuses(&[(Video, false), (Audio, false)]));
        assert!(!refuses(&[(Video, false), (Audio, true), (Data, false)]));
        assert!(!refuses(&[(Data, true)]));
        assert!(refuses(&[(Data, false)]));
        assert!(refuses(&[]), "a description without any section");
    }

    /// The digest must stay what it was: journals and the address masks of a process hold it.
    #[test]
    fn candidate_digest_covers_every_field_and_stays_the_same() {
        let candidate = |text: &str, mid: Option<&str>, index, ufrag: Option<&str>| Candidate {
            text: text.into(),
            mid: mid.map(Into::into),
            mline_index: index,
            ufrag: ufrag.map(Into::into),
        };
        let base = candidate("candidate:1", Some("0"), Some(0), Some("u"));
        assert_eq!(base.digest(), Digest::of(b"candidate:1\x000\0u\0\0"));
        for other in [
            candidate("candidate:2", Some("0"), Some(0), Some("u")),
            candidate("candidate:1", Some("1"), Some(0), Some("u")),
            candidate("candidate:1", Some("0"), None, Some("u")),
            candidate("candidate:1", Some("0"), Some(0), None),
        ] {
            assert_ne!(other.digest(), base.digest());
        }
        assert_eq!(Sdp::new("v=0").digest(), Digest::of(b"v=0"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let server = IceServer {
            uris: alloc::vec!["turn:x".into()],
            username: Some(Secret::new("user-canary")),
            password: Some(Secret::new("pass-canary")),
        };
        let candidate = Candidate {
            text: "candidate:1 1 udp 1 10.1.2.3 9 typ host".into(),
            mid: None,
            mline_index: Some(0),
            ufrag: None,
        };
        let sdp = Sdp::new("v=0\r\na=ice-pwd:pwd-canary\r\n");
        let printed = format!("{server:?} {candidate:?} {sdp:?}");
        assert!(!printed.contains("canary"), "{printed}");
        assert!(!printed.contains("10.1.2.3"), "{printed}");
    }

    #[test]
    fn end_of_candidates_has_many_forms() {
        for text in ["", "  ", "end-of-candidates", "a=end-of-candidates"] {
            let candidate =
                Candidate { text: text.into(), mid: None, mline_index: None, ufrag: None };
            assert!(candidate.is_end(), "{text:?}");
        }
    }
}
