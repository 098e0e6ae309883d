//! The AWS environment as users set it: variables, profiles, a credentials process.
//!
//! Variables belong to a process, so each case runs the ignored test below in a process of its
//! own, with nothing but what the case sets.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use kvs_emulator::{Credential, Emulator, EmulatorConfig, TlsConfig};
use negotiation_core::{Completion, ConnectionId, Done, SignalingCommand, Ticket};
use signaling_aws::{AwsSignaling, SignalingConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use viewer_session::{SignalingInput, SignalingPort as _};

/// Variables, the outcome of the connect, and whether ICE servers came.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, bool);

const TOKEN: &str = "to+k/e=n%2B==";

/// Connects with the settings of the environment, and prints the outcome.
#[tokio::test]
#[ignore = "runs as a child of the other tests, with their environment"]
async fn child() {
    let mut config = SignalingConfig::builder("door");
    if let Ok(profile) = std::env::var("TEST_PROFILE") {
        config = config.profile(profile);
    }
    let config = config.build().expect("valid");
    match config.check_environment().await {
        Ok(()) => println!("environment=ok"),
        Err(error) => println!("environment={} ({error})", error.field),
    }
    let mut port = AwsSignaling::new(config);
    let ticket = Ticket { attempt: 1, seq: 1 };
    port.submit(
        ticket,
        SignalingCommand::Connect { link: ConnectionId(1), attempt: 1, client_id: None },
    );
    port.submit(ticket, SignalingCommand::FetchIceServers { link: ConnectionId(1) });
    for _ in 0..2 {
        let SignalingInput::Completed(Completion { outcome, .. }) = port.next().await else {
            panic!("a completion");
        };
        match outcome {
            Ok(Done::Connected(_)) => println!("outcome=connected"),
            Ok(_) => println!("servers=ok"),
            Err(failure) => println!("outcome={} ({failure})", failure.code),
        }
    }
}

async fn emulator() -> Emulator {
    let config = EmulatorConfig {
        credentials: vec![Credential::new("AKIDENV", "secret/env+", Some(TOKEN.to_owned()))],
        channels: vec!["door".to_owned()],
        ..EmulatorConfig::default()
    };
    Emulator::start(config).await.expect("started")
}

async fn run(home: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", home)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("not cancelled")
        .expect("ran");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn credentials() -> Vec<(&'static str, &'static str)> {
    vec![
        ("AWS_ACCESS_KEY_ID", "AKIDENV"),
        ("AWS_SECRET_ACCESS_KEY", "secret/env+"),
        ("AWS_SESSION_TOKEN", TOKEN),
        ("AWS_REGION", "us-west-2"),
    ]
}

#[tokio::test]
async fn endpoints_come_from_variables_by_their_precedence() {
    let emulator = emulator().await;
    let home = tempfile::tempdir().expect("a directory");
    // No process listens on port 9 of loopback.
    let nowhere = "http://127.0.0.1:9";
    let here = emulator.endpoint();
    let cases: [Case<'_>; 4] = [
        (&[("AWS_ENDPOINT_URL", here)], "outcome=connected", true),
        (
            &[("AWS_ENDPOINT_URL", nowhere), ("AWS_ENDPOINT_URL_KINESIS_VIDEO", here)],
            "outcome=connected",
            true,
        ),
        // An endpoint for signaling alone serves the ICE servers.
        (
            &[("AWS_ENDPOINT_URL", here), ("AWS_ENDPOINT_URL_KINESIS_VIDEO_SIGNALING", nowhere)],
            "outcome=connected",
            false,
        ),
        (&[("AWS_ENDPOINT_URL", "http://example.com")], "outcome=invalid-argument", false),
    ];
    for (endpoints, outcome, servers) in cases {
        let variables: Vec<_> =
            credentials().into_iter().chain(endpoints.iter().copied()).collect();
        let printed = run(home.path(), &variables).await;
        assert!(printed.contains(outcome), "{endpoints:?}: {printed}");
        assert_eq!(printed.contains("servers=ok"), servers, "{endpoints:?}: {printed}");
    }
}

#[tokio::test]
async fn profile_with_credential_process_connects() {
    let emulator = emulator().await;
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("credentials.json");
    let json = format!(
        r#"{{"Version":1,"AccessKeyId":"AKIDENV","SecretAccessKey":"secret/env+","SessionToken":"{TOKEN}"}}"#
    );
    std::fs::write(&file, json).expect("written");
    std::fs::create_dir(home.path().join(".aws")).expect("created");
    let profile = format!(
        "[profile cam]\nregion = us-west-2\nendpoint_url = {}\ncredential_process = /bin/cat {}\n",
        emulator.endpoint(),
        file.display()
    );
    std::fs::write(home.path().join(".aws/config"), profile).expect("written");
    let printed = run(home.path(), &[("AWS_PROFILE", "cam")]).await;
    assert!(printed.contains("outcome=connected") && printed.contains("servers=ok"), "{printed}");
}

/// `AWS_CA_BUNDLE` makes TLS work, and all traffic to other machines goes to `HTTPS_PROXY`.
#[tokio::test]
async fn ca_bundle_and_proxy_come_from_variables() {
    // 0.0.0.0 reaches this machine but does not count as loopback.
    let elsewhere = TlsConfig { extra_names: vec!["0.0.0.0".to_owned()], ..TlsConfig::default() };
    let config = EmulatorConfig {
        credentials: vec![Credential::new("AKIDENV", "secret/env+", Some(TOKEN.to_owned()))],
        channels: vec!["door".to_owned()],
        tls: Some(elsewhere),
        ..EmulatorConfig::default()
    };
    let emulator = Emulator::start(config).await.expect("started");
    let home = tempfile::tempdir().expect("a directory");
    let ca = home.path().join("ca.pem");
    std::fs::write(&ca, emulator.ca_pem().expect("a CA")).expect("written");
    let ca = ("AWS_CA_BUNDLE", ca.to_str().expect("text"));
    let here = ("AWS_ENDPOINT_URL", emulator.endpoint());
    let there = emulator.endpoint().replace("127.0.0.1", "0.0.0.0");
    let there = ("AWS_ENDPOINT_URL", there.as_str());
    // No process listens on port 9 of loopback: connections to it fail.
    let nowhere = "http://user:password-canary@127.0.0.1:9";
    let cases: [Case<'_>; 6] = [
        (&[here], "outcome=tls", false),
        (&[here, ca], "outcome=connected", true),
        (&[here, ca, ("HTTPS_PROXY", nowhere)], "outcome=connected", true),
        (&[there, ca, ("HTTPS_PROXY", nowhere)], "outcome=network", false),
        (&[there, ca, ("https_proxy", nowhere)], "outcome=network", false),
        (
            &[there, ca, ("HTTPS_PROXY", nowhere), ("NO_PROXY", "example.com,0.0.0.0")],
            "outcome=connected",
            true,
        ),
    ];
    for (extra, outcome, servers) in cases {
        let variables: Vec<_> = credentials().into_iter().chain(extra.iter().copied()).collect();
        let printed = run(home.path(), &variables).await;
        assert!(printed.contains(outcome), "{extra:?}: {printed}");
        assert_eq!(printed.contains("servers=ok"), servers, "{extra:?}: {printed}");
        assert!(!printed.contains("canary"), "{printed}");
    }
}

#[tokio::test]
async fn missing_aws_settings_have_distinct_codes() {
    let home = tempfile::tempdir().expect("a directory");
    let endpoint = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let printed = run(home.path(), &[endpoint, ("AWS_REGION", "us-west-2")]).await;
    assert!(printed.contains("outcome=no-credentials"), "{printed}");
    let printed = run(home.path(), &credentials()[..3]).await;
    assert!(printed.contains("outcome=invalid-argument"), "{printed}");
    // The check before the start reports the field and what to set.
    assert!(printed.contains("environment=region (region: no region is known"), "{printed}");
    assert!(printed.contains("AWS_REGION"), "{printed}");
    let expired = [("AWS_PROFILE", "missing"), ("AWS_REGION", "us-west-2"), endpoint];
    let printed = run(home.path(), &expired).await;
    assert!(printed.contains("outcome=no-credentials"), "{printed}");
    assert!(printed.contains("there is no profile missing"), "{printed}");
}

#[tokio::test]
async fn missing_requested_profile_is_reported() {
    let emulator = emulator().await;
    let home = tempfile::tempdir().expect("a directory");
    let endpoint = ("AWS_ENDPOINT_URL", emulator.endpoint());
    let variables = |profile| {
        let chosen = [endpoint, ("TEST_PROFILE", profile)];
        credentials().into_iter().chain(chosen).collect::<Vec<_>>()
    };
    // The check fails even if other credentials are available: the user named this profile.
    let printed = run(home.path(), &variables("nosuch")).await;
    assert!(
        printed.contains("environment=profile (profile: there is no profile nosuch"),
        "{printed}"
    );
    assert!(printed.contains("outcome=no-credentials"), "{printed}");
    std::fs::create_dir(home.path().join(".aws")).expect("created");
    std::fs::write(home.path().join(".aws/config"), "[profile there]\n").expect("written");
    let printed = run(home.path(), &variables("there")).await;
    assert!(
        printed.contains("environment=ok") && printed.contains("outcome=connected"),
        "{printed}"
    );
    emulator.shutdown().await;
}

/// A response of the security token service; `clock` is the offset of its date in seconds. The last
/// response of a script repeats.
#[derive(Clone)]
enum Answer {
    Refuse {
        status: u16,
        error: &'static str,
        clock: i64,
    },
    /// The response to the call of this name.
    Credentials(&'static str),
}

/// Starts a security token service and returns its URL and the heads of its requests.
async fn token_service(script: Vec<Answer>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let requested = Arc::<Mutex<Vec<String>>>::default();
    let heads = requested.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while let Some(head) = read_request(&mut stream).await {
                let answer = {
                    let mut heads = heads.lock().expect("whole");
                    heads.push(head);
                    script.get(heads.len() - 1).or(script.last()).expect("some").clone()
                };
                if stream.write_all(response(&answer).as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    (url, requested)
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let mut length = head.lines().filter_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.next().map_or(0, |text| text.trim().parse().expect("a number"))];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

fn response(answer: &Answer) -> String {
    let (status, clock, body) = match answer {
        Answer::Refuse { status, error, clock } => {
            let error = format!("<Code>{error}</Code><Message>no</Message>");
            (*status, *clock, format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"))
        }
        Answer::Credentials(call) => {
            let credentials = format!(
                "<Credentials><AccessKeyId>AKIDENV</AccessKeyId>\
                 <SecretAccessKey>secret/env+</SecretAccessKey><SessionToken>{TOKEN}</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            );
            let result = format!("<{call}Result>{credentials}</{call}Result>");
            (200, 0, format!("<{call}Response>{result}</{call}Response>"))
        }
    };
    let date = DateTime::from_secs(DateTime::from(SystemTime::now()).secs() + clock);
    let date = date.fmt(Format::HttpDate).expect("a date");
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-type: text/xml\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// A service that fails for a moment does not mean that there are no credentials (contract, N16).
// Shows: N16.
#[tokio::test]
async fn token_service_failure_is_retried_and_is_not_missing_credentials() {
    let emulator = emulator().await;
    let home = tempfile::tempdir().expect("a directory");
    let token = home.path().join("token");
    std::fs::write(&token, "web-identity").expect("written");
    let refuse = |status, error| Answer::Refuse { status, error, clock: 0 };
    let down = || refuse(503, "ServiceUnavailable");
    let cases = [
        (
            vec![down(), down(), Answer::Credentials("AssumeRoleWithWebIdentity")],
            "outcome=connected",
            3,
        ),
        (vec![down()], "outcome=service", 3),
        (vec![refuse(400, "Throttling")], "outcome=throttled", 3),
        (vec![refuse(403, "AccessDenied")], "outcome=no-credentials", 1),
    ];
    for (script, outcome, times) in cases {
        let (url, requested) = token_service(script).await;
        let variables = [
            ("AWS_REGION", "us-west-2"),
            ("AWS_ENDPOINT_URL", emulator.endpoint()),
            ("AWS_ENDPOINT_URL_STS", &url),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/viewer"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("text")),
        ];
        let printed = run(home.path(), &variables).await;
        assert!(printed.contains(outcome), "{outcome}: {printed}");
        assert_eq!(requested.lock().expect("whole").len(), times, "{outcome}");
    }
    emulator.shutdown().await;
}

/// Assuming a role is signed too, by a clock that may be wrong.
#[tokio::test]
async fn role_is_assumed_by_the_token_services_clock() {
    let emulator = emulator().await;
    let home = tempfile::tempdir().expect("a directory");
    let aws = home.path().join(".aws");
    std::fs::create_dir(&aws).expect("made");
    let profiles = "[profile viewer]\nrole_arn = arn:aws:iam::123456789012:role/viewer\n\
                    source_profile = base\n[profile base]\naws_access_key_id = AKIDBASE\n\
                    aws_secret_access_key = secret\n";
    std::fs::write(aws.join("config"), profiles).expect("written");
    let late = Answer::Refuse { status: 403, error: "SignatureDoesNotMatch", clock: 1_000 };
    let (url, requested) = token_service(vec![late, Answer::Credentials("AssumeRole")]).await;
    let variables = [
        ("AWS_REGION", "us-west-2"),
        ("AWS_PROFILE", "viewer"),
        ("AWS_ENDPOINT_URL", emulator.endpoint()),
        ("AWS_ENDPOINT_URL_STS", &url),
    ];
    let printed = run(home.path(), &variables).await;
    assert!(printed.contains("outcome=connected"), "{printed}");
    let dates: Vec<i64> =
        requested.lock().expect("whole").iter().map(|head| signed_at(head)).collect();
    let [first, second] = dates[..] else { panic!("{dates:?}") };
    assert!((990..1_030).contains(&(second - first)), "{dates:?}");
    emulator.shutdown().await;
}

/// The header `x-amz-date`, in seconds since 1970.
fn signed_at(head: &str) -> i64 {
    let date = head.lines().find_map(|line| line.strip_prefix("x-amz-date: ")).expect("signed");
    let [year, month, day] = [&date[..4], &date[4..6], &date[6..8]];
    let [hour, minute, second] = [&date[9..11], &date[11..13], &date[13..15]];
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    DateTime::from_str(&text, Format::DateTime).expect("a date").secs()
}
