//! Situations that a simulated world does not reach: the tests drive the session input by input,
//! and every command completes at the time it is issued.

use super::*;

/// The session, and all its events so far.
struct Driven {
    session: Session,
    now: Timestamp,
    events: Vec<Event>,
    /// The ids in the newest commands.
    connection: Option<ConnectionId>,
    peer: Option<PeerId>,
    /// If set, connects are not completed but collected here.
    pending: Option<Vec<Ticket>>,
    /// Whether sending a message fails.
    sending_fails: bool,
    /// The connections on which messages were sent.
    sent_on: Vec<ConnectionId>,
}

impl Driven {
    fn new(settings: Settings) -> Self {
        let session = Session::new(settings.check().expect("valid"), 1, Timestamp::ZERO);
        Self {
            session,
            now: Timestamp::ZERO,
            events: Vec::new(),
            connection: None,
            peer: None,
            pending: None,
            sending_fails: false,
            sent_on: Vec::new(),
        }
    }

    /// Creates a session and makes it live at once.
    fn live(settings: Settings) -> Self {
        let mut driven = Self::new(settings);
        driven.take(Input::Open, None);
        driven.goes_live();
        driven
    }

    fn goes_live(&mut self) {
        self.answer(description("answer", true));
        self.notice(PeerEvent::ConnectivityChanged(Connectivity::Connected));
        self.notice(PeerEvent::KeyframeReceived);
        assert_eq!(self.session.phase(), Phase::Live);
    }

    /// Advances the time to the session's next deadline.
    fn wait(&mut self, connect: Option<FailureCode>) -> Timer {
        let (at, timer) = self.session.poll_timeout().expect("something is waited for");
        self.now = at;
        self.take(Input::Timeout, connect);
        timer
    }

    /// Feeds an input and completes all commands that follow from it; connects fail with `connect`
    /// if it is set.
    fn take(&mut self, input: Input, connect: Option<FailureCode>) {
        self.session.handle_input(self.now, input);
        while let Some(output) = self.session.poll_output() {
            let (ticket, outcome) = match output {
                Output::Event(event) => {
                    self.events.push(event);
                    continue;
                }
                Output::Signaling(ticket, SignalingCommand::Connect { link, .. }) => {
                    if let Some(pending) = &mut self.pending {
                        pending.push(ticket);
                        continue;
                    }
                    self.connection = Some(link);
                    let id = || Done::Connected(ClientId::new("viewer").expect("valid"));
                    let failed = connect.map(|code| Failure::new(code, "as the test wants it"));
                    (ticket, failed.map_or_else(|| Ok(id()), Err))
                }
                Output::Signaling(ticket, SignalingCommand::FetchIceServers { .. }) => {
                    (ticket, Ok(Done::IceServers(Vec::new())))
                }
                Output::Signaling(ticket, SignalingCommand::Send { link, .. }) => {
                    self.sent_on.push(link);
                    let failed = Failure::new(FailureCode::NotOpen, "as the test wants it");
                    (ticket, if self.sending_fails { Err(failed) } else { Ok(Done::Ok) })
                }
                Output::Peer(ticket, PeerCommand::Create { peer, .. }) => {
                    self.peer = Some(peer);
                    let candidates = CandidateRelease::AfterOffer;
                    let traits = PeerTraits { candidates, restart_keeps_pair: true };
                    (ticket, Ok(Done::Created(traits)))
                }
                Output::Peer(
                    ticket,
                    PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. },
                ) => (ticket, Ok(Done::Description(description("local", true)))),
                Output::Signaling(ticket, _) | Output::Peer(ticket, _) => (ticket, Ok(Done::Ok)),
            };
            let completion = Completion { ticket, outcome };
            self.session.handle_input(self.now, Input::Completed(completion));
        }
    }

    /// Feeds the master's answer.
    fn answer(&mut self, answer: Description) {
        let connection = self.connection.expect("open");
        let event = SignalingEvent::Answer { sender: Sender::Master, body: Ok(answer) };
        self.take(Input::Signaling(connection, event), None);
    }

    fn notice(&mut self, event: PeerEvent) {
        self.take(Input::Peer(self.peer.expect("there"), event), None);
    }

    fn armed(&self, timer: Timer) -> Vec<Timestamp> {
        let of_timer = self.events.iter().filter_map(|event| match event {
            Event::DeadlineArmed { timer: armed, at } if *armed == timer => Some(*at),
            _ => None,
        });
        of_timer.collect()
    }
}

/// Returns a description with audio, and with or without video.
fn description(text: &str, video: bool) -> Description {
    let section = |kind, accepted| MediaSection { kind, mid: None, accepted, sends: accepted };
    let facts = SdpSummary {
        ice_ufrag: Some("u".into()),
        ice_pwd: Some(Digest(1)),
        fingerprints: vec!["f".into()],
        media: vec![section(MediaKind::Video, video), section(MediaKind::Audio, true)],
        candidates: 1,
        video_codecs: Vec::new(),
    };
    Description { sdp: Sdp::new(text), facts }
}

