//! Blanks secrets in texts that came from outside, and characters that deceive a reader.
//!
//! A service, a gateway or a proxy may repeat in an error what it was sent: a session token, a
//! signature, a TURN password (contract, N26). So whatever gets hold of a secret registers it here
//! with [`remember`], and whatever takes a text from outside passes it through [`outside`] before
//! it becomes an error. The log and the journal pass what they write through [`redact`] as well.
//!
//! A secret is found as it is, percent-encoded, JSON-escaped, and inside base64, also where the
//! text ends in the middle of it. What follows the names of headers, parameters and attributes that
//! hold secrets is blanked even if it was never registered.
//!
//! The registry belongs to the process and is bounded; nothing of it is ever printed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// What stands in place of a secret.
const BLANK: &str = "[redacted]";

/// Shortest secret that is searched for, in bytes: a shorter one is part of ordinary words.
pub const SECRET_BYTES_MIN: usize = START;

/// A secret is found by its first bytes.
const START: usize = 6;

/// A part of a secret, from its beginning, that counts as the secret: texts are cut. A shorter one
/// may be an ordinary word that a secret begins with.
const PART_MIN: usize = 16;

/// Most of an outside text that is looked at, in bytes. What is kept of one is far shorter.
const OUTSIDE_BYTES_MAX: usize = 4096;

/// What is dropped at the end of a text that was cut, so that no beginning of a secret is left.
const CUT_END: usize = 64;

/// How often a text is decoded: canonical requests encode what is encoded already.
const DECODINGS_MAX: usize = 3;

/// Shortest run of base64 that is decoded.
const BASE64_RUN_MIN: usize = 8;

/// Where a secret comes from. Each origin has a bound of its own, so that no flood of one kind
/// pushes another out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An account's or a proxy's: secret keys, session tokens, passwords.
    Account,
    /// Issued by the service: TURN user names and passwords.
    Service,
    /// Of one connection: signatures, ICE passwords.
    Connection,
}

impl Origin {
    /// Most secrets that are remembered of it; the oldest goes first.
    const fn capacity(self) -> usize {
        match self {
            Self::Account => 512,
            Self::Service => 16 * 1024,
            Self::Connection => 4096,
        }
    }
}

/// Registers a secret: from now on no text that passes through here shows it. Texts shorter than
/// [`SECRET_BYTES_MIN`] are not searched for.
pub fn remember(origin: Origin, secret: &str) {
    if secret.len() >= START {
        registry(|registry| registry.remember(origin, secret));
    }
}

/// Registers the ICE passwords of a session description.
pub fn remember_description(sdp: &str) {
    for line in sdp.lines() {
        if let Some(password) = line.trim_end().strip_prefix("a=ice-pwd:") {
            remember(Origin::Connection, password);
        }
    }
}

/// The text with every secret blanked.
pub fn redact(text: &str) -> Cow<'_, str> {
    let found = registry(|registry| registry.find(text));
    let text = match blank(text, found) {
        Cow::Borrowed(text) => return redact_marked(text),
        Cow::Owned(text) => text,
    };
    match redact_marked(&text) {
        Cow::Owned(marked) => Cow::Owned(marked),
        Cow::Borrowed(_) => Cow::Owned(text),
    }
}

/// The text on one line and without characters that are not seen or that change how others are
/// seen: control characters, bidirectional overrides, zero-width ones, line and paragraph
/// separators. Each becomes a space.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_visible) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_visible(c) { c } else { ' ' }).collect())
}

