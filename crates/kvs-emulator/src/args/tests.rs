//! Tests of the command line.

use clap::Parser;

use super::*;
use crate::config::Unknowns;
use crate::fault::{Action, Point, Role};

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: EmulatorArgs,
}

fn config(flags: &[&str]) -> Result<EmulatorConfig, EmulatorError> {
    Cli::try_parse_from(["emulator"].iter().chain(flags)).unwrap().args.to_config()
}

#[test]
fn credential_flags_pair_up_and_never_print() {
    let flags = ["--access-key", "A", "--secret-key", "s3cr3t", "--session-token", "t0k3n"];
    let config = config(&flags).unwrap();
    assert_eq!(config.credentials, [Credential::new("A", "s3cr3t", Some("t0k3n".into()))]);
    let cli = Cli::try_parse_from(["emulator"].iter().chain(&flags)).unwrap();
    let printed = format!("{cli:?}");
    assert!(!printed.contains("s3cr3t") && !printed.contains("t0k3n"), "{printed}");
}

#[test]
fn credentials_file_is_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# mine\nA s\n\nB t tok+en/=\n").unwrap();
    let config = config(&["--credentials-file", file.path().to_str().unwrap()]).unwrap();
    let expected =
        [Credential::new("A", "s", None), Credential::new("B", "t", Some("tok+en/=".into()))];
    assert_eq!(config.credentials, expected);
}

#[test]
fn unpaired_credentials_are_refused() {
    assert!(config(&["--access-key", "A"]).is_err());
    assert!(config(&["--session-token", "A"]).is_err());
}

#[test]
fn invalid_number_is_refused_with_its_flag() {
    for (flag, field) in [
        ("--max-age=18446744073709551615", "lifetimes.age"),
        ("--idle-timeout=10000000000000000000", "lifetimes.idle"),
        ("--go-away-grace=10000000000000000000", "lifetimes.go_away_grace"),
        ("--clock-offset=-9999999999", "clock_offset_secs"),
    ] {
        match config(&[flag]).unwrap().check() {
            Err(EmulatorError::Setting { field: named, .. }) => assert_eq!(named, field, "{flag}"),
            other => panic!("{flag}: {other:?}"),
        }
    }
}

#[test]
fn flag_without_effect_is_refused_or_implies_another() {
    let names = config(&["--tls-name", "door.local"]).unwrap().tls.map(|tls| tls.extra_names);
    assert_eq!(names, Some(vec!["door.local".to_owned()]));
    for flags in [
        &["--turn-password", "p"][..],
        &["--turn-user", "u", "--turn-password", "p", "--turn-secret", "s"],
    ] {
        let parsed = Cli::try_parse_from(["emulator"].iter().chain(flags));
        assert!(parsed.is_err(), "{flags:?}");
    }
    assert!(config(&["--turn-user", "u"]).is_err());
}

#[test]
fn environment_secret_applies_only_with_its_flag() {
    let auth = |flags: &[&str]| {
        let args = Cli::try_parse_from(["emulator"].iter().chain(flags)).unwrap().args;
        match args.turn(|name| Some(name.to_owned())).unwrap().auth {
            TurnAuth::SharedSecret(secret) => (None, secret),
            TurnAuth::Fixed { username, password } => (Some(username), password),
        }
    };
    let user = || Some("u".to_owned());
    assert_eq!(auth(&[]), (None, "KVS_EMULATOR_TURN_SECRET".to_owned()));
    assert_eq!(auth(&["--turn-secret", "s"]), (None, "s".to_owned()));
    assert_eq!(auth(&["--turn-user", "u"]), (user(), "KVS_EMULATOR_TURN_PASSWORD".to_owned()));
    assert_eq!(auth(&["--turn-user", "u", "--turn-password", "p"]), (user(), "p".to_owned()));
}

#[test]
fn built_in_relay_is_the_default() {
    let relay = |flags| config(flags).unwrap().relay;
    assert_eq!(relay(&[]), cfg!(feature = "turn"));
    assert!(!relay(&["--no-relay"]) && !relay(&["--turn-uri", "turn:127.0.0.1:3478"]));
}

