//! The presigned URL of the signaling socket: a pure function of endpoint, identity and time.
//!
//! Every parameter is part of the signature, the session token included, and the host is the only
//! signed header (KVS developer guide, ConnectAsViewer and ConnectAsMaster).

use std::fmt;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use kvs_wire::presign::{EXPIRES, SERVICE, encode_query, parameters};
use url::Url;

use crate::endpoint::{PlainHttp, is_socket_endpoint};

/// The parameters of a signaling connection's URL.
#[derive(Debug)]
pub struct Connect<'a> {
    /// The WSS endpoint that the service returned.
    pub endpoint: &'a str,
    /// The channel.
    pub channel_arn: &'a str,
    /// The viewer's id; the master has none.
    pub client_id: Option<&'a str>,
    /// The region in the credential scope.
    pub region: &'a str,
    /// The credentials of the caller.
    pub credentials: &'a Credentials,
    /// The time of the signature, by the service's clock.
    pub time: SystemTime,
}

impl Connect<'_> {
    /// Returns the signed URL.
    ///
    /// # Errors
    /// The endpoint is not `wss://` (`ws://` on loopback), or has a query of its own.
    pub fn sign(&self) -> Result<SignedUrl, PresignError> {
        self.presign(PlainHttp::Loopback)
    }

    /// As [`sign`](Self::sign), for an endpoint that may be `ws://` at any host. Anyone who can
    /// read the traffic can use the URL until it expires.
    ///
    /// # Errors
    /// As [`sign`](Self::sign), but for the scheme.
    pub fn sign_insecure(&self) -> Result<SignedUrl, PresignError> {
        self.presign(PlainHttp::Anywhere)
    }

    fn presign(&self, plain: PlainHttp) -> Result<SignedUrl, PresignError> {
        let query = parameters(self.channel_arn, self.client_id);
        let endpoint = (self.endpoint, plain);
        presign(endpoint, &query, SERVICE, self.region, self.credentials, self.time)
    }
}

/// A URL that opens a socket for anyone who has it, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl(String);

impl SignedUrl {
    /// Returns the URL itself, for the one place that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the signature in the URL, which is as secret as the URL.
    pub(crate) fn signature(&self) -> Option<&str> {
        self.0.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Signature="))
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedUrl(..)")
    }
}

/// Why a URL cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresignError {
    /// The scheme would send the signature in clear text.
    #[error("the signaling endpoint must be wss:// (ws:// only on loopback)")]
    Scheme,
    /// The endpoint has a query: the signature covers the whole query, so this crate must set it.
    #[error("the signaling endpoint must not have a query")]
    Query,
    /// The endpoint is no URL.
    #[error("the signaling endpoint is no valid URL")]
    Url,
    /// The signer refused.
    #[error("the request could not be signed")]
    Signer,
}

fn presign(
    (endpoint, plain): (&str, PlainHttp),
    query: &[(&str, &str)],
    service: &str,
    region: &str,
    credentials: &Credentials,
    time: SystemTime,
) -> Result<SignedUrl, PresignError> {
    if endpoint.contains('?') || endpoint.contains('#') {
        return Err(PresignError::Query);
    }
    let url = Url::parse(endpoint).map_err(|_| PresignError::Url)?;
    if !is_socket_endpoint(&url, plain) {
        return Err(PresignError::Scheme);
    }
    let credentials = without_empty_token(credentials);
    let base = url.as_str();
    let plain = format!("{base}?{}", encode_query(query.iter().copied()));

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(settings)
        .build()
        .map_err(|_| PresignError::Signer)?
        .into();
    let request = SignableRequest::new("GET", plain, std::iter::empty(), SignableBody::Bytes(b""))
        .map_err(|_| PresignError::Signer)?;
    let (instructions, _) = sign(request, &params).map_err(|_| PresignError::Signer)?.into_parts();

    let (_, added) = instructions.into_parts();
    let mut all: Vec<(&str, &str)> = query.to_vec();
    all.extend(added.iter().map(|(name, value)| (*name, value.as_ref())));
    all.sort_unstable();
    Ok(SignedUrl(format!("{base}?{}", encode_query(all))))
}

