//! Everything that can go wrong in a run, as plain values; each planned fault counts its hits.

use core::time::Duration;

use negotiation_core::{FailureCode, MediaProblem, Phase, Sender};

use crate::traits::RepeatedId;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message is not delivered as sent.
    Message {
        /// The kind of message.
        what: MessageKind,
        /// Which message of its kind, counted from 1; 0 is every one.
        nth: u32,
        /// How it is delivered instead.
        how: Delivery,
    },
    /// A command does not succeed.
    Command {
        /// The kind of command.
        what: CommandKind,
        /// Which command of its kind, counted from 1; 0 is every one.
        nth: u32,
        /// How it fails.
        how: CommandFault,
    },
    /// Something happens at a point of the session.
    At {
        /// The point of the session.
        trigger: Trigger,
        /// The time after it.
        after: Duration,
        /// What happens.
        action: Action,
    },
}

/// The kinds of messages that the service carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// The viewer's offer.
    ViewerOffer,
    /// A candidate of the viewer.
    ViewerCandidate,
    /// The master's answer.
    MasterAnswer,
    /// A candidate of the master.
    MasterCandidate,
    /// The viewer's answer.
    ViewerAnswer,
    /// The master's offer.
    MasterOffer,
}

impl MessageKind {
    /// All kinds, in order.
    pub const ALL: [Self; 6] = [
        Self::ViewerOffer,
        Self::ViewerCandidate,
        Self::MasterAnswer,
        Self::MasterCandidate,
        Self::ViewerAnswer,
        Self::MasterOffer,
    ];
}

/// How the service delivers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The message is lost.
    Drop,
    /// The message arrives this much later.
    Delay(Duration),
    /// The message arrives twice, the second time this much later.
    Duplicate(Duration),
    /// The message is held until another message to the same side has passed, or for a second.
    Hold,
    /// The message arrives in a form that cannot be decoded.
    Corrupt,
    /// The answer to an earlier attempt's offer arrives just before the message.
    AfterOldAnswer,
    /// The message names another sender.
    FromSender(Sender),
}

/// The kinds of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandKind {
    /// Open a signaling connection: REST calls, socket, upgrade.
    Connect,
    /// Fetch ICE servers.
    IceServers,
    /// Send the offer.
    SendOffer,
    /// Send a candidate.
    SendCandidate,
    /// Close a signaling connection.
    Disconnect,
    /// Join the storage session, so that the service offers.
    Join,
    /// Send the answer.
    SendAnswer,
    /// Create an answer.
    CreateAnswer,
    /// Create a peer connection.
    Create,
    /// Create an offer.
    CreateOffer,
    /// Set the ICE servers.
    SetIceServers,
    /// Set a local description.
    SetLocal,
    /// Set a remote description.
    SetRemote,
    /// Roll back the local offer.
    Rollback,
    /// Add a candidate.
    AddCandidate,
    /// Request a keyframe.
    RequestKeyframe,
    /// Stop the transceivers: the first step of closing a peer connection.
    StopTransceivers,
    /// Remove the tracks: the second step.
    RemoveTracks,
    /// Close the peer connection: the last step.
    Close,
}

impl CommandKind {
    /// All kinds, in order.
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

/// How a command fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFault {
    /// It fails with this code.
    Fail(FailureCode),
    /// It takes this much longer, and so do the commands that are queued behind it.
    Late(Duration),
    /// It hangs until a close cancels it.
    Hang,
}

/// The point of a session at which something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The application opens the session.
    Opened,
    /// A phase is entered for this many-th time, counted from 1.
    Entered(Phase, u32),
}

