//! Moments that a simulated world does not meet: the session driven input by input, where every
//! command completes in the instant it is given out.

use super::*;

/// The session, and every event so far.
struct Driven {
    session: Session,
    now: Timestamp,
    events: Vec<Event>,
    /// Those of the newest commands.
    connection: Option<LinkId>,
    peer: Option<PeerId>,
}

impl Driven {
    fn new(settings: Settings) -> Self {
        let session = Session::new(settings.check().expect("valid"), 1, Timestamp::ZERO);
        let events = Vec::new();
        Self { session, now: Timestamp::ZERO, events, connection: None, peer: None }
    }

    /// Takes an input, and completes what follows from it; a connect fails in this way, if it does.
    fn take(&mut self, input: Input, connect: Option<FailureCode>) {
        self.session.handle_input(self.now, input);
        while let Some(output) = self.session.poll_output() {
            let (ticket, outcome) = match output {
                Output::Event(event) => {
                    self.events.push(event);
                    continue;
                }
                Output::Signaling(ticket, SignalingCommand::Connect { link, .. }) => {
                    self.connection = Some(link);
                    let id = || Done::Connected(ClientId::new("viewer").expect("valid"));
                    let failed = connect.map(|code| Failure::new(code, "as the test wants it"));
                    (ticket, failed.map_or_else(|| Ok(id()), Err))
                }
                Output::Signaling(ticket, SignalingCommand::FetchIceServers { .. }) => {
                    (ticket, Ok(Done::IceServers(Vec::new())))
                }
                Output::Peer(ticket, PeerCommand::Create { peer, .. }) => {
                    self.peer = Some(peer);
                    let candidates = CandidateRelease::AfterOffer;
                    let traits = PeerTraits { candidates, restart_keeps_pair: true };
                    (ticket, Ok(Done::Created(traits)))
                }
                Output::Peer(ticket, PeerCommand::CreateOffer { .. }) => {
                    (ticket, Ok(Done::Description(description("offer", true))))
                }
                Output::Signaling(ticket, _) | Output::Peer(ticket, _) => (ticket, Ok(Done::Ok)),
            };
            let completion = Completion { ticket, outcome };
            self.session.handle_input(self.now, Input::Completed(completion));
        }
    }

    /// The master's answer arrives.
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

/// A description with sound, and with or without a picture.
fn description(text: &str, video: bool) -> Description {
    let section = |kind, accepted| MediaFact { kind, mid: None, accepted, sends: accepted };
    let facts = Facts {
        ice_ufrag: Some("u".into()),
        ice_pwd: Some(Digest(1)),
        fingerprints: vec!["f".into()],
        media: vec![section(MediaKind::Video, video), section(MediaKind::Audio, true)],
        candidates: 1,
        video_codecs: Vec::new(),
    };
    Description { sdp: Sdp::new(text), facts }
}

/// A renegotiation while the first picture is awaited: an answer without a picture makes the sound
/// that flows already enough.
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

/// A device that wakes while the service wants fewer requests: the next attempt begins when the
/// throttle ends. A pause that ends in that very instant is left as it is.
// Shows: N16.
#[test]
fn retry_that_a_throttle_does_not_delay_is_not_armed_again() {
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
