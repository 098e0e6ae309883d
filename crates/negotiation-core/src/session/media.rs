//! What the peer connection notices: candidates, connectivity, media. Live is decided here.

use super::{Purpose, Session};
use crate::error::Ignored;
use crate::evidence::AttemptEnd;
use crate::input::{Connectivity, PeerEvent};
use crate::output::{Event, PeerCommand};
use crate::phase::Phase;
use crate::recovery::RecoveryCause;
use crate::time::Timer;
use crate::types::{Facts, MediaKind, PeerId};

impl Session {
    pub(super) fn on_peer(&mut self, peer: PeerId, event: PeerEvent) {
        if self.closing.is_some() || self.attempt.as_ref().is_none_or(|a| a.peer != peer) {
            return self.ignore(Ignored::Stale);
        }
        if self.is_replacing() {
            return self.ignore(Ignored::Stale);
        }
        match event {
            PeerEvent::CandidateGathered(candidate) => {
                let waiting_max = self.config.candidates_max;
                let Some(attempt) = &mut self.attempt else { return };
                // End-of-candidates is not sent: some masters stumble over it
                // (docs/kvs-protocol.md 3.4).
                if candidate.is_end() {
                    return;
                }
                if let Err(reason) = attempt.local.take(candidate, waiting_max) {
                    self.ignore(reason);
                }
            }
            PeerEvent::GatheringDone => {}
            PeerEvent::ConnectivityChanged(connectivity) => self.on_connectivity(connectivity),
            PeerEvent::TrackAdded(kind) => {
                self.tell(Event::TrackAdded(kind));
                if kind == MediaKind::Video {
                    self.request_keyframe();
                }
            }
            PeerEvent::MediaFlowing(kind) => self.on_media_flowing(kind),
            PeerEvent::KeyframeReceived => self.on_keyframe(),
            PeerEvent::MediaStalled => self.on_media_stalled(),
            PeerEvent::SenderReport => self.on_sender_report(),
            PeerEvent::MediaProblem(problem) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.evidence.media_problem = Some(problem);
                }
            }
            PeerEvent::IceServersUnresolved(count) => {
                if let Some(attempt) = &mut self.attempt {
                    let known = attempt.evidence.unresolved_servers;
                    attempt.evidence.unresolved_servers = known.saturating_add(count);
                }
            }
        }
    }

    fn on_connectivity(&mut self, connectivity: Connectivity) {
        let Some(attempt) = &mut self.attempt else { return };
        let before = core::mem::replace(&mut attempt.connectivity, connectivity);
        match connectivity {
            // It looks for a pair again by itself: a loss like any other.
            Connectivity::Checking => {
                let guarded = self.timers.at(Timer::Restart).or(self.timers.at(Timer::Grace));
                let up = matches!(self.phase, Phase::AwaitingMedia | Phase::Live);
                if up && before != Connectivity::Checking && guarded.is_none() {
                    self.tell(Event::Disconnected);
                    let at = self.now + self.config.disconnect_grace;
                    self.arm(Timer::Grace, at);
                }
            }
            Connectivity::IceConnected => {
                attempt.evidence.ice_connected = true;
                self.on_back();
            }
            Connectivity::Connected => {
                attempt.evidence.ice_connected = true;
                attempt.evidence.connected = true;
                attempt.address_gone = false;
                self.see_master();
                self.on_back();
                if self.phase == Phase::Establishing {
                    self.on_connected_peer();
                }
                self.on_recovered();
                self.settle_restart();
            }
            Connectivity::Disconnected => {
                let up = matches!(self.phase, Phase::AwaitingMedia | Phase::Live);
                let guarded = self.timers.at(Timer::Grace).is_some();
                if up && before != Connectivity::Disconnected && !guarded {
                    self.tell(Event::Disconnected);
                    let at = self.now + self.config.disconnect_grace;
                    self.arm(Timer::Grace, at);
                }
            }
            Connectivity::IceFailed if self.phase == Phase::Live => {
                self.recover(RecoveryCause::IceFailed);
            }
            // A restart that is under way has its own deadline, unless it was fruitless.
            Connectivity::IceFailed if self.phase == Phase::Recovering => {
                if !self.attempt.as_ref().is_some_and(|a| a.exchange.has_restart()) {
                    self.lose_master(RecoveryCause::IceFailed);
                    self.end_attempt(AttemptEnd::IceFailed);
                }
            }
            Connectivity::IceFailed if self.has_remote() => self.end_attempt(AttemptEnd::IceFailed),
            Connectivity::DtlsFailed if self.has_remote() => {
                self.end_attempt(AttemptEnd::DtlsFailed);
            }
            Connectivity::ClosedByPeer if self.has_remote() => {
                self.lose_master(RecoveryCause::ClosedByPeer);
                self.end_attempt(AttemptEnd::MasterGone);
            }
            Connectivity::IceFailed | Connectivity::DtlsFailed | Connectivity::ClosedByPeer => {
                self.ignore(Ignored::OutOfPhase);
            }
        }
    }

    fn on_back(&mut self) {
        if self.timers.at(Timer::Grace).is_some() {
            self.timers.disarm(Timer::Grace);
            self.tell(Event::Reconnected);
        }
    }

    fn has_remote(&self) -> bool {
        matches!(
            self.phase,
            Phase::Establishing | Phase::AwaitingMedia | Phase::Live | Phase::Recovering
        )
    }

    /// ICE and DTLS are up.
    pub(super) fn on_connected_peer(&mut self) {
        self.timers.disarm(Timer::Establish);
        self.tell(Event::Connected);
        if self.live_if_media_flows() {
            return;
        }
        self.set_phase(Phase::AwaitingMedia);
        let at = self.now + self.config.first_media_timeout;
        self.arm(Timer::FirstMedia, at);
        if self.attempt.as_ref().is_some_and(|attempt| attempt.video) {
            self.request_keyframe();
        }
    }

    fn on_media_flowing(&mut self, kind: MediaKind) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.evidence.video_packets |= kind == MediaKind::Video;
        attempt.evidence.audio_packets |= kind == MediaKind::Audio;
        attempt.audio_flows |= kind == MediaKind::Audio;
        if self.timers.at(Timer::MediaGiveUp).is_some() {
            self.timers.disarm(Timer::MediaGiveUp);
            self.timers.disarm(Timer::KeyframeRequest);
            attempt.paused = false;
            self.tell(Event::MediaResumed);
            self.refill_later();
        }
        if self.phase == Phase::AwaitingMedia {
            self.live_if_media_flows();
        }
    }

    fn on_keyframe(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.keyframe {
            return;
        }
        attempt.keyframe = true;
        attempt.evidence.media_problem = None;
        attempt.evidence.video_packets = true;
        self.tell(Event::KeyframeReceived);
        if self.phase == Phase::AwaitingMedia {
            self.live_if_media_flows();
        }
    }

    /// What the other side will send decides what counts as live.
    pub(super) fn take_media_of(&mut self, facts: &Facts) {
        if let Some(attempt) = &mut self.attempt {
            attempt.video = self.config.receive_video && facts.sends(MediaKind::Video);
            attempt.audio = self.config.receive_audio && facts.sends(MediaKind::Audio);
        }
    }

    /// The application asked to receive something.
    pub(super) fn wants_media(&self) -> bool {
        self.config.receive_video || self.config.receive_audio
    }

    /// The application asked to receive something, and nothing of it will come.
    pub(super) fn sends_nothing_wanted(&self) -> bool {
        self.wants_media() && self.attempt.as_ref().is_some_and(|a| !a.video && !a.audio)
    }

    /// Connected is not live; with video, the first whole keyframe is (contract, part 1).
    pub(super) fn live_if_media_flows(&mut self) -> bool {
        let wants_media = self.wants_media();
        let Some(attempt) = &mut self.attempt else { return false };
        let flows = match (attempt.video, attempt.audio) {
            (true, _) => attempt.keyframe,
            (false, true) => attempt.audio_flows,
            // Where media was asked for, a connection without any is not live.
            (false, false) => !wants_media,
        };
        if !flows {
            return false;
        }
        attempt.evidence.was_live = true;
        attempt.replacements = 0;
        self.was_live = true;
        self.answers_refused = 0;
        self.timers.disarm(Timer::FirstMedia);
        self.timers.disarm(Timer::KeyframeRequest);
        self.timers.disarm(Timer::SetUp);
        self.set_phase(Phase::Live);
        self.tell(Event::Live);
        self.refill_later();
        true
    }

    /// The budget is full again after a time that is live, and without a stall (contract, N14).
    pub(super) fn refill_later(&mut self) {
        if self.phase == Phase::Live && self.timers.at(Timer::MediaGiveUp).is_none() {
            let at = self.now + self.config.refill_after;
            self.timers.arm(Timer::BudgetRefill, at);
        }
    }

    /// An encoder that stalls: it is reported, a keyframe is requested, and in the end it is given up.
    fn on_media_stalled(&mut self) {
        let live = matches!(self.phase, Phase::Live | Phase::Recovering);
        if !live || self.timers.at(Timer::MediaGiveUp).is_some() {
            return self.ignore(Ignored::OutOfPhase);
        }
        self.tell(Event::MediaStalled);
        self.timers.disarm(Timer::BudgetRefill);
        let at = self.now + self.config.media_give_up;
        self.arm(Timer::MediaGiveUp, at);
        self.request_keyframe();
    }

    /// A camera that still reports is paused, not gone: the session stays live (contract, N27).
    fn on_sender_report(&mut self) {
        if self.timers.at(Timer::MediaGiveUp).is_none() {
            return;
        }
        if let Some(attempt) = &mut self.attempt
            && !core::mem::replace(&mut attempt.paused, true)
        {
            self.tell(Event::MediaPaused);
        }
        let at = self.now + self.config.media_give_up;
        self.timers.arm(Timer::MediaGiveUp, at);
    }

    /// Asks now, and again after the interval for as long as one is needed.
    pub(super) fn request_keyframe(&mut self) {
        let stalled = self.timers.at(Timer::MediaGiveUp).is_some();
        let Some(attempt) = &self.attempt else { return };
        if attempt.keyframe && !stalled {
            return;
        }
        let peer = attempt.peer;
        // One at a time: tracks and stalls that come in a burst add no request.
        if !self.in_flight.purposes().any(|purpose| *purpose == Purpose::RequestKeyframe) {
            self.ask_peer(Purpose::RequestKeyframe, PeerCommand::RequestKeyframe { peer });
        }
        let again = self.now + self.config.keyframe_interval;
        self.timers.arm(Timer::KeyframeRequest, again);
    }

    /// Something of the master's came for the first time in this attempt (contract, N28).
    pub(super) fn see_master(&mut self) {
        if let Some(attempt) = &mut self.attempt
            && !core::mem::replace(&mut attempt.master_here, true)
        {
            attempt.evidence.master_seen = true;
            self.tell(Event::MasterSeen);
        }
    }
}

#[cfg(test)]
mod tests;
