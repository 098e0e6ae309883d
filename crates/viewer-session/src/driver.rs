//! The loop: drain outputs, submit commands, wait for one input, feed it. Nothing is decided here.

use std::future::pending;

use negotiation_core::{Config, Event, Input, Outcome, Output, Session, Timestamp};
use tracing::Instrument as _;

use crate::handle::{Commands, EventSink, Handle, handle};
use crate::ports::{
    Clock, MasterMemory, MaybeSend, NetworkInput, NetworkPort, PeerInput, PeerPort, SignalingInput,
    SignalingPort,
};

/// Runs one session over its ports; [`session`] creates it.
pub struct Driver<S, P, C> {
    session: Session,
    signaling: S,
    peer: P,
    clock: C,
    network: Option<Box<dyn NetworkPort>>,
    memory: Option<Box<dyn MasterMemory>>,
    commands: Commands,
    events: EventSink,
    seed: u64,
    began: Timestamp,
    observer: Option<Box<dyn Observer>>,
}

/// Observes all inputs and outputs of a session in order, as a journal does.
///
/// It is called from the loop, so it must not block.
pub trait Observer: MaybeSend {
    /// The session was created.
    fn began(&mut self, config: &Config, seed: u64, at: Timestamp);

    /// The next input.
    fn input(&mut self, at: Timestamp, input: &Input);

    /// An output, caused by the input before.
    fn output(&mut self, at: Timestamp, output: &Output);
}

/// Creates a session over these ports: spawn [`Driver::run`], and keep the [`Handle`].
///
/// The seed is for the jitter of retries; take it from the system's entropy.
pub fn session<S, P, C>(
    config: Config,
    seed: u64,
    signaling: S,
    peer: P,
    clock: C,
) -> (Driver<S, P, C>, Handle)
where
    S: SignalingPort,
    P: PeerPort,
    C: Clock,
{
    let (commands, events, handle) = handle();
    let began = clock.now();
    let session = Session::new(config, seed, began);
    let (network, memory, observer) = (None, None, None);
    let driver = Driver {
        session,
        signaling,
        peer,
        clock,
        network,
        memory,
        commands,
        events,
        seed,
        began,
        observer,
    };
    (driver, handle)
}

impl<S: SignalingPort, P: PeerPort, C: Clock> Driver<S, P, C> {
    /// Adds an observer of all inputs and outputs.
    #[must_use]
    pub fn with_observer(mut self, mut observer: Box<dyn Observer>) -> Self {
        observer.began(self.session.config(), self.seed, self.began);
        self.observer = Some(observer);
        self
    }

    /// Adds a network port beside the application's own reports.
    #[must_use]
    pub fn with_network(mut self, network: Box<dyn NetworkPort>) -> Self {
        self.network = Some(network);
        self
    }