#[test]
fn quotas_and_unknowns_are_read_from_json() {
    let flags =
        ["--quotas", r#"{"viewers_max":3}"#, "--unknowns", r#"{"displaced_close_code":null}"#];
    let config = config(&flags).unwrap();
    assert_eq!(config.quotas, Quotas { viewers_max: 3, ..Quotas::default() });
    let expected = Unknowns { displaced_close_code: None, ..Unknowns::default() };
    assert_eq!(config.unknowns, expected);
    assert!(from_json::<Quotas>("quotas", Some(r#"{"viewer_max":3}"#)).is_err());
}

#[test]
fn round_trip_time_is_read_with_or_without_unit() {
    let rtt = |text: &str| {
        let parsed = Cli::try_parse_from(["emulator", "--wire-rtt", text]);
        parsed.ok().map(|cli| cli.args.to_config().unwrap().wire_rtt)
    };
    assert_eq!(config(&[]).unwrap().wire_rtt, Duration::ZERO);
    for text in ["50ms", "50", "0.05s"] {
        assert_eq!(rtt(text), Some(Duration::from_millis(50)), "{text}");
    }
    for text in ["", "fast", "-1ms", "nan", "1m"] {
        assert_eq!(rtt(text), None, "{text}");
    }
}

#[test]
fn help_lists_every_flag_under_a_heading() {
    use clap::CommandFactory as _;
    let command = Cli::command();
    let without: Vec<_> = command
        .get_arguments()
        .filter(|arg| arg.get_id() != "help" && arg.get_help_heading().is_none())
        .map(|arg| arg.get_id().to_string())
        .collect();
    assert_eq!(without, [""; 0]);
}

#[test]
fn ready_file_does_not_follow_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("ready.json"), dir.path().join("elsewhere"));
    #[cfg(unix)]
    std::os::unix::fs::symlink(&target, dir.path().join("ready.json.part")).unwrap();
    write_whole(&path, "{}").unwrap();
    assert!(!target.exists());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
}

#[test]
fn fault_flags_become_faults() {
    let flags = [
        "--drop-answers",
        "1",
        "--refuse",
        "GetIceServerConfig=500/InternalFailure*2",
        "--refuse",
        "ConnectAsViewer=403/AccessDeniedException",
        "--fault",
        r#"{"match":{"on":"call"},"action":{"do":"reset"}}"#,
    ];
    let faults = config(&flags).unwrap().faults;
    assert_eq!(faults.len(), 4);
    assert_eq!(faults[0].action, Action::Reset);
    assert_eq!(faults[1].matches.call.as_deref(), Some("GetIceServerConfig"));
    assert_eq!(faults[1].matches.times, Some(2));
    assert_eq!(
        (faults[2].matches.on, faults[2].matches.from),
        (Point::Upgrade, Some(Role::Viewer))
    );
    assert_eq!(faults[3].action, Action::Drop);
    for broken in ["X", "X=1", "X=a/b", "X=500/Y*z"] {
        assert!(config(&["--refuse", broken]).is_err(), "{broken}");
    }
}

#[tokio::test]
async fn ready_file_reports_the_endpoint_and_stop_ends_serving() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready.json");
    let flags = ["--listen", "127.0.0.1:0", "--channel", "demo", "--ready-file"];
    let flags = flags.iter().copied().chain([ready.to_str().unwrap()]);
    let args = Cli::try_parse_from(["emulator"].into_iter().chain(flags)).unwrap().args;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(run_until(args, async move {
        let _ = stopped.await;
    }));
    let line = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            match tokio::fs::read_to_string(&ready).await {
                Ok(line) => break line,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
    .unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["endpoint"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(line["channels"]["demo"].as_str().unwrap().contains(":channel/demo/"));
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap().unwrap();
}

/// A signal right after the readiness report must find its handler.
#[tokio::test]
async fn signal_handlers_are_installed_before_readiness() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready.json");
    let flags = ["emulator", "--listen", "127.0.0.1:0", "--ready-file", ready.to_str().unwrap()];
    let args = Cli::try_parse_from(flags).unwrap().args;
    let mut was_told = None;
    let stop = std::future::poll_fn(|_| {
        was_told.get_or_insert(ready.exists());
        std::task::Poll::Ready(())
    });
    run_until(args, stop).await.unwrap();
    assert_eq!(was_told, Some(false));
}

/// A closed terminal sends this signal. Without a handler the signal would end this process.
#[cfg(unix)]
#[tokio::test]
async fn hangup_shuts_down_in_order() {
    let mut ended = std::pin::pin!(terminated());
    tokio::select! {
        biased;
        // One poll installs the handlers.
        () = &mut ended => panic!("nothing has happened yet"),
        () = std::future::ready(()) => {}
    }
    let process = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-HUP", &process]).status();
    assert!(sent.expect("kill runs").success());
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
}
