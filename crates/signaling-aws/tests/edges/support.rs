//! Shared code of the port's tests: a port that runs one command at a time, and its emulator.

use std::time::Duration;

use kvs_emulator::{DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig};
use negotiation_core::{
    ClientId, Completion, ConnectionId, Done, Failure, IceServer, Message, SignalingCommand,
    SignalingEvent, Ticket,
};
use signaling_aws::{AwsSignaling, SignalingConfig, SignalingConfigBuilder};
use tokio::time::timeout;
use viewer_session::facts::read_description;
use viewer_session::{SignalingInput, SignalingPort as _};

const SDP: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:v0\r\na=ice-ufrag:uf\r\n\
    a=ice-pwd:pw\r\na=recvonly\r\n";

/// A timeout longer than any operation here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The port of one session, in its first attempt.
pub(crate) struct Port {
    port: AwsSignaling,
    seq: u32,
}

impl Port {
    pub(crate) fn new(config: SignalingConfigBuilder) -> Self {
        Self { port: AwsSignaling::new(config.build().expect("valid")), seq: 0 }
    }

    pub(crate) async fn run(&mut self, command: SignalingCommand) -> Result<Done, Failure> {
        self.seq += 1;
        let expected = Ticket { attempt: 1, seq: self.seq };
        self.port.submit(expected, command);
        loop {
            let input = timeout(PATIENCE, self.port.next()).await;
            if let SignalingInput::Completed(Completion { ticket, outcome }) =
                input.expect("the port has something to say")
                && ticket == expected
            {
                return outcome;
            }
        }
    }

    pub(crate) async fn open(&mut self, link: u32) -> Result<Done, Failure> {
        let link = ConnectionId(link);
        self.run(SignalingCommand::Connect { link, attempt: 1, client_id: None }).await
    }

    pub(crate) async fn connect(&mut self, link: u32, client_id: Option<ClientId>) -> ClientId {
        let link = ConnectionId(link);
        let command = SignalingCommand::Connect { link, attempt: 1, client_id };
        match self.run(command).await {
            Ok(Done::Connected(id)) => id,
            other => panic!("not connected: {other:?}"),
        }
    }

    pub(crate) async fn ice_servers(&mut self, link: u32) -> Vec<IceServer> {
        match self.run(SignalingCommand::FetchIceServers { link: ConnectionId(link) }).await {
            Ok(Done::IceServers(servers)) => servers,
            other => panic!("no servers: {other:?}"),
        }
    }

    pub(crate) async fn event(&mut self) -> SignalingEvent {
        loop {
            let input = timeout(PATIENCE, self.port.next()).await;
            if let SignalingInput::Event(_, event) = input.expect("something happens") {
                return event;
            }
        }
    }

    pub(crate) async fn disconnect(&mut self, link: u32) {
        let command = SignalingCommand::Disconnect { link: ConnectionId(link) };
        assert_eq!(self.run(command).await, Ok(Done::Ok));
    }

    pub(crate) async fn offer(&mut self, link: u32) {
        let message = Message::Offer(read_description(SDP).expect("valid"));
        let command = SignalingCommand::Send { link: ConnectionId(link), message };
        assert_eq!(self.run(command).await, Ok(Done::Ok));
    }
}

pub(crate) async fn emulator(config: EmulatorConfig) -> Emulator {
    let config = EmulatorConfig { channels: vec!["door".to_owned()], ..config };
    Emulator::start(config).await.expect("started")
}

pub(crate) fn reach(emulator: &Emulator, id: &str) -> SignalingConfigBuilder {
    SignalingConfig::builder("door")
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
        .client_id(id)
}

/// Returns the number of requests to the service so far, and how many of them were refused.
pub(crate) fn requested(emulator: &Emulator) -> (u64, u64) {
    let calls = emulator.calls();
    (calls.values().map(|c| c.requests).sum(), calls.values().map(|c| c.refused).sum())
}

/// Returns how often one call was made.
pub(crate) fn calls(emulator: &Emulator, name: &str) -> u64 {
    emulator.calls().get(name).map_or(0, |count| count.requests)
}