/// An empty session token is no token: environments often set the variable to nothing.
fn without_empty_token(credentials: &Credentials) -> Credentials {
    if credentials.session_token().is_some_and(str::is_empty) {
        return Credentials::new(
            credentials.access_key_id(),
            credentials.secret_access_key(),
            None,
            credentials.expiry(),
            "signaling",
        );
    }
    credentials.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ARN: &str =
        "arn:aws:kinesisvideo:us-west-2:123456789012:channel/demo-channel/1234567890123";
    const CLIENT: &str = "d7d1c6e2-9cb0-4d61-bea9-ecb3d3816557";
    const MASTER_HOST: &str = "wss://m-a1b2c3d4.kinesisvideo.us-west-2.amazonaws.com";
    const VIEWER_HOST: &str = "wss://v-a1b2c3d4.kinesisvideo.us-west-2.amazonaws.com";
    const TOKEN_A: &str = "AQoEXAMPLEH4aoAH0gNCAPyJxz4BlCFFxWNE1OPTgk5TthT+FvwqnKwRcOIfrRh3c/LTo6UDdyJwOOvEVPvLXCrrrUtdnniCEXAMPLE/IvU1dYUg2RVAJBanLiHb4IgRmpRV3zrkuWJOgQs8IZZaIv2BXIa2R4OlgkBN9bkUDNCJiBeb/AXlzBBko7b15fjrBs2+cTQtpZ3CYWFXG8C5zqx37wnOE49mRl/+OtkIKGO7fAE";

    fn at(unix: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
    }

    fn credentials(key: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::new(key, secret, token.map(str::to_owned), None, "test")
    }

    fn signature(url: &SignedUrl) -> &str {
        url.signature().expect("signed")
    }

    /// docs/kvs-protocol.md 5.1: the vectors of the JavaScript SDK.
    fn javascript(token: Option<&str>, path: &str, service: &str) -> SignedUrl {
        presign(
            (&format!("wss://kvs.awsamazon.com{path}"), PlainHttp::Refused),
            &[("X-Amz-TestParam", "test-param-value")],
            service,
            "us-west-2",
            &credentials("AKIA4F7WJQR7FMMWMNXI", "FakeSecretKey", token),
            at(1_575_158_400),
        )
        .expect("valid")
    }

    #[test]
    fn presigned_urls_match_javascript_sdk_vectors() {
        let token = Some("FakeSessionToken");
        for (url, expected) in [
            (
                javascript(token, "/", SERVICE),
                "fc268038be276315822b4f73eafd28ee3a5632a2a35fdb0a88db9a42b13d6c92",
            ),
            (
                javascript(None, "", SERVICE),
                "be1e78950d956a8a9a1997417099ddbd7455619f3d08c4ad20e1e272179ca695",
            ),
            (
                javascript(token, "/", "firehose"),
                "f15308513d21a381d38b7607a0439f25fc2e6c9f5ff56a48c1664b486e6234d5",
            ),
            (
                javascript(token, "/path/path/path", SERVICE),
                "0bf3df6ca23d8d82f688e8dbfb90d69e74843d40038541b1721c545eef7612a4",
            ),
        ] {
            assert_eq!(signature(&url), expected);
        }
    }

    #[test]
    fn presigned_url_equals_javascript_sdk_url() {
        assert_eq!(
            javascript(Some("FakeSessionToken"), "", SERVICE).expose(),
            "wss://kvs.awsamazon.com/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
             AKIA4F7WJQR7FMMWMNXI%2F20191201%2Fus-west-2%2Fkinesisvideo%2Faws4_request\
             &X-Amz-Date=20191201T000000Z&X-Amz-Expires=299&X-Amz-Security-Token=FakeSessionToken\
             &X-Amz-Signature=fc268038be276315822b4f73eafd28ee3a5632a2a35fdb0a88db9a42b13d6c92\
             &X-Amz-SignedHeaders=host&X-Amz-TestParam=test-param-value"
        );
    }

    /// docs/kvs-protocol.md 5.2: the vectors of the Android SDK.
    #[test]
    fn presigned_urls_match_android_sdk_vectors() {
        let a = credentials(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            Some(TOKEN_A),
        );
        let secret_b = "wJalrXUtnFEMI/K7MDENG/bPxQQiCYEXAMPLEKEY";
        let b = credentials("AKIAIOSFODJJ7EXAMPLE", secret_b, None);
        let b_empty = credentials("AKIAIOSFODJJ7EXAMPLE", secret_b, Some(""));
        let sign = |endpoint, client_id, credentials| {
            Connect {
                endpoint,
                channel_arn: ARN,
                client_id,
                region: "us-west-2",
                credentials,
                time: at(1_690_186_022),
            }
            .sign()
            .expect("valid")
        };
        for (url, expected) in [
            (
                sign(MASTER_HOST, None, &a),
                "f8fed632bbe38ac920c7ed2eeaba1a4ba5e2b1bd7aada9f852708112eab76baa",
            ),
            (
                sign(VIEWER_HOST, Some(CLIENT), &a),
                "77ea5ff8ede2e22aa268a3a068f1ad3a5d92f0fa8a427579f9e6376e97139761",
            ),
            (
                sign(MASTER_HOST, None, &b),
                "0bbef329f0d9d3e68635f7b844ac684c7764a0c228ca013232d935c111b9a370",
            ),
            (
                sign(VIEWER_HOST, Some(CLIENT), &b),
                "cea541f699dc51bc53a55590ce817e63cc06fac2bdef4696b63e0889eb448f0b",
            ),
            (
                sign(VIEWER_HOST, Some(CLIENT), &b_empty),
                "cea541f699dc51bc53a55590ce817e63cc06fac2bdef4696b63e0889eb448f0b",
            ),
        ] {
            assert_eq!(signature(&url), expected);
        }
    }

    // Shows: 38.
    #[test]
    fn special_characters_are_encoded_once() {
        let credentials = credentials("AK", "secret", Some("a+b/c=d%2Be"));
        let url = Connect {
            endpoint: VIEWER_HOST,
            channel_arn: ARN,
            client_id: Some("a.b-c_d"),
            region: "us-west-2",
            credentials: &credentials,
            time: at(1_690_186_022),
        }
        .sign()
        .expect("valid");
        assert!(url.expose().contains("X-Amz-Security-Token=a%2Bb%2Fc%3Dd%252Be&"));
        assert!(url.expose().contains("X-Amz-ClientId=a.b-c_d&"));
    }

    #[test]
    fn endpoints_that_cannot_be_signed_are_refused() {
        let credentials = credentials("AK", "secret", None);
        let error = |endpoint| {
            presign((endpoint, PlainHttp::Loopback), &[], SERVICE, "r", &credentials, at(0))
                .expect_err("refused")
        };
        assert_eq!(error("https://kvs.awsamazon.com"), PresignError::Scheme);
        assert_eq!(error("ws://kvs.awsamazon.com"), PresignError::Scheme);
        assert_eq!(error("wss://kvs.awsamazon.com?a=b"), PresignError::Query);
        assert_eq!(error("nonsense"), PresignError::Url);
        for loopback in ["ws://127.0.0.1:8443", "ws://[::1]:8443", "ws://localhost:1/x"] {
            let endpoint = (loopback, PlainHttp::Loopback);
            assert!(presign(endpoint, &[], SERVICE, "r", &credentials, at(0)).is_ok());
        }
        let endpoint = ("ws://kvs-emulator:4700", PlainHttp::Anywhere);
        assert!(presign(endpoint, &[], SERVICE, "r", &credentials, at(0)).is_ok());
    }

    #[test]
    fn signed_url_is_never_printed() {
        let url = javascript(Some("FakeSessionToken"), "/", SERVICE);
        assert_eq!(format!("{url:?}"), "SignedUrl(..)");
    }
}
