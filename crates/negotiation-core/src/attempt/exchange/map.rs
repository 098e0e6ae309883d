//! [`ExchangeState`]: the states of an offer/answer exchange and the legal edges between them, as
//! data that can be printed.

use core::fmt;

/// Where an offer/answer exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeState {
    /// No exchange is open.
    Stable,
    /// The ICE servers are being given to the peer connection, before the master's offer.
    SettingServers,
    /// An ICE restart waits for fresh TURN credentials.
    RefreshingServers,
    /// The peer connection creates an offer.
    CreatingOffer,
    /// The offer waits for the ICE servers.
    OfferCreated,
    /// The ICE servers are being given to the peer connection, before the offer is set.
    SettingOfferServers,
    /// The offer is being set.
    SettingLocalOffer,
    /// The offer waits for a signaling connection.
    OfferUnsent,
    /// The offer is being sent.
    SendingOffer,
    /// The offer is sent.
    AwaitingAnswer,
    /// A restart's offer is being set, now that its answer is here.
    ApplyingOffer,
    /// The master's answer is being set.
    SettingRemoteAnswer,
    /// The master's offer is being set.
    SettingRemoteOffer,
    /// The peer connection creates an answer.
    CreatingAnswer,
    /// The answer is being set.
    SettingLocalAnswer,
    /// The answer waits for a signaling connection.
    AnswerUnsent,
    /// The answer is being sent.
    SendingAnswer,
    /// The peer connection takes back a description.
    RollingBack,
    /// The peer connection is being closed, for one with the master's new session.
    Replacing,
    /// A description could not be taken back: no further exchange is possible.
    Unknown,
}

impl ExchangeState {
    /// Every state, in order.
    pub const ALL: [Self; 20] = [
        Self::Stable,
        Self::SettingServers,
        Self::RefreshingServers,
        Self::CreatingOffer,
        Self::OfferCreated,
        Self::SettingOfferServers,
        Self::SettingLocalOffer,
        Self::OfferUnsent,
        Self::SendingOffer,
        Self::AwaitingAnswer,
        Self::ApplyingOffer,
        Self::SettingRemoteAnswer,
        Self::SettingRemoteOffer,
        Self::CreatingAnswer,
        Self::SettingLocalAnswer,
        Self::AnswerUnsent,
        Self::SendingAnswer,
        Self::RollingBack,
        Self::Replacing,
        Self::Unknown,
    ];

