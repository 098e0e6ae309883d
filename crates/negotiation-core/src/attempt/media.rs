//! [`Media`]: which media is expected, what of it has come, and whether it has stalled.

use crate::config::Config;
use crate::context::Context;
use crate::error::Ignored;
use crate::output::{Event, PeerCommand};
use crate::purpose::Purpose;
use crate::time::Timer;
use crate::types::{MediaKind, PeerId, SdpSummary};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Media {
    /// The application requested video, and the master will send it.
    pub(crate) video: bool,
    /// The same of audio.
    pub(crate) audio: bool,
    /// A whole keyframe came.
    pub(crate) keyframe: bool,
    pub(crate) audio_flows: bool,
    pub(crate) stalled: Option<Stall>,
}

/// No media arrives on a connection over which media flowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stall {
    /// Nothing arrives.
    Silent,
    /// Sender reports arrive: the camera is paused (contract, N27).
    Paused,
}

/// Whether the application requested to receive something.
pub(crate) fn wants_media(config: &Config) -> bool {
    config.settings().receive_video || config.settings().receive_audio
}

impl Media {
    /// Notes what the master will send of what the application requested: it decides what counts
    /// as live.
    pub(crate) fn expect(&mut self, config: &Config, facts: &SdpSummary) {
        self.video = config.settings().receive_video && facts.sends(MediaKind::Video);
        self.audio = config.settings().receive_audio && facts.sends(MediaKind::Audio);
    }

    /// The master will send nothing that the application requested.
    pub(crate) fn expects_nothing(&self) -> bool {
        !self.video && !self.audio
    }

    /// Connected is not live; with video, the first whole keyframe is (contract, part 1).
    pub(crate) fn is_live(&self, config: &Config) -> bool {
        match (self.video, self.audio) {
            (true, _) => self.keyframe,
            (false, true) => self.audio_flows,
            // Where media was requested, a connection without any is not live.
            (false, false) => !wants_media(config),
        }
    }

    /// Whether nothing is known to keep media from flowing. A paused camera has nothing that could
    /// flow (contract, N27).
    pub(crate) fn may_flow(&self) -> bool {
        self.stalled != Some(Stall::Silent)
    }

    /// A packet came, the first of its kind or after a stall. Returns whether a stall is over.
    pub(crate) fn on_flowing(&mut self, cx: &mut Context, kind: MediaKind) -> bool {
        cx.evidence.video_packets |= kind == MediaKind::Video;
        cx.evidence.audio_packets |= kind == MediaKind::Audio;
        self.audio_flows |= kind == MediaKind::Audio;
        let resumed = self.stalled.take().is_some();
        if resumed {
            cx.disarm(Timer::MediaGiveUp);
            cx.disarm(Timer::KeyframeRequest);
            cx.tell(Event::MediaResumed);
        }
        resumed
    }

    /// Returns whether it is the first.
    pub(crate) fn on_keyframe(&mut self, cx: &mut Context) -> bool {
        if core::mem::replace(&mut self.keyframe, true) {
            return false;
        }
        cx.evidence.media_problem = None;
        cx.evidence.video_packets = true;
        cx.tell(Event::KeyframeReceived);
        true
    }

    /// Nothing arrives for a while: it is reported, a keyframe is requested, and in the end the
    /// attempt is given up.
    pub(crate) fn on_stalled(&mut self, cx: &mut Context, peer: PeerId) {
        if self.stalled.is_some() {
            return cx.ignore(Ignored::OutOfPhase);
        }
        self.stalled = Some(Stall::Silent);
        cx.tell(Event::MediaStalled);
        cx.disarm(Timer::BudgetRefill);
        cx.arm(Timer::MediaGiveUp, cx.config.settings().media_give_up);
        self.request_keyframe(cx, peer);
    }

    /// A camera that still reports is paused, not gone: the session stays live (contract, N27).
    pub(crate) fn on_sender_report(&mut self, cx: &mut Context) {
        let Some(stall) = &mut self.stalled else { return };
        if core::mem::replace(stall, Stall::Paused) == Stall::Silent {
            cx.tell(Event::MediaPaused);
        }
        cx.wake_after(Timer::MediaGiveUp, cx.config.settings().media_give_up);
    }

    /// Requests a keyframe now, and again after the interval for as long as one is needed.
    pub(crate) fn request_keyframe(&self, cx: &mut Context, peer: PeerId) {
        if self.keyframe && self.stalled.is_none() {
            return;
        }
        // One at a time: tracks and stalls that come in a burst add no request.
        if !cx.is_in_flight(Purpose::RequestKeyframe) {
            cx.ask_peer(Purpose::RequestKeyframe, PeerCommand::RequestKeyframe { peer });
        }
        cx.wake_after(Timer::KeyframeRequest, cx.config.settings().keyframe_interval);
    }

    /// The session is not live any more: a remote session has to be set up again.
    pub(crate) fn stop_waiting(&mut self, cx: &mut Context) {
        self.stalled = None;
        for timer in [Timer::FirstMedia, Timer::KeyframeRequest, Timer::MediaGiveUp] {
            cx.disarm(timer);
        }
    }

    /// Another peer connection begins: nothing has come on it.
    pub(crate) fn begin_connection(&mut self) {
        (self.keyframe, self.audio_flows, self.stalled) = (false, false, None);
    }
}

#[cfg(test)]
mod tests;
