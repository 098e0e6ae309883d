//! A master with behaviour that the test camera lacks: it sends offers, and its media changes
//! during a session.
#![expect(clippy::wildcard_enum_match_arm, reason = "what it does not look at is let go")]

use std::sync::Arc;
use std::time::Duration;

use kvs_camera::FrameRecord;
use negotiation_core::Candidate;
use peer_webrtc::stack::{RTCPeerConnectionState, Stack, StackConfig, StackEvent, StackEvents};
use peer_webrtc::{Authorities, Codec, Control, IcePolicy, Mdns};
use recording::{ClipSample, Packetizer, PacketizerConfig, VideoCodec};
use signaling_aws::{MasterConnection, MasterEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::source::Stream;

/// The reaction to the first offer that the master receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// The master answers.
    Answers,
    /// The master sends its own offer and ignores the viewer's.
    Insists,
    /// The master sends its own offer, and rolls it back for the viewer's.
    GivesWay,
    /// The master sends its own offer and fails on the viewer's: it closes its peer connection, and
    /// processes no more messages of that viewer. It answers the next viewer.
    Breaks,
}

/// The pictures that the master sends, repeated without end.
pub(crate) struct Reel {
    pub(crate) samples: Vec<ClipSample>,
    /// The numbers of the pictures that are not sent.
    pub(crate) lost: Vec<usize>,
    pub(crate) first_sequence_number: u16,
    pub(crate) first_timestamp: u32,
    /// The number of the picture from which on another source sends, if there is one.
    pub(crate) other_source_from: Option<usize>,
}

/// The time between pictures; the clip has 15 pictures per second.
const PERIOD: Duration = Duration::from_micros(66_667);
/// The number of RTP clock ticks in a millisecond.
const TICKS: u32 = 90;
/// The first timestamp of the other source.
const OTHER_TIMESTAMP: u32 = 123_456_789;

/// A running master. Dropping it stops it.
pub(crate) struct Master {
    task: JoinHandle<()>,
}

impl Drop for Master {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Master {
    /// Starts a master on an open signaling connection.
    pub(crate) fn start(
        link: MasterConnection,
        manners: Manners,
        reel: Reel,
        records: mpsc::Sender<FrameRecord>,
    ) -> Self {
        Self { task: tokio::spawn(run(link, manners, reel, records)) }
    }

