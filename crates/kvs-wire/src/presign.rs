//! The query of a presigned signaling URL: its parameters and their encoding.
//!
//! The signature covers every parameter, and the host is the only signed header (KVS developer
//! guide, ConnectAsViewer and ConnectAsMaster). Computing the signature (AWS Signature Version 4)
//! is left to the adapter, which has a signer.

use std::time::Duration;

/// How long a presigned URL can be used to connect. The service accepts five minutes at most; the
/// SDKs of AWS use one second less.
pub const EXPIRES: Duration = Duration::from_secs(299);

/// The service name in the credential scope.
pub const SERVICE: &str = "kinesisvideo";

/// The parameters that KVS adds to those of the signature. A master has no client id.
pub fn parameters<'a>(
    channel_arn: &'a str,
    client_id: Option<&'a str>,
) -> Vec<(&'static str, &'a str)> {
    let mut parameters = vec![("X-Amz-ChannelARN", channel_arn)];
    parameters.extend(client_id.map(|id| ("X-Amz-ClientId", id)));
    parameters
}

/// Joins parameters into a query, each percent-encoded once (RFC 3986: every character except the
/// unreserved ones, in upper-case hex). A canonical query has its parameters sorted by name.
pub fn encode_query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in parameters {
        if !out.is_empty() {
            out.push('&');
        }
        percent_encode(name, &mut out);
        out.push('=');
        percent_encode(value, &mut out);
    }
    out
}

fn percent_encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_characters_are_encoded_once() {
        let query = parameters("arn:aws:x/1", Some("a.b-c_d~"));
        assert_eq!(
            encode_query(query),
            "X-Amz-ChannelARN=arn%3Aaws%3Ax%2F1&X-Amz-ClientId=a.b-c_d~"
        );
        assert_eq!(
            encode_query([("token", "a+b/c=d%2Be é")]),
            "token=a%2Bb%2Fc%3Dd%252Be%20%C3%A9"
        );
    }

    #[test]
    fn master_has_no_client_id() {
        assert_eq!(parameters("arn", None), [("X-Amz-ChannelARN", "arn")]);
    }
}
