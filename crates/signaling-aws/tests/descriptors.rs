//! A closed connection leaves no socket open: the test counts the process's own descriptors.
//!
//! One test in a binary of its own: other tests would open descriptors meanwhile.
#![cfg(target_os = "linux")]

use std::time::Duration;

use kvs_emulator::{
    Action, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Fault,
    Match, Point, TlsConfig,
};
use negotiation_core::{ConnectionId, Done, Failure, SignalingCommand, Ticket};
use signaling_aws::{AwsSignaling, SignalingConfig};
use tokio::time::timeout;
use viewer_session::{SignalingInput, SignalingPort as _};

/// Returns the number of this process's sockets that are connected to the emulator.
fn sockets_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("readable");
    let remote = format!(":{port:04X}");
    let ours: Vec<String> = table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let to = fields.get(2)?;
            to.ends_with(&remote).then(|| format!("socket:[{}]", fields[9]))
        })
        .collect();
    let open = std::fs::read_dir("/proc/self/fd").expect("readable");
    open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|target| ours.iter().any(|socket| target.as_os_str() == socket.as_str()))
        .count()
}

async fn completion(port: &mut AwsSignaling, seq: u32) -> Result<Done, Failure> {
    loop {
        let next = timeout(Duration::from_secs(20), port.next()).await.expect("something to say");
        if let SignalingInput::Completed(completion) = next
            && completion.ticket.seq == seq
        {
            return completion.outcome;
        }
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let seen = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(4), seen).await.expect(what);
}

// Shows: N23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_socket_outlives_its_connection() {
    for tls in [None, Some(TlsConfig::default())] {
        no_socket_outlives_its_link_over(tls).await;
    }
}

async fn no_socket_outlives_its_link_over(tls: Option<TlsConfig>) {
    let config = EmulatorConfig { channels: vec!["door".into()], tls, ..Default::default() };
    let emulator = Emulator::start(config).await.expect("started");
    let mut config = SignalingConfig::builder("door")
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None);
    let dir = tempfile::tempdir().expect("a directory");
    if let Some(pem) = emulator.ca_pem() {
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, pem).expect("written");
        config = config.ca_file(ca);
    }
    let config = config.build().expect("valid");
    let mut port = AwsSignaling::new(config);
    let tcp = emulator.addr().port();
    for round in 0..12u32 {
        let (link, first) = (ConnectionId(round), round * 10);
        let ticket = |n| Ticket { attempt: round, seq: first + n };
        // In every third round a call hangs, and the close aborts it.
        let fault = (round % 3 == 2).then(|| {
            let hang = Action::Hang { ms: None };
            emulator
                .faults()
                .add(Fault { matches: Match::on(Point::Call), action: hang })
                .expect("a fault")
        });
        port.submit(ticket(1), SignalingCommand::Connect { link, attempt: round, client_id: None });
        port.submit(ticket(2), SignalingCommand::FetchIceServers { link });
        if fault.is_none() {
            assert!(completion(&mut port, first + 1).await.is_ok());
            assert!(sockets_to(tcp) > 0, "the count sees an open link");
        } else {
            until("the call connects", || sockets_to(tcp) > 0).await;
        }
        port.submit(ticket(3), SignalingCommand::Disconnect { link });
        assert_eq!(completion(&mut port, first + 3).await, Ok(Done::Ok));
        // On a busy machine, a suspended worker may still hold the last socket. A call that hangs
        // would keep its socket for longer than this wait.
        until("nothing is left", || sockets_to(tcp) == 0).await;
        if let Some(fault) = fault {
            emulator.faults().remove(fault);
        }
    }
}
