//! A bare master over the low-level stack, and helpers that wait with a limit.

use std::sync::Arc;
use std::time::Duration;

use peer_webrtc::rtp;
use peer_webrtc::stack::{Stack, StackConfig, StackEvent, StackEvents};
use peer_webrtc::{Authorities, Codec, IcePolicy, LocalTrack, Mdns};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The time limit of any wait: a test that exceeds it has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `future`, and panics with `what` if it does not complete.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// The interval of a clock that does not count the time in which the machine was suspended.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Returns ticks that are delayed, not made up for, if missed.
pub(crate) fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Polls `condition` until it holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) fn config(codecs: &[Codec], media_queue: usize) -> StackConfig {
    StackConfig {
        codecs: codecs.to_vec(),
        bind: vec!["127.0.0.1:0".to_owned()],
        policy: IcePolicy::All,
        mdns: Mdns::Ignore,
        authorities: Authorities::system(),
        detour: None,
        media_queue,
        rtx: true,
    }
}

/// A master with one video and one audio track.
pub(crate) struct Master {
    pub(crate) stack: Arc<Stack>,
    pub(crate) queues: StackEvents,
    pub(crate) video: Arc<LocalTrack>,
    pub(crate) audio: Arc<LocalTrack>,
}

impl Master {
    pub(crate) async fn new(video: Codec) -> Self {
        let (stack, queues) =
            Stack::build(&config(&[video, Codec::Opus], 1024)).await.expect("builds");
        let (video, audio) =
            (LocalTrack::new(video, "s", "video"), LocalTrack::new(Codec::Opus, "s", "audio"));
        stack.add_track(&video).await.expect("attaches");
        stack.add_track(&audio).await.expect("attaches");
        Self { stack: Arc::new(stack), queues, video, audio }
    }

    /// Returns all candidates, and waits until gathering is done.
    pub(crate) async fn candidates(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        within("the master's gathering", async {
            while let Some(event) = self.queues.events.recv().await {
                match event {
                    StackEvent::Candidate(candidate) => found.push(candidate),
                    StackEvent::GatheringDone => break,
                    _ => {}
                }
            }
        })
        .await;
        found
    }
}

/// Returns one H.264 packet: an SPS, a PPS and an IDR slice together, or only a slice.
pub(crate) fn h264(seq: u16, timestamp: u32, key: bool) -> rtp::Packet {
    let payload: &[u8] = if key {
        // STAP-A of SPS (7, of 320 x 240), PPS (8) and IDR (5).
        &[
            0x78, 0, 8, 0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4, 0, 4, 0x68, 0xce, 0x3c,
            0x80, 0, 4, 0x65, 0xb8, 0x40, 0x80,
        ]
    } else {
        &[0x41, 0xe0, 0x20, 0x80]
    };
    packet(seq, timestamp, true, payload)
}

pub(crate) fn packet(seq: u16, timestamp: u32, marker: bool, payload: &[u8]) -> rtp::Packet {
    rtp::Packet {
        header: rtp::Header {
            version: 2,
            marker,
            sequence_number: seq,
            timestamp,
            ..rtp::Header::default()
        },
        payload: payload.to_vec().into(),
    }
}
