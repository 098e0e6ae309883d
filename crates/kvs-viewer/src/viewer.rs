//! A session as an application sees it: one stream of events and frames, and one end.

use std::fmt;
use std::future::poll_fn;
#[cfg(feature = "recording")]
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use negotiation_core::{Event, MediaKind, Outcome};
use peer_webrtc::{MediaEvent, MediaReceiver, PeerMonitor, rtp};
use tokio::task::JoinHandle;
use viewer_session::{Control, Handle, SessionUpdate};

use crate::error::InvalidOption;
use crate::frame::{EncodedFrame, FrameOptions, Timeline};
use crate::queue::{self, Item, Receiver, Sender};
#[cfg(feature = "recording")]
use crate::record::Container;
use crate::session::{self, Session, SessionConfig};

/// An update from a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Update {
    /// An event of the session; the last one is [`Event::Ended`].
    Event(Event),
    /// A frame of video or a packet of audio, in decoding order.
    Frame(EncodedFrame),
    /// An RTP packet as it arrived, if [`crate::ViewerBuilder::rtp_packets`] requests them.
    Packet {
        /// Whether it carries video or audio.
        kind: MediaKind,
        /// The packet; its header identifies the stream.
        packet: rtp::Packet,
    },
    /// The number of events that were lost because the application did not read them in time.
    EventsLost(u64),
    /// The number of frames and packets that were lost because the application did not read them in
    /// time. Video resumes at a keyframe.
    FramesLost(u64),
    /// An update of the recording.
    #[cfg(feature = "recording")]
    Recording(RecordingUpdate),
    /// What became of the live output ([`crate::ViewerBuilder::write_live`]).
    #[cfg(feature = "recording")]
    Live(RecordingUpdate),
}

/// What becomes known of a recording or of a live output.
#[cfg(feature = "recording")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecordingUpdate {
    /// Media arrived that the file cannot hold; the recording continues without it.
    NotRecorded {
        /// Whether it is video or audio.
        kind: MediaKind,
        /// Why the file cannot hold it.
        why: crate::record::RecordError,
    },
    /// The recording cannot continue; the file is playable up to this point.
    Failed(crate::record::RecordError),
    /// The file is complete.
    Finished(Box<crate::record::Summary>),
}

/// Formats the update as one line, a sentence except for frames and packets.
impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => write!(f, "{event}"),
            Self::Frame(frame) => write!(f, "{frame}"),
            Self::Packet { kind, packet } => write!(
                f,
                "{kind} packet {}, {} bytes",
                packet.header.sequence_number,
                packet.payload.len()
            ),
            Self::EventsLost(1) => f.write_str("The application was too slow for one event."),
            Self::EventsLost(count) => {
                write!(f, "The application was too slow for {count} events.")
            }
            Self::FramesLost(1) => f.write_str("The application was too slow for one frame."),
            Self::FramesLost(count) => {
                write!(f, "The application was too slow for {count} frames.")
            }
            #[cfg(feature = "recording")]
            Self::Recording(update) => update.describe("recording", f),
            #[cfg(feature = "recording")]
            Self::Live(update) => update.describe("live output", f),
        }
    }
}

#[cfg(feature = "recording")]
impl RecordingUpdate {
    /// Writes one sentence about `file`.
    fn describe(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRecorded { kind, why } => {
                write!(f, "The camera's {kind} is not in the {file}: {why}.")
            }
            Self::Failed(why) => {
                write!(f, "The {file} failed: {why}. What was written until then plays.")
            }
            Self::Finished(summary) => write!(
                f,
                "The {file} is complete: {:.1} s, {} video frames, {} audio packets.",
                summary.duration.as_secs_f64(),
                summary.video_frames,
                summary.audio_packets
            ),
        }
    }
}

/// Formats the update as one sentence.
#[cfg(feature = "recording")]
impl fmt::Display for RecordingUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe("recording", f)
    }
}

/// A running session with a camera.
///
/// Dropping it closes the session; [`Viewer::closed`] waits for the end.
pub struct Viewer {
    control: Control,
    monitor: PeerMonitor,
    events: Events,
    frames: Frames,
    driver: Driver,
}

