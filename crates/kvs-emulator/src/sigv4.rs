//! Verification of Signature Version 4, from the specification and without code of a client's
//! signer: the canonical request is rebuilt from the received request.
//!
//! Source: AWS General Reference, "Signing AWS API requests"; the texts of the refusals are those
//! of AWS services.

mod canonical;

use std::collections::BTreeMap;

use aws_lc_rs::{constant_time, digest, hmac};

use crate::clock::UnixTime;
use crate::config::Credential;
use crate::error::ApiError;
use canonical::{canonical_headers, canonical_path, canonical_query, decode_query};

/// The service name all three APIs and the socket are signed for (docs/kvs-protocol.md 1.1).
pub(crate) const SERVICE: &str = "kinesisvideo";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a client's clock may be off, either way.
const SKEW_SECS: i64 = 300;

/// A request as it was received.
pub(crate) struct Wire<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// Names in lower case; repeated headers joined with commas.
    pub(crate) headers: &'a BTreeMap<String, String>,
    pub(crate) body: &'a [u8],
}

/// The credentials and limits to check against.
pub(crate) struct Verifier<'a> {
    pub(crate) credentials: &'a [Credential],
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) now: UnixTime,
    /// The longest `X-Amz-Expires` of a presigned URL.
    pub(crate) expires_max_secs: u32,
}

/// The fields of a signature.
struct Claim<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    date: &'a str,
    token: Option<&'a str>,
    expires_secs: Option<i64>,
}

/// The parameters of a verified presigned URL, decoded.
pub(crate) type QueryParams = BTreeMap<String, String>;

