//! Tests lost packets that a master resends only on a retransmission stream (RFC 4588).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use negotiation_core::MediaKind;
use peer_webrtc::stack::{Stack, StackEvent, StackEvents};
use peer_webrtc::{Codec, LocalTrack, RtpArrival};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::common::{config, packet, ticks, within};
use crate::path::Path;

/// Packets of a frame, as in a GStreamer stream of 7.6 Mbit/s.
const PACKETS: u16 = 27;
const FRAMES: u16 = 240;
/// The number of frames from one keyframe to the next.
const GROUP: u16 = 60;

/// A viewer and a master that resends by RTX, connected by an impaired path.
struct Pair {
    viewer: Stack,
    events: StackEvents,
    media: mpsc::Receiver<RtpArrival>,
    master: Stack,
    _queues: StackEvents,
    video: std::sync::Arc<LocalTrack>,
    path: Path,
}

impl Pair {
    /// Connects the two. `change` alters the answer before the viewer gets it.
    async fn connected(change: impl FnOnce(String) -> String) -> Self {
        let codecs = [Codec::H264, Codec::Opus];
        let (viewer, mut events) = Stack::build(&config(&codecs, 16_384)).await.expect("builds");
        viewer.receive(MediaKind::Video).await.expect("receives");
        viewer.receive(MediaKind::Audio).await.expect("receives");
        let offer = viewer.connection().create_offer(None).await.expect("offers");
        let text = offer.sdp.clone();
        viewer.set_local(offer).await.expect("sets");
        let (master, mut queues) = Stack::build(&config(&codecs, 0)).await.expect("builds");
        let video = LocalTrack::with_rtx(Codec::H264, "s", "video");
        master.add_track(&video).await.expect("attaches");
        let answer = master.answer(&text).await.expect("answers");
        assert!(answer.contains("a=ssrc-group:FID"), "it resends by RTX: {answer}");
        viewer.apply_answer(&change(answer)).await.expect("applies");
        let candidate = within("an address", async {
            loop {
                if let Some(StackEvent::Candidate(text)) = queues.events.recv().await {
                    return text;
                }
            }
        });
        let candidate = candidate.await;
        let words: Vec<&str> = candidate.split(' ').collect();
        let address: SocketAddr = format!("{}:{}", words[4], words[5]).parse().expect("one");
        let path = Path::open(address).await.expect("sockets");
        let port = path.address().expect("bound").port().to_string();
        let candidate = candidate.replace(&format!(" {} ", address.port()), &format!(" {port} "));
        viewer.add_candidate(&candidate).await.expect("adds");
        let media = events.media.take().expect("a receiver has media");
        Self { viewer, events, media, master, _queues: queues, video, path }
    }