/// In a renegotiation before the first picture, the answer drops the video: the audio that flows
/// already is then enough.
#[test]
fn answer_that_drops_the_video_makes_flowing_audio_live() {
    let mut driven = Driven::new(Settings::one_retry());
    driven.take(Input::Open, None);
    driven.answer(description("answer 1", true));
    driven.notice(PeerEvent::ConnectivityChanged(Connectivity::Connected));
    driven.notice(PeerEvent::MediaFlowing(MediaKind::Audio));
    assert_eq!(driven.session.phase(), Phase::AwaitingMedia);
    driven.take(Input::Renegotiate, None);
    assert_eq!(driven.session.phase(), Phase::AwaitingMedia);
    driven.answer(description("answer 2", false));
    assert_eq!(driven.session.phase(), Phase::Live);
}

/// A device wakes while the service throttles requests: the next attempt begins when the throttle
/// ends. A retry delay that ends at the same time is not changed.
// Shows: N16.
#[test]
fn retry_timer_is_kept_if_throttle_ends_at_same_time() {
    for (pause, times) in [(secs(5), 1), (secs(6), 2)] {
        let settings = Settings {
            retry_delay: RetryDelay::Fixed(pause),
            throttle_delay: secs(5),
            ..Settings::one_retry()
        };
        let mut driven = Driven::new(settings);
        driven.take(Input::Open, Some(FailureCode::Throttled));
        assert_eq!(driven.session.phase(), Phase::BackingOff);
        driven.now = Timestamp::from_millis(1_000);
        driven.take(Input::Resumed, Some(FailureCode::Throttled));
        let armed = driven.armed(Timer::RetryDelay);
        assert_eq!((armed.len(), armed.last()), (times, Some(&Timestamp::from_millis(5_000))));
    }
}

/// After GO_AWAY the old connection fails to send an answer and is lost, and the new one cannot be
/// opened: the answer stays queued, and is sent on the connection after it.
// Shows: N20, N21.
#[test]
fn unsent_answer_is_sent_after_failed_reopening() {
    let settings = Settings {
        go_away_spread: Duration::ZERO,
        link_reopen: RetryDelay::Fixed(secs(1)),
        ..Settings::one_retry()
    };
    let mut driven = Driven::live(settings);
    let old = driven.connection.expect("open");
    driven.sent_on.clear();
    (driven.sending_fails, driven.pending) = (true, Some(Vec::new()));
    driven.take(Input::Signaling(old, SignalingEvent::GoAway), None);
    let offer = Ok(description("offer", true));
    let offer = SignalingEvent::Offer { sender: Sender::Master, body: offer };
    driven.take(Input::Signaling(old, offer), None);
    assert_eq!(driven.sent_on, [old]);
    let lost = SignalingEvent::Disconnected(Failure::new(FailureCode::Network, "cut"));
    driven.take(Input::Signaling(old, lost), None);
    let pending = driven.pending.take().expect("connects are kept");
    let [ticket] = pending[..] else { panic!("one connect: {pending:?}") };
    driven.sending_fails = false;
    let outcome = Err(Failure::new(FailureCode::Network, "unreachable"));
    driven.take(Input::Completed(Completion { ticket, outcome }), None);
    while driven.sent_on.len() == 1 {
        driven.wait(None);
        assert!(driven.now < Timestamp::from_millis(60_000), "it was never sent");
    }
    assert_eq!(driven.sent_on, [old, driven.connection.expect("open")]);
    assert!(!driven.events.contains(&Event::RenegotiationFailed));
}

/// The normal form of a session remembers a loss while another one would spend a retry.
// Shows: N14.
#[test]
fn normal_form_remembers_a_recent_loss() {
    let mut driven = Driven::live(Settings::never());
    driven.now = Timestamp::from_millis(1_000);
    driven.notice(PeerEvent::ConnectivityChanged(Connectivity::DtlsFailed));
    assert_eq!(driven.session.attempt(), 2, "the first loss costs nothing");
    driven.goes_live();
    driven.now = Timestamp::from_millis(2_000);
    let normal = driven.session.clone().into_normalised().into_session();
    // The normal form renumbers peer connections.
    for (session, peer) in [(driven.session.clone(), driven.peer), (normal, Some(PeerId(1)))] {
        (driven.session, driven.peer) = (session, peer);
        driven.notice(PeerEvent::ConnectivityChanged(Connectivity::DtlsFailed));
        assert_eq!(driven.session.phase(), Phase::Ended, "the second is one too many");
    }
}
