//! What is remembered of an exchange, and of whom it is with.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::output::Message;
use crate::ticket::Ticket;
use crate::time::Timestamp;
use crate::types::{Description, Digest, Facts, LinkId};

/// One description and the other that settles it, and what is remembered between two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Exchange {
    pub(super) number: u32,
    pub(super) step: Step,
    /// The message that carried our open offer or last answer.
    pub(super) sent: Option<Ticket>,
    /// What it was, and on which link.
    pub(super) outgoing: Option<(LinkId, Message)>,
    pub(super) offer_sent_at: Option<Timestamp>,
    /// An answer that overtook the completion of our own send.
    pub(super) held_answer: Option<Description>,
    /// The answers that were applied, by their digests and by whose they were.
    pub(super) applied: VecDeque<(Digest, Identity)>,
    /// The answers of remote sessions that were replaced, to tell their late duplicates.
    pub(super) outdated: Vec<Digest>,
    /// Asked for while an exchange was open: any number of requests are one.
    pub(super) wanted: bool,
    pub(super) restart_wanted: Option<Need>,
    /// The open exchange is an ICE restart.
    pub(super) restart: Option<Need>,
    /// It is wanted no more: what is under way of it is taken back where it ends.
    pub(super) abandoned: bool,
    /// A restart's offer did not go out on this link: it waits for the next one.
    pub(super) unsent_on: Option<LinkId>,
    /// The connection that failed to send the description in `LocalSet` or `AnswerSet`: it is sent
    /// again on another connection only.
    pub(super) failed_on: Option<LinkId>,
    /// The restart that is wanted was asked for while another one was open: it has a deadline of
    /// its own.
    pub(super) restart_remembered: bool,
    /// Since when the master could answer; time without a network does not count.
    pub(super) awaited_since: Option<Timestamp>,
    /// Its offer, sent but not set: this stack would drop a pair that may work (contract, N18).
    pub(super) deferred: Option<Description>,
    /// A description could not be taken back: no further exchange is possible.
    pub(super) stuck: bool,
    /// The master's offer that waits for its turn.
    pub(super) held_offer: Option<Description>,
    /// The master's offer that was answered last.
    pub(super) answered: Option<Digest>,
    /// Our first offer gave way to the master's.
    pub(super) gave_way: bool,
    /// Whom we are connected with.
    pub(super) remote: Option<Identity>,
}

/// What an ICE restart is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Need {
    /// The pair in use is lost: not needed any more when it is back.
    Loss,
    /// The application asked for it, or the platform's network changed.
    Asked,
}

/// What tells one remote session from another, and one ICE generation from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) fingerprints: Vec<String>,
    pub(super) ufrag: Option<String>,
    pub(super) pwd: Option<Digest>,
}

impl Identity {
    pub(super) fn of(facts: &Facts) -> Self {
        // RFC 8122, 5: neither the name of the hash nor its digits depend on the case.
        let mut fingerprints: Vec<_> =
            facts.fingerprints.iter().map(|line| line.to_ascii_lowercase()).collect();
        fingerprints.sort();
        Self { fingerprints, ufrag: facts.ice_ufrag.clone(), pwd: facts.ice_pwd }
    }

    /// Another certificate: the master made a new peer connection.
    pub(super) fn is_other_session(&self, other: &Self) -> bool {
        self.fingerprints != other.fingerprints
    }

    pub(super) fn has_credentials_of(&self, other: &Self) -> bool {
        self.ufrag.is_some() && self.ufrag == other.ufrag && self.pwd == other.pwd
    }

    /// Both are known, and they are of different ICE generations.
    pub(super) fn is_other_generation(&self, other: &Self) -> bool {
        self.ufrag.is_some() && other.ufrag.is_some() && !self.has_credentials_of(other)
    }
}

/// How far an exchange is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Nothing is open.
    #[default]
    Stable,
    /// A restart wants TURN credentials that are fresh.
    RefreshingServers,
    CreatingOffer,
    /// The offer waits for the ICE servers, which count from set-local on.
    Created(Description),
    /// With our offer, or before the master's is set.
    SettingServers(Option<Description>),
    SettingLocal(Description),
    /// The offer waits for the link.
    LocalSet(Description),
    Sending,
    AwaitingAnswer,
    /// The offer of a restart is set only now that this answer is here.
    ApplyingLocal(Description),
    SettingRemote,
    RollingBack,
    SettingOffer,
    CreatingAnswer,
    SettingAnswer(Description),
    /// The answer waits for the link.
    AnswerSet(Description),
    SendingAnswer,
    /// The master's new session gets a new peer connection; the old one is being closed.
    Replacing,
}

impl Exchange {
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    pub(super) fn want_restart(&mut self, need: Need) {
        self.restart_remembered |= self.is_restarting();
        self.want_same_restart(need);
    }

    /// The open restart could not be sent, or yielded to the master's offer: it is run again.
    pub(super) fn want_same_restart(&mut self, need: Need) {
        self.restart_wanted = self.restart_wanted.max(Some(need));
    }

    pub(super) fn forget_restart(&mut self) {
        self.restart_wanted = None;
        self.restart = None;
        self.restart_remembered = false;
    }

    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// An ICE restart is open: it was begun and is not settled.
    pub(super) fn is_restarting(&self) -> bool {
        self.restart.is_some() && self.step != Step::Stable
    }

    /// A restart is open, or wanted.
    pub(super) fn has_restart(&self) -> bool {
        self.restart_wanted.is_some() || self.is_restarting()
    }

    /// The open restart is for a loss alone, and its offer can still be kept from the master.
    pub(super) fn is_restart_avoidable(&self) -> bool {
        let unsent = matches!(
            self.step,
            Step::RefreshingServers
                | Step::CreatingOffer
                | Step::Created(_)
                | Step::SettingServers(_)
                | Step::SettingLocal(_)
                | Step::LocalSet(_)
        );
        unsent && self.restart == Some(Need::Loss) && self.restart_wanted != Some(Need::Asked)
    }

    /// An answer brings the ICE credentials of one that was applied before.
    pub(super) fn has_credentials_of(&self, answer: &Identity) -> bool {
        let applied = self.applied.iter().map(|(_, identity)| identity);
        self.remote.iter().chain(applied).any(|known| known.has_credentials_of(answer))
    }

    /// Whether this very answer was applied.
    pub(super) fn has_applied(&self, answer: Digest) -> bool {
        self.applied.iter().any(|(digest, _)| *digest == answer) || self.outdated.contains(&answer)
    }

    pub(super) fn is_deferred(&self) -> bool {
        self.deferred.is_some()
    }

    /// Drops a local offer that is not set, for the master's.
    pub(super) fn drop_unset(&mut self) {
        self.step = Step::Stable;
        self.deferred = None;
        self.give_way();
    }

    /// What our offer was for is asked for again, if it is still needed.
    pub(super) fn give_way(&mut self) {
        if let Some(need) = self.restart.take() {
            self.want_same_restart(need);
        } else if self.applied.is_empty() && self.remote.is_none() {
            self.gave_way = true;
        } else {
            self.wanted = true;
        }
    }
}
