//! At trace level, with the leaking targets of [`signaling_aws::LEAKING_TARGETS`] left out, the log
//! of a connection's whole life contains no secret, neither from this crate nor from a dependency.
//!
//! One test in a binary of its own: the log is the process's.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvs_emulator::{Credential, Emulator, EmulatorConfig, TurnAuth, TurnConfig};
use negotiation_core::{ConnectionId, Done, SignalingCommand, Ticket};
use signaling_aws::{AwsSignaling, LEAKING_TARGETS, MasterConnection, SignalingConfig};
use tokio::time::timeout;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use viewer_session::{SignalingInput, SignalingPort as _};

const SECRETS: [&str; 6] =
    ["keycanary", "tokencanary", "turncanary", "X-Amz-Signature=", "Signature=", "Security-Token="];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Returns the start of each log line that contains a secret, which identifies its source.
    fn leaks(&self) -> Vec<String> {
        let bytes = self.0.lock().expect("whole").clone();
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| SECRETS.iter().any(|secret| line.contains(secret)))
            .map(|line| line.chars().take(120).collect())
            .collect()
    }
}

async fn completion(port: &mut AwsSignaling) -> Done {
    loop {
        let next = timeout(Duration::from_secs(20), port.next()).await.expect("something to say");
        if let SignalingInput::Completed(completion) = next {
            return completion.outcome.expect("done");
        }
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    let (everything, filtered) = (Log::default(), Log::default());
    let mut safe = Targets::new().with_default(LevelFilter::TRACE);
    for target in LEAKING_TARGETS {
        safe = safe.with_target(target, LevelFilter::INFO);
    }
    let all = everything.clone();
    tracing_subscriber::registry()
        .with(fmt::layer().with_ansi(false).with_writer(filtered.clone()).with_filter(safe))
        .with(fmt::layer().with_ansi(false).with_writer(all).with_filter(LevelFilter::TRACE))
        .init();

    let credential = Credential::new("AKID", "keycanary", Some("tokencanary".to_owned()));
    let auth = TurnAuth::Fixed { username: "user".to_owned(), password: "turncanary".to_owned() };
    let turn = TurnConfig {
        servers: vec![vec!["turn:127.0.0.1:9".to_owned()]],
        auth,
        ..TurnConfig::default()
    };
    let config = EmulatorConfig {
        credentials: vec![credential],
        channels: vec!["door".to_owned()],
        turn,
        tls: Some(Default::default()),
        ..EmulatorConfig::default()
    };
    let emulator = Emulator::start(config).await.expect("started");
    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, emulator.ca_pem().expect("a CA")).expect("written");
    let reach = |token: &str| {
        SignalingConfig::builder("door")
            .region(emulator.region())
            .endpoint_url(emulator.endpoint())
            .credentials("AKID", "keycanary", Some(token.to_owned()))
            .ca_file(&ca)
            .build()
            .expect("valid")
    };
    let master = MasterConnection::connect(reach("tokencanary")).await.expect("connected");
    let mut port = AwsSignaling::new(reach("tokencanary"));
    let link = ConnectionId(1);
    let ticket = |seq| Ticket { attempt: 1, seq };
    port.submit(ticket(1), SignalingCommand::Connect { link, attempt: 1, client_id: None });
    port.submit(ticket(2), SignalingCommand::FetchIceServers { link });
    let (first, second) = (completion(&mut port).await, completion(&mut port).await);
    let printed = format!("{first:?} {second:?} {port:?} {master:?}");
    port.submit(ticket(3), SignalingCommand::Disconnect { link });
    completion(&mut port).await;
    master.close().await;
    let refused = MasterConnection::connect(reach("tokencanary-wrong")).await.expect_err("refused");

    for secret in SECRETS {
        assert!(!printed.contains(secret), "{secret} is printed");
        assert!(!refused.to_string().contains(secret), "{secret} is in {refused}");
    }
    assert!(!everything.leaks().is_empty(), "the list of targets is of use");
    assert_eq!(filtered.leaks(), Vec::<String>::new());
}