    /// Sends the packets of a frame, once the other side accepts them.
    async fn send(&self, frame: u16) {
        for n in 0..PACKETS {
            let begins = if frame.is_multiple_of(GROUP) { 0x85 } else { 0x81 };
            let mut payload = vec![0x7c, begins];
            payload.resize(1000, 0);
            let seq = frame.wrapping_mul(PACKETS).wrapping_add(n);
            let rtp = packet(seq, u32::from(frame) * 3000, n == PACKETS - 1, &payload);
            within("the connection", async {
                while self.video.send(rtp.clone()).await.is_err() {
                    sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }

    async fn close(self) {
        self.viewer.close().await.expect("closes");
        self.master.close().await.expect("closes");
        drop(self.events);
    }
}

/// The results of sending [`FRAMES`] frames.
#[derive(Debug)]
struct Result {
    decodable: usize,
    lost: usize,
    resent: usize,
    repeated: usize,
}

async fn watched(loss: f64, seed: u64, change: impl FnOnce(String) -> String) -> Result {
    let mut pair = Pair::connected(change).await;
    // Send the first frame until one arrives, because DTLS takes time to connect.
    within("the first packet", async {
        loop {
            pair.send(0).await;
            if timeout(Duration::from_millis(50), pair.media.recv()).await.is_ok() {
                return;
            }
        }
    })
    .await;
    while timeout(Duration::from_millis(300), pair.media.recv()).await.is_ok() {}
    let before = pair.path.seen();
    pair.path.impair(loss, Duration::from_millis(20), seed);
    let mut frames: BTreeMap<u32, BTreeMap<u16, usize>> = BTreeMap::new();
    let mut take = |arrival: RtpArrival| {
        let header = arrival.packet.header;
        assert_eq!(header.payload_type, Codec::H264.payload_type());
        assert_eq!(arrival.packet.payload.len(), 1000, "restored whole");
        let frame = frames.entry(header.timestamp / 3000).or_default();
        *frame.entry(header.sequence_number).or_default() += 1;
    };
    let mut beat = ticks();
    for frame in 1..=FRAMES {
        pair.send(frame).await;
        for _ in 0..3 {
            beat.tick().await;
        }
        while let Ok(arrival) = pair.media.try_recv() {
            take(arrival);
        }
    }
    while let Ok(Some(arrival)) = timeout(Duration::from_millis(2000), pair.media.recv()).await {
        take(arrival);
    }
    let (seen, media, rtx) = (pair.path.seen(), 102, 103);
    let count = |map: &BTreeMap<u8, usize>, kind| map.get(&kind).copied().unwrap_or_default();
    let whole =
        |frame: u16| frames.get(&u32::from(frame)).is_some_and(|f| f.len() == usize::from(PACKETS));
    let mut decodable = 0;
    let mut is_fed = true;
    for frame in 1..=FRAMES {
        is_fed = whole(frame) && (is_fed || frame.is_multiple_of(GROUP));
        decodable += usize::from(is_fed);
    }
    let repeated = frames.values().flat_map(BTreeMap::values).filter(|count| **count > 1).count();
    let result = Result {
        decodable,
        lost: count(&seen.lost, media) + count(&seen.lost, rtx),
        resent: count(&seen.sent, rtx) - count(&before.sent, rtx),
        repeated,
    };
    eprintln!("rtx: {loss}: {result:?} of {FRAMES} frames");
    pair.close().await;
    result
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_are_recovered_by_rtx() {
    let (one, three, five) = tokio::join!(
        watched(0.01, 1, |answer| answer),
        watched(0.03, 2, |answer| answer),
        watched(0.05, 3, |answer| answer)
    );
    for (result, percent) in [(one, 95), (three, 80), (five, 60)] {
        let least = usize::from(FRAMES) * percent / 100;
        assert!(result.lost > 0 && result.decodable >= least, "{percent} % of them: {result:?}");
        // Requests may be lost too, and a suspended machine delays answers.
        assert!(result.resent <= 3 * result.lost, "{result:?}");
        assert_eq!(result.repeated, 0, "each packet comes once: {result:?}");
    }
}

/// The master does not declare which of its streams repeats which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undeclared_rtx_stream_is_still_used() {
    let undeclared = |answer: String| {
        let group = answer.lines().find_map(|line| line.strip_prefix("a=ssrc-group:FID "));
        let rtx = group.and_then(|group| group.split_whitespace().nth(1)).expect("a pair");
        let source = format!("a=ssrc:{rtx} ");
        let declares = |line: &&str| line.starts_with("a=ssrc-group") || line.starts_with(&source);
        let lines = answer.lines().filter(|line| !declares(line));
        lines.map(|line| format!("{line}\r\n")).collect()
    };
    let result = watched(0.03, 4, undeclared).await;
    assert!(result.decodable >= usize::from(FRAMES) * 80 / 100, "{result:?}");
}

/// Without RTX in common, a master resends on the media stream.
#[tokio::test]
async fn retransmissions_are_offered_for_each_video_codec() {
    let codecs = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Opus];
    let (viewer, _events) = Stack::build(&config(&codecs, 1)).await.expect("builds");
    viewer.receive(MediaKind::Video).await.expect("receives");
    viewer.receive(MediaKind::Audio).await.expect("receives");
    let offer = viewer.connection().create_offer(None).await.expect("offers").sdp;
    for (media, rtx) in [(102, 103), (96, 97), (98, 99)] {
        assert!(offer.contains(&format!("a=rtpmap:{rtx} rtx/90000")), "{offer}");
        assert!(offer.contains(&format!("a=fmtp:{rtx} apt={media}")), "{offer}");
        assert!(
            offer.contains(&format!("a=rtcp-fb:{media} nack \r\n"))
                || offer.contains(&format!("a=rtcp-fb:{media} nack\r\n")),
            "{offer}"
        );
        assert!(!offer.contains(&format!("a=rtcp-fb:{rtx} ")), "{offer}");
    }
    assert_eq!(offer.matches("rtx/90000").count(), 3);
    viewer.close().await.expect("closes");
}