impl Viewer {
    pub(crate) fn open(
        config: SessionConfig,
        frames: FrameOptions,
        #[cfg(feature = "recording")] files: Files,
    ) -> Result<Self, InvalidOption> {
        let (sender, receiver) = queue::queue(frames.queue_bytes);
        let timeline = Timeline::new(frames.h264_format);
        #[cfg(feature = "recording")]
        let (recording, news) = recording::start(files, &config.peer)?;
        let (session, media) = Session::start(config)?;
        let Session { handle, monitor, driver, .. } = session;
        let pump = Pump {
            media,
            monitor: monitor.clone(),
            sender,
            timeline,
            #[cfg(feature = "recording")]
            recording,
        };
        let pump = tokio::spawn(pump.run());
        let control = handle.control();
        Ok(Self {
            control,
            monitor,
            events: Events {
                handle,
                #[cfg(feature = "recording")]
                news,
            },
            frames: Frames { receiver },
            driver: Driver { driver, pump },
        })
    }

    /// Returns the handle for commands from any task: close, restart, network changes.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Returns the statistics of the running peer connection, which also requests keyframes.
    pub fn monitor(&self) -> &PeerMonitor {
        &self.monitor
    }

    /// Closes the session; [`Viewer::closed`] waits for the end.
    pub fn close(&self) {
        self.control.close();
    }

    /// Returns the next update; `None` after the end. Cancel-safe.
    ///
    /// Events come before waiting frames, so that an application that is slow with frames receives
    /// the session's events in time.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|cx| self.poll_update(cx)).await
    }

    /// Returns the next frame of video or packet of audio and discards other updates. `None` after
    /// the end. Cancel-safe.
    pub async fn next_frame(&mut self) -> Option<EncodedFrame> {
        loop {
            if let Update::Frame(frame) = self.next().await? {
                return Some(frame);
            }
        }
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        let events = self.events.poll(cx);
        if let Poll::Ready(Some(update)) = events {
            return Poll::Ready(Some(update));
        }
        let frames = self.frames.poll(cx);
        // The stream ends once both sources have ended; a pending source wakes the task.
        if frames.is_ready() && (events.is_ready() || !matches!(frames, Poll::Ready(None))) {
            return frames;
        }
        Poll::Pending
    }

    /// Events, frames and requests apart, for tasks of their own. The session closes when the
    /// events are dropped.
    pub fn split(self) -> (Control, Events, Frames) {
        (self.control, self.events, self.frames)
    }

    /// Waits until the session has ended and everything it opened is closed, including a recording.
    /// The session ends by itself, or [`Control::close`] closes it; frames that arrive meanwhile
    /// are dropped.
    pub async fn closed(self) -> Outcome {
        let Self { events, mut frames, driver, .. } = self;
        frames.receiver.abandon();
        let outcome = driver.ended().await;
        drop(events);
        outcome
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").finish_non_exhaustive()
    }
}

impl Stream for Viewer {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.get_mut().poll_update(cx)
    }
}

/// The tasks of a session.
#[derive(Debug)]
struct Driver {
    driver: JoinHandle<Outcome>,
    pump: JoinHandle<()>,
}

impl Driver {
    async fn ended(self) -> Outcome {
        let outcome = session::joined(self.driver).await;
        session::joined(self.pump).await;
        outcome
    }
}

/// The events of a session. Dropping them closes the session.
#[derive(Debug)]
pub struct Events {
    handle: Handle,
    #[cfg(feature = "recording")]
    news: tokio::sync::mpsc::UnboundedReceiver<Update>,
}

impl Events {
    /// Returns the next event or recording update; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        let event = self.handle.poll_event(cx).map(|reported| {
            reported.map(|reported| match reported {
                SessionUpdate::Event { event, .. } => Update::Event(event),
                SessionUpdate::Lagged(count) => Update::EventsLost(count),
            })
        });
        // A recording is finished after the end of the session.
        #[cfg(feature = "recording")]
        if !matches!(event, Poll::Ready(Some(_))) {
            return match self.news.poll_recv(cx) {
                Poll::Ready(Some(news)) => Poll::Ready(Some(news)),
                Poll::Ready(None) => event,
                Poll::Pending => Poll::Pending,
            };
        }
        event
    }
}

