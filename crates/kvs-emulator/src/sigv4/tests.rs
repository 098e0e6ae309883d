//! The published vectors, and requests that must be refused.

use super::*;

const ARN: &str =
    "arn%3Aaws%3Akinesisvideo%3Aus-west-2%3A123456789012%3Achannel%2Fdemo-channel%2F1234567890123";
const TOKEN_A: &str = "AQoEXAMPLEH4aoAH0gNCAPyJxz4BlCFFxWNE1OPTgk5TthT+FvwqnKwRcOIfrRh3c/LTo6UDdyJwOOvEVPvLXCrrrUtdnniCEXAMPLE/IvU1dYUg2RVAJBanLiHb4IgRmpRV3zrkuWJOgQs8IZZaIv2BXIa2R4OlgkBN9bkUDNCJiBeb/AXlzBBko7b15fjrBs2+cTQtpZ3CYWFXG8C5zqx37wnOE49mRl/+OtkIKGO7fAE";
const JS_DATE: i64 = 1_575_158_400;
const ANDROID_DATE: i64 = 1_690_186_022;

struct Vector {
    host: &'static str,
    path: &'static str,
    query: String,
    credential: Credential,
    service: &'static str,
    date: i64,
}

impl Vector {
    fn verify_at(&self, now: i64) -> Result<QueryParams, ApiError> {
        let headers = [("host".to_owned(), self.host.to_owned())].into();
        let wire = Wire {
            method: "GET",
            path: self.path,
            query: &self.query,
            headers: &headers,
            body: b"",
        };
        Verifier {
            credentials: std::slice::from_ref(&self.credential),
            region: "us-west-2",
            service: self.service,
            now: UnixTime(now),
            expires_max_secs: 604_800,
        }
        .verify_query(&wire)
    }

    fn verify(&self) -> Result<QueryParams, ApiError> {
        self.verify_at(self.date)
    }
}

/// kvs-protocol.md 5.1: the JavaScript SDK's vectors, with the signature at its position.
fn js(token: bool, service: &'static str, path: &'static str, signature: &str) -> Vector {
    let token_part = if token { "&X-Amz-Security-Token=FakeSessionToken" } else { "" };
    Vector {
        host: "kvs.awsamazon.com",
        path,
        query: format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA4F7WJQR7FMMWMNXI%2F20191201%2F\
             us-west-2%2F{service}%2Faws4_request&X-Amz-Date=20191201T000000Z&X-Amz-Expires=299\
             {token_part}&X-Amz-Signature={signature}&X-Amz-SignedHeaders=host\
             &X-Amz-TestParam=test-param-value"
        ),
        credential: Credential::new(
            "AKIA4F7WJQR7FMMWMNXI",
            "FakeSecretKey",
            token.then(|| "FakeSessionToken".to_owned()),
        ),
        service,
        date: JS_DATE,
    }
}

/// docs/kvs-protocol.md 5.2: Android's, with the signature last.
fn android(viewer: bool, with_token: bool, signature: &str) -> Vector {
    let client = if viewer { "&X-Amz-ClientId=d7d1c6e2-9cb0-4d61-bea9-ecb3d3816557" } else { "" };
    let encoded = TOKEN_A.replace('/', "%2F").replace('+', "%2B");
    let (id, secret) = if with_token {
        ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    } else {
        ("AKIAIOSFODJJ7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxQQiCYEXAMPLEKEY")
    };
    let token = if with_token { format!("&X-Amz-Security-Token={encoded}") } else { String::new() };
    Vector {
        host: if viewer {
            "v-a1b2c3d4.kinesisvideo.us-west-2.amazonaws.com"
        } else {
            "m-a1b2c3d4.kinesisvideo.us-west-2.amazonaws.com"
        },
        path: "/",
        query: format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-ChannelARN={ARN}{client}&X-Amz-Credential={id}\
             %2F20230724%2Fus-west-2%2Fkinesisvideo%2Faws4_request&X-Amz-Date=20230724T080702Z\
             &X-Amz-Expires=299{token}&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        ),
        credential: Credential::new(id, secret, with_token.then(|| TOKEN_A.to_owned())),
        service: SERVICE,
        date: ANDROID_DATE,
    }
}

fn vectors() -> Vec<Vector> {
    vec![
        js(true, SERVICE, "/", "fc268038be276315822b4f73eafd28ee3a5632a2a35fdb0a88db9a42b13d6c92"),
        js(false, SERVICE, "/", "be1e78950d956a8a9a1997417099ddbd7455619f3d08c4ad20e1e272179ca695"),
        js(
            true,
            "firehose",
            "/",
            "f15308513d21a381d38b7607a0439f25fc2e6c9f5ff56a48c1664b486e6234d5",
        ),
        js(
            true,
            SERVICE,
            "/path/path/path",
            "0bf3df6ca23d8d82f688e8dbfb90d69e74843d40038541b1721c545eef7612a4",
        ),
        android(false, true, "f8fed632bbe38ac920c7ed2eeaba1a4ba5e2b1bd7aada9f852708112eab76baa"),
        android(true, true, "77ea5ff8ede2e22aa268a3a068f1ad3a5d92f0fa8a427579f9e6376e97139761"),
        android(false, false, "0bbef329f0d9d3e68635f7b844ac684c7764a0c228ca013232d935c111b9a370"),
        android(true, false, "cea541f699dc51bc53a55590ce817e63cc06fac2bdef4696b63e0889eb448f0b"),
    ]
}

