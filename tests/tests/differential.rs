//! Compares this implementation with another one on the same inputs: presigned URLs with botocore.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use kvs_viewer_tests::tools::{interop, python};
use serde_json::{Value, json};
use signaling_aws::presign::Connect;

/// The number of random requests that both implementations sign.
const REQUESTS: usize = 10_000;

/// Characters that signers have handled wrongly: the query's own syntax, characters that the two
/// kinds of percent-encoding treat differently, and multi-byte characters.
const AWKWARD: &[char] = &[
    '+', '/', '=', '%', '~', ' ', '&', '?', '#', '*', '!', '\'', '(', ')', '-', '.', '_', ',', ':',
    ';', '@', '$', '[', ']', '{', '}', '|', '^', '`', '<', '>', '"', '\\', 'a', 'Z', '0', 'ä', 'ß',
    'Ω', '日', '本', '😀', '\u{301}', '\u{7f}',
];

/// Texts that look percent-encoded already.
const ENCODED: &[&str] = &["%2F", "%2f", "%20", "+", "%25", "%E2%82%AC", "==", "/+/", "%", "%%"];

#[test]
fn presigned_urls_equal_those_of_botocore() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let requests: Vec<Value> = (0..REQUESTS).map(|_| request(&mut random)).collect();
    let theirs = sign_elsewhere(&requests);
    assert_eq!(theirs.len(), REQUESTS, "botocore signed less than it was asked");
    for (request, theirs) in requests.iter().zip(&theirs) {
        let ours = sign_here(request);
        assert_eq!(parts(&ours), parts(theirs), "of {request}");
    }
    let met: BTreeSet<char> = requests
        .iter()
        .flat_map(|request| request["token"].as_str().unwrap_or_default().chars())
        .collect();
    let unmet: Vec<_> = AWKWARD.iter().filter(|c| !met.contains(c)).collect();
    assert!(unmet.is_empty(), "never in a token: {unmet:?}");
    eprintln!("presigned URLs: {REQUESTS} equal to botocore's");
}

/// Splits a URL into its path and its set of query pairs, because the order of pairs has no
/// meaning.
fn parts(url: &str) -> (String, BTreeSet<String>) {
    let (_, after) = url.split_once("://").expect("a URL");
    let (place, query) = after.split_once('?').expect("a query");
    (place.to_owned(), query.split('&').map(str::to_owned).collect())
}

fn request(random: &mut Random) -> Value {
    let host = format!("v-{:08x}.kinesisvideo.us-west-2.amazonaws.com", random.next() as u32);
    let path = ["", "/", "/a/b"][random.below(3)];
    let token = (random.below(4) > 0).then(|| random.text(120));
    let client_id = (random.below(4) > 0).then(|| random.text(40));
    json!({
        "endpoint": format!("wss://{host}{path}"),
        "arn": format!("arn:aws:kinesisvideo:us-west-2:1:channel/{}/1", random.text(30)),
        "client_id": client_id,
        "region": (["us-west-2", "cn-north-1", "us-gov-west-1"][random.below(3)]),
        "key": format!("AKIA{:016X}", random.next()),
        "secret": random.text(40),
        "token": token,
        // From 2001 to 2096, which covers days, months and years of every length.
        "time": 1_000_000_000 + random.below(3_000_000_000),
    })
}

fn sign_here(request: &Value) -> String {
    let text = |field: &str| request[field].as_str().map(str::to_owned);
    let always = |field: &str| text(field).expect("a text");
    let (key, secret) = (always("key"), always("secret"));
    let credentials = Credentials::new(key, secret, text("token"), None, "test");
    let seconds = request["time"].as_u64().expect("a time");
    let connect = Connect {
        endpoint: &always("endpoint"),
        channel_arn: &always("arn"),
        client_id: text("client_id").as_deref(),
        region: &always("region"),
        credentials: &credentials,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    }
    .sign();
    connect.expect("it can be signed").expose().to_owned()
}

fn sign_elsewhere(requests: &[Value]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("requests");
    let mut file = File::create(&path).expect("a file");
    for request in requests {
        writeln!(file, "{request}").expect("written");
    }
    let output = Command::new(python())
        .arg("-B")
        .arg(interop().join("presigned_urls.py"))
        .stdin(Stdio::from(File::open(&path).expect("the requests")))
        .output()
        .expect("python starts");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "botocore did not sign: {printed}\nRemove target/interop-venv to have it made again from \
         tests/interop/requirements.txt; it needs Debian's python3 and python3-venv."
    );
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("a URL")).collect()
}

/// A xorshift generator with a fixed seed, which yields the same requests on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    /// Returns a text of one to `max` pieces.
    fn text(&mut self, max: usize) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(max) {
            if self.below(8) == 0 {
                text.push_str(ENCODED[self.below(ENCODED.len())]);
            } else {
                text.push(AWKWARD[self.below(AWKWARD.len())]);
            }
        }
        text
    }
}
