//! Tests the reports, the frames and the limits.

use super::*;

const VIDEO: News =
    News { flowing: Some(MediaKind::Video), keyframe: false, request: false, problem: None };

fn arrival(ssrc: u32, payload_type: u8, seq: u16, at: Instant) -> RtpArrival {
    let header = rtc::rtp::Header {
        ssrc,
        payload_type,
        sequence_number: seq,
        marker: true,
        ..Default::default()
    };
    // A VP8 keyframe of 320 x 240 in one packet.
    let payload = [0x10, 0x30, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 0x00];
    RtpArrival { packet: rtc::rtp::Packet { header, payload: payload.to_vec().into() }, at }
}

fn received(
    peer: u32,
    codecs: &[Codec],
    media: &Arc<Mailbox<MediaEvent>>,
    start: Instant,
) -> Received {
    Received::new(PeerId(peer), codecs, Arc::clone(media), MediaClock::new(start), false)
}

#[tokio::test]
async fn each_packet_of_g711_is_a_frame() {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    let start = Instant::now();
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let media = Arc::new(Mailbox::new(1000));
        let mut received = received(1, &[Codec::Opus, Codec::Pcmu, Codec::Pcma], &media, start);
        let mut counters = Counters::default();
        received.take(arrival(1, codec.payload_type(), 1, start), &mut counters);
        let track = media.next().await;
        assert!(
            matches!(track, Some(MediaEvent::Track { codec: reported, .. }) if reported == codec)
        );
        let Some(MediaEvent::Frame { kind, frame, .. }) = media.next().await else {
            panic!("no frame of {codec:?}");
        };
        assert_eq!((kind, frame.codec, frame.data.len()), (MediaKind::Audio, codec.encoded(), 12));
    }
}

#[tokio::test]
async fn first_packets_are_reported_once_and_streams_are_limited() {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    let start = Instant::now();
    let media = Arc::new(Mailbox::new(1000));
    let mut received = received(1, &[Codec::Vp8], &media, start);
    let mut counters = Counters::default();
    let first = received.take(arrival(1, 96, 1, start), &mut counters);
    assert_eq!(first, VIDEO);
    // One packet with a marker does not prove that the next one belongs to another picture.
    let second = received.take(arrival(1, 96, 2, start), &mut counters);
    assert_eq!(second, News { keyframe: true, ..News::default() });
    assert_eq!(received.take(arrival(1, 96, 3, start), &mut counters), News::default());
    // This payload type was not offered.
    assert_eq!(received.take(arrival(2, 50, 1, start), &mut counters), News::default());
    for ssrc in 0..200 {
        received.take(arrival(ssrc, 96, 1, start), &mut counters);
    }
    assert_eq!((received.streams.len(), counters.snapshot(start).len()), (32, 32));
    let mut stalled =
        |after| received.stalled_since(start + Duration::from_secs(after), Duration::from_secs(2));
    assert_eq!([stalled(0), stalled(2), stalled(3)], [None, Some(start), None]);
    let report = |after| {
        let at = start + Duration::from_millis(after);
        Control::SenderReport { ssrc: 1, ntp: 0, rtp: 0, at }
    };
    let reported = [0, 999, 1000, 1500, 2100].map(|after| received.control(report(after)));
    assert_eq!(reported, [true, false, true, false, true], "at most one a second");
    let again = received.take(arrival(1, 96, 4, start), &mut counters);
    assert!(!received.control(report(9000)), "media flows: no request");
    assert_eq!(again, VIDEO);
    assert!(matches!(media.next().await, Some(MediaEvent::Track { ssrc: 1, .. })));
    assert!(matches!(media.next().await, Some(MediaEvent::Frame { .. })));
}

/// A camera may run for hours and take a new SSRC with each restart of its encoder.
#[tokio::test]
async fn new_source_replaces_longest_silent_one() {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    let start = Instant::now();
    let media = Arc::new(Mailbox::new(10_000));
    let codecs = [Codec::Vp8, Codec::Opus];
    let mut received = received(1, &codecs, &media, start);
    let mut counters = Counters::default();
    for n in 0..100 {
        let at = start + Duration::from_secs(60) * n;
        received.take(arrival(7, Codec::Opus.payload_type(), 1, start), &mut counters);
        received.take(arrival(1000 + n, 96, 1, at), &mut counters);
        assert!(received.streams.contains_key(&(1000 + n)), "{n}");
        assert_eq!(received.stalled_since(at, Duration::from_secs(2)), None, "{n}");
    }
    assert!(received.streams.contains_key(&7), "no picture takes the place of sound");
    let counted = counters.snapshot(start).into_iter().map(|stream| stream.ssrc);
    assert!(counted.eq(received.streams.keys().copied()), "those that are followed");
    // Random SSRCs are not followed and do not count as silent streams.
    let at = start + Duration::from_secs(60) * 100;
    for ssrc in 5000..6000 {
        received.take(arrival(ssrc, 96, 1, at), &mut counters);
    }
    let begun = |n| received.streams.contains_key(&n);
    assert_eq!((5000..6000).filter(|n| begun(*n)).count(), STREAMS_MAX - 1);
    let after = at + Duration::from_secs(3);
    for ssrc in 6000..6010 {
        received.take(arrival(ssrc, 96, 1, after), &mut counters);
    }
    let begun = |n: &u32| received.streams.contains_key(n);
    assert_eq!((6000..6010).filter(begun).count(), 3, "one a second");
    let limit = Duration::from_secs(2);
    assert_eq!(received.stalled_since(after + limit / 2, limit), None);
}