impl Verifier<'_> {
    /// Checks a REST call signed in its `Authorization` header.
    pub(crate) fn verify_header(&self, wire: &Wire<'_>) -> Result<(), ApiError> {
        let Some(authorization) = wire.headers.get("authorization") else {
            return Err(ApiError::new(
                403,
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ));
        };
        let fields = authorization
            .strip_prefix(ALGORITHM)
            .filter(|rest| rest.starts_with(' '))
            .ok_or_else(|| incomplete("Authorization header must start with AWS4-HMAC-SHA256."))?;
        let field = |name: &str| {
            fields
                .split(',')
                .filter_map(|part| part.trim().split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
                .ok_or_else(|| {
                    incomplete(format!("Authorization header requires '{name}' parameter."))
                })
        };
        let header = |name: &str| wire.headers.get(name).map(String::as_str);
        let claim = Claim {
            credential: field("Credential")?,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
            date: header("x-amz-date").ok_or_else(|| {
                incomplete("Authorization header requires existence of 'X-Amz-Date' header.")
            })?,
            token: header("x-amz-security-token").filter(|token| !token.is_empty()),
            expires_secs: None,
        };
        let payload_hash = sha256_hex(wire.body);
        // The canonical request always contains the hash of the received body. If this header
        // differs from it, the body was changed in transit.
        if header("x-amz-content-sha256").is_some_and(|stated| stated != payload_hash) {
            return Err(mismatch());
        }
        for name in ["host", "x-amz-date", "x-amz-security-token"] {
            let signed = claim.signed_headers.split(';').any(|signed| signed == name);
            if header(name).is_some() && !signed {
                return Err(invalid(format!(
                    "'{name}' must be a 'SignedHeader' in the AWS Authorization."
                )));
            }
        }
        self.verify(wire, &claim, &canonical_query(wire.query, None), &payload_hash)
    }

    /// Checks a presigned URL and returns its parameters.
    pub(crate) fn verify_query(&self, wire: &Wire<'_>) -> Result<QueryParams, ApiError> {
        let mut params = QueryParams::new();
        for (name, value) in decode_query(wire.query) {
            // A name given twice could be read one way here and another way elsewhere.
            if params.insert(name.clone(), value).is_some() {
                return Err(incomplete(format!("'{}' is given twice.", printable(&name))));
            }
        }
        let param = |name: &str| params.get(name).map(String::as_str);
        let Some(algorithm) = param("X-Amz-Algorithm") else {
            return Err(ApiError::new(
                403,
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ));
        };
        if algorithm != ALGORITHM {
            return Err(incomplete("Unsupported AWS 'algorithm': use AWS4-HMAC-SHA256."));
        }
        let need = |name: &str| {
            param(name).ok_or_else(|| {
                incomplete(format!("AWS query-string parameters must include '{name}'."))
            })
        };
        let expires_secs = need("X-Amz-Expires")?
            .parse()
            .ok()
            .filter(|secs| (1..=i64::from(self.expires_max_secs)).contains(secs))
            .ok_or_else(|| {
                let most = self.expires_max_secs;
                invalid(format!("X-Amz-Expires must be between 1 and {most} seconds."))
            })?;
        let claim = Claim {
            credential: need("X-Amz-Credential")?,
            signed_headers: need("X-Amz-SignedHeaders")?,
            signature: need("X-Amz-Signature")?,
            date: need("X-Amz-Date")?,
            token: param("X-Amz-Security-Token").filter(|token| !token.is_empty()),
            expires_secs: Some(expires_secs),
        };
        if !claim.signed_headers.split(';').any(|name| name == "host") {
            return Err(invalid("'Host' must be a 'SignedHeader' in the AWS Authorization."));
        }
        let query = canonical_query(wire.query, Some("X-Amz-Signature"));
        self.verify(wire, &claim, &query, &sha256_hex(b""))?;
        Ok(params)
    }

    fn verify(
        &self,
        wire: &Wire<'_>,
        claim: &Claim<'_>,
        query: &str,
        payload_hash: &str,
    ) -> Result<(), ApiError> {
        let scope = Scope::parse(claim.credential)?;
        let credential = self.find(scope.access_key_id, claim.token)?;
        let date = UnixTime::parse_amz(claim.date)
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;
        self.check_scope(&scope, claim.date)?;
        self.check_time(date, claim)?;
        let headers = canonical_headers(wire.headers, claim.signed_headers).ok_or_else(mismatch)?;
        let request = format!(
            "{}\n{}\n{query}\n{headers}\n{}\n{payload_hash}",
            wire.method,
            canonical_path(wire.path),
            claim.signed_headers,
        );
        let string_to_sign = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            claim.date,
            scope.text,
            sha256_hex(request.as_bytes())
        );
        let key = signing_key(&credential.secret_access_key, scope.date, self.region, self.service);
        let expected = hex(hmac::sign(&key, string_to_sign.as_bytes()).as_ref());
        constant_time::verify_slices_are_equal(expected.as_bytes(), claim.signature.as_bytes())
            .map_err(|_| mismatch())?;
        // Only the request of a client that holds the key gets this far.
        if credential.expires_at_secs.is_some_and(|end| self.now.0 >= end) {
            return Err(ApiError::expired_token());
        }
        Ok(())
    }

    fn find(&self, access_key_id: &str, token: Option<&str>) -> Result<&Credential, ApiError> {
        self.credentials
            .iter()
            .find(|known| {
                known.access_key_id == access_key_id
                    && match (&known.session_token, token) {
                        (Some(a), Some(b)) => {
                            constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes())
                                .is_ok()
                        }
                        (None, None) => true,
                        (Some(_), None) | (None, Some(_)) => false,
                    }
            })
            .ok_or_else(|| {
                ApiError::new(
                    403,
                    "UnrecognizedClientException",
                    "The security token included in the request is invalid.",
                )
            })
    }

    fn check_scope(&self, scope: &Scope<'_>, date: &str) -> Result<(), ApiError> {
        if scope.region != self.region {
            return Err(invalid(format!(
                "Credential should be scoped to a valid region, not '{}'.",
                printable(scope.region)
            )));
        }
        if scope.service != self.service {
            return Err(invalid(format!(
                "Credential should be scoped to correct service: '{}'.",
                self.service
            )));
        }
        if scope.terminator != "aws4_request" {
            return Err(invalid(
                "Credential should be scoped with a valid terminator: 'aws4_request'.",
            ));
        }
        if date.get(..8) != Some(scope.date) {
            return Err(invalid(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
                 from HTTP.",
            ));
        }
        Ok(())
    }

    fn check_time(&self, date: UnixTime, claim: &Claim<'_>) -> Result<(), ApiError> {
        let now = self.now;
        let latest = UnixTime(now.0.saturating_add(SKEW_SECS));
        if date > latest {
            return Err(invalid(format!(
                "Signature not yet current: {} is still later than {} ({} + 5 min.)",
                date.amz(),
                latest.amz(),
                now.amz()
            )));
        }
        let life = claim.expires_secs.unwrap_or(SKEW_SECS);
        let earliest = UnixTime(now.0.saturating_sub(life));
        if date < earliest {
            let life =
                if life % 60 == 0 { format!("{} min.", life / 60) } else { format!("{life} s") };
            return Err(invalid(format!(
                "Signature expired: {} is now earlier than {} ({} - {life})",
                date.amz(),
                earliest.amz(),
                now.amz()
            )));
        }
        Ok(())
    }
}

struct Scope<'a> {
    access_key_id: &'a str,
    /// The scope after the key, as in the string to sign.
    text: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    terminator: &'a str,
}

impl<'a> Scope<'a> {
    fn parse(credential: &'a str) -> Result<Self, ApiError> {
        let broken = || {
            incomplete(
                "Credential must have at least 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term.",
            )
        };
        let (access_key_id, text) = credential.split_once('/').ok_or_else(broken)?;
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or_else(broken);
        let scope = Self {
            access_key_id,
            text,
            date: part()?,
            region: part()?,
            service: part()?,
            terminator: part()?,
        };
        if parts.next().is_some() { Err(broken()) } else { Ok(scope) }
    }
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    for part in [date, region, service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect()
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0')
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(403, "InvalidSignatureException", message)
}

fn incomplete(message: impl Into<String>) -> ApiError {
    ApiError::new(403, "IncompleteSignatureException", message)
}

fn mismatch() -> ApiError {
    invalid(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details.",
    )
}

#[cfg(test)]
mod tests;
