//! The results of commands, when the surroundings carry them out and when they fail.

use negotiation_core::{
    Completion, Done, Failure, FailureCode, IceServer, Input, PeerEvent, PeerId, PeerTraits,
};

use super::moves::{candidate, client_id, description};
use super::state::{Jsep, Operation, Owner, Port, State};

impl State {
    pub(super) fn complete(&mut self, port: Port) -> Result<(), String> {
        let Some(command) = self.world.port(port).pop_front() else { return Ok(()) };
        let outcome = if command.cancelled {
            Err(Failure::cancelled())
        } else if command.executed {
            Ok(Done::Ok)
        } else {
            self.execute(command.what)?
        };
        match command.ticket {
            Some(ticket) => {
                self.feed(self.now, Input::Completed(Completion { ticket, outcome }))?;
            }
            None => return Ok(()),
        }
        // Gathering begins with the first local description and is soon over.
        let first = matches!(command.what, Operation::SetLocalOffer(_, offer) if offer.number == 1);
        match command.what.owner() {
            Owner::Peer(peer) if first || matches!(command.what, Operation::SetLocalAnswer(_)) => {
                self.gather(peer)
            }
            Owner::Peer(_) | Owner::Link(_) => Ok(()),
        }
    }

    pub(super) fn gather(&mut self, peer: PeerId) -> Result<(), String> {
        let event = PeerEvent::CandidateGathered(candidate("own", None));
        self.feed(self.now, Input::Peer(peer, event))
    }

    pub(super) fn fail(&mut self, port: Port, code: FailureCode) -> Result<(), String> {
        let Some(command) = self.world.port(port).pop_front() else { return Ok(()) };
        if let Operation::Connect(link) = command.what {
            self.world.links.retain(|known| known.id != link);
        }
        let refused =
            matches!(command.what, Operation::SetRemoteAnswer(..) | Operation::SetRemoteOffer(..));
        let code = if refused { FailureCode::BadDescription } else { code };
        let Some(ticket) = command.ticket else { return Ok(()) };
        let outcome = Err(Failure::new(code, "refused"));
        self.feed(self.now, Input::Completed(Completion { ticket, outcome }))?;
        // An answer that has arrived already proves that the offer was sent.
        if matches!(command.what, Operation::SendOffer(..)) {
            self.world.count_unsent();
        }
        Ok(())
    }

    /// Applies the effect of a command.
    pub(super) fn execute(&mut self, what: Operation) -> Result<Result<Done, Failure>, String> {
        let world = &mut self.world;
        let variant = world.variant;
        let master = world.master;
        let done = match what {
            Operation::Connect(id) => {
                world.links.iter_mut().filter(|link| link.id == id).for_each(|link| link.up = true);
                Done::Connected(client_id()?)
            }
            Operation::Fetch(_) => Done::IceServers(vec![IceServer {
                uris: vec!["turn:relay".into()],
                username: None,
                password: None,
            }]),
            Operation::Join(_) => {
                world.master_offers();
                Done::Ok
            }
            Operation::SendOffer(_, offer) => {
                world.master_receives_offer(offer, false);
                Done::Ok
            }
            Operation::SendAnswer(_) => {
                world.master_receives_answer();
                Done::Ok
            }
            Operation::Create(_) => Done::Created(PeerTraits {
                candidates: variant.release,
                restart_keeps_pair: variant.keeps_pair,
            }),
            Operation::CreateOffer(_, restart) => {
                world.offers = world.offers.saturating_add(1);
                let again = if restart { " restart" } else { "" };
                let text = format!("offer {}{again}", world.offers);
                Done::Description(description(&text, 0, world.offers))
            }
            Operation::CreateAnswer(_) => Done::Description(description("own answer", 0, 0)),
            Operation::SetLocalOffer(_, offer) => {
                return self.jsep(what, |peer| {
                    if peer.jsep != Jsep::Stable {
                        return false;
                    }
                    peer.jsep = Jsep::HaveLocalOffer;
                    peer.reconnects |= offer.restart && !variant.keeps_pair;
                    true
                });
            }
            Operation::SetLocalAnswer(_) => {
                return self.jsep(what, |peer| {
                    let legal = peer.jsep == Jsep::HaveRemoteOffer;
                    peer.jsep = Jsep::Stable;
                    legal
                });
            }
            Operation::SetRemoteAnswer(_, answer) => {
                return self.jsep(what, |peer| {
                    let legal = peer.jsep == Jsep::HaveLocalOffer;
                    peer.jsep = Jsep::Stable;
                    peer.has_remote = true;
                    let right = answer.session == master.session && answer.session > 0;
                    peer.agreed_session = right.then_some(answer.session);
                    peer.broken = false;
                    legal
                });
            }
            Operation::SetRemoteOffer(_, session) => {
                return self.jsep(what, |peer| {
                    let legal = peer.jsep == Jsep::Stable;
                    peer.jsep = Jsep::HaveRemoteOffer;
                    peer.has_remote = true;
                    peer.remote_offerer = session;
                    legal
                });
            }
            Operation::Rollback(_) => {
                return self.jsep(what, |peer| {
                    peer.jsep = Jsep::Stable;
                    true
                });
            }
            Operation::Disconnect(_)
            | Operation::SendCandidate(_)
            | Operation::SetIceServers(_)
            | Operation::AddCandidate(_)
            | Operation::RequestKeyframe(_)
            | Operation::StopTransceivers(_)
            | Operation::RemoveTracks(_)
            | Operation::Close(_) => Done::Ok,
        };
        Ok(Ok(done))
    }

    /// Applies a description operation. An illegal one breaks a rule, unless an operation before it
    /// hung.
    pub(super) fn jsep(
        &mut self,
        what: Operation,
        operation: impl FnOnce(&mut super::state::Peer) -> bool,
    ) -> Result<Result<Done, Failure>, String> {
        let Owner::Peer(id) = what.owner() else { return Ok(Ok(Done::Ok)) };
        let Some(peer) = self.world.peer.as_mut().filter(|peer| peer.id == id) else {
            return Ok(Ok(Done::Ok));
        };
        let before = *peer;
        if operation(peer) {
            return Ok(Ok(Done::Ok));
        }
        *peer = before;
        if peer.state_unknown {
            return Ok(Err(Failure::new(FailureCode::BadDescription, "in this state")));
        }
        Err(format!("N2: {what:?} in {:?}", peer.jsep))
    }
}
