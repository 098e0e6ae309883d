//! A session with a finished answer: connects, sends media, and notices when the viewer is gone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use negotiation_core::{Candidate, Description};
use peer_webrtc::Control;
use peer_webrtc::stack::{Stack, StackEvent, StackEvents};
use rtc::peer_connection::state::RTCPeerConnectionState;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::{Agreed, Common, Post};
use crate::event::{CameraEvent, LeaveReason};
use crate::frame_log::FrameRecord;
use crate::outlet::Outlet;
use crate::playback::Unit;
use crate::roster::SessionNumber;
use crate::sdp;

/// How often the stack's task is woken while connecting: see [`Stack::wake_stack`].
const NUDGE: Duration = Duration::from_millis(10);

/// How often the connection is checked for a close by the viewer once connected.
const LOOK: Duration = Duration::from_millis(100);

/// The state of a session with a finished answer.
pub(super) struct Live<'a> {
    pub(super) common: &'a Common,
    pub(super) client: &'a str,
    pub(super) number: SessionNumber,
    pub(super) mid: Option<String>,
    pub(super) mline_index: u16,
    pub(super) media: &'a Agreed,
    pub(super) ufrag: Option<String>,
    pub(super) stack: &'a Stack,
    pub(super) outlet: Outlet,
    pub(super) outbox: mpsc::Sender<Post>,
    /// The number of frames sent.
    pub(super) frames: &'a mut u64,
}

/// The phase of the connection.
enum Phase {
    /// Connecting; the session is dropped at this time.
    Connecting(Instant),
    Sending(broadcast::Receiver<Unit>),
    /// Out of reach; the viewer counts as vanished at this time.
    Lost(Instant),
}