/// A text from outside as it may be shown: no secret, printable, and at most so many characters.
pub fn outside(text: &str, chars_max: usize) -> String {
    let is_cut = text.len() > OUTSIDE_BYTES_MAX;
    let end = (0..=text.len().min(OUTSIDE_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    let redacted = redact(&text[..end.unwrap_or(0)]);
    let mut kept = redacted.chars().count();
    if is_cut {
        kept = kept.saturating_sub(CUT_END);
    }
    let short: String = redacted.chars().take(kept.min(chars_max)).collect();
    printable(&short).trim().to_owned()
}

fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // `escape_debug` escapes what is not printable; after another character it leaves combining
    // marks alone.
    let mut buffer = [0; 5];
    buffer[0] = b'a';
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    let is_escaped = str::from_utf8(&buffer[..length])
        .is_ok_and(|pair| pair.escape_debug().nth(1).is_some_and(|shown| shown == '\\'));
    // Letters and marks that Unicode calls ignorable are drawn as nothing.
    let is_ignorable = matches!(
        u32::from(c),
        0x034f | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x3164 | 0xffa0
            | 0xfe00..=0xfe0f | 0xe0000..=0xe0fff
    );
    !is_escaped && !is_ignorable
}

fn registry<T>(act: impl FnOnce(&mut Registry) -> T) -> T {
    static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
    let registry = REGISTRY.get_or_init(Mutex::default);
    // Every change is whole: a panic elsewhere leaves nothing half done.
    act(&mut registry.lock().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Default)]
struct Registry {
    account: Kept,
    service: Kept,
    connection: Kept,
    /// By its first bytes; a secret stands here once for each origin.
    by_start: HashMap<[u8; START], Vec<Arc<str>>>,
}

/// The secrets of one origin, in the order in which they were registered last.
#[derive(Default)]
struct Kept {
    stamps: HashMap<Arc<str>, u64>,
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
}

impl Kept {
    /// Takes a secret in, or notes that it was registered again. What is new is the first of what
    /// is returned, what had to go the second.
    fn take(&mut self, secret: &str, capacity: usize) -> (Option<Arc<str>>, Option<Arc<str>>) {
        self.next += 1;
        if let Some((known, stamp)) = self.stamps.remove_entry(secret) {
            self.order.remove(&stamp);
            self.order.insert(self.next, known.clone());
            self.stamps.insert(known, self.next);
            return (None, None);
        }
        let gone = if self.order.len() >= capacity { self.order.pop_first() } else { None };
        if let Some((_, gone)) = &gone {
            self.stamps.remove(gone);
        }
        let secret: Arc<str> = secret.into();
        self.order.insert(self.next, secret.clone());
        self.stamps.insert(secret.clone(), self.next);
        (Some(secret), gone.map(|(_, gone)| gone))
    }
}

impl Registry {
    fn remember(&mut self, origin: Origin, secret: &str) {
        let kept = match origin {
            Origin::Account => &mut self.account,
            Origin::Service => &mut self.service,
            Origin::Connection => &mut self.connection,
        };
        let (new, gone) = kept.take(secret, origin.capacity());
        if let Some((secret, start)) = new.and_then(|new| Some((new.clone(), start(&new)?))) {
            self.by_start.entry(start).or_default().push(secret);
        }
        if let Some((gone, start)) = gone.and_then(|gone| Some((gone.clone(), start(&gone)?)))
            && let Some(secrets) = self.by_start.get_mut(&start)
        {
            if let Some(at) = secrets.iter().position(|secret| **secret == *gone) {
                secrets.swap_remove(at);
            }
            if secrets.is_empty() {
                self.by_start.remove(&start);
            }
        }
    }

    /// Where the text has secrets.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        if self.by_start.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut views = vec![View::of(text)];
        for _ in 0..=DECODINGS_MAX {
            // A secret may hold what looks like the one escape inside the other.
            let decoded = views.iter().flat_map(|view| {
                [view.decoded(percent_escape), view.decoded(json_escape)].into_iter().flatten()
            });
            let decoded: Vec<View> = decoded.collect();
            views.iter().for_each(|view| self.find_in(view, &mut found));
            views = decoded;
        }
        found
    }

    fn find_in(&self, view: &View, found: &mut Vec<Range<usize>>) {
        for range in self.matches(&view.bytes) {
            found.push(view.origin(range));
        }
        for run in base64_runs(&view.bytes) {
            let characters = view.bytes[run.clone()].iter().filter(|byte| **byte != b'=');
            let encoded: Vec<u8> = characters.map(|byte| standard(*byte)).collect();
            // The secret may begin at any of the four places that a character has in a group.
            let hides = (0..4).any(|skip| {
                let group = encoded.get(skip..).unwrap_or_default();
                let whole = &group[..group.len() - group.len() % 4];
                [group, whole].into_iter().any(|encoded| {
                    TOLERANT.decode(encoded).is_ok_and(|bytes| !self.matches(&bytes).is_empty())
                })
            });
            if hides {
                found.push(view.origin(run));
            }
        }
    }

    fn matches(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for (at, window) in bytes.windows(START).enumerate() {
            let Some(secrets) = start_of(window).and_then(|start| self.by_start.get(&start)) else {
                continue;
            };
            let length = secrets.iter().filter_map(|secret| {
                let pairs = secret.as_bytes().iter().zip(&bytes[at..]);
                let common = pairs.take_while(|(a, b)| a == b).count();
                (common == secret.len() || common >= PART_MIN).then_some(common)
            });
            if let Some(length) = length.max() {
                found.push(at..at + length);
            }
        }
        found
    }
}

fn start(secret: &str) -> Option<[u8; START]> {
    start_of(secret.as_bytes())
}

fn start_of(bytes: &[u8]) -> Option<[u8; START]> {
    bytes.first_chunk().copied()
}

/// A text, decoded or not, and where in the text as it was each of its bytes stands.
struct View {
    bytes: Vec<u8>,
    /// Where each byte begins; one more for the end.
    starts: Vec<usize>,
}

