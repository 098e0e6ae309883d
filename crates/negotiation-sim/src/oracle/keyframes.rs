//! Checks that a keyframe is requested at once and at every interval, for as long as one is needed
//! (N27, and the numbers of part 4).

use core::time::Duration;

use negotiation_core::{
    Config, Event, Input, MediaKind, Output, PeerCommand, Phase, Ticket, Timestamp,
};

/// Follows the keyframe requests of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Keyframes {
    interval: Duration,
    operation_timeout: Duration,
    /// A video track was added, and no whole keyframe has arrived yet.
    first: bool,
    received: bool,
    described: bool,
    stalled: bool,
    running: Option<(Ticket, Timestamp)>,
    /// When the next request is due.
    due: Timestamp,
    /// The deadlines of a set-up stand still, so nothing is due.
    offline: bool,
}

impl Keyframes {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            interval: config.settings().keyframe_interval,
            operation_timeout: config.settings().operation_timeout,
            first: false,
            received: false,
            described: false,
            stalled: false,
            running: None,
            due: Timestamp::default(),
            offline: false,
        }
    }

    fn is_needed(&self) -> bool {
        self.first || self.stalled
    }

    pub(super) fn on_input(&mut self, now: Timestamp, input: &Input) {
        if let Input::Completed(completion) = input
            && self.running.is_some_and(|(ticket, _)| ticket == completion.ticket)
        {
            self.running = None;
            // A request that was due while another was in flight was left out.
            self.due = self.due.max(now + self.interval);
        }
    }

    pub(super) fn on_output(&mut self, now: Timestamp, output: &Output) {
        match output {
            Output::Peer(ticket, PeerCommand::RequestKeyframe { .. }) => {
                self.running = Some((*ticket, now + self.operation_timeout));
                self.due = now + self.interval;
            }
            Output::Peer(_, PeerCommand::Create { .. }) => {
                self.received = false;
                self.rest();
            }
            Output::Event(event) => self.on_event(now, event),
            Output::Peer(..) | Output::Signaling(..) => {}
        }
    }

    fn on_event(&mut self, now: Timestamp, event: &Event) {
        let needed = self.is_needed();
        match event {
            // A track before the master's description does not count.
            Event::TrackAdded(MediaKind::Video) if self.described => self.first = !self.received,
            Event::PhaseChanged { to: Phase::Establishing, .. } => self.described = true,
            Event::KeyframeReceived => (self.first, self.received) = (false, true),
            // The session is live without a keyframe: video was not negotiated.
            Event::Live => self.first = false,
            Event::MediaStalled => self.stalled = true,
            Event::MediaResumed => self.stalled = false,
            // The peer connection is closed or replaced.
            Event::PhaseChanged { to: Phase::Closing | Phase::Answering, .. } => self.rest(),
            Event::Offline => self.offline = true,
            Event::Online => (self.offline, self.due) = (false, now + self.interval),
            Event::TrackAdded(_)
            | Event::PhaseChanged { .. }
            | Event::AttemptStarted { .. }
            | Event::AttemptEnded(_)
            | Event::LinkOpened { .. }
            | Event::DeadlineFired(_)
            | Event::MasterSeen
            | Event::MasterGone(_)
            | Event::OfferSent { .. }
            | Event::AnswerReceived { .. }
            | Event::Connected
            | Event::Disconnected
            | Event::Reconnected
            | Event::Recovering(_)
            | Event::Recovered
            | Event::RestartRefused
            | Event::MediaPaused
            | Event::LinkLost(_)
            | Event::LinkReopened
            | Event::LinkNotReopened(_)
            | Event::MasterLearned(_)
            | Event::LinkGivenUp(_)
            | Event::IceServersRefreshed
            | Event::GoAway
            | Event::RenegotiationFailed
            | Event::DeadlineArmed { .. }
            | Event::RetryScheduled { .. }
            | Event::Ignored(_)
            | Event::CloseStepFailed(_)
            | Event::Ended(_) => {}
        }
        if self.is_needed() && !needed && self.running.is_none() {
            self.due = now;
        }
    }

    fn rest(&mut self) {
        (self.first, self.stalled, self.described, self.running) = (false, false, false, None);
    }

    /// Returns a broken rule, after a step.
    pub(super) fn after_step(&mut self, now: Timestamp) -> Option<&'static str> {
        if self.running.is_some_and(|(_, until)| now >= until) {
            self.running = None;
            self.due = self.due.max(now + self.interval);
        }
        let late = self.is_needed() && self.running.is_none() && !self.offline && now >= self.due;
        late.then_some("N27: a keyframe is needed and was not requested in time")
    }
}