/// An application that reads no media does not keep a session from going live, and what it reads
/// later begins with the start of the stream.
#[tokio::test]
async fn full_mailbox_drops_packets_of_the_application_only() {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    let start = Instant::now();
    let media = Arc::new(Mailbox::new(1));
    media.push(MediaEvent::Ended { peer: PeerId(1), totals: Default::default() });
    let mut received = received(2, &[Codec::Vp8], &media, start);
    let mut counters = Counters::default();
    let first = received.take(arrival(1, 96, 1, start), &mut counters);
    assert_eq!(first, VIDEO);
    received.take(arrival(2, 96, 1, start), &mut counters);
    let report = Control::SenderReport { ssrc: 2, ntp: 0, rtp: 0, at: start };
    received.control(report);
    assert_eq!(received.source(), Some(2), "a keyframe is requested of the new source");
    assert_eq!(counters.snapshot(start).len(), 2);
    assert_eq!(media.lost(), 2, "a packet each");
    assert!(matches!(media.next().await, Some(MediaEvent::Ended { .. })));
    received.control(report);
    received.take(arrival(2, 96, 2, start), &mut counters);
    let track = media.next().await;
    assert!(matches!(track, Some(MediaEvent::Track { ssrc: 2, .. })), "{track:?}");
    received.take(arrival(2, 96, 3, start), &mut counters);
    let packet = media.next().await;
    assert!(matches!(packet, Some(MediaEvent::Frame { .. })), "told once: {packet:?}");
    assert_eq!(media.lost(), 3, "there was room for the track alone");
}

fn problems(payloads: &[(u8, &[u8])], sets: Vec<Bytes>) -> (Vec<MediaProblem>, bool) {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    let start = Instant::now();
    let media = Arc::new(Mailbox::new(1000));
    let mut received = received(1, &[Codec::H264], &media, start);
    received.use_parameter_sets(sets);
    let (mut counters, mut problems, mut live) = (Counters::default(), Vec::new(), false);
    for (index, (payload_type, payload)) in payloads.iter().enumerate() {
        let index = u16::try_from(index).expect("few");
        let at = start + Duration::from_millis(40) * u32::from(index);
        let mut arrival = arrival(1, *payload_type, index, at);
        if payload.is_empty() {
            continue;
        }
        arrival.packet.header.timestamp = u32::from(index) * 3600;
        arrival.packet.payload = payload.to_vec().into();
        let news = received.take(arrival, &mut counters);
        problems.extend(news.problem);
        live |= news.keyframe;
    }
    let news = received.advance(start + Duration::from_secs(60), &mut counters);
    problems.extend(news.problem);
    (problems, live || news.keyframe)
}

const P_SLICE: (u8, &[u8]) = (102, &[0x41, 0xe0, 0x20, 0x80]);
const IDR: (u8, &[u8]) = (102, &[0x65, 0xb8, 0x40, 0x80]);
/// Constrained baseline, 320 x 240, and a picture parameter set.
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

#[test]
fn reason_for_missing_video_is_reported() {
    let none = Vec::new();
    let other_type = [(50, P_SLICE.1); 30];
    assert_eq!(
        problems(&other_type, none.clone()),
        (vec![MediaProblem::UnofferedPayloadType], false)
    );
    assert_eq!(problems(&[P_SLICE; 30], none.clone()), (vec![MediaProblem::NoKeyframe], false));
    let without_sets = [[IDR; 1].as_slice(), &[P_SLICE; 30]].concat();
    assert_eq!(problems(&without_sets, none.clone()), (vec![MediaProblem::NoParameterSets], false));
    // The second half of every keyframe is lost.
    let fragment: (u8, &[u8]) = (102, &[0x7c, 0x85, 0xb8, 0x40]);
    let lost = [(102, SPS), (102, PPS), fragment, (102, &[]), P_SLICE, P_SLICE].repeat(5);
    assert_eq!(problems(&lost, none), (vec![MediaProblem::PacketLoss], false));
    // The answer contains the parameter sets.
    let sets = vec![Bytes::from_static(SPS), Bytes::from_static(PPS)];
    assert_eq!(problems(&without_sets, sets), (vec![], true));
}
