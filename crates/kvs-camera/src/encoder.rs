//! The single live encoder, simulated by a clip: every viewer gets the same frames at the same
//! time.
//!
//! It runs while a viewer watches and pauses otherwise. A file cannot produce a keyframe on
//! request, so the stream jumps to the clip's next one when a keyframe is needed early.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recording::Clip;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::keyframes::Keyframes;
use crate::playback::{Playback, Unit};

/// The most units that a viewer may be behind, about two seconds; beyond that it continues at a
/// keyframe.
const BEHIND_MAX: usize = 128;

/// The longest delay that is caught up. A longer one means that the machine was suspended, and the
/// stream continues from the current time.
const LATE_MAX: Duration = Duration::from_millis(500);

/// A handle to the encoder.
#[derive(Clone)]
pub(crate) struct Encoder {
    shared: Arc<Shared>,
}

struct Shared {
    units: broadcast::Sender<Unit>,
    requests: Mutex<Requests>,
    wake: Notify,
}

#[derive(Clone, Copy, Default)]
struct Requests {
    joined: bool,
    keyframe: bool,
}

impl Encoder {
    /// Creates a handle to an encoder that does not run yet.
    pub(crate) fn new() -> Self {
        let (units, _) = broadcast::channel(BEHIND_MAX);
        Self { shared: Arc::new(Shared { units, requests: Mutex::default(), wake: Notify::new() }) }
    }

    /// Starts watching: the next frame is a keyframe. Dropping the receiver stops watching.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Unit> {
        let units = self.shared.units.subscribe();
        self.request(|requests| requests.joined = true);
        units
    }

    /// Requests a keyframe.
    pub(crate) fn request_keyframe(&self) {
        self.request(|requests| requests.keyframe = true);
    }

    /// Plays `clip` until cancelled.
    pub(crate) async fn run(self, clip: Arc<Clip>, cancelled: CancellationToken) {
        let began = Instant::now();
        let mut playback = Playback::new(clip);
        let mut keyframes = Keyframes::default();
        // An empty clip would make this a busy loop.
        while playback.next_due().is_some() && self.somebody_watches(&cancelled).await {
            keyframes.viewer_joined();
            self.play(&mut playback, &mut keyframes, began, &cancelled).await;
        }
    }

    /// Plays until no viewer watches.
    async fn play(
        &self,
        playback: &mut Playback,
        keyframes: &mut Keyframes,
        began: Instant,
        cancelled: &CancellationToken,
    ) {
        // The stream was paused: the first viewer gets a video frame at once.
        playback.begin_with_picture();
        let Some(first) = playback.next_due() else { return };
        // The instant of the stream's time zero, moved by every pause.
        let mut zero = Anchor::new(first.as_duration(), Instant::now());
        while let Some(due) = playback.next_due() {
            let due = due.as_duration();
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return,
                () = sleep_until(zero.instant(due)) => {}
            }
            if self.shared.units.receiver_count() == 0 {
                return;
            }
            if zero.instant(due).elapsed() > LATE_MAX {
                zero = Anchor::new(due, Instant::now());
            }
            let now = began.elapsed();
            let requests = self.take_requests();
            if requests.joined {
                keyframes.viewer_joined();
            }
            if requests.keyframe {
                keyframes.requested(now);
            }
            let picture = playback.video_is_next();
            if picture && keyframes.wanted(now) {
                playback.skip_to_keyframe();
            }
            let Some(unit) = playback.take() else { return };
            if picture && unit.keyframe {
                keyframes.sent(now);
            }
            // Sending fails if the last viewer has just left.
            let _ = self.shared.units.send(unit);
        }
    }

    /// Waits for a viewer. Returns false if cancelled.
    async fn somebody_watches(&self, cancelled: &CancellationToken) -> bool {
        while self.shared.units.receiver_count() == 0 {
            tokio::select! {
                biased;
                () = cancelled.cancelled() => return false,
                () = self.shared.wake.notified() => {}
            }
        }
        !cancelled.is_cancelled()
    }

    fn request(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_one();
    }

    fn take_requests(&self) -> Requests {
        std::mem::take(&mut *self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Maps the stream's time to the machine's clock.
struct Anchor {
    moment: Duration,
    instant: Instant,
}

impl Anchor {
    fn new(moment: Duration, instant: Instant) -> Self {
        Self { moment, instant }
    }

    fn instant(&self, moment: Duration) -> Instant {
        self.instant + moment.saturating_sub(self.moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playback::UnitKind;
    use recording::ClipKind;

    async fn next_frame(units: &mut broadcast::Receiver<Unit>) -> Unit {
        loop {
            let unit = units.recv().await.expect("runs");
            if unit.kind == UnitKind::Video {
                return unit;
            }
        }
    }

    fn started() -> (Encoder, CancellationToken, tokio::task::JoinHandle<()>) {
        let clip = Arc::new(Clip::bundled(ClipKind::H264Opus).expect("reads"));
        let (encoder, cancelled) = (Encoder::new(), CancellationToken::new());
        let task = tokio::spawn(encoder.clone().run(clip, cancelled.clone()));
        (encoder, cancelled, task)
    }

    #[tokio::test(start_paused = true)]
    async fn encoder_sends_frames_in_real_time() {
        let (encoder, cancelled, task) = started();
        let mut units = encoder.watch();
        let first = next_frame(&mut units).await;
        assert_eq!((first.index, first.keyframe), (0, true));
        let began = Instant::now();
        for n in 1..=150 {
            assert_eq!(next_frame(&mut units).await.index, n);
        }
        let took = began.elapsed();
        assert!(took.abs_diff(Duration::from_secs(10)) < Duration::from_millis(5), "{took:?}");
        cancelled.cancel();
        task.await.expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn every_viewer_starts_at_a_keyframe() {
        let (encoder, cancelled, task) = started();
        let mut first = encoder.watch();
        for _ in 0..10 {
            next_frame(&mut first).await;
        }
        let mut second = encoder.watch();
        let frame = next_frame(&mut second).await;
        assert_eq!((frame.index, frame.keyframe), (30, true), "the next keyframe, at once");
        assert_eq!(next_frame(&mut first).await.index, 30, "for all viewers alike");
        drop((first, second));
        // The stream is paused while no viewer watches.
        tokio::time::sleep(Duration::from_secs(100)).await;
        let mut third = encoder.watch();
        let begun = Instant::now();
        let frame = next_frame(&mut third).await;
        assert_eq!((frame.index, frame.keyframe), (60, true));
        assert_eq!(begun.elapsed(), Duration::ZERO, "a stream that stood still begins at once");
        cancelled.cancel();
        task.await.expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn request_brings_a_keyframe_within_a_second() {
        let (encoder, cancelled, task) = started();
        let mut units = encoder.watch();
        for _ in 0..8 {
            next_frame(&mut units).await;
        }
        let began = Instant::now();
        encoder.request_keyframe();
        let frame = loop {
            let frame = next_frame(&mut units).await;
            if frame.keyframe {
                break frame;
            }
        };
        assert_eq!(frame.index, 30);
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
        cancelled.cancel();
        task.await.expect("ends");
    }
}