    /// The legal edges.
    pub const EDGES: &'static [(Self, Self)] = &[
        (Self::Stable, Self::SettingServers),
        (Self::Stable, Self::RefreshingServers),
        (Self::Stable, Self::CreatingOffer),
        (Self::Stable, Self::SettingRemoteOffer),
        (Self::Stable, Self::Replacing),
        (Self::Stable, Self::Unknown),
        (Self::SettingServers, Self::Stable),
        (Self::RefreshingServers, Self::Stable),
        (Self::RefreshingServers, Self::CreatingOffer),
        (Self::CreatingOffer, Self::Stable),
        (Self::CreatingOffer, Self::OfferCreated),
        (Self::OfferCreated, Self::Stable),
        (Self::OfferCreated, Self::SettingOfferServers),
        (Self::OfferCreated, Self::SettingLocalOffer),
        (Self::OfferCreated, Self::OfferUnsent),
        (Self::SettingOfferServers, Self::SettingServers),
        (Self::SettingOfferServers, Self::OfferCreated),
        (Self::SettingLocalOffer, Self::Stable),
        (Self::SettingLocalOffer, Self::OfferUnsent),
        (Self::OfferUnsent, Self::Stable),
        (Self::OfferUnsent, Self::SendingOffer),
        (Self::OfferUnsent, Self::RollingBack),
        (Self::SendingOffer, Self::Stable),
        (Self::SendingOffer, Self::OfferUnsent),
        (Self::SendingOffer, Self::AwaitingAnswer),
        (Self::SendingOffer, Self::RollingBack),
        (Self::AwaitingAnswer, Self::Stable),
        (Self::AwaitingAnswer, Self::ApplyingOffer),
        (Self::AwaitingAnswer, Self::SettingRemoteAnswer),
        (Self::AwaitingAnswer, Self::RollingBack),
        (Self::ApplyingOffer, Self::Stable),
        (Self::ApplyingOffer, Self::SettingRemoteAnswer),
        (Self::SettingRemoteAnswer, Self::Stable),
        (Self::SettingRemoteAnswer, Self::RollingBack),
        (Self::SettingRemoteOffer, Self::Stable),
        (Self::SettingRemoteOffer, Self::CreatingAnswer),
        (Self::CreatingAnswer, Self::SettingLocalAnswer),
        (Self::CreatingAnswer, Self::RollingBack),
        (Self::SettingLocalAnswer, Self::AnswerUnsent),
        (Self::SettingLocalAnswer, Self::RollingBack),
        (Self::AnswerUnsent, Self::Stable),
        (Self::AnswerUnsent, Self::SendingAnswer),
        (Self::SendingAnswer, Self::Stable),
        (Self::SendingAnswer, Self::AnswerUnsent),
        (Self::RollingBack, Self::Stable),
        (Self::Replacing, Self::Stable),
    ];

    /// Whether an exchange may go from here to `to`.
    pub fn may_become(self, to: Self) -> bool {
        Self::EDGES.contains(&(self, to))
    }

    /// The signaling state of the peer connection (JSEP, RFC 8829, 3.2); while a description is
    /// being set, the state before it.
    ///
    /// It is `stable` in `offer-unsent`, `sending-offer` and `awaiting-answer` as well, where the
    /// offer of an ICE restart is not set before it is answered.
    pub fn signaling_state(self) -> &'static str {
        match self {
            Self::OfferUnsent
            | Self::SendingOffer
            | Self::AwaitingAnswer
            | Self::SettingRemoteAnswer => "have-local-offer",
            Self::CreatingAnswer | Self::SettingLocalAnswer => "have-remote-offer",
            Self::RollingBack => "have-local-offer or have-remote-offer",
            Self::Replacing => "closed",
            Self::Unknown => "unknown",
            Self::Stable
            | Self::SettingServers
            | Self::RefreshingServers
            | Self::CreatingOffer
            | Self::OfferCreated
            | Self::SettingOfferServers
            | Self::SettingLocalOffer
            | Self::ApplyingOffer
            | Self::SettingRemoteOffer
            | Self::AnswerUnsent
            | Self::SendingAnswer => "stable",
        }
    }

    /// What it is, in one sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Stable => "No exchange is open.",
            Self::SettingServers => {
                "The ICE servers are being given to the peer connection, before the master's offer."
            }
            Self::RefreshingServers => "An ICE restart waits for fresh TURN credentials.",
            Self::CreatingOffer => "The peer connection creates an offer.",
            Self::OfferCreated => "The offer waits for the ICE servers.",
            Self::SettingOfferServers => {
                "The ICE servers are being given to the peer connection, before the offer is set."
            }
            Self::SettingLocalOffer => "The offer is being set.",
            Self::OfferUnsent => "The offer waits for a signaling connection.",
            Self::SendingOffer => "The offer is being sent.",
            Self::AwaitingAnswer => "The offer is sent.",
            Self::ApplyingOffer => "A restart's offer is being set, now that its answer is here.",
            Self::SettingRemoteAnswer => "The master's answer is being set.",
            Self::SettingRemoteOffer => "The master's offer is being set.",
            Self::CreatingAnswer => "The peer connection creates an answer.",
            Self::SettingLocalAnswer => "The answer is being set.",
            Self::AnswerUnsent => "The answer waits for a signaling connection.",
            Self::SendingAnswer => "The answer is being sent.",
            Self::RollingBack => "The peer connection takes back a description.",
            Self::Replacing => {
                "The peer connection is being closed, for one with the master's new session."
            }
            Self::Unknown => {
                "A description could not be taken back: no further exchange is possible."
            }
        }
    }

    /// A stable name, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::SettingServers => "setting-servers",
            Self::RefreshingServers => "refreshing-servers",
            Self::CreatingOffer => "creating-offer",
            Self::OfferCreated => "offer-created",
            Self::SettingOfferServers => "setting-offer-servers",
            Self::SettingLocalOffer => "setting-local-offer",
            Self::OfferUnsent => "offer-unsent",
            Self::SendingOffer => "sending-offer",
            Self::AwaitingAnswer => "awaiting-answer",
            Self::ApplyingOffer => "applying-offer",
            Self::SettingRemoteAnswer => "setting-remote-answer",
            Self::SettingRemoteOffer => "setting-remote-offer",
            Self::CreatingAnswer => "creating-answer",
            Self::SettingLocalAnswer => "setting-local-answer",
            Self::AnswerUnsent => "answer-unsent",
            Self::SendingAnswer => "sending-answer",
            Self::RollingBack => "rolling-back",
            Self::Replacing => "replacing",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ExchangeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchange_states_have_names_and_sentences_and_edges_are_unique() {
        for (i, state) in ExchangeState::ALL.iter().enumerate() {
            assert!(state.meaning().ends_with('.'), "{state}");
            for other in &ExchangeState::ALL[..i] {
                assert_ne!(state.meaning(), other.meaning());
                assert_ne!(state.as_str(), other.as_str());
            }
        }
        for (i, edge) in ExchangeState::EDGES.iter().enumerate() {
            assert!(!ExchangeState::EDGES[..i].contains(edge), "{edge:?}");
            assert_ne!(edge.0, edge.1);
        }
    }

    #[test]
    fn every_exchange_state_is_reached_and_only_unknown_is_final() {
        for state in ExchangeState::ALL {
            assert!(ExchangeState::EDGES.iter().any(|(_, to)| *to == state), "{state}");
            let goes_on = ExchangeState::EDGES.iter().any(|(from, _)| *from == state);
            assert_eq!(goes_on, state != ExchangeState::Unknown, "{state}");
        }
    }

    #[test]
    fn edge_is_legal_only_as_listed() {
        assert!(ExchangeState::AwaitingAnswer.may_become(ExchangeState::SettingRemoteAnswer));
        assert!(!ExchangeState::SettingRemoteAnswer.may_become(ExchangeState::AwaitingAnswer));
        assert!(!ExchangeState::Stable.may_become(ExchangeState::AwaitingAnswer));
    }

    #[test]
    fn signaling_state_is_that_of_jsep() {
        let names = [
            (ExchangeState::Stable, "stable"),
            (ExchangeState::SettingLocalOffer, "stable"),
            (ExchangeState::AwaitingAnswer, "have-local-offer"),
            (ExchangeState::SettingRemoteOffer, "stable"),
            (ExchangeState::CreatingAnswer, "have-remote-offer"),
            (ExchangeState::AnswerUnsent, "stable"),
            (ExchangeState::Replacing, "closed"),
        ];
        for (state, name) in names {
            assert_eq!(state.signaling_state(), name, "{state}");
        }
    }
}