    /// Stops the master, and waits until it has stopped.
    pub(crate) async fn gone(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// A peer connection of the master.
struct Line {
    stack: Arc<Stack>,
    queues: StackEvents,
    video: Stream,
    early: Vec<Candidate>,
    settled: bool,
    connected: bool,
}

/// The stack must be closed even when its task is aborted.
impl Drop for Line {
    fn drop(&mut self) {
        let stack = Arc::clone(&self.stack);
        tokio::spawn(async move {
            // A failed close does not matter here.
            let _ = stack.close().await;
        });
    }
}

impl Line {
    async fn new() -> Self {
        let config = StackConfig {
            codecs: vec![Codec::H264, Codec::Opus],
            bind: vec!["127.0.0.1:0".to_owned()],
            policy: IcePolicy::All,
            mdns: Mdns::Ignore,
            authorities: Authorities::system(),
            detour: None,
            media_queue: 0,
            rtx: false,
        };
        let (stack, queues) = Stack::build(&config).await.expect("builds");
        let video = Stream::attach(&stack).await;
        let stack = Arc::new(stack);
        Self { stack, queues, video, early: Vec::new(), settled: false, connected: false }
    }

    async fn offer(&self) -> String {
        let offer = self.stack.connection().create_offer(None).await.expect("offers");
        let text = Stream::described(&offer.sdp);
        self.stack.set_local(offer).await.expect("sets it");
        text
    }

    async fn settle(&mut self) {
        self.settled = true;
        for candidate in std::mem::take(&mut self.early) {
            let _ = self.stack.add_candidate(&candidate.text).await;
        }
    }
}

async fn run(
    mut link: MasterConnection,
    manners: Manners,
    reel: Reel,
    records: mpsc::Sender<FrameRecord>,
) {
    let sender = link.sender();
    let mut line: Option<Line> = None;
    let mut viewer = String::new();
    let mut broken: Option<String> = None;
    let mut beat = interval(PERIOD);
    // A picture that is late on a busy machine keeps the time at which it was due, as a camera's
    // does.
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut player = Player::new(reel);
    loop {
        tokio::select! {
            event = link.recv() => match event {
                MasterEvent::Offer { from, .. } | MasterEvent::Answer { from, .. }
                    if broken.as_ref() == Some(&from) => {}
                MasterEvent::Offer { from, body: Ok(offer) } => {
                    viewer = from;
                    let mut current = match line.take() {
                        Some(line) => line,
                        None => {
                            let first = Line::new().await;
                            if manners != Manners::Answers && broken.is_none() {
                                let ours = first.offer().await;
                                sender.send_offer(&viewer, &ours).await.expect("sends");
                            }
                            match manners {
                                Manners::Insists => {
                                    line = Some(first);
                                    continue;
                                }
                                Manners::Breaks if broken.is_none() => {
                                    broken = Some(viewer.clone());
                                    continue;
                                }
                                Manners::Answers | Manners::Breaks => first,
                                // This stack cannot roll back a local offer, so the master uses
                                // another peer connection.
                                Manners::GivesWay => Line::new().await,
                            }
                        }
                    };
                    let answer = current.stack.answer(offer.sdp.as_str()).await.expect("answers");
                    let answer = Stream::described(&answer);
                    sender.send_answer(&viewer, &answer).await.expect("sends");
                    current.settle().await;
                    line = Some(current);
                }
                MasterEvent::Answer { body: Ok(answer), .. } => {
                    let line = line.as_mut().expect("it offered");
                    line.stack.apply_answer(answer.sdp.as_str()).await.expect("applies");
                    line.settle().await;
                }
                MasterEvent::Candidate { body: Ok(candidate), .. } => match &mut line {
                    Some(line) if line.settled => {
                        let _ = line.stack.add_candidate(&candidate.text).await;
                    }
                    Some(line) => line.early.push(candidate),
                    None => {}
                },
                MasterEvent::Disconnected(_) => return,
                _ => {}
            },
            event = next_event(&mut line) => match event {
                StackEvent::Candidate(text) => {
                    let candidate = Candidate {
                        text: text.into(),
                        mid: Some("0".to_owned()),
                        mline_index: Some(0),
                        ufrag: None,
                    };
                    let _ = sender.send_candidate(&viewer, &candidate).await;
                }
                StackEvent::Connection(RTCPeerConnectionState::Connected) => {
                    if let Some(line) = &mut line {
                        line.connected = true;
                    }
                }
                _ => {}
            },
            due = beat.tick() => {
                if let Some(line) = line.as_mut().filter(|line| line.connected) {
                    while let Ok(control) = line.queues.control.try_recv() {
                        // A request for another source has no effect.
                        if matches!(control, Control::KeyframeRequest { ssrc, .. } if ssrc == line.video.ssrc) {
                            player.seek_keyframe();
                        }
                    }
                    if let Some(record) = player.play(&mut line.video, &viewer, due).await {
                        let _ = records.send(record).await;
                    }
                }
            }
        }
    }
}

async fn next_event(line: &mut Option<Line>) -> StackEvent {
    match line {
        Some(line) => match line.queues.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

struct Player {
    reel: Reel,
    packetizer: Option<Packetizer>,
    next: usize,
    begun: Instant,
    /// The RTP timestamp of the present source at the time `begun`.
    clock: u32,
}

impl Player {
    fn new(reel: Reel) -> Self {
        let clock = reel.first_timestamp;
        Self { reel, packetizer: None, next: 0, begun: Instant::now(), clock }
    }

    fn seek_keyframe(&mut self) {
        while !self.sample().keyframe {
            self.next += 1;
        }
    }

    fn sample(&self) -> &ClipSample {
        &self.reel.samples[self.next % self.reel.samples.len()]
    }

    /// Sends the next picture, which was due at this time. Returns its record, unless it was lost.
    async fn play(
        &mut self,
        track: &mut Stream,
        viewer: &str,
        due: Instant,
    ) -> Option<FrameRecord> {
        let payload_type = track.payload_type().await?;
        let t_ms = u64::try_from(due.saturating_duration_since(self.begun).as_millis()).ok()?;
        let ticks = u32::try_from(t_ms).ok()?.wrapping_mul(TICKS);
        if self.reel.other_source_from.take_if(|from| *from <= self.next).is_some() {
            // The other source has its own sequence numbers and clock.
            track.changes();
            self.packetizer = None;
            self.clock = OTHER_TIMESTAMP.wrapping_sub(ticks);
        }
        let timestamp = self.clock.wrapping_add(ticks);
        let config =
            PacketizerConfig::new(track.ssrc, payload_type, self.reel.first_sequence_number);
        let codec = recording::Codec::Video(VideoCodec::H264);
        let mut packetizer =
            self.packetizer.take().unwrap_or_else(|| Packetizer::new(codec, config));
        let (data, keyframe) = (self.sample().data.clone(), self.sample().keyframe);
        let packets = packetizer.packetize(&data, timestamp).expect("it can be cut");
        self.packetizer = Some(packetizer);
        let lost = self.reel.lost.contains(&self.next);
        let frame = u64::try_from(self.next).ok()?;
        self.next += 1;
        for packet in packets.into_iter().filter(|_| !lost) {
            track.send(packet).await?;
        }
        (!lost).then(|| FrameRecord {
            client_id: viewer.to_owned(),
            session: 1,
            frame,
            keyframe,
            t_ms,
            unix_ms: 0,
            rtp_ts: timestamp,
        })
    }
}
