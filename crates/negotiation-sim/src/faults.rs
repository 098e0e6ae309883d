//! Everything that can go wrong, as plain values. A plan of faults is a list; each counts its hits.

use core::time::Duration;

use negotiation_core::{FailureCode, MediaProblem, Phase, Sender};

use crate::traits::RepeatedId;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message is not carried as it should be.
    Message {
        /// Which kind of message.
        what: MessageKind,
        /// The how many-th of its kind, from 1; 0 is every one.
        nth: u32,
        /// What happens to it.
        how: Delivery,
    },
    /// A command does not do what it should.
    Command {
        /// Which kind of command.
        what: CommandKind,
        /// The how many-th of its kind, from 1; 0 is every one.
        nth: u32,
        /// What happens to it.
        how: CommandFault,
    },
    /// Something happens once the session is somewhere.
    At {
        /// Where.
        trigger: Trigger,
        /// How long after.
        after: Duration,
        /// What.
        action: Action,
    },
}

/// The kinds of messages that the service carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// The viewer's offer.
    ViewerOffer,
    /// A candidate of the viewer's.
    ViewerCandidate,
    /// The master's answer.
    MasterAnswer,
    /// A candidate of the master's.
    MasterCandidate,
    /// The viewer's answer.
    ViewerAnswer,
    /// The master's offer.
    MasterOffer,
}

impl MessageKind {
    /// Every kind, in order.
    pub const ALL: [Self; 6] = [
        Self::ViewerOffer,
        Self::ViewerCandidate,
        Self::MasterAnswer,
        Self::MasterCandidate,
        Self::ViewerAnswer,
        Self::MasterOffer,
    ];
}

/// What the service does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is lost.
    Drop,
    /// It takes this much longer.
    Delay(Duration),
    /// It comes twice, the second time this much later.
    Duplicate(Duration),
    /// It is kept back until another message to the same side has passed, or for a second.
    Hold,
    /// It cannot be decoded.
    Corrupt,
    /// The answer to an earlier attempt's offer comes just before it.
    AfterOldAnswer,
    /// It seems to come from somebody else.
    FromSender(Sender),
}

/// The kinds of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandKind {
    /// Open a link: REST calls, socket, upgrade.
    Connect,
    /// Fetch ICE servers.
    IceServers,
    /// Send the offer.
    SendOffer,
    /// Send a candidate.
    SendCandidate,
    /// Close a link.
    Disconnect,
    /// Ask the service to offer.
    Join,
    /// Send the answer.
    SendAnswer,
    /// Make an answer.
    CreateAnswer,
    /// Make a peer connection.
    Create,
    /// Make an offer.
    CreateOffer,
    /// Set the ICE servers.
    SetIceServers,
    /// Set an offer or answer of ours.
    SetLocal,
    /// Set an offer or answer of the master's.
    SetRemote,
    /// Take the offer back.
    Rollback,
    /// Add a candidate.
    AddCandidate,
    /// Ask for a keyframe.
    RequestKeyframe,
    /// First step of closing a peer connection.
    StopTransceivers,
    /// Second step.
    RemoveTracks,
    /// Last step.
    Close,
}

