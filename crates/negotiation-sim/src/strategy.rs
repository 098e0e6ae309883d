//! Strategies that generate whole plans, and sequences of arbitrary inputs.

mod journey;
mod portable;

use core::time::Duration;

use negotiation_core::{
    Candidate, CandidateRelease, ClientId, ClientIdPolicy, Completion, ConnectionId, Connectivity,
    Description, Done, Failure, FailureCode, IceServer, Input, MasterKnowledge, MediaKind,
    MediaProblem, MediaSection, Mode, PeerEvent, PeerId, PeerTraits, Phase, Sdp, SdpSummary,
    Sender, Settings, SignalingEvent, Ticket, Undecodable,
};
use proptest::option;
use proptest::prelude::*;

use crate::{
    Action, Answers, CommandFault, CommandKind, Delivery, Dtls, Fault, Glare, Ice, MasterTraits,
    Media, MessageKind, PathTraits, PeerStack, Plan, RepeatedId, Trigger,
};

pub use journey::{any_plan, journey_plan};
use portable::{select, vec};

const CODES: [FailureCode; 23] = [
    FailureCode::AddressPolicy,
    FailureCode::NoChannel,
    FailureCode::AccessDenied,
    FailureCode::ExpiredCredentials,
    FailureCode::NoCredentials,
    FailureCode::InvalidClientId,
    FailureCode::InvalidArgument,
    FailureCode::StorageMode,
    FailureCode::ViewerLimit,
    FailureCode::Throttled,
    FailureCode::Replaced,
    FailureCode::Dns,
    FailureCode::Network,
    FailureCode::Tls,
    FailureCode::Service,
    FailureCode::TimedOut,
    FailureCode::Closed,
    FailureCode::NotOpen,
    FailureCode::TooBig,
    FailureCode::BadDescription,
    FailureCode::Codec,
    FailureCode::LocalMedia,
    FailureCode::Port,
];

/// Any failure except a cancellation, which only a close causes.
pub fn failure_code() -> impl Strategy<Value = FailureCode> {
    select(CODES.as_slice())
}

fn transient_code() -> impl Strategy<Value = FailureCode> {
    select(vec![
        FailureCode::Network,
        FailureCode::Service,
        FailureCode::Throttled,
        FailureCode::Closed,
        FailureCode::Port,
    ])
}

