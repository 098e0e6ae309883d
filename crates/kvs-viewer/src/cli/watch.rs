//! `kvs-viewer watch`: runs one session, shows it, records it, and says how it ended.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use negotiation_core::{AttemptReport, Event, Outcome, Phase, Timer, Timestamp};
use peer_webrtc::Media;
use recording::{RecordError, Recorder};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use viewer_session::Told;

use super::args::{OutputArgs, WatchArgs};
use super::exit::Exit;
use super::log;
use super::media::{self, MediaPump, Recorded, lock, start_recorder};
use super::report::{Reporter, millis, recording_fields, sentence};
use super::resources::Resources;
use super::status::Status;
use super::streams::{Counts, Dropped, Rates, Streams};
use super::{Started, complain};
use crate::viewer::{Viewer, ViewerConfig};

/// How often the status line and the `stats` event come.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// How long what a closed attempt left may take to be gone from the process's table.
const SETTLE: Duration = Duration::from_millis(800);

pub(crate) async fn run(args: WatchArgs, started: Started) -> Exit {
    log::start(args.output.log);
    let config = match args.viewer() {
        Ok(config) => config,
        Err(problem) => return complain(Exit::Usage, &problem),
    };
    watch(config, &args.output, started).await
}

/// Runs a session to its end. The same for `watch` and `demo`.
pub(crate) async fn watch(config: ViewerConfig, output: &OutputArgs, started: Started) -> Exit {
    let is_wanted = |media: &Media| !matches!(media, Media::Off);
    let (video, audio) = (is_wanted(&config.peer.video), is_wanted(&config.peer.audio));
    let (failed, mut failures) = mpsc::unbounded_channel();
    let recorder = match output.record.as_deref().map(|path| {
        Recorder::check(path)?;
        start_recorder(path, video, audio, failed.clone())
    }) {
        None => None,
        Some(Ok(recorder)) => Some(recorder),
        Some(Err(error)) => return complain(Exit::refused(&error), &error.to_string()),
    };
    let (journal, observer) = match output.journal.start() {
        Ok(journal) => journal.unzip(),
        Err(problem) => return complain(Exit::Usage, &problem),
    };
    let mut interrupt = pin!(super::interrupted());
    let status = Status::start();
    status.say(&format!(
        "A camera that never answers is given up after {} s; whatever happens, there is a verdict \
         within {} s.",
        config.session.no_answer_verdict().as_secs(),
        config.session.longest_verdict().as_secs(),
    ));
    let mut show = Show {
        reporter: Reporter::new(output.json, started.elapsed()),
        status,
        phase: Phase::Idle,
        deadline: None,
        before: Resources::count(),
        streams: Arc::default(),
        last: (Timestamp::ZERO, Counts::default()),
        dropped: Dropped::default(),
    };
    let (mut viewer, media) = match Viewer::start_observed(config, observer) {
        Ok(started) => started,
        Err(error) => return complain(Exit::Usage, &error.to_string()),
    };
    let (monitor, streams) = (viewer.monitor.clone(), Arc::clone(&show.streams));
    let pump = tokio::spawn(MediaPump::new(media, recorder, monitor, failed, streams).run());
    let mut ticks = interval(STATS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut watched = pin!(sleep(Duration::MAX));
    let (mut live_before, mut stopped, mut broken) = (false, false, None);
    let (at, outcome) = loop {
        tokio::select! {
            told = viewer.handle.next_event() => match told {
                Some(Told::Event { at, event: Event::Ended(outcome) }) => break (at, *outcome),
                Some(Told::Event { at, event }) => {
                    if event == Event::Live && !std::mem::replace(&mut live_before, true)
                        && let Some(duration) = output.duration
                    {
                        watched.set(sleep(duration));
                    }
                    show.event(at, &event).await;
                }
                Some(Told::Lost(count)) => show.lost(viewer.now(), count),
                None => return complain(Exit::Internal, "the session's task is gone"),
            },
            error = failures.recv() => if let Some(error) = error {
                if broken.is_none() {
                    show.status.say(&format!("The recording failed: {error}."));
                }
                broken.get_or_insert(error);
                viewer.handle.close();
            },
            () = &mut watched, if live_before && output.duration.is_some() && !stopped => {
                stopped = true;
                viewer.handle.close();
            }
            () = &mut interrupt, if !stopped => {
                stopped = true;
                show.status.say("Closing.");
                viewer.handle.close();
            }
            _ = ticks.tick() => show.stats(&viewer).await,
        }
    };
    if viewer.ended().await.is_err() {
        return complain(Exit::Internal, "the session's task was cancelled");
    }
    let (path, again) = (output.record.as_deref(), super::interrupted());
    let recorded = media::recorded(path, pump, again, &show.status).await;
    if let Some(journal) = journal
        && let Some(problem) = journal.finish().await
    {
        show.status.say(&problem);
    }
    show.end(at, &outcome, recorded, broken)
}

/// What is shown while a session runs.
struct Show {
    reporter: Reporter,
    status: Status,
    phase: Phase,
    deadline: Option<(Timer, Timestamp)>,
    /// What was open before the attempt.
    before: Option<Resources>,
    streams: Arc<Mutex<Streams>>,
    last: (Timestamp, Counts),
    dropped: Dropped,
}

impl Show {
    async fn event(&mut self, at: Timestamp, event: &Event) {
        if let Event::PhaseChanged { to, .. } = event {
            (self.phase, self.deadline) = (*to, None);
        }
        if let Event::DeadlineArmed { timer, at } = event {
            self.deadline = Some((*timer, *at));
        }
        self.reporter.event(at, event);
        if let Some(text) = sentence(event) {
            self.status.say(&text);
        }
        if let Event::AttemptEnded(report) = event {
            self.attempt_ended(at, report).await;
        }
        if let Event::RetryScheduled { attempt, at: due } = event {
            let pause = due.saturating_since(at).as_secs_f64();
            self.status.say(&format!("Attempt {attempt} begins in {pause:.1} s."));
        }
    }

    /// Counts what is open once the sockets' other ends, if they are in this process, noticed too.
    async fn attempt_ended(&mut self, at: Timestamp, report: &AttemptReport) {
        let mut after = Resources::count();
        let step = SETTLE / 16;
        for _ in 0..16 {
            let left = matches!((self.before, after), (Some(before), Some(after))
                if after.descriptors > before.descriptors);
            if !left {
                break;
            }
            sleep(step).await;
            after = Resources::count();
        }
        self.reporter.attempt_ended(at, report, self.before, after);
        if let (Some(before), Some(after)) = (self.before, after) {
            self.status.say(&format!(
                "Open descriptors before and after the attempt: {} and {}; sockets: {} and {}.",
                before.descriptors, after.descriptors, before.sockets, after.sockets
            ));
        }
        self.before = after;
    }

    async fn stats(&mut self, viewer: &Viewer) {
        let now = viewer.now();
        let counts = lock(&self.streams).counts();
        let elapsed = now.saturating_since(self.last.0);
        let rates = Rates::between(&self.last.1, &counts, elapsed);
        let peers = viewer.monitor.stats().await;
        let open = peers.iter().map(|stats| (stats.peer, stats.dropped)).collect();
        let dropped = counts.dropped + self.dropped.count(open);
        let path = peers.into_iter().find_map(|stats| stats.path);
        let due = self.deadline.map(|(timer, at)| (timer, at.saturating_since(now)));
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
                "packets": counts.packets,
                "lost": counts.lost,
                "dropped": dropped,
                "codecs": counts.codecs,
                "path": path.map(|path| json!({
                    "local": path.local.as_str(),
                    "remote": path.remote.as_str(),
                    "round_trip_ms": path.round_trip.as_secs_f64() * 1000.0,
                })),
            }),
        );
        let deadline = due.map_or(String::new(), |(timer, left)| {
            format!("  next deadline {timer} in {:.0} s", left.as_secs_f64())
        });
        self.status.line(&format!(
            "{}  attempt {}{deadline}  {:.0} kbit/s  {} frames  {} lost",
            self.phase,
            self.reporter.attempt(),
            rates.bits / 1000.0,
            counts.frames,
            counts.lost,
        ));
        self.last = (now, counts);
    }

    fn lost(&self, now: Timestamp, count: u64) {
        self.reporter.line(now, "events_lost", json!({ "count": count }));
    }

    /// The summary, the last line, the exit code.
    fn end(
        self,
        at: Timestamp,
        outcome: &Outcome,
        recorded: Option<Recorded>,
        broken: Option<RecordError>,
    ) -> Exit {
        self.status.finish();
        let mut exit = Exit::of(outcome);
        let (recording, failure) = match recorded {
            None => (Value::Null, broken),
            Some(Ok(summary)) => {
                self.status.say(&format!(
                    "Recorded {:.1} s, {} frames, {} kB: {}",
                    summary.duration.as_secs_f64(),
                    summary.video_frames,
                    summary.bytes / 1000,
                    summary.path.display()
                ));
                (recording_fields(&summary), broken)
            }
            Some(Err(RecordError::NothingRecorded)) if !outcome.was_live => (Value::Null, broken),
            Some(Err(error)) => (Value::Null, broken.or(Some(error))),
        };
        let recording = match failure {
            None => recording,
            Some(error) => {
                exit = Exit::RecordingFailed;
                self.status.say(&format!("The recording failed: {error}."));
                json!({ "error": error.to_string(), "file": recording })
            }
        };
        let counts = lock(&self.streams).counts();
        self.status.say(&format!(
            "{} {} frames, {} packets, {} lost.",
            outcome.sentence(),
            counts.frames,
            counts.packets,
            counts.lost
        ));
        if exit != Exit::Ok && exit != Exit::RecordingFailed {
            self.status.say(&format!("Likely cause: {}.", outcome.likely_cause()));
            self.status.say(outcome.next_step());
        }
        self.reporter.ended(at, outcome, recording, exit.code());
        exit
    }
}
