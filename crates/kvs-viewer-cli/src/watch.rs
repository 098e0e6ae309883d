//! `kvs-viewer watch`: runs one session, shows it, records it, and reports how it ended.
//!
//! The loop waits only for its own inputs: printing, counting and statistics have their own tasks
//! and threads, so that signals and `--duration` always work.

mod files;
mod measured;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use negotiation_core::{
    AttemptReport, EndReason, Event, MediaKind, Mode, Outcome, Phase, Timer, Timestamp,
};
use peer_webrtc::{Media, PeerStats};
use recording::RecordError;
use serde_json::{Map, Value, json};
use signaling_aws::Field;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use viewer_session::SessionUpdate;

use super::args::{OutputArgs, WatchArgs, flag};
use super::exit::Exit;
use super::log;
use super::media::{self, Destination, Ended, FileNews, MediaPump, lock};
use super::output;
use super::report::{Reporter, kind_name, recording_fields};
use super::resources::{Counter, Ledger, Resources};
use super::signals::Signals;
use super::spans::{millis, span};
use super::status::Status;
use super::streams::{Counts, Dropped, Rates, Streams};
use super::summary::{Context, Summary};
use super::view::{View, byte_size};
use super::{Started, complain, words};
use files::name;
use kvs_viewer::{Session, SessionConfig};
use measured::Measured;

/// The interval of `stats` events.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The time within which the resources of a closed attempt must disappear from the process's
/// descriptor table.
const SETTLE: Duration = Duration::from_millis(800);

/// The interval of the counts during that time.
const SETTLE_STEP: Duration = Duration::from_millis(50);

pub(crate) async fn run(args: WatchArgs, started: Started) -> Exit {
    log::start(args.output.log);
    let config = match args.viewer() {
        Ok(config) => config,
        Err(problem) => return complain(Exit::Usage, &problem),
    };
    if let Err(error) = config.signaling.check_environment().await {
        // The profile is a source of credentials.
        let exit = if error.field == Field::Profile { Exit::Permission } else { Exit::Usage };
        return complain(exit, &error.with_names(flag));
    }
    let context = Context {
        channel: args.service.channel().unwrap_or_default(),
        config: config.session.clone(),
        is_loopback: config.signaling.is_loopback(),
        profile: args.service.profile.clone(),
    };
    watch(config, context, &args.output, started).await
}