    /// Hands in what earlier sessions learned about the channel's master, and keeps what this one
    /// learns.
    #[must_use]
    pub fn with_memory(mut self, memory: Box<dyn MasterMemory>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Opens the session and runs it to its end.
    ///
    /// Dropping this future drops the ports, which close what is open; the orderly way is
    /// [`Handle::close`].
    pub async fn run(self) -> Outcome {
        self.run_to_end().instrument(tracing::info_span!("session")).await
    }

    async fn run_to_end(mut self) -> Outcome {
        let known = self.memory.as_ref().map(|memory| memory.recall()).unwrap_or_default();
        let mut next = (known != Default::default()).then_some(Input::Open);
        let mut input = match next {
            Some(_) => Input::MasterKnown(known),
            None => Input::Open,
        };
        loop {
            let now = self.clock.now();
            if let Some(observer) = &mut self.observer {
                observer.input(now, &input);
            }
            self.session.handle_input(now, input);
            while let Some(output) = self.session.poll_output() {
                if let Some(observer) = &mut self.observer {
                    observer.output(now, &output);
                }
                match output {
                    Output::Signaling(ticket, command) => self.signaling.submit(ticket, command),
                    Output::Peer(ticket, command) => self.peer.submit(ticket, command),
                    Output::Event(Event::Ended(outcome)) => {
                        self.events.end(self.clock.now(), &outcome);
                        return *outcome;
                    }
                    Output::Event(event) => {
                        if let (Event::MasterLearned(known), Some(memory)) =
                            (&event, &mut self.memory)
                        {
                            memory.remember(*known);
                        }
                        self.events.send(self.clock.now(), event);
                    }
                }
            }
            input = match next.take() {
                Some(input) => input,
                None => self.next_input().await,
            };
        }
    }

    /// A close comes before anything else, and a sleep before what was missed in it; among the rest
    /// none is starved.
    async fn next_input(&mut self) -> Input {
        let deadline = self.session.poll_timeout().map(|(at, _)| at);
        let (clock, signaling, peer) = (&self.clock, &mut self.signaling, &mut self.peer);
        let network = &mut self.network;
        let network_said = async {
            match network {
                Some(network) => network.next().await,
                None => pending().await,
            }
        };
        let deadline_passed = async {
            match deadline {
                Some(at) => clock.sleep_until(at).await,
                None => pending().await,
            }
        };
        let ports = async {
            tokio::select! {
                input = signaling.next() => match input {
                    SignalingInput::Event(link, event) => Input::Signaling(link, event),
                    SignalingInput::Completed(completion) => Input::Completed(completion),
                },
                input = peer.next() => match input {
                    PeerInput::Event(peer, event) => Input::Peer(peer, event),
                    PeerInput::Completed(completion) => Input::Completed(completion),
                },
                printed = network_said => match printed {
                    NetworkInput::Changed => Input::NetworkChanged,
                    NetworkInput::AddressGone => Input::LocalAddressGone,
                    NetworkInput::Online(online) => Input::Online(online),
                },
                () = deadline_passed => Input::Timeout,
            }
        };
        tokio::select! {
            biased;
            request = self.commands.next() => request,
            () = clock.woke() => Input::Resumed,
            input = ports => input,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use negotiation_core::{
        Completion, ConnectionId, EndReason, Failure, FailureCode, PeerCommand, PeerId, Settings,
        SignalingCommand, Ticket, Timestamp,
    };
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    // A mock cannot stay pending, as a port without an input must; so `take` is mocked, and the
    // port around it waits when there is nothing to take.
    mockall::mock! {
        Signaling {
            fn submit(&mut self, ticket: Ticket, command: SignalingCommand);
            fn take(&mut self) -> Option<SignalingInput>;
        }
    }
    mockall::mock! {
        Peer {
            fn submit(&mut self, ticket: Ticket, command: PeerCommand);
            fn take(&mut self) -> Option<PeerInput>;
        }
    }

    #[async_trait]
    impl SignalingPort for MockSignaling {
        fn submit(&mut self, ticket: Ticket, command: SignalingCommand) {
            Self::submit(self, ticket, command);
        }

        async fn next(&mut self) -> SignalingInput {
            match self.take() {
                Some(input) => input,
                None => pending().await,
            }
        }
    }

    #[async_trait]
    impl PeerPort for MockPeer {
        fn submit(&mut self, ticket: Ticket, command: PeerCommand) {
            Self::submit(self, ticket, command);
        }

        async fn next(&mut self) -> PeerInput {
            match self.take() {
                Some(input) => input,
                None => pending().await,
            }
        }
    }

    /// Virtual time: waiting for a deadline is what makes it pass.
    #[derive(Clone, Default)]
    struct LeapingClock(Arc<Mutex<Timestamp>>);

    #[async_trait]
    impl Clock for LeapingClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().expect("not poisoned")
        }

        async fn sleep_until(&self, deadline: Timestamp) {
            // The ports are polled first, as in a world where they are quick.
            tokio::task::yield_now().await;
            *self.0.lock().expect("not poisoned") = deadline;
        }
    }

    type Script<T> = Arc<Mutex<(Vec<String>, VecDeque<T>)>>;

    fn mocks(
        answer: impl Fn(&SignalingCommand) -> Option<Result<negotiation_core::Done, Failure>>
        + Send
        + 'static,
    ) -> (MockSignaling, MockPeer, Script<SignalingInput>, Script<PeerInput>) {
        let (links, peers) = (Script::default(), Script::default());
        let mut signaling = MockSignaling::new();
        let script: Script<SignalingInput> = Arc::clone(&links);
        signaling.expect_submit().returning(move |ticket, command| {
            let mut script = script.lock().expect("not poisoned");
            script.0.push(format!("{command:?}"));
            if let Some(outcome) = answer(&command) {
                script.1.push_back(SignalingInput::Completed(Completion { ticket, outcome }));
            }
        });
        let script = Arc::clone(&links);
        signaling.expect_take().returning(move || script.lock().expect("fine").1.pop_front());
        let mut peer = MockPeer::new();
        let script: Script<PeerInput> = Arc::clone(&peers);
        peer.expect_submit().returning(move |ticket, command| {
            let mut script = script.lock().expect("not poisoned");
            script.0.push(format!("{command:?}"));
            let outcome = Ok(negotiation_core::Done::Ok);
            if !matches!(command, PeerCommand::Create { .. }) {
                script.1.push_back(PeerInput::Completed(Completion { ticket, outcome }));
            }
        });
        let script = Arc::clone(&peers);
        peer.expect_take().returning(move || script.lock().expect("fine").1.pop_front());
        (signaling, peer, links, peers)
    }

    fn refuse_all(command: &SignalingCommand) -> Option<Result<negotiation_core::Done, Failure>> {
        Some(match command {
            SignalingCommand::Disconnect { .. } => Ok(negotiation_core::Done::Ok),
            SignalingCommand::Connect { .. }
            | SignalingCommand::FetchIceServers { .. }
            | SignalingCommand::Join { .. }
            | SignalingCommand::Send { .. } => Err(Failure::new(FailureCode::Network, "refused")),
        })
    }

    // Shows: N2.
    #[tokio::test]
    async fn commands_are_submitted_in_order_and_results_fed_back() {
        let (signaling, peer, links, peers) = mocks(refuse_all);
        let config = Settings::never().check().expect("valid");
        let (driver, _handle) = session(config, 1, signaling, peer, LeapingClock::default());
        let outcome = driver.run().await;
        assert_eq!(outcome.reason, EndReason::Signaling);
        let (link, id) = (ConnectionId(1), PeerId(1));
        assert_eq!(
            links.lock().expect("fine").0,
            [
                format!("{:?}", SignalingCommand::Connect { link, attempt: 1, client_id: None }),
                format!("{:?}", SignalingCommand::FetchIceServers { link }),
                format!("{:?}", SignalingCommand::Disconnect { link }),
            ]
        );
        assert_eq!(
            peers.lock().expect("fine").0,
            [
                format!("{:?}", PeerCommand::Create { peer: id }),
                format!("{:?}", PeerCommand::StopTransceivers { peer: id }),
                format!("{:?}", PeerCommand::RemoveTracks { peer: id }),
                format!("{:?}", PeerCommand::Close { peer: id }),
            ]
        );
    }

    #[tokio::test]
    async fn silent_ports_end_by_their_deadlines() {
        let (signaling, peer, ..) = mocks(|_| None);
        let settings = Settings { retries: 1, ..Settings::one_retry() };
        let config = settings.check().expect("valid");
        let longest = config.worst_case_duration();
        let clock = LeapingClock::default();
        let (driver, _handle) = session(config, 1, signaling, peer, clock.clone());
        let outcome = driver.run().await;
        assert!(matches!(outcome.reason, EndReason::PeerFailed | EndReason::Signaling));
        assert_eq!(outcome.attempts_total, 2);
        assert!(clock.now().since_origin() <= longest);
    }

    // Shows: 66.
    #[tokio::test]
    async fn dropping_the_handle_closes() {
        let (signaling, peer, ..) = mocks(|_| None);
        let config = Settings::one_retry().check().expect("valid");
        let (driver, handle) = session(config, 1, signaling, peer, LeapingClock::default());
        drop(handle);
        assert_eq!(driver.run().await.reason, EndReason::Closed);
    }

    // Shows: 56.
    #[tokio::test]
    async fn platform_reports_reach_the_session() {
        let (signaling, peer, ..) = mocks(|_| None);
        let config = Settings::one_retry().check().expect("valid");
        let (driver, mut handle) = session(config, 1, signaling, peer, LeapingClock::default());
        // Of two words about the network the later one counts.
        handle.control().online(true);
        handle.control().online(false);
        handle.control().network_changed();
        handle.control().restart();
        let outcome = driver.run().await;
        assert!(outcome.attempts_total >= 1);
        let mut events = Vec::new();
        while let Some(reported) = handle.next_event().await {
            if let crate::SessionUpdate::Event { event, .. } = reported {
                events.push(event);
            }
        }
        assert!(events.contains(&Event::Offline), "{events:?}");
        let out_of_phase = Event::Ignored(negotiation_core::Ignored::OutOfPhase);
        assert!(events.contains(&out_of_phase), "a restart before a connection: {events:?}");
    }

    /// Its device slept once, before anything was done.
    struct WokenClock(LeapingClock, std::sync::atomic::AtomicBool);

    #[async_trait]
    impl Clock for WokenClock {
        fn now(&self) -> Timestamp {
            self.0.now()
        }

        async fn sleep_until(&self, deadline: Timestamp) {
            self.0.sleep_until(deadline).await;
        }

        async fn woke(&self) {
            if self.1.swap(true, std::sync::atomic::Ordering::Relaxed) {
                pending().await
            }
        }
    }

    /// Contract, N13.
    #[tokio::test]
    async fn n13_clock_that_counts_sleep_begins_a_new_attempt() {
        let (signaling, peer, ..) = mocks(|_| None);
        let config = Settings::one_retry().check().expect("valid");
        let clock = WokenClock(LeapingClock::default(), false.into());
        let (driver, _handle) = session(config, 1, signaling, peer, clock);
        let outcome = driver.run().await;
        let ends: Vec<_> = outcome.attempts.iter().map(|attempt| &attempt.end).collect();
        assert_eq!(ends[0], &negotiation_core::AttemptEnd::Resumed, "{ends:?}");
        assert!(outcome.attempts_total >= 2, "{ends:?}");
    }

    /// Says what it was given, then nothing more.
    struct Network(VecDeque<NetworkInput>);

    #[async_trait]
    impl NetworkPort for Network {
        async fn next(&mut self) -> NetworkInput {
            match self.0.pop_front() {
                Some(input) => input,
                None => pending().await,
            }
        }
    }

    #[tokio::test]
    async fn network_port_reports_reach_the_session() {
        let (signaling, peer, ..) = mocks(|_| None);
        let config = Settings::one_retry().check().expect("valid");
        let (driver, mut handle) = session(config, 1, signaling, peer, LeapingClock::default());
        let printed =
            [NetworkInput::Online(false), NetworkInput::Online(true), NetworkInput::Changed];
        let driver = driver.with_network(Box::new(Network(printed.into())));
        let outcome = driver.run().await;
        let ends: Vec<_> = outcome.attempts.iter().map(|attempt| &attempt.end).collect();
        assert!(ends.contains(&&negotiation_core::AttemptEnd::NetworkChanged), "{ends:?}");
        let mut events = Vec::new();
        while let Some(reported) = handle.next_event().await {
            if let crate::SessionUpdate::Event {
                event: event @ (Event::Offline | Event::Online),
                ..
            } = reported
            {
                events.push(event);
            }
        }
        assert_eq!(events, [Event::Offline, Event::Online]);
    }

    // Shows: N25.
    #[tokio::test]
    async fn outcome_is_delivered_last_even_without_a_reader() {
        let (signaling, peer, ..) = mocks(refuse_all);
        let settings = Settings { retries: 900, retry_window: None, ..Settings::persistent() };
        let config = settings.check().expect("valid");
        let (driver, mut handle) = session(config, 1, signaling, peer, LeapingClock::default());
        let outcome = driver.run().await;
        assert_eq!(outcome.attempts_total, 901);
        let mut last = None;
        let mut lost = 0;
        while let Some(reported) = handle.next_event().await {
            match reported {
                crate::SessionUpdate::Event { event, .. } => last = Some(event),
                crate::SessionUpdate::Lagged(n) => lost += n,
            }
        }
        assert!(matches!(last, Some(Event::Ended(_))), "{last:?}");
        assert!(lost > 0, "a queue that is not read loses events, and reports it");
    }
}
