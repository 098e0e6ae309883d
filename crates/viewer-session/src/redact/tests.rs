//! What is blanked, and what is left alone.

use super::*;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Registered by one test alone each: the registry is the process's.
const TOKEN: &str = "IQo+/token\"canary=%2B==with\\more/behind+it";

fn percent(text: &str, upper: bool) -> String {
    let escaped = |byte: u8| match (byte.is_ascii_alphanumeric(), upper) {
        (true, _) => char::from(byte).to_string(),
        (false, true) => format!("%{byte:02X}"),
        (false, false) => format!("%{byte:02x}"),
    };
    text.bytes().map(escaped).collect()
}

#[test]
fn secret_is_blanked_in_every_form_it_is_echoed_in() {
    remember(Origin::Account, TOKEN);
    let escaped = TOKEN.replace('\\', "\\\\").replace('"', "\\\"");
    let slashes = escaped.replace('/', "\\/").replace('=', "\\u003d");
    let login = |padding: &str| STANDARD.encode(format!("{padding}user:{TOKEN}"));
    for echoed in [
        TOKEN.to_owned(),
        percent(TOKEN, true),
        percent(TOKEN, false),
        percent(&percent(TOKEN, true), true),
        escaped,
        slashes,
        STANDARD.encode(TOKEN),
        URL_SAFE_NO_PAD.encode(TOKEN),
        percent(&STANDARD.encode(TOKEN), true),
        login(""),
        login("x"),
        login("xy"),
        TOKEN[..20].to_owned(),
    ] {
        let redacted = redact(&format!("before {echoed} after")).into_owned();
        assert_eq!(redacted, "before [redacted] after", "{echoed}");
        assert_eq!(redact(&echoed), "[redacted]", "{echoed}");
    }
    let again = format!("{TOKEN}, and again {TOKEN} {TOKEN}");
    assert_eq!(redact(&again), "[redacted], and again [redacted] [redacted]");
    assert_eq!(redact("nothing here"), "nothing here");
    // The emulator's public key begins as its host may be called.
    remember(Origin::Account, "kvs-emulator-development-key");
    assert_eq!(redact("kvs-emulator does not resolve"), "kvs-emulator does not resolve");
}

#[test]
fn names_of_secrets_are_known_in_any_case() {
    for line in [
        "GET wss://x/?X-Amz-Date=1&X-Amz-Security-Token=canary%2F&X-Amz-Signature=canary end",
        "authorization: AWS4-HMAC-SHA256 SignedHeaders=host, Signature=canary",
        "the request had x-amz-security-token:canary, and was refused",
        "a=ice-ufrag:u\r\na=ice-pwd:canary\r\nm=video",
        "RTCIceServer { username: \"u\", credential: \"canary\" }",
        "headers: {\"x-amz-security-token\": \"canary\"}",
        "{\"Password\":\"canary\"}",
        "{\\\"Password\\\":\\\"canary\\\"}",
        "X-AMZ-SIGNATURE%3Dcanary&x",
        "Credential=AKID, credential=canary",
        "SecretAccessKey = canary",
    ] {
        let redacted = redact(line);
        assert!(!redacted.contains("canary"), "{redacted}");
    }
    for line in ["nothing here", "Credential should be scoped to a valid region", "password"] {
        assert_eq!(redact(line), line);
    }
    assert_eq!(redact("a X-Amz-Signature=abc end"), "a X-Amz-Signature=[redacted] end");
    let once = redact("password: \"abcdef\"").into_owned();
    assert_eq!(redact(&once), once);
}

#[test]
fn ice_passwords_of_a_description_are_secrets() {
    remember_description("v=0\r\na=ice-ufrag:u\r\na=ice-pwd:descriptioncanary0001\r\n");
    assert_eq!(redact("it was descriptioncanary0001!"), "it was [redacted]!");
}

#[test]
fn flood_of_one_origin_pushes_out_nothing_of_another() {
    let mut registry = Registry::default();
    registry.remember(Origin::Account, "account-canary");
    let most = Origin::Connection.capacity();
    for n in 0..=most {
        registry.remember(Origin::Connection, &format!("{n:06}-flood"));
        // What is used again stays.
        registry.remember(Origin::Connection, "000001-flood");
    }
    assert_eq!(registry.connection.order.len(), most);
    assert_eq!(registry.connection.stamps.len(), most);
    let known = |text: &str| !registry.find(text).is_empty();
    assert!(known("account-canary") && known("000001-flood"));
    assert!(!known("000000-flood"));
    let indexed: usize = registry.by_start.len();
    assert!(indexed <= most + 1, "{indexed}");
}

#[test]
fn characters_that_deceive_are_not_shown() {
    for c in [
        '\u{1b}',
        '\u{85}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{202e}',
        '\u{2028}',
        '\u{2029}',
        '\u{2066}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e0041}',
        '\u{fe0f}',
        '\u{3164}',
        '\n',
        '\t',
    ] {
        let shown = printable(&format!("a{c}b")).into_owned();
        assert_eq!(shown, "a b", "U+{:04X}", u32::from(c));
    }
    for text in ["plain 'text' \"quoted\" \\", "ärger", "e\u{301}", "日本語", "😀", ""] {
        assert_eq!(printable(text), text);
    }
}

#[test]
fn outside_text_is_short_and_ends_with_no_half_of_a_secret() {
    let secret = "outsidecanary-abcdefghijklmnopqrstuvwxyz";
    remember(Origin::Account, secret);
    for before in OUTSIDE_BYTES_MAX - 60..OUTSIDE_BYTES_MAX {
        let text = format!("{}{secret}", "é".repeat(before / 2));
        let shown = outside(&text, usize::MAX);
        assert!(!shown.contains("outsid"), "{before}");
    }
    for before in 180..260 {
        let shown = outside(&format!("{}{secret}", "x".repeat(before)), 240);
        assert!(shown.chars().count() <= 240 && !shown.contains("outsid"), "{shown}");
    }
}

#[test]
fn any_text_can_be_redacted() {
    remember(Origin::Service, "ünïcödé-canary");
    for text in ["%", "%é1", "\\u12", "\\", "%FF%FEünïcödé-canary", "\\ud800x", "password:"] {
        let _ = redact(text);
    }
    assert_eq!(redact("%FFünïcödé-canaryé"), "%FF[redacted]é");
    assert_eq!(redact(&percent("ünïcödé-canary", false)), "[redacted]");
}
