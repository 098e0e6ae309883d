//! The test environment of `signaling-aws`: the emulator as the service, and the project's own
//! master on the channel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clock_tokio::TokioClock;
use kvs_emulator::{
    Action, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Fault,
    Match, Point, Role,
};
use session_testing::SignalingStage;
use signaling_aws::{AwsSignaling, MasterConnection, MasterEvent, SignalingConfig};
use viewer_session::Clock;
use viewer_session::core::Message;

const CHANNEL: &str = "door";

/// One emulator for all checks; each check has its own master and client id.
pub(crate) struct Stage {
    emulator: Emulator,
    clock: TokioClock,
    master: Option<MasterConnection>,
    /// The client id that sent the newest message to the master.
    heard_from: String,
    hanging: Option<u64>,
    ports: u32,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let config =
            EmulatorConfig { channels: vec![CHANNEL.to_owned()], ..EmulatorConfig::default() };
        let emulator = Emulator::start(config).await.expect("started");
        let (clock, heard_from) = (TokioClock::start(), String::new());
        Self { emulator, clock, master: None, heard_from, hanging: None, ports: 0 }
    }

    fn config(&self, client_id: &str) -> SignalingConfig {
        SignalingConfig::builder(CHANNEL)
            .region(self.emulator.region())
            .endpoint_url(self.emulator.endpoint())
            .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
            .client_id(client_id)
            .build()
            .expect("valid")
    }
}

#[async_trait]
impl SignalingStage for Stage {
    type Port = AwsSignaling;

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    async fn port(&mut self) -> AwsSignaling {
        if let Some(master) = self.master.take() {
            master.close().await;
        }
        // A process may open only a few connections to a channel per second.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let master = MasterConnection::connect(self.config("master")).await.expect("connected");
        self.master = Some(master);
        self.ports += 1;
        AwsSignaling::new(self.config(&format!("viewer-{}", self.ports)))
    }

    async fn received(&mut self) -> Message {
        let master = self.master.as_mut().expect("there is one");
        loop {
            let event = master.recv().await;
            let (from, message) = if let MasterEvent::Offer { from, body: Ok(body) } = event {
                (from, Message::Offer(body))
            } else if let MasterEvent::Candidate { from, body: Ok(body) } = event {
                (from, Message::Candidate(body))
            } else {
                continue;
            };
            self.heard_from = from;
            return message;
        }
    }

    async fn say(&mut self, message: Message) {
        let sender = self.master.as_ref().expect("there is one").sender();
        let to = &self.heard_from;
        // Sending fails if the viewer has left.
        let _ = match &message {
            Message::Answer(body) => sender.send_answer(to, body.sdp.as_str()).await,
            Message::Offer(body) => sender.send_offer(to, body.sdp.as_str()).await,
            Message::Candidate(candidate) => sender.send_candidate(to, candidate).await,
        };
    }

    async fn hang(&mut self, hangs: bool) -> bool {
        if let Some(fault) = self.hanging.take() {
            self.emulator.faults().remove(fault);
            self.emulator.release(fault);
        }
        if hangs {
            let matches = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
            let fault = Fault { matches, action: Action::Hang { ms: None } };
            self.hanging = Some(self.emulator.faults().add(fault).expect("a fault"));
        }
        true
    }

    async fn cut(&mut self) -> bool {
        let cut = Some(Role::Viewer);
        self.emulator.disconnect(CHANNEL, cut, None, Some(1001)) > 0
    }

    /// Counts the connected viewers, as the emulator sees them.
    fn open_resources(&self) -> usize {
        self.emulator.clients().iter().filter(|client| client.role == Role::Viewer).count()
    }

    fn secrets(&self) -> Vec<String> {
        vec![DEFAULT_SECRET_ACCESS_KEY.to_owned(), "X-Amz-Signature".to_owned()]
    }
}
