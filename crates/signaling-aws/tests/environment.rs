//! The AWS environment as users set it: variables, profiles, a credentials process.
//!
//! Variables belong to a process, so each case runs the ignored test below in a process of its
//! own, with nothing but what the case sets.

use std::path::Path;
use std::process::Command;

use kvs_emulator::{Credential, Emulator, EmulatorConfig, TlsConfig};
use negotiation_core::{Completion, Done, LinkId, SignalingCommand, Ticket};
use signaling_aws::{AwsSignaling, SignalingConfig};
use viewer_session::{SignalingInput, SignalingPort as _};

/// Variables, the outcome of the connect, and whether ICE servers came.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, bool);

const TOKEN: &str = "to+k/e=n%2B==";

/// Connects with what the environment says, and prints how that went.
#[tokio::test]
#[ignore = "runs as a child of the other tests, with their environment"]
async fn child() {
    let config = SignalingConfig::builder("door").build().expect("valid");
    let mut port = AwsSignaling::new(config);
    let ticket = Ticket { attempt: 1, seq: 1 };
    port.submit(ticket, SignalingCommand::Connect { link: LinkId(1), attempt: 1, client_id: None });
    port.submit(ticket, SignalingCommand::FetchIceServers { link: LinkId(1) });
    for _ in 0..2 {
        let SignalingInput::Completed(Completion { outcome, .. }) = port.next().await else {
            panic!("a completion");
        };
        match outcome {
            Ok(Done::Connected(_)) => println!("outcome=connected"),
            Ok(_) => println!("servers=ok"),
            Err(failure) => println!("outcome={}", failure.code),
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
    // Nobody listens on port 9 of loopback.
    let nowhere = "http://127.0.0.1:9";
    let here = emulator.endpoint();
    let cases: [Case<'_>; 4] = [
        (&[("AWS_ENDPOINT_URL", here)], "outcome=connected", true),
        (
            &[("AWS_ENDPOINT_URL", nowhere), ("AWS_ENDPOINT_URL_KINESIS_VIDEO", here)],
            "outcome=connected",
            true,
        ),
        // An endpoint for signaling alone is where the ICE servers come from.
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
        let said = run(home.path(), &variables).await;
        assert!(said.contains(outcome), "{endpoints:?}: {said}");
        assert_eq!(said.contains("servers=ok"), servers, "{endpoints:?}: {said}");
    }
}

#[tokio::test]
async fn a_profile_with_a_process_for_credentials_is_enough() {
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
    let said = run(home.path(), &[("AWS_PROFILE", "cam")]).await;
    assert!(said.contains("outcome=connected") && said.contains("servers=ok"), "{said}");
}

/// `AWS_CA_BUNDLE` makes TLS work, and `HTTPS_PROXY` is where everything goes that leaves the
/// machine.
#[tokio::test]
async fn authorities_and_a_proxy_come_from_variables() {
    // An address of this machine that does not look like one.
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
    // Nobody listens on port 9 of loopback: whoever goes there fails.
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
        let said = run(home.path(), &variables).await;
        assert!(said.contains(outcome), "{extra:?}: {said}");
        assert_eq!(said.contains("servers=ok"), servers, "{extra:?}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }
}

#[tokio::test]
async fn what_is_missing_has_its_own_code() {
    let home = tempfile::tempdir().expect("a directory");
    let endpoint = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let said = run(home.path(), &[endpoint, ("AWS_REGION", "us-west-2")]).await;
    assert!(said.contains("outcome=no-credentials"), "{said}");
    let said = run(home.path(), &credentials()[..3]).await;
    assert!(said.contains("outcome=invalid-argument"), "{said}");
    let expired = [("AWS_PROFILE", "nobody"), ("AWS_REGION", "us-west-2"), endpoint];
    let said = run(home.path(), &expired).await;
    assert!(said.contains("outcome=no-credentials"), "{said}");
}