impl Live<'_> {
    /// Runs until the viewer is gone.
    pub(super) async fn run(
        mut self,
        mut queues: StackEvents,
        candidates: &mut mpsc::Receiver<Candidate>,
        offers: &mut mpsc::Receiver<Description>,
    ) -> LeaveReason {
        let mut phase = Phase::Connecting(Instant::now() + self.common.config.connect_timeout);
        let mut joined = false;
        let mut tick = ticks(NUDGE);
        loop {
            let (deadline, units) = match &mut phase {
                Phase::Connecting(until) | Phase::Lost(until) => (Some(*until), None),
                Phase::Sending(units) => (None, Some(units)),
            };
            let ended = tokio::select! {
                event = queues.events.recv() => match event {
                    Some(StackEvent::Connection(state)) => {
                        let ended = self.on_connection(state, &mut phase, &mut joined);
                        if joined {
                            tick = ticks(LOOK);
                        }
                        ended
                    }
                    Some(event) => self.on_event(event),
                    None => Some(LeaveReason::Failed),
                },
                Some(control) = queues.control.recv() => self.on_control(control),
                // Offers come before the candidates that belong to them.
                Some(offer) = offers.recv() => self.on_offer(&offer).await,
                Some(candidate) = candidates.recv() => self.on_candidate(&candidate).await,
                unit = next(units) => self.on_unit(unit).await,
                _ = tick.tick() => {
                    if let Phase::Connecting(_) = phase {
                        self.stack.wake_stack();
                    }
                    self.stack.is_closed_by_peer().await.then_some(LeaveReason::ClosedByViewer)
                }
                () = passed(deadline) => Some(LeaveReason::Vanished),
            };
            match ended {
                Some(LeaveReason::ClosedByViewer | LeaveReason::Vanished) if !joined => {
                    return LeaveReason::NeverConnected;
                }
                Some(reason) => return reason,
                None => {}
            }
        }
    }

    fn on_connection(
        &mut self,
        state: RTCPeerConnectionState,
        phase: &mut Phase,
        joined: &mut bool,
    ) -> Option<LeaveReason> {
        match state {
            RTCPeerConnectionState::Connected => {
                if !*joined {
                    *joined = true;
                    let (client_id, session) = (self.client.to_owned(), self.number.0);
                    // Sending fails if there is no receiver.
                    let _ =
                        self.common.events.send(CameraEvent::ViewerJoined { client_id, session });
                }
                if !matches!(phase, Phase::Sending(_)) {
                    self.outlet.lost_sync();
                    *phase = Phase::Sending(self.common.encoder.watch());
                }
                None
            }
            RTCPeerConnectionState::Disconnected if matches!(phase, Phase::Sending(_)) => {
                *phase = Phase::Lost(Instant::now() + self.common.config.disconnect_timeout);
                None
            }
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed if *joined => {
                Some(LeaveReason::Vanished)
            }
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                Some(LeaveReason::Failed)
            }
            RTCPeerConnectionState::Unspecified
            | RTCPeerConnectionState::New
            | RTCPeerConnectionState::Connecting
            | RTCPeerConnectionState::Disconnected
            | _ => None,
        }
    }

    fn on_event(&self, event: StackEvent) -> Option<LeaveReason> {
        match event {
            StackEvent::Candidate(text) => {
                let candidate = Candidate {
                    text: text.into(),
                    mid: self.mid.clone(),
                    mline_index: Some(self.mline_index),
                    ufrag: self.ufrag.clone(),
                };
                if self.outbox.try_send(Post::Candidate(candidate)).is_err() {
                    tracing::debug!(client = self.client, "a candidate could not be sent");
                }
            }
            StackEvent::Track(track) => {
                // A viewer may send audio to its camera. It is not used here, but an unread queue
                // would fill. The task ends when the connection is closed.
                tokio::spawn(async move { while track.poll().await.is_some() {} });
            }
            StackEvent::Connection(_)
            | StackEvent::Ice(_)
            | StackEvent::GatheringDone
            | StackEvent::DataChannel(_)
            | StackEvent::IceServersUnresolved(_) => {}
        }
        None
    }

    fn on_control(&self, control: Control) -> Option<LeaveReason> {
        match control {
            Control::KeyframeRequest { .. } => self.common.encoder.request_keyframe(),
            Control::SenderReport { .. } | Control::Bye { .. } => {}
        }
        None
    }

    /// Answers a renegotiation or an ICE restart. An offer that cannot be answered changes
    /// nothing.
    async fn on_offer(&mut self, offer: &Description) -> Option<LeaveReason> {
        match self.stack.answer(offer.sdp.as_str()).await {
            Ok(answer) => {
                let answer = self.media.finish(&answer);
                self.ufrag = sdp::ice_ufrag(&answer).map(str::to_owned);
                if self.outbox.try_send(Post::Answer(answer)).is_err() {
                    tracing::debug!(client = self.client, "an answer could not be sent");
                }
            }
            Err(error) => {
                let problem = sdp::without_secrets(&error);
                tracing::warn!(client = self.client, problem, "a further offer is not answered");
            }
        }
        None
    }

    async fn on_candidate(&self, candidate: &Candidate) -> Option<LeaveReason> {
        if let Err(error) = self.stack.add_candidate(&candidate.text).await {
            let problem = sdp::without_secrets(&error);
            tracing::debug!(client = self.client, problem, "a candidate is not taken");
        }
        None
    }

    async fn on_unit(
        &mut self,
        unit: Result<Unit, broadcast::error::RecvError>,
    ) -> Option<LeaveReason> {
        let unit = match unit {
            Ok(unit) => unit,
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::debug!(client = self.client, lost, "the viewer is behind");
                self.outlet.lost_sync();
                self.common.encoder.request_keyframe();
                return None;
            }
            Err(broadcast::error::RecvError::Closed) => return Some(LeaveReason::Shutdown),
        };
        // Check before each unit, so that nothing counts as sent to a viewer that has closed.
        if self.stack.is_closed_by_peer().await {
            return Some(LeaveReason::ClosedByViewer);
        }
        match self.outlet.send(&unit).await {
            Ok(Some(rtp_ts)) => {
                *self.frames += 1;
                self.common.frames.record(|| self.record(&unit, rtp_ts));
                None
            }
            Ok(None) => None,
            Err(_) => Some(LeaveReason::Failed),
        }
    }

    fn record(&self, unit: &Unit, rtp_ts: u32) -> FrameRecord {
        let t_ms = self.common.began.elapsed().as_millis();
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        FrameRecord {
            client_id: self.client.to_owned(),
            session: self.number.0,
            frame: u64::try_from(unit.index).unwrap_or(u64::MAX),
            keyframe: unit.keyframe,
            t_ms: u64::try_from(t_ms).unwrap_or(u64::MAX),
            unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
            rtp_ts,
        }
    }
}

/// Returns the next unit; waits forever if there is no receiver.
async fn next(
    units: Option<&mut broadcast::Receiver<Unit>>,
) -> Result<Unit, broadcast::error::RecvError> {
    match units {
        Some(units) => units.recv().await,
        None => std::future::pending().await,
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
