//! The canonical forms of Signature Version 4, rebuilt from the raw request line and headers.

use std::collections::BTreeMap;

/// Encodes each octet of the path that is neither unreserved nor `/` once more: every service but
/// S3 encodes twice.
pub(super) fn canonical_path(path: &str) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let mut out = String::with_capacity(path.len());
    for segment in path.split_inclusive('/') {
        let (name, slash) = segment.strip_suffix('/').map_or((segment, ""), |name| (name, "/"));
        encode_into(&mut out, name.as_bytes());
        out.push_str(slash);
    }
    out
}

/// Decodes a query, encodes it as in RFC 3986, and sorts it by name, then value.
pub(super) fn canonical_query(query: &str, without: Option<&str>) -> String {
    let mut pairs: Vec<(String, String)> = raw_pairs(query)
        .filter(|(name, _)| without.is_none_or(|without| name.as_slice() != without.as_bytes()))
        .map(|(name, value)| (encode(&name), encode(&value)))
        .collect();
    pairs.sort();
    let joined: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    joined.join("&")
}

/// Returns the decoded parameters, in the received order; invalid UTF-8 is replaced.
pub(super) fn decode_query(query: &str) -> impl Iterator<Item = (String, String)> {
    raw_pairs(query).map(|(name, value)| {
        (String::from_utf8_lossy(&name).into_owned(), String::from_utf8_lossy(&value).into_owned())
    })
}

/// Returns `name:value\n` of each signed header; `None` if one of them is missing or the list is
/// not sorted.
pub(super) fn canonical_headers(
    headers: &BTreeMap<String, String>,
    signed_headers: &str,
) -> Option<String> {
    let names: Vec<&str> = signed_headers.split(';').collect();
    if !names.is_sorted() {
        return None;
    }
    let mut out = String::new();
    for name in names {
        let value = headers.get(name)?;
        let words: Vec<&str> = value.split_whitespace().collect();
        out.push_str(name);
        out.push(':');
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    Some(out)
}

fn raw_pairs(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// Percent-decodes a text. A bare `+` is a space, as in query parsers of servers, so the signature
/// of a client that did not encode the `+` in its session token is refused.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| {
            bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16)).map(|d| d as u8)
        };
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (b'+', _, _) => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    encode_into(&mut out, bytes);
    out
}

fn encode_into(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(super::hex_digit(nibble).to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_query_is_decoded_encoded_and_sorted() {
        assert_eq!(canonical_query("b=%2f&a=x~y&a=%2B", None), "a=%2B&a=x~y&b=%2F");
        assert_eq!(canonical_query("token=a+b%20c&empty", None), "empty=&token=a%20b%20c");
        assert_eq!(canonical_query("a=1&X-Amz-Signature=f", Some("X-Amz-Signature")), "a=1");
        assert_eq!(canonical_query("a=%zz%4", None), "a=%25zz%254");
    }

    #[test]
    fn canonical_path_is_encoded_twice() {
        assert_eq!(canonical_path("/path/path"), "/path/path");
        assert_eq!(canonical_path("/a%20b/"), "/a%2520b/");
        assert_eq!(canonical_path(""), "/");
    }

    #[test]
    fn canonical_headers_are_trimmed_and_must_be_present() {
        let headers: BTreeMap<_, _> =
            [("host".to_owned(), "h".to_owned()), ("x".to_owned(), "  a   b ".to_owned())].into();
        assert_eq!(canonical_headers(&headers, "host;x").as_deref(), Some("host:h\nx:a b\n"));
        assert_eq!(canonical_headers(&headers, "host;y"), None);
        assert_eq!(canonical_headers(&headers, "x;host"), None);
    }
}