/// Runs a session to its end, for both `watch` and `demo`.
pub(crate) async fn watch(
    config: SessionConfig,
    context: Context,
    args: &OutputArgs,
    started: Started,
) -> Exit {
    let mut signals = Signals::listen();
    let events = match args.events().map(output::events).transpose() {
        Ok(events) => events,
        Err(error) => {
            let problem = format!("--json-fd: it cannot be written: {error}");
            return complain(Exit::Usage, &problem);
        }
    };
    let is_wanted = |media: &Media| !matches!(media, Media::Off);
    let wanted = (is_wanted(&config.peer.video), is_wanted(&config.peer.audio));
    let (news, mut file_news) = mpsc::unbounded_channel();
    let sound_alone = Arc::<AtomicBool>::default();
    let alone = Arc::clone(&sound_alone);
    let files = match media::start_files(args, &context.channel, wanted, alone, &news) {
        Ok(files) => files,
        Err(error) => return complain(Exit::refused(&error), &error.to_string()),
    };
    let (journal, observer) = match args.journal.start() {
        Ok(journal) => journal.unzip(),
        Err(problem) => return complain(Exit::Usage, &problem),
    };
    let status = Status::start(args.verbosity());
    status.detail(&format!(
        "A camera that never answers is given up after {}; connects or fails within {}.",
        span(config.session.max_time_without_answer()),
        span(config.session.worst_case_duration()),
    ));
    let ledger = (args.events().is_some() || args.verbose).then(Ledger::default);
    let mut show = Show {
        reporter: Reporter::new(events, started.elapsed()),
        status,
        context,
        phase: Phase::Idle,
        deadlines: BTreeMap::new(),
        failures: BTreeSet::new(),
        ended: None,
        unsettled: None,
        before_session: ledger.as_ref().and_then(|_| Resources::count()),
        before: None,
        ledger: ledger.clone(),
        streams: Arc::default(),
        peers: Vec::new(),
        last: (Timestamp::ZERO, Counts::default()),
        dropped: Dropped::default(),
        view: View { duration: args.duration, ..View::default() },
        live: None,
    };
    show.tell_start();
    let observer = Counter::new(ledger, observer);
    let (mut viewer, media) = match Session::start_observed(config, Some(Box::new(observer))) {
        Ok(started) => started,
        Err(error) => return complain(Exit::Usage, &error.to_string()),
    };
    let (monitor, streams) = (viewer.monitor.clone(), Arc::clone(&show.streams));
    let measured = Measured::start(&monitor, args.record.clone());
    let pump = tokio::spawn(MediaPump::new(media, files, monitor, news, streams).run());
    let mut ticks = interval(STATS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watched = pin!(sleep(Duration::MAX));
    let (mut stopped, mut stopped_in, mut broken) = (false, None, None);
    let mut reader_closed = false;
    let mut picture = false;
    let (at, outcome) = loop {
        let recount = show.unsettled.as_ref().map(|unsettled| unsettled.next);
        tokio::select! {
            // First the requests of a person or of the system.
            biased;
            () = signals.next(), if !stopped => {
                (stopped, stopped_in) = (true, Some(show.phase));
                show.status.detail("Closing.");
                viewer.handle.close();
            }
            () = &mut watched, if show.live.is_some() && args.duration.is_some() && !stopped => {
                stopped = true;
                viewer.handle.close();
            }
            Some(news) = file_news.recv() => match news {
                FileNews::Failed(Destination::Live, RecordError::ReaderClosed(_)) => {
                    (stopped, reader_closed) = (true, true);
                    stopped_in.get_or_insert(show.phase);
                    viewer.handle.close();
                }
                FileNews::Failed(to, error) => {
                    broken.get_or_insert((to, error));
                    viewer.handle.close();
                }
                FileNews::NotWritten { to, kind, codec, why } => {
                    show.not_written(viewer.now(), to, kind, codec, &why);
                }
            },
            reported = viewer.handle.next_event() => match reported {
                Some(SessionUpdate::Event { at, event: Event::Ended(outcome) }) => break (at, *outcome),
                Some(SessionUpdate::Event { at, event }) => {
                    if matches!(event, Event::AttemptStarted { .. } | Event::KeyframeReceived) {
                        picture = event == Event::KeyframeReceived;
                    } else if event == Event::Live && !picture {
                        // The session is live without a keyframe, so the camera sends no video.
                        sound_alone.store(true, Ordering::Relaxed);
                    }
                    if event == Event::Live && show.live.is_none()
                        && let Some(duration) = args.duration
                    {
                        watched.set(sleep(duration));
                    }
                    show.event(at, &event);
                    show.draw(viewer.now());
                }
                Some(SessionUpdate::Lagged(count)) => show.reporter.events_lost(viewer.now(), count),
                None => return complain(Exit::Internal, "the session's task is gone"),
            },
            () = sleep_until(recount.unwrap_or_else(Instant::now)), if recount.is_some() => {
                show.recount();
            }
            _ = ticks.tick() => {
                (show.peers, show.view.recorded) = measured.now();
                show.stats(viewer.now());
                show.draw(viewer.now());
            }
        }
    };
    if viewer.ended().await.is_err() {
        show.settle();
        return complain(Exit::Internal, "the session's task was cancelled");
    }
    let path = args.record.as_deref();
    let again = async {
        // The signal that ended the session may come twice; only a later one is meant for the
        // wait.
        sleep(media::ENDING_USUAL).await;
        signals.forget().await;
        signals.next().await;
    };
    let files = media::recorded(path, pump, again, &show.status).await;
    // The resources of the last attempt have the same time to disappear as those of any other, and
    // those of the session are released by now as well.
    show.before = show.before_session;
    while let Some(next) = show.unsettled.as_ref().map(|unsettled| unsettled.next) {
        sleep_until(next).await;
        show.recount();
    }
    show.status.finish();
    if let Some(journal) = journal
        && let Some(problem) = journal.finish().await
    {
        show.status.error(&problem);
    }
    let exit = show.end(at, &outcome, stopped_in, files, broken).await;
    // A reader that has seen enough ends the command as a person does who was live.
    if reader_closed && exit == Exit::ClosedEarly { Exit::Ok } else { exit }
}

/// The state of the display while a session runs.
struct Show {
    reporter: Reporter,
    status: Status,
    context: Context,
    phase: Phase,
    /// The times of the deadlines that were armed in this phase.
    deadlines: BTreeMap<Timer, Timestamp>,
    /// The reasons of failed attempts since the session was last live.
    failures: BTreeSet<String>,
    /// The attempt that ended last; reported with what comes after it.
    ended: Option<AttemptReport>,
    /// An ended attempt, while more is open than before it.
    unsettled: Option<Unsettled>,
    /// The count before the session.
    before_session: Option<Resources>,
    /// The count before the attempt; for the first attempt it is known when that ends.
    before: Option<Resources>,
    /// The counts at the attempts' ends; without it nothing is counted.
    ledger: Option<Ledger>,
    streams: Arc<Mutex<Streams>>,
    peers: Vec<PeerStats>,
    last: (Timestamp, Counts),
    dropped: Dropped,
    view: View,
    /// When the session was live for the first time.
    live: Option<Timestamp>,
}

/// The end of an attempt, reported once what it left is gone, or once that has taken too long.
struct Unsettled {
    at: Timestamp,
    report: AttemptReport,
    /// The newest count.
    after: Option<Resources>,
    next: Instant,
    until: Instant,
}

impl Show {
    fn event(&mut self, at: Timestamp, event: &Event) {
        if let Event::PhaseChanged { to, .. } = event {
            self.phase = *to;
            self.deadlines.clear();
        }
        if let Event::DeadlineArmed { timer, at } = event {
            self.deadlines.insert(*timer, *at);
        }
        if matches!(event, Event::AttemptStarted { .. }) {
            // Later events belong to the next attempt.
            self.settle();
        }
        if matches!(event, Event::MediaStalled | Event::Disconnected) {
            self.view.interruption = Some("no video");
        } else if matches!(event, Event::MediaPaused) {
            self.view.interruption = Some("paused");
        } else if matches!(
            event,
            Event::MediaResumed
                | Event::Reconnected
                | Event::Recovered
                | Event::PhaseChanged { .. }
        ) {
            self.view.interruption = None;
        }
        if matches!(event, Event::Offline | Event::Online) {
            self.view.is_offline = *event == Event::Offline;
        }
        self.reporter.event(at, event);
        self.view.attempt = self.reporter.attempt();
        if matches!(event, Event::Live) {
            self.on_live(at);
        } else if let Event::AttemptEnded(report) = event {
            self.on_attempt_ended(at, report);
        } else if let Event::AttemptStarted { .. } = event {
            self.tell_failed("Trying again.");
            self.status.detail(&event.to_string());
        } else if let Event::RetryScheduled { at: due, .. } = event {
            let pause = span(due.saturating_since(at));
            // Without a network all deadlines are suspended, for a limited time.
            let limit = span(self.context.config.settings().offline_limit);
            self.tell_failed(&match self.view.is_offline {
                true => format!("Trying again when the network is back, or after {limit}."),
                false => format!("Trying again in {pause}."),
            });
        } else if let Some(text) = words::news(event) {
            self.status.say(&text);
        } else if !matches!(event, Event::PhaseChanged { .. } | Event::DeadlineArmed { .. }) {
            self.status.detail(&event.to_string());
        }
    }

    fn on_live(&mut self, at: Timestamp) {
        let text = match self.live {
            None => format!("Live after {}.", span(at.since_origin())),
            Some(_) => "Live again.".to_owned(),
        };
        self.live.get_or_insert(at);
        // A failure that returns after this is reported again.
        self.failures.clear();
        self.status.say(&text);
    }

    /// Prints what the session waits for at first, if there is no status line.
    fn tell_start(&self) {
        let config = &self.context.config;
        let (whom, limit) = match config.settings().mode {
            Mode::Offerer => ("the camera to answer", config.answer_timeout(0)),
            Mode::Answerer => ("the service to make an offer", config.settings().offer_timeout),
        };
        self.status.progress(&format!(
            "Connecting to {}; waiting for {whom} for at most {}.",
            self.context.channel,
            span(limit)
        ));
    }

    fn on_attempt_ended(&mut self, at: Timestamp, report: &AttemptReport) {
        self.status.detail(&Event::AttemptEnded(Box::new(report.clone())).to_string());
        self.ended = Some(report.clone());
        let after = self.ledger.as_ref().and_then(|ledger| ledger.take(report.attempt));
        self.before = self.before.or_else(|| self.ledger.as_ref().and_then(Ledger::at_begin));
        let now = Instant::now();
        let (next, until) = (now + SETTLE_STEP, now + SETTLE);
        self.unsettled = Some(Unsettled { at, report: report.clone(), after, next, until });
        if self.is_settled() {
            self.settle();
        }
    }

    /// Prints why an attempt failed, unless the previous one failed for the same reason.
    fn tell_failed(&mut self, then: &str) {
        let Some(report) = self.ended.take() else { return };
        let why = words::end(&report, &self.context.config);
        if report.evidence.was_live {
            self.status.say(&format!("The connection is lost: {why}. {then}"));
        } else if self.failures.insert(why.clone()) {
            self.status.say(&format!("Attempt {} failed: {why}. {then}", report.attempt));
        }
    }

    /// Whether no more is open than before the attempt, or nothing is counted.
    fn is_settled(&self) -> bool {
        match (self.before, self.unsettled.as_ref().and_then(|unsettled| unsettled.after)) {
            (Some(before), Some(after)) => after.is_within(before),
            (None, _) | (_, None) => true,
        }
    }

    /// Counts again, and reports the end of the attempt once its resources are released.
    fn recount(&mut self) {
        let Some((unsettled, ledger)) = self.unsettled.as_mut().zip(self.ledger.as_ref()) else {
            return;
        };
        let now = Instant::now();
        let count = ledger.count_again(unsettled.report.attempt);
        unsettled.after = count.or(unsettled.after);
        unsettled.next = now + SETTLE_STEP;
        if count.is_none() || now >= unsettled.until || self.is_settled() {
            self.settle();
        }
    }

    /// Reports the end of the attempt, with the newest count.
    fn settle(&mut self) {
        let Some(Unsettled { at, report, after, .. }) = self.unsettled.take() else { return };
        self.reporter.attempt_ended(at, &report, self.before, after);
        if let (Some(before), Some(after)) = (self.before, after) {
            self.status.detail(&format!(
                "Open descriptors before and after attempt {}: {} and {}; sockets: {} and {}.",
                report.attempt,
                before.descriptors,
                after.descriptors,
                before.sockets,
                after.sockets
            ));
        }
        self.before = after;
    }

    /// Returns the deadline of the current phase, and the time left.
    fn deadline(&self, now: Timestamp) -> Option<(Timer, Duration)> {
        let timer = self.phase.deadline()?;
        let at = self.deadlines.get(&timer)?;
        Some((timer, at.saturating_since(now)))
    }

    fn draw(&mut self, now: Timestamp) {
        self.view.running = now.since_origin();
        self.view.live = self.live.map(|live| now.saturating_since(live));
        self.view.deadline = self.deadline(now);
        self.view.path = self.peers.iter().find_map(|stats| stats.path);
        self.view.counts = lock(&self.streams).counts();
        self.status.line(|| self.view.line(self.phase));
    }

    fn stats(&mut self, now: Timestamp) {
        let counts = lock(&self.streams).counts();
        let elapsed = now.saturating_since(self.last.0);
        let rates = Rates::between(&self.last.1, &counts, elapsed);
        // The rates of the second in which it began mean little.
        let is_measured = self.live.is_some_and(|live| live <= self.last.0);
        self.view.rates = is_measured.then_some(rates);
        let open = self.peers.iter().map(|stats| (stats.peer, stats.dropped)).collect();
        let dropped = counts.dropped + self.dropped.count(open);
        let path = self.peers.iter().find_map(|stats| stats.path);
        let due = self.deadline(now);
        self.reporter.line(
            now,
            "stats",
            json!({
                "phase": self.phase.as_str(),
                "next_deadline": due.map(|(timer, left)| {
                    json!({ "deadline": timer.to_string(), "in_ms": millis(left) })
                }),
                "bitrate_bps": rates.bits.round(),
                "fps": (rates.frames * 10.0).round() / 10.0,
                "frames": counts.frames,
                "keyframes": counts.keyframes,
                "packets": counts.packets,
                "bytes": counts.bytes,
                "lost": counts.lost,
                "dropped": dropped,
                "jitter_ms": jitter(&self.peers),
                "codecs": counts.codecs,
                "resolution": counts.size.map(|(width, height)| {
                    json!({ "width": width, "height": height })
                }),
                "path": path.map(|path| json!({
                    "local": path.local.as_str(),
                    "remote": path.remote.as_str(),
                    "round_trip_ms": path.round_trip.as_secs_f64() * 1000.0,
                })),
                "recorded_bytes": self.view.recorded,
            }),
        );
        self.last = (now, counts);
    }

    /// Prints the summary and the last line, and returns the exit code.
    async fn end(
        mut self,
        at: Timestamp,
        outcome: &Outcome,
        stopped_in: Option<Phase>,
        files: Ended,
        broken: Option<(Destination, RecordError)>,
    ) -> Exit {
        let mut exit = Exit::of(outcome);
        let live = self.live_fields(files.live);
        let (recording, failure) = match files.recorded {
            None => (Value::Null, broken),
            Some(Ok(summary)) => {
                self.status.say(&format!(
                    "Recorded {}, {}, {}: {}",
                    span(summary.duration),
                    counted(summary.video_frames, "frame"),
                    byte_size(summary.bytes),
                    summary.path.display()
                ));
                (recording_fields(&summary), broken)
            }
            Some(Err(RecordError::NothingRecorded)) if !outcome.was_live => (Value::Null, broken),
            Some(Err(error @ RecordError::NoPicture)) if !outcome.was_live => {
                self.status.say(&format!("Nothing was recorded: {error}."));
                (Value::Null, broken)
            }
            Some(Err(error)) => (Value::Null, broken.or(Some((Destination::Recording, error)))),
        };
        let (mut recording, mut live) = (recording, live);
        if let Some((to, error)) = failure {
            exit = Exit::RecordingFailed;
            self.status.error(&format!("The {} failed: {error}.", name(to)));
            let of = if to == Destination::Live { &mut live } else { &mut recording };
            *of = json!({ "error": error.to_string(), "file": of.take() });
        }
        let counts = lock(&self.streams).counts();
        let phase = stopped_in.unwrap_or(self.phase);
        let summary = Summary::of(outcome, &self.context, phase, self.view.is_offline);
        if exit == Exit::Ok {
            let lasted = self.live.map(|live| at.saturating_since(live)).unwrap_or_default();
            self.status.say(&format!(
                "{} Live for {}: {}, {} lost.",
                summary.headline,
                span(lasted),
                counted(counts.frames, "frame"),
                counted(counts.lost, "packet")
            ));
        } else if exit == Exit::ClosedEarly {
            self.status.say(&summary.headline);
        } else if outcome.reason == EndReason::Closed {
            // The failure of the recording closed the session, and is reported separately.
            self.status.detail(&summary.headline);
        } else {
            self.status.error(&summary.headline);
            self.status.error(&format!("Likely cause: {}.", summary.likely_cause));
            self.status.error(&format!("What to do: {}", summary.next_step));
        }
        self.status.detail(&format!(
            "{} frames, {} keyframes, {} packets, {} lost.",
            counts.frames, counts.keyframes, counts.packets, counts.lost
        ));
        self.reporter.ended(at, outcome, &summary, (recording, live), exit.code()).await;
        exit
    }
}

/// Formats a number of things, as `1 frame` or `2 frames`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Returns the jitter of the newest stream of each kind.
fn jitter(peers: &[PeerStats]) -> Value {
    let mut kinds = Map::new();
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let mut streams = peers.iter().rev().flat_map(|peer| peer.streams.iter().rev());
        if let Some(stream) = streams.find(|stream| stream.kind == kind) {
            let millis = stream.jitter.as_secs_f64() * 1000.0;
            kinds.insert(kind_name(kind).to_owned(), ((millis * 100.0).round() / 100.0).into());
        }
    }
    Value::Object(kinds)
}