impl View {
    fn of(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), starts: (0..=text.len()).collect() }
    }

    fn origin(&self, range: Range<usize>) -> Range<usize> {
        let place = |at: usize| self.starts.get(at).copied().unwrap_or_default();
        place(range.start)..place(range.end)
    }

    /// Without one layer of escapes of a kind; `None` when there is none.
    fn decoded(&self, escape: impl Fn(&[u8]) -> Option<(usize, Vec<u8>)>) -> Option<Self> {
        let mut decoded = Self { bytes: Vec::new(), starts: Vec::new() };
        let (mut at, mut changed) = (0, false);
        while let Some(&byte) = self.bytes.get(at) {
            let rest = &self.bytes[at..];
            let (length, bytes) = match escape(rest) {
                Some(escaped) => {
                    changed = true;
                    escaped
                }
                None => (1, vec![byte]),
            };
            for byte in bytes {
                decoded.bytes.push(byte);
                decoded.starts.push(self.starts[at]);
            }
            at += length;
        }
        decoded.starts.push(self.starts.last().copied().unwrap_or_default());
        changed.then_some(decoded)
    }
}

/// How long a percent-escape at the beginning of a text is, and what it stands for.
fn percent_escape(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    match rest {
        [b'%', digits @ ..] => Some((3, vec![u8::try_from(hex(digits.get(..2)?)?).ok()?])),
        _ => None,
    }
}

/// The same of JSON's escapes.
fn json_escape(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    match rest {
        [b'\\', b'u', digits @ ..] => {
            let c = char::from_u32(hex(digits.get(..4)?)?)?;
            Some((6, c.to_string().into_bytes()))
        }
        [b'\\', b'n', ..] => Some((2, vec![b'\n'])),
        [b'\\', b'r', ..] => Some((2, vec![b'\r'])),
        [b'\\', b't', ..] => Some((2, vec![b'\t'])),
        [b'\\', c @ (b'"' | b'\\' | b'/'), ..] => Some((2, vec![*c])),
        _ => None,
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_hex)
}

const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Both alphabets of base64, as the first.
fn standard(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

/// Runs of characters that may be base64, with their padding.
fn base64_runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let mut runs = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| is_base64(byte)).count();
        if length >= BASE64_RUN_MIN {
            let padding = bytes[at + length..].iter().take_while(|byte| **byte == b'=').count();
            runs.push(at..at + length + padding.min(2));
        }
        at += length.max(1);
    }
    runs
}

/// Blanks these places, which may overlap.
fn blank(text: &str, mut places: Vec<Range<usize>>) -> Cow<'_, str> {
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    places.sort_by_key(|place| (place.start, place.end));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for place in places {
        // A secret is made of whole characters, and so is what it was decoded from; anything else
        // would be a mistake here, and the rest of the text is then not worth its risk.
        let Some(before) = text.get(at..place.start.max(at)) else { break };
        if place.start > at || out.is_empty() {
            out.push_str(before);
            out.push_str(BLANK);
        }
        at = at.max(place.end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

/// What stands before a secret: names of parameters, headers, attributes and fields, in small
/// letters.
const MARKS: [&str; 11] = [
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-credential",
    "signature",
    "ice-pwd",
    "password",
    "credential",
    "secret_access_key",
    "secretaccesskey",
    "session_token",
    "sessiontoken",
];

/// Blanks the value that follows a mark and an equals sign or colon.
fn redact_marked(text: &str) -> Cow<'_, str> {
    // ASCII alone changes, so both have the same places.
    let lower = text.to_ascii_lowercase();
    let mut out = String::new();
    let mut done = 0;
    let mut from = 0;
    while let Some((at, mark)) = next_mark(&lower, from) {
        from = at + mark.len();
        let Some(value) = value_after(&lower, from) else { continue };
        out.push_str(&text[done..value.start]);
        out.push_str(BLANK);
        done = value.end;
        from = value.end;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// The first mark from here on; of those at one place, the longest.
fn next_mark(lower: &str, from: usize) -> Option<(usize, &'static str)> {
    let rest = lower.get(from..)?;
    let found = MARKS.iter().filter_map(|mark| Some((from + rest.find(mark)?, *mark)));
    found.min_by_key(|(at, mark)| (*at, usize::MAX - mark.len()))
}

/// The value after a name: `=value`, `: value`, `": "value"`, `%3Dvalue`. Not one that is blanked.
fn value_after(lower: &str, from: usize) -> Option<Range<usize>> {
    const QUOTES: [char; 3] = ['"', '\'', '\\'];
    let rest = lower.get(from..)?.trim_start_matches(QUOTES).trim_start();
    let rest = ["=", ":", "%3d"].iter().find_map(|sign| rest.strip_prefix(sign))?;
    let value = rest.trim_start_matches(|c: char| c.is_whitespace() || QUOTES.contains(&c));
    let start = lower.len() - value.len();
    let length = value.find(|c: char| c.is_whitespace() || "&\"',;\\<>)}]".contains(c));
    let end = start + length.unwrap_or(value.len());
    (end > start && !value.starts_with(BLANK.trim_end_matches(']'))).then_some(start..end)
}

#[cfg(test)]
mod tests;