#[test]
fn eight_published_presigned_urls_verify() {
    for (index, vector) in vectors().iter().enumerate() {
        let params = vector.verify().unwrap_or_else(|error| panic!("vector {index}: {error:?}"));
        if index >= 4 {
            let arn =
                "arn:aws:kinesisvideo:us-west-2:123456789012:channel/demo-channel/1234567890123";
            assert_eq!(params["X-Amz-ChannelARN"], arn);
        }
    }
}

#[test]
fn signing_key_matches_the_published_vector() {
    let key = |secret, date, region, service| {
        let key = signing_key(secret, date, region, service);
        // A key cannot be read back, so the test compares signatures.
        hex(hmac::sign(&key, b"x").as_ref())
    };
    let of = |bytes: &str| {
        let bytes: Vec<u8> = (0..bytes.len() / 2)
            .map(|i| u8::from_str_radix(&bytes[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"x").as_ref())
    };
    assert_eq!(
        key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam"),
        of("c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9")
    );
    assert_eq!(
        key("FakeSecretKey", "20191201", "us-west-2", SERVICE),
        of("82745f87b76475ec52b3ab4a6feb98a835982783a603d24def7f2fb6747ddc89")
    );
}

#[test]
fn signed_url_with_any_change_is_refused() {
    let refused = |vector: Vector, kind: &str| {
        let error = vector.verify().expect_err("accepted");
        assert_eq!((error.status, error.kind.as_ref()), (403, kind), "{}", error.message);
    };
    let base = || vectors().remove(5);
    let with = |from: &str, to: &str| {
        let vector = base();
        let query = vector.query.replacen(from, to, 1);
        assert_ne!(query, vector.query, "{from} is not in the URL");
        Vector { query, ..vector }
    };
    refused(with("ClientId=d", "ClientId=e"), "InvalidSignatureException");
    refused(with("Signature=77", "Signature=78"), "InvalidSignatureException");
    refused(with("Signature=77ea5ff8", "Signature="), "InvalidSignatureException");
    refused(with("Expires=299", "Expires=298"), "InvalidSignatureException");
    refused(with("Expires=299", "Expires=301"), "InvalidSignatureException");
    refused(with("Expires=299", "Expires=-1"), "InvalidSignatureException");
    refused(with("T%2BFvw", "T+Fvw"), "UnrecognizedClientException");
    refused(with("us-west-2%2Fkin", "us-east-1%2Fkin"), "InvalidSignatureException");
    refused(with("kinesisvideo%2Faws4", "firehose%2Faws4"), "InvalidSignatureException");
    refused(with("20230724%2F", "20230723%2F"), "InvalidSignatureException");
    refused(with("AKIAIOSFODNN7", "AKIAIOSFODNN8"), "UnrecognizedClientException");
    refused(with("Token=AQ", "Token=AR"), "UnrecognizedClientException");
    refused(with("SignedHeaders=host", "SignedHeaders=date"), "InvalidSignatureException");
    refused(with("X-Amz-Algorithm", "X-Amz-Algorism"), "MissingAuthenticationTokenException");
    refused(with("X-Amz-Date", "X-Amz-Dote"), "IncompleteSignatureException");
    refused(with("&X-Amz-Expires", "&X-Amz-Date=1&X-Amz-Expires"), "IncompleteSignatureException");
    refused(Vector { host: "elsewhere", ..base() }, "InvalidSignatureException");
    refused(Vector { path: "/x", ..base() }, "InvalidSignatureException");
    let mut other_key = base();
    other_key.credential.secret_access_key.push('x');
    refused(other_key, "InvalidSignatureException");
    let mut ended = base();
    ended.credential.expires_at_secs = Some(ANDROID_DATE);
    refused(ended, "ExpiredTokenException");
}

#[test]
fn presigned_url_is_valid_only_in_its_time() {
    let vector = vectors().remove(7);
    assert!(vector.verify_at(ANDROID_DATE + 299).is_ok());
    assert!(vector.verify_at(ANDROID_DATE - 300).is_ok());
    let late = vector.verify_at(ANDROID_DATE + 300).expect_err("accepted late").message;
    assert!(late.starts_with("Signature expired: 20230724T080702Z is now earlier than "), "{late}");
    let early = vector.verify_at(ANDROID_DATE - 301).expect_err("accepted early").message;
    assert_eq!(
        early,
        "Signature not yet current: 20230724T080702Z is still later than 20230724T080701Z \
         (20230724T080201Z + 5 min.)"
    );
}

#[test]
fn malformed_signature_is_refused_without_panic() {
    let credential = [Credential::new("A", "s", None)];
    let verifier = Verifier {
        credentials: &credential,
        region: "r",
        service: SERVICE,
        now: UnixTime(ANDROID_DATE),
        expires_max_secs: 604_800,
    };
    for text in ["", "%", "a=%f", "X-Amz-Algorithm", "X-Amz-Algorithm=AWS4-HMAC-SHA256", "=&=&&"] {
        let headers: BTreeMap<String, String> =
            [("authorization".to_owned(), text.to_owned())].into();
        let wire = Wire { method: "GET", path: "", query: text, headers: &headers, body: b"" };
        assert!(verifier.verify_query(&wire).is_err(), "{text}");
        assert!(verifier.verify_header(&wire).is_err(), "{text}");
    }
}