fn millis(range: core::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

/// The presets, and variations of them.
pub fn settings() -> impl Strategy<Value = Settings> {
    let preset = prop_oneof![
        Just(Settings::one_retry()),
        Just(Settings::persistent()),
        Just(Settings::never())
    ];
    let answers = prop::bool::weighted(0.2);
    (preset, 0..4u32, any::<bool>(), 1..=20u32, answers, any::<bool>()).prop_map(
        |(mut settings, retries, relay_only, per_second, answers, polite)| {
            if answers {
                settings.mode = Mode::Answerer;
            }
            settings.polite = polite;
            if retries > 0 {
                settings.retries = retries;
            }
            settings.relay_only = relay_only;
            settings.candidates_per_second = per_second as usize;
            settings
        },
    )
}

fn answers() -> impl Strategy<Value = Answers> {
    prop_oneof![
        6 => Just(Answers::Correctly),
        1 => Just(Answers::Never),
        1 => Just(Answers::Undecodable),
        1 => Just(Answers::Refused),
        1 => Just(Answers::RejectsMedia),
        2 => Just(Answers::ThenAnother),
        2 => Just(Answers::AfterStale),
    ]
}

fn repeated_id() -> impl Strategy<Value = RepeatedId> {
    select(vec![
        RepeatedId::Replaces,
        RepeatedId::Ignores,
        RepeatedId::Renegotiates,
        RepeatedId::Renegotiates,
        RepeatedId::OldCredentials,
        RepeatedId::RepeatsAnswer,
    ])
}

fn glare() -> impl Strategy<Value = Glare> {
    select(vec![Glare::Polite, Glare::Impolite, Glare::Breaks])
}

/// A number of candidates, mostly a few: each costs a run several steps.
fn few_or_many(many: u32) -> impl Strategy<Value = u32> {
    prop_oneof![5 => 0..6u32, 1 => 0..many]
}

prop_compose! {
    /// Masters of every kind.
    pub fn master()(
        arrives_after in option::weighted(0.95, prop_oneof![4 => Just(Duration::ZERO), 1 => millis(0..90_000)]),
        answers in answers(),
        ignored_offers in prop_oneof![4 => Just(0), 1 => 0..3u32],
        answers_after in prop_oneof![3 => millis(0..200), 1 => millis(0..32_000)],
        candidates in few_or_many(30),
        candidates_first in any::<bool>(),
        candidates_inside in 0..3u16,
        video in any::<bool>(),
        audio in any::<bool>(),
        repeated_id in repeated_id(),
        glare in glare(),
        lingers in millis(0..60_000),
        notices_close in any::<bool>(),
        reaches_viewer in any::<bool>(),
    ) -> MasterTraits {
        MasterTraits {
            arrives_after,
            answers,
            ignored_offers,
            answers_after,
            candidates,
            candidates_first,
            candidates_inside,
            video,
            audio,
            glare,
            repeated_id,
            lingers,
            notices_close,
            sessions_max: 10,
            reaches_viewer,
        }
    }
}

fn path() -> impl Strategy<Value = PathTraits> {
    let ice = prop_oneof![6 => Just(Ice::Works), 1 => Just(Ice::Fails), 1 => Just(Ice::Silent)];
    let dtls = prop_oneof![6 => Just(Dtls::Works), 1 => Just(Dtls::Fails), 1 => Just(Dtls::Silent)];
    let media = prop_oneof![6 => Just(Media::Flows), 1 => Just(Media::NoKeyframe), 1 => Just(Media::Nothing)];
    (ice, dtls, media).prop_map(|(ice, dtls, media)| PathTraits { ice, dtls, media })
}

/// Any delivery of a message.
fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        Just(Delivery::Drop),
        millis(0..40_000).prop_map(Delivery::Delay),
        millis(0..3_000).prop_map(Delivery::Duplicate),
        Just(Delivery::Hold),
        Just(Delivery::Corrupt),
    ]
}

fn command_fault() -> impl Strategy<Value = CommandFault> {
    prop_oneof![
        transient_code().prop_map(CommandFault::Fail),
        failure_code().prop_map(CommandFault::Fail),
        millis(0..20_000).prop_map(CommandFault::Late),
        Just(CommandFault::Hang),
    ]
}