impl Stream for Events {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.get_mut().poll(cx)
    }
}

/// The frames of a session, in decoding order.
#[derive(Debug)]
pub struct Frames {
    receiver: Receiver,
}

impl Frames {
    /// Returns the next frame, packet or loss; `None` once the session's media has ended.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        match self.receiver.take_lost() {
            0 => self.receiver.poll_next(cx).map(|item| {
                item.map(|item| match item {
                    Item::Frame(frame) => Update::Frame(frame),
                    Item::Packet { kind, packet } => Update::Packet { kind, packet },
                })
            }),
            lost => Poll::Ready(Some(Update::FramesLost(lost))),
        }
    }
}

impl Stream for Frames {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.get_mut().poll(cx)
    }
}

/// Reads received media as it arrives, so that neither the application nor a disk delays it.
struct Pump {
    media: MediaReceiver,
    monitor: PeerMonitor,
    sender: Sender,
    timeline: Timeline,
    #[cfg(feature = "recording")]
    recording: recording::Pumped,
}

impl Pump {
    async fn run(mut self) {
        while let Some(event) = self.media.next().await {
            #[cfg(feature = "recording")]
            if self.recording.take(&event) {
                self.monitor.request_keyframe();
            }
            match event {
                MediaEvent::Frame { kind, frame, at, .. } => {
                    let frame = self.timeline.place(kind, frame, at);
                    if self.sender.frame(frame) {
                        self.monitor.request_keyframe();
                    }
                }
                MediaEvent::Rtp { kind, packet, .. } => self.sender.packet(kind, packet),
                MediaEvent::Track { .. }
                | MediaEvent::SenderReport { .. }
                | MediaEvent::Ended { .. } => {}
            }
        }
        #[cfg(feature = "recording")]
        self.recording.finish().await;
    }
}

/// The files that an application wants.
#[cfg(feature = "recording")]
pub(crate) struct Files {
    pub(crate) record: Option<PathBuf>,
    pub(crate) live: Option<(PathBuf, Container)>,
    pub(crate) title: String,
}

#[cfg(feature = "recording")]
impl Files {
    /// The containers that media is written to.
    pub(crate) fn containers(&self) -> Vec<Container> {
        let record = self.record.as_deref().and_then(|path| Container::from_path(path).ok());
        record.into_iter().chain(self.live.as_ref().map(|(_, container)| *container)).collect()
    }
}

#[cfg(feature = "recording")]
mod recording {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use negotiation_core::MediaKind;
    use peer_webrtc::{Media, MediaEvent, PeerConfig};
    use recording::FailureHook;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

    use super::{Files, RecordingUpdate, Update};
    use crate::error::InvalidOption;
    use crate::record::{LiveOutput, NotRecorded, RecordError, Recording, SenderReport};

    /// Makes an update of a file's: [`Update::Recording`] or [`Update::Live`].
    type Name = fn(RecordingUpdate) -> Update;

    /// The files of a session.
    pub(super) struct Pumped {
        files: Vec<(Name, Recording)>,
        sound_alone: Arc<AtomicBool>,
        video_seen: bool,
        news: UnboundedSender<Update>,
    }

    type Started = (Pumped, UnboundedReceiver<Update>);

