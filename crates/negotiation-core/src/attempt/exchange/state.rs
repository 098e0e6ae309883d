//! [`State`]: the states of an exchange, each with what it needs.

use super::identity::Identity;
use super::map::ExchangeState;
use crate::ticket::Ticket;
use crate::time::Timestamp;
use crate::types::{ConnectionId, Description, SdpKind};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum State {
    #[default]
    Stable,
    Ours(OurOffer),
    Theirs(TheirOffer),
    /// The ICE servers are set; no exchange is open.
    SettingServers,
    /// The stack takes back a description that was set.
    RollingBack {
        restart: Option<RestartReason>,
        /// The exchange was cancelled by this side.
        abandoned: bool,
    },
    /// The master's new session gets a new peer connection; the old one is being closed.
    Replacing,
    /// A description could not be taken back: no further exchange is possible.
    Unknown,
}

/// A description that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sent {
    pub(crate) ticket: Ticket,
    /// On which connection, unless it failed to send it.
    pub(crate) carried: Option<(ConnectionId, SdpKind)>,
}

/// What is to be negotiated after the open exchange; any number of requests are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Needed {
    pub(crate) negotiation: bool,
    pub(crate) restart: Option<RestartReason>,
    /// The restart was requested while another one was open: it has a deadline of its own.
    pub(crate) has_own_deadline: bool,
    /// A restart's offer was not sent on this connection: it waits for the next one.
    pub(crate) unsent_on: Option<ConnectionId>,
    /// Our first offer yielded to the master's.
    pub(crate) yielded: bool,
}

impl Needed {
    /// The open restart could not be sent, or yielded to the master's offer: it is run again.
    pub(crate) fn restart_again(&mut self, reason: RestartReason) {
        self.restart = self.restart.max(Some(reason));
    }
}

/// What an ICE restart is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RestartReason {
    /// The pair in use is lost: the restart is not needed any more when the pair is back.
    ConnectivityLost,
    /// The application requested it, or the platform's network changed.
    Requested,
}

/// A local offer, from its creation to the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OurOffer {
    /// It is the offer of an ICE restart.
    pub(crate) restart: Option<RestartReason>,
    /// The exchange was cancelled: it is rolled back when the running operation completes.
    pub(crate) abandoned: bool,
    pub(crate) step: OurStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OurStep {
    /// A restart waits for fresh TURN credentials.
    RefreshingServers,
    Creating,
    /// The offer waits for the ICE servers, which are used from set-local on.
    Created(Description),
    SettingServers(Description),
    SettingLocal(Description),
    /// The offer waits for a signaling connection, other than the one that failed to send it.
    Unsent {
        draft: Draft,
        failed_on: Option<ConnectionId>,
    },
    Sending {
        draft: Draft,
        /// An answer that came before the completion of our own send.
        early_answer: Option<Description>,
    },
    AwaitingAnswer {
        /// See [`Draft::is_unapplied`].
        unapplied: Option<Description>,
        sent_at: Timestamp,
        /// Since when the master could answer; time without a network does not count.
        awaited_since: Timestamp,
    },
    /// The offer of a restart is set only now that this answer is here.
    ApplyingLocal(Description),
    SettingRemote(Identity),
}

/// An offer that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Draft {
    pub(crate) offer: Description,
    /// A restart's offer that is sent but not set: this stack would drop a candidate pair that may
    /// still work (contract, N18).
    pub(crate) is_unapplied: bool,
}

impl OurOffer {
    pub(crate) fn new(restart: Option<RestartReason>, step: OurStep) -> Self {
        Self { restart, abandoned: false, step }
    }

    /// The restart is for a loss alone, and its offer can still be kept from the master.
    pub(crate) fn is_avoidable_restart(&self) -> bool {
        let sent = match &self.step {
            OurStep::Sending { .. }
            | OurStep::AwaitingAnswer { .. }
            | OurStep::ApplyingLocal(_)
            | OurStep::SettingRemote(_) => true,
            OurStep::RefreshingServers
            | OurStep::Creating
            | OurStep::Created(_)
            | OurStep::SettingServers(_)
            | OurStep::SettingLocal(_)
            | OurStep::Unsent { .. } => false,
        };
        !sent && self.restart == Some(RestartReason::ConnectivityLost)
    }
}

/// An offer of the master's, from set-remote to the sent answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TheirOffer {
    /// The offer is being set; it comes from this remote session.
    Setting(Identity),
    CreatingAnswer,
    SettingAnswer(Description),
    /// The answer waits for a signaling connection, other than the one that failed to send it.
    Unsent {
        answer: Description,
        failed_on: Option<ConnectionId>,
    },
    Sending(Description),
}

impl State {
    pub(crate) fn name(&self) -> ExchangeState {
        match self {
            Self::Stable => ExchangeState::Stable,
            Self::Ours(ours) => match &ours.step {
                OurStep::RefreshingServers => ExchangeState::RefreshingServers,
                OurStep::Creating => ExchangeState::CreatingOffer,
                OurStep::Created(_) => ExchangeState::OfferCreated,
                OurStep::SettingServers(_) => ExchangeState::SettingOfferServers,
                OurStep::SettingLocal(_) => ExchangeState::SettingLocalOffer,
                OurStep::Unsent { .. } => ExchangeState::OfferUnsent,
                OurStep::Sending { .. } => ExchangeState::SendingOffer,
                OurStep::AwaitingAnswer { .. } => ExchangeState::AwaitingAnswer,
                OurStep::ApplyingLocal(_) => ExchangeState::ApplyingOffer,
                OurStep::SettingRemote(_) => ExchangeState::SettingRemoteAnswer,
            },
            Self::Theirs(TheirOffer::Setting(_)) => ExchangeState::SettingRemoteOffer,
            Self::Theirs(TheirOffer::CreatingAnswer) => ExchangeState::CreatingAnswer,
            Self::Theirs(TheirOffer::SettingAnswer(_)) => ExchangeState::SettingLocalAnswer,
            Self::Theirs(TheirOffer::Unsent { .. }) => ExchangeState::AnswerUnsent,
            Self::Theirs(TheirOffer::Sending(_)) => ExchangeState::SendingAnswer,
            Self::SettingServers => ExchangeState::SettingServers,
            Self::RollingBack { .. } => ExchangeState::RollingBack,
            Self::Replacing => ExchangeState::Replacing,
            Self::Unknown => ExchangeState::Unknown,
        }
    }
}