/// Actions that do not end a session for good.
fn harmless_action() -> impl Strategy<Value = Action> {
    let sender = || select(vec![Sender::Master, Sender::Other]);
    prop_oneof![
        Just(Action::Open),
        Just(Action::Renegotiate),
        Just(Action::GoAway),
        Just(Action::ReconnectIceServer),
        Just(Action::Garbage),
        transient_code().prop_map(Action::StrayStatus),
        Just(Action::RepeatAnswer),
        sender().prop_map(Action::StrayAnswer),
        sender().prop_map(Action::StrayOffer),
        Just(Action::OldAnswer),
        (0..400u32).prop_map(Action::CandidateFlood),
        Just(Action::OldCandidate),
        Just(Action::ForeignCandidate),
        Just(Action::EndOfCandidates),
        (0..60u32).prop_map(Action::LocalBurst),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => harmless_action(),
        1 => Just(Action::Close),
        1 => millis(0..700_000).prop_map(Action::Suspend),
        1 => millis(0..4_000_000).prop_map(Action::ClockJump),
        1 => failure_code().prop_map(Action::CutLink),
        1 => failure_code().prop_map(Action::OfferStatus),
        1 => Just(Action::IceDisconnected),
        1 => Just(Action::IceBack),
        1 => Just(Action::IceFailed),
        1 => Just(Action::DtlsFailed),
        1 => Just(Action::MasterCloses),
        1 => Just(Action::Stall),
        1 => Just(Action::MediaBack),
        1 => Just(Action::Restart),
        1 => Just(Action::NetworkDown),
        1 => Just(Action::NetworkUp),
        1 => Just(Action::NetworkChanged),
        1 => Just(Action::LocalAddressGone),
        1 => option::of(any::<bool>()).prop_map(Action::MasterKnown),
        1 => Just(Action::Offline),
        1 => Just(Action::Online),
        1 => (0..4u32).prop_map(Action::Takeover),
        1 => Just(Action::RefuseSecondLink),
        1 => Just(Action::TurnExpires),
        1 => millis(0..60_000).prop_map(Action::MasterReboots),
        1 => repeated_id().prop_map(Action::MasterBecomes),
        2 => any::<bool>().prop_map(|anew| Action::MasterOffers { anew }),
        1 => Just(Action::SenderReport),
        1 => millis(0..3_000).prop_map(Action::TimersLate),
        1 => Just(Action::MasterArrives),
        1 => Just(Action::LinkEcho),
        1 => Just(Action::PeerEcho),
        3 => select(vec![MessageKind::MasterOffer, MessageKind::MasterAnswer, MessageKind::MasterCandidate])
            .prop_map(Action::Undecodable),
        7 => select(vec![
            Action::IceChecking,
            Action::IceConnected,
            Action::TrackAdded,
            Action::Keyframe,
            Action::GatheringDone,
            Action::MediaProblem(MediaProblem::PacketLoss),
            Action::MediaProblem(MediaProblem::NoKeyframe),
            Action::ServersUnresolved(2),
        ]),
    ]
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        Just(Trigger::Opened),
        (select(Phase::ALL.as_slice()), 1..3u32).prop_map(|(p, n)| Trigger::Entered(p, n)),
    ]
}

fn command_that_fails() -> impl Strategy<Value = Fault> {
    (select(CommandKind::ALL.as_slice()), 0..4u32, command_fault())
        .prop_map(|(what, nth, how)| Fault::Command { what, nth, how })
}

/// One fault.
pub fn fault() -> impl Strategy<Value = Fault> {
    let from_viewer = select(vec![
        MessageKind::ViewerOffer,
        MessageKind::ViewerCandidate,
        MessageKind::ViewerAnswer,
    ]);
    let from_master = select(vec![
        MessageKind::MasterAnswer,
        MessageKind::MasterCandidate,
        MessageKind::MasterOffer,
    ]);
    let message = prop_oneof![
        (from_viewer, delivery()),
        (
            from_master,
            prop_oneof![
                5 => delivery(),
                1 => Just(Delivery::AfterOldAnswer),
                1 => Just(Delivery::FromSender(Sender::Other)),
            ]
        ),
    ];
    let soon =
        || prop_oneof![2 => Just(Duration::ZERO), 3 => millis(0..400), 1 => millis(0..60_000)];
    prop_oneof![
        (message, 0..4u32).prop_map(|((what, how), nth)| Fault::Message { what, nth, how }),
        command_that_fails(),
        (trigger(), soon(), action()).prop_map(|(trigger, after, action)| Fault::At {
            trigger,
            after,
            action
        }),
    ]
}

prop_compose! {
    /// A whole plan with so many faults.
    pub fn plan(faults: core::ops::Range<usize>)(
        settings in settings(),
        seed in any::<u64>(),
        fixed in any::<bool>(),
        turn in prop::bool::weighted(0.8),
        master in master(),
        early in any::<bool>(),
        keeps_pair in any::<bool>(),
        local_candidates in few_or_many(50),
        paths in vec(path(), 1..3),
        timer_late in prop_oneof![3 => Just(Duration::ZERO), 1 => millis(0..3_000)],
        faults in vec(fault(), faults),
    ) -> Plan {
        let mut plan = Plan::new(settings);
        plan.seed = seed;
        plan.ids = if fixed { ClientIdPolicy::Fixed } else { ClientIdPolicy::Pooled };
        plan.service.turn = turn;
        plan.master = master;
        plan.stack = PeerStack { candidates: local_candidates, ..PeerStack::default() };
        if early {
            plan.stack.traits.candidates = CandidateRelease::AfterOffer;
        }
        plan.stack.traits.restart_keeps_pair = keeps_pair;
        plan.paths = paths;
        plan.timer_late = timer_late;
        plan.faults = faults;
        plan
    }
}