impl CommandKind {
    /// Every kind, in order.
    pub const ALL: [Self; 19] = [
        Self::Connect,
        Self::IceServers,
        Self::SendOffer,
        Self::SendCandidate,
        Self::Disconnect,
        Self::Join,
        Self::SendAnswer,
        Self::CreateAnswer,
        Self::Create,
        Self::CreateOffer,
        Self::SetIceServers,
        Self::SetLocal,
        Self::SetRemote,
        Self::Rollback,
        Self::AddCandidate,
        Self::RequestKeyframe,
        Self::StopTransceivers,
        Self::RemoveTracks,
        Self::Close,
    ];
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFault {
    /// It fails.
    Fail(FailureCode),
    /// It takes this much longer, and what is queued behind it as well.
    Late(Duration),
    /// It hangs until a close cancels it.
    Hang,
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// When the application opens the session.
    Opened,
    /// When a phase is entered for the how many-th time, from 1.
    Entered(Phase, u32),
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The application opens the session (again).
    Open,
    /// The application closes it.
    Close,
    /// The application wants another exchange.
    Renegotiate,
    /// The device slept for this long.
    Suspend(Duration),
    /// The clock jumps, and every timer is late.
    ClockJump(Duration),
    /// The link ends.
    CutLink(FailureCode),
    /// `GO_AWAY`.
    GoAway,
    /// `RECONNECT_ICE_SERVER`.
    ReconnectIceServer,
    /// A frame that is no message.
    Garbage,
    /// `STATUS_RESPONSE` for the newest offer.
    OfferStatus(FailureCode),
    /// `STATUS_RESPONSE` for nothing of ours.
    StrayStatus(FailureCode),
    /// The newest answer comes again.
    RepeatAnswer,
    /// An answer to nobody's offer, from this sender.
    StrayAnswer(Sender),
    /// The answer to the attempt before comes, on this attempt's link.
    OldAnswer,
    /// An offer, from this sender.
    StrayOffer(Sender),
    /// So many more candidates of the master's at once.
    CandidateFlood(u32),
    /// A candidate of another ICE generation.
    OldCandidate,
    /// A candidate from somebody else.
    ForeignCandidate,
    /// An end-of-candidates in each of its forms.
    EndOfCandidates,
    /// So many more local candidates at once.
    LocalBurst(u32),
    /// ICE hears nothing.
    IceDisconnected,
    /// ICE is back.
    IceBack,
    /// ICE gives up.
    IceFailed,
    /// DTLS is refused.
    DtlsFailed,
    /// The master closes its end.
    MasterCloses,
    /// Media stops.
    Stall,
    /// Media comes back.
    MediaBack,
    /// The master connects to the channel.
    MasterArrives,
    /// The application wants an ICE restart.
    Restart,
    /// No packet gets through any more, and nobody says so.
    NetworkDown,
    /// Packets get through again, from the same addresses.
    NetworkUp,
    /// Another network: every socket is dead, every address another; the platform says so.
    NetworkChanged,
    /// The platform has no network, and says so.
    Offline,
    /// The platform has a network again, and says so.
    Online,
    /// Another viewer takes our client id this many times, each time a second after we have it.
    Takeover(u32),
    /// The service refuses a second link of an id while the first is open.
    RefuseSecondLink,
    /// TURN credentials that were given out end.
    TurnExpires,
    /// The master boots: sessions are gone without a word, and it is back after this long.
    MasterReboots(Duration),
    /// From now on the master does this with an id that it has a session of.
    MasterBecomes(RepeatedId),
    /// The master (or the service) offers.
    MasterOffers {
        /// In a new session, with another certificate.
        anew: bool,
    },
    /// A sender report comes.
    SenderReport,
    /// Every timer is this late from now on.
    TimersLate(Duration),
    /// An offer, answer or candidate of the master's that cannot be decoded.
    Undecodable(MessageKind),
    /// The peer stack says that ICE checks run, whenever it pleases.
    IceChecking,
    /// It says that ICE has a pair.
    IceConnected,
    /// It says that the master's track is there.
    TrackAdded,
    /// It says that a whole keyframe came.
    Keyframe,
    /// It says that no more local candidates will come.
    GatheringDone,
    /// It says why packets make no picture.
    MediaProblem(MediaProblem),
    /// It says that names of so many servers do not resolve.
    ServersUnresolved(u32),
    /// Another network, and the local address of the pair in use is gone; the platform says so.
    LocalAddressGone,
    /// Knowledge about the master is handed in: whether it answers restarts.
    MasterKnown(Option<bool>),
    /// What was under way on a link that was closed still reaches the session.
    LinkEcho,
    /// The same of a peer connection that was closed.
    PeerEcho,
}

/// The faults of a plan with how often each was met.
#[derive(Clone, Debug)]
pub(crate) struct FaultTracker {
    faults: Vec<(Fault, u32)>,
    messages: [u32; MessageKind::ALL.len()],
    commands: [u32; CommandKind::ALL.len()],
}

impl FaultTracker {
    pub(crate) fn new(faults: &[Fault]) -> Self {
        Self {
            faults: faults.iter().map(|fault| (fault.clone(), 0)).collect(),
            messages: [0; MessageKind::ALL.len()],
            commands: [0; CommandKind::ALL.len()],
        }
    }

    /// Counts a message and says what becomes of it.
    pub(crate) fn message(&mut self, kind: MessageKind) -> Option<Delivery> {
        let seen = &mut self.messages[kind as usize];
        *seen += 1;
        let count = *seen;
        self.faults.iter_mut().find_map(|(fault, hits)| match fault {
            Fault::Message { what, nth, how } if *what == kind && (*nth == 0 || *nth == count) => {
                *hits += 1;
                Some(*how)
            }
            Fault::Message { .. } | Fault::Command { .. } | Fault::At { .. } => None,
        })
    }

    /// Counts a command and says what becomes of it.
    pub(crate) fn command(&mut self, kind: CommandKind) -> Option<CommandFault> {
        let seen = &mut self.commands[kind as usize];
        *seen += 1;
        let count = *seen;
        self.faults.iter_mut().find_map(|(fault, hits)| match fault {
            Fault::Command { what, nth, how } if *what == kind && (*nth == 0 || *nth == count) => {
                *hits += 1;
                Some(*how)
            }
            Fault::Message { .. } | Fault::Command { .. } | Fault::At { .. } => None,
        })
    }

    /// What happens at this moment, and how long after.
    pub(crate) fn at(&mut self, now: Trigger) -> Vec<(Duration, Action)> {
        let mut actions = Vec::new();
        for (fault, hits) in &mut self.faults {
            if let Fault::At { trigger, after, action } = fault
                && *trigger == now
            {
                *hits += 1;
                actions.push((*after, *action));
            }
        }
        actions
    }

    /// How often each fault was met, in the plan's order.
    pub(crate) fn hits(&self) -> Vec<u32> {
        self.faults.iter().map(|(_, hits)| *hits).collect()
    }
}