/// Something that happens to the session or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The application opens the session (again).
    Open,
    /// The application closes the session.
    Close,
    /// The application requests a renegotiation.
    Renegotiate,
    /// The device sleeps for this long.
    Suspend(Duration),
    /// The clock jumps forward by this much, so that every timer is late.
    ClockJump(Duration),
    /// The signaling connection is lost.
    CutLink(FailureCode),
    /// The service sends `GO_AWAY`.
    GoAway,
    /// The service sends `RECONNECT_ICE_SERVER`.
    ReconnectIceServer,
    /// A frame arrives that is no message.
    Garbage,
    /// A `STATUS_RESPONSE` arrives for the newest offer.
    OfferStatus(FailureCode),
    /// A `STATUS_RESPONSE` arrives for no message of this session.
    StrayStatus(FailureCode),
    /// The newest answer arrives again.
    RepeatAnswer,
    /// An answer to no offer of this session arrives, from this sender.
    StrayAnswer(Sender),
    /// The answer to the previous attempt arrives on this attempt's connection.
    OldAnswer,
    /// An offer arrives, from this sender.
    StrayOffer(Sender),
    /// So many additional candidates of the master arrive at once.
    CandidateFlood(u32),
    /// A candidate of another ICE generation arrives.
    OldCandidate,
    /// A candidate from another sender arrives.
    ForeignCandidate,
    /// An end-of-candidates arrives in each of its forms.
    EndOfCandidates,
    /// So many additional local candidates are gathered at once.
    LocalBurst(u32),
    /// ICE is disconnected.
    IceDisconnected,
    /// ICE is connected again.
    IceBack,
    /// ICE fails.
    IceFailed,
    /// DTLS fails.
    DtlsFailed,
    /// The master closes its peer connection.
    MasterCloses,
    /// Media stops.
    Stall,
    /// Media flows again.
    MediaBack,
    /// The master connects to the channel.
    MasterArrives,
    /// The application requests an ICE restart.
    Restart,
    /// All packets are lost from now on, and the platform does not report it.
    NetworkDown,
    /// Packets get through again, from the same addresses.
    NetworkUp,
    /// The device moves to another network: all sockets are dead, all addresses are new, and the
    /// platform reports it.
    NetworkChanged,
    /// The platform reports that there is no network.
    Offline,
    /// The platform reports that there is a network again.
    Online,
    /// Another viewer takes over the client id this many times, each time a second after the
    /// session has it.
    Takeover(u32),
    /// The service refuses a second connection of a client id while the first is open.
    RefuseSecondLink,
    /// The TURN credentials that were given out expire.
    TurnExpires,
    /// The master reboots: its sessions are lost without a close, and it is back after this long.
    MasterReboots(Duration),
    /// From now on the master treats repeated client ids like this.
    MasterBecomes(RepeatedId),
    /// The master, or the service in its place, sends an offer.
    MasterOffers {
        /// The offer is for a new session, with another certificate.
        anew: bool,
    },
    /// A sender report arrives.
    SenderReport,
    /// Every timer fires this late from now on.
    TimersLate(Duration),
    /// An offer, answer or candidate of the master arrives that cannot be decoded.
    Undecodable(MessageKind),
    /// The peer stack reports that ICE checks run, at any time.
    IceChecking,
    /// The peer stack reports that ICE has a pair.
    IceConnected,
    /// The peer stack reports the master's track.
    TrackAdded,
    /// The peer stack reports a whole keyframe.
    Keyframe,
    /// The peer stack reports the end of gathering.
    GatheringDone,
    /// The peer stack reports why packets make no picture.
    MediaProblem(MediaProblem),
    /// The peer stack reports that so many servers' names do not resolve.
    ServersUnresolved(u32),
    /// The device moves to another network and has lost the local address of the pair in use; the
    /// platform reports both.
    LocalAddressGone,
    /// The application hands in what is known about the master: whether it answers restarts.
    MasterKnown(Option<bool>),
    /// Late events of a closed signaling connection reach the session.
    LinkEcho,
    /// Late events of a closed peer connection reach the session.
    PeerEcho,
}

/// The faults of a plan, with how often each was hit.
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

    /// Counts a message and returns how it is delivered if a fault hits it.
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

    /// Counts a command and returns how it fails if a fault hits it.
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

    /// The actions that are planned for this point of the session, with their delays.
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

    /// How often each fault was hit, in the plan's order.
    pub(crate) fn hits(&self) -> Vec<u32> {
        self.faults.iter().map(|(_, hits)| *hits).collect()
    }
}