/// A plan that succeeds, with faults that must change nothing.
pub fn harmless_plan() -> impl Strategy<Value = Plan> {
    let actions = (select(Phase::ALL.as_slice()), millis(0..2_000), harmless_action()).prop_map(
        |(phase, after, action)| Fault::At { trigger: Trigger::Entered(phase, 1), after, action },
    );
    (vec(actions, 0..6), any::<bool>(), 1..20u32).prop_map(|(faults, first, candidates)| {
        let mut plan = Plan { faults, ..Plan::default() };
        plan.master.candidates_first = first;
        plan.master.candidates = candidates;
        plan
    })
}

fn description() -> impl Strategy<Value = Description> {
    let section = (
        select(vec![MediaKind::Audio, MediaKind::Video, MediaKind::Data]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(kind, accepted, sends)| MediaSection { kind, mid: None, accepted, sends });
    (0..4u8, option::of(0..3u8), vec(section, 0..3), 0..3u16, 0..3u8).prop_map(
        |(text, ufrag, media, candidates, print)| Description {
            sdp: Sdp::new(&format!("sdp {text}")),
            facts: SdpSummary {
                ice_ufrag: ufrag.map(|u| format!("u{u}")),
                fingerprints: vec![format!("f{print}")],
                media,
                candidates,
                ..SdpSummary::default()
            },
        },
    )
}

fn candidate() -> impl Strategy<Value = Candidate> {
    (0..6u8, option::of(0..3u8)).prop_map(|(text, ufrag)| Candidate {
        text: if text == 0 { "".into() } else { format!("candidate:{text}").into() },
        mid: None,
        mline_index: Some(0),
        ufrag: ufrag.map(|u| format!("u{u}")),
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        4 => transient_code(),
        1 => failure_code(),
        1 => Just(FailureCode::Cancelled)
    ]
    .prop_map(|code| Failure::new(code, "nonsense"))
}

fn signaling_event() -> impl Strategy<Value = SignalingEvent> {
    let sender = || prop_oneof![4 => Just(Sender::Master), 1 => Just(Sender::Other)];
    let body = |good: BoxedStrategy<Description>| prop_oneof![5 => good.prop_map(Ok), 1 => Just(Err(Undecodable))];
    let message = prop_oneof![4 => candidate().prop_map(Ok), 1 => Just(Err(Undecodable))];
    prop_oneof![
        1 => (sender(), body(description().boxed()))
            .prop_map(|(sender, body)| SignalingEvent::Offer { sender, body }),
        3 => (sender(), body(description().boxed()))
            .prop_map(|(sender, body)| SignalingEvent::Answer { sender, body }),
        2 => (sender(), message).prop_map(|(sender, body)| SignalingEvent::Candidate { sender, body }),
        1 => (option::of(ticket()), failure())
            .prop_map(|(ticket, failure)| SignalingEvent::Status { ticket, failure }),
        1 => Just(SignalingEvent::GoAway),
        1 => Just(SignalingEvent::ReconnectIceServer),
        1 => Just(SignalingEvent::Garbage),
        1 => failure().prop_map(SignalingEvent::Disconnected),
    ]
}

fn peer_event() -> impl Strategy<Value = PeerEvent> {
    let kind = || select(vec![MediaKind::Audio, MediaKind::Video, MediaKind::Data]);
    let states = select(vec![
        Connectivity::Checking,
        Connectivity::IceConnected,
        Connectivity::Connected,
        Connectivity::Connected,
        Connectivity::Disconnected,
        Connectivity::IceFailed,
        Connectivity::DtlsFailed,
        Connectivity::ClosedByPeer,
    ]);
    prop_oneof![
        1 => candidate().prop_map(PeerEvent::CandidateGathered),
        1 => Just(PeerEvent::GatheringDone),
        3 => states.prop_map(PeerEvent::ConnectivityChanged),
        1 => kind().prop_map(PeerEvent::TrackAdded),
        1 => kind().prop_map(PeerEvent::MediaFlowing),
        1 => Just(PeerEvent::KeyframeReceived),
        1 => Just(PeerEvent::MediaStalled),
        1 => Just(PeerEvent::SenderReport),
        1 => select(MediaProblem::ALL.to_vec()).prop_map(PeerEvent::MediaProblem),
        1 => (0..4u32).prop_map(PeerEvent::IceServersUnresolved),
    ]
}

fn ticket() -> impl Strategy<Value = Ticket> {
    (0..4u32, 0..24u32).prop_map(|(attempt, seq)| Ticket { attempt, seq })
}

fn done() -> impl Strategy<Value = Done> {
    let id = || ClientId::new("nonsense").map(Done::Connected).unwrap_or(Done::Ok);
    let traits = select(vec![CandidateRelease::AfterOffer, CandidateRelease::AfterAnswer])
        .prop_map(|candidates| PeerTraits {
            candidates,
            restart_keeps_pair: candidates == CandidateRelease::AfterAnswer,
        });
    prop_oneof![
        Just(Done::Ok),
        Just(id()),
        option::of(Just("turn:x")).prop_map(|uri| {
            let server =
                |uri: &str| IceServer { uris: vec![uri.into()], username: None, password: None };
            Done::IceServers(uri.into_iter().map(server).collect())
        }),
        traits.prop_map(Done::Created),
        description().prop_map(Done::Description),
    ]
}

/// A step of a host that follows no rules.
#[derive(Clone, Debug)]
pub enum HostStep {
    /// Any input, this much later or earlier.
    Input {
        /// Milliseconds since the last input; sometimes a jump, sometimes backwards.
        after_ms: i64,
        /// The input.
        input: Input,
    },
    /// The pending command of this index completes successfully: without this, random inputs seldom
    /// get far.
    CompletePending {
        /// The index, modulo the number of pending commands.
        index: usize,
    },
    /// Time passes until the next deadline.
    Wait,
}

/// One step of a host that follows no rules.
pub fn host_step() -> impl Strategy<Value = HostStep> {
    let input = prop_oneof![
        1 => Just(Input::Open),
        1 => Just(Input::Close),
        2 => Just(Input::Timeout),
        1 => Just(Input::Resumed),
        1 => Just(Input::NetworkChanged),
        1 => Just(Input::LocalAddressGone),
        1 => option::of(any::<bool>()).prop_map(|answers_restarts| {
            let unknown = MasterKnowledge::default();
            Input::MasterKnown(MasterKnowledge { answers_restarts, ..unknown })
        }),
        2 => any::<bool>().prop_map(Input::Online),
        1 => Just(Input::Restart),
        2 => Just(Input::Renegotiate),
        8 => (0..4u32, signaling_event()).prop_map(|(l, e)| Input::Signaling(ConnectionId(l), e)),
        8 => (0..4u32, peer_event()).prop_map(|(p, e)| Input::Peer(PeerId(p), e)),
        8 => (ticket(), prop_oneof![done().prop_map(Ok), failure().prop_map(Err)])
            .prop_map(|(ticket, outcome)| Input::Completed(Completion { ticket, outcome })),
    ];
    let after = prop_oneof![
        6 => 0..50i64,
        2 => 0..40_000i64,
        1 => -5_000..0i64,
        1 => Just(3_600_000i64),
    ];
    prop_oneof![
        4 => (after, input).prop_map(|(after_ms, input)| HostStep::Input { after_ms, input }),
        6 => (0..8usize).prop_map(|index| HostStep::CompletePending { index }),
        1 => Just(HostStep::Wait),
    ]
}