    /// Opens the files that are wanted.
    pub(super) fn start(wanted: Files, peer: &PeerConfig) -> Result<Started, InvalidOption> {
        // Few: what is reported of a file is once for each codec, and its end.
        let (news, receiver) = unbounded_channel();
        let sound_alone = Arc::<AtomicBool>::default();
        let (title, is_wanted) = (wanted.title, |media: &Media| !matches!(media, Media::Off));
        let (video, audio) = (is_wanted(&peer.video), is_wanted(&peer.audio));
        let hook = |name: Name| -> FailureHook {
            let news = news.clone();
            Box::new(move |error| {
                let _ = news.send(name(RecordingUpdate::Failed(error.clone())));
            })
        };
        let mut files: Vec<(Name, Recording)> = Vec::new();
        if let Some(path) = wanted.record {
            let alone = Arc::clone(&sound_alone);
            let started = Recording::start(&path, &title, video, alone, hook(Update::Recording));
            let started =
                started.map_err(|error| InvalidOption::new("record_to", error.to_string()))?;
            files.push((Update::Recording, started));
        }
        if let Some((path, container)) = wanted.live {
            let started = LiveOutput::open(path).and_then(|output| {
                Recording::live(output, container, &title, (video, audio), hook(Update::Live))
            });
            let started =
                started.map_err(|error| InvalidOption::new("write_live", error.to_string()))?;
            files.push((Update::Live, started));
        }
        Ok((Pumped { files, sound_alone, video_seen: false, news }, receiver))
    }

    impl Pumped {
        /// Records a media event, and returns whether a keyframe should be requested.
        pub(super) fn take(&mut self, event: &MediaEvent) -> bool {
            let mut requests_keyframe = false;
            if let MediaEvent::Track { kind, .. } = event {
                self.video_seen |= *kind == MediaKind::Video;
            }
            for (name, file) in &mut self.files {
                match event {
                    MediaEvent::Track { kind, codec, .. } => {
                        let update = match file.track(*kind, *codec) {
                            Ok(()) => continue,
                            Err(NotRecorded::Stream { kind, why, .. }) => {
                                RecordingUpdate::NotRecorded { kind, why }
                            }
                            Err(NotRecorded::Failed(error)) => RecordingUpdate::Failed(error),
                        };
                        let _ = self.news.send(name(update));
                    }
                    MediaEvent::Frame { kind, frame, at, .. } => {
                        requests_keyframe |= file.frame(*kind, frame.clone(), *at);
                    }
                    MediaEvent::SenderReport { ssrc, ntp, rtp, .. } => {
                        file.report(SenderReport { ssrc: *ssrc, ntp: *ntp, rtp_timestamp: *rtp });
                    }
                    MediaEvent::Rtp { .. } | MediaEvent::Ended { .. } => {}
                }
            }
            requests_keyframe
        }

        /// Ends the files, and waits for disk and reader.
        pub(super) async fn finish(self) {
            // The audio of a camera without video is kept.
            self.sound_alone.store(!self.video_seen, Ordering::Relaxed);
            let ends: Vec<_> = self
                .files
                .into_iter()
                .map(|(name, file)| (name, tokio::task::spawn_blocking(move || file.finish())))
                .collect();
            for (name, end) in ends {
                let update = match end.await.unwrap_or(Err(RecordError::Ended)) {
                    Ok(summary) => RecordingUpdate::Finished(Box::new(summary)),
                    // It was reported when the reader left.
                    Err(RecordError::ReaderClosed(_)) => continue,
                    Err(error) => RecordingUpdate::Failed(error),
                };
                let _ = self.news.send(name(update));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_sentences() {
        let packet = Update::Packet { kind: MediaKind::Video, packet: rtp::Packet::default() };
        assert_eq!(packet.to_string(), "video packet 0, 0 bytes");
        assert_eq!(Update::Event(Event::Live).to_string(), "Live.");
        assert_eq!(Update::FramesLost(3).to_string(), "The application was too slow for 3 frames.");
        assert_eq!(
            Update::EventsLost(1).to_string(),
            "The application was too slow for one event."
        );
    }

    #[cfg(feature = "recording")]
    #[test]
    fn recording_updates_are_sentences() {
        let (kind, why) = (MediaKind::Audio, crate::record::RecordError::Ended);
        let update = Update::Recording(RecordingUpdate::NotRecorded { kind, why: why.clone() });
        let sentence = format!("The camera's audio is not in the recording: {why}.");
        assert_eq!(update.to_string(), sentence);
        let failed = RecordingUpdate::Failed(why).to_string();
        assert!(failed.ends_with("plays.") && !failed.contains(".."), "{failed}");
    }
}
