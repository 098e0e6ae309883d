//! The `host:port` of a URL.

/// Whether the text can stand between `http://` and `/`.
pub(crate) fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
}
