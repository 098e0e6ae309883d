//! Tests the assembler with reordered, lost and repeated packets.

use std::time::Duration;

use bytes::Bytes;
use encoded_frames::h264::length_prefixed_nals;
use encoded_frames::rtp::Packet;
use encoded_frames::{AssemblerConfig, AudioCodec, Codec, Frame, FrameAssembler, VideoCodec};
use proptest::prelude::*;
use recording::{Clip, ClipKind, Packetizer, PacketizerConfig};

const H264: Codec = Codec::Video(VideoCodec::H264);
const VP8: Codec = Codec::Video(VideoCodec::Vp8);

/// Returns the packets of the bundled clip's first pictures, one list each.
fn pictures(codec: Codec, ssrc: u32, count: usize) -> Vec<Vec<Packet>> {
    // Small packets divide a keyframe into several.
    cut(codec, ssrc, count, 300)
}

fn cut(codec: Codec, ssrc: u32, count: usize, mtu: usize) -> Vec<Vec<Packet>> {
    let kind = if codec == H264 { ClipKind::H264Opus } else { ClipKind::Vp8Opus };
    let clip = Clip::bundled(kind).unwrap();
    let config = PacketizerConfig { mtu, ..PacketizerConfig::new(ssrc, 96, 65_530) };
    let mut packetizer = Packetizer::new(codec, config);
    clip.video().unwrap().samples[..count]
        .iter()
        .map(|sample| {
            packetizer.packetize(&sample.data, u32::try_from(sample.pts).unwrap()).unwrap()
        })
        .collect()
}

fn at(index: usize) -> Duration {
    Duration::from_millis(10 * u64::try_from(index).unwrap())
}

fn push_all(
    assembler: &mut FrameAssembler,
    packets: impl IntoIterator<Item = Packet>,
) -> Vec<Frame> {
    for (index, packet) in packets.into_iter().enumerate() {
        assembler.push(at(index), packet);
    }
    std::iter::from_fn(|| assembler.pop()).collect()
}

#[test]
fn first_keyframe_is_reported_with_its_last_packet() {
    for codec in [H264, VP8] {
        let packets: Vec<Packet> = pictures(codec, 1, 2).concat();
        let first = pictures(codec, 1, 1)[0].len();
        assert!(first > 2);
        let mut assembler = FrameAssembler::new(codec);
        for (index, packet) in packets.into_iter().enumerate() {
            assert_eq!(assembler.stats().first_keyframe_at.is_some(), index >= first);
            assert_eq!(assembler.needs_keyframe(), index < first);
            assembler.push(at(index), packet);
        }
        assert_eq!(assembler.stats().first_keyframe_at, Some(at(first - 1)));
        let frame = assembler.pop().unwrap();
        assert_eq!((frame.keyframe, frame.size), (true, Some((320, 240))));
        assert_eq!(frame.parameter_sets.is_some(), codec == H264);
    }
}

#[test]
fn keyframe_with_missing_packet_waits_for_retransmission() {
    for codec in [H264, VP8] {
        let mut packets = pictures(codec, 1, 1).concat();
        let missing = packets.remove(1);
        let mut assembler = FrameAssembler::new(codec);
        assert_eq!(push_all(&mut assembler, packets), []);
        assert_eq!(assembler.stats().first_keyframe_at, None);
        // A retransmission comes 300 ms later.
        assembler.push(Duration::from_millis(300), missing);
        assert_eq!(assembler.stats().first_keyframe_at, Some(Duration::from_millis(300)));
        assembler.flush();
        assert_eq!(assembler.pop().map(|frame| frame.completed), Some(Duration::from_millis(300)));
    }
}

#[test]
fn lost_packet_drops_pictures_until_next_keyframe() {
    for codec in [H264, VP8] {
        let mut pictures = pictures(codec, 1, 40);
        pictures[10].remove(0);
        let mut assembler = FrameAssembler::new(codec);
        let mut frames = push_all(&mut assembler, pictures.concat());
        assembler.flush();
        frames.extend(std::iter::from_fn(|| assembler.pop()));
        // Pictures 0 to 9 are output, and those from keyframe 30 on. If picture 10 was one packet,
        // it is not even counted.
        assert_eq!(frames.len(), 20);
        assert!(frames[10].keyframe);
        assert_eq!(assembler.stats().lost, 1);
        assert!((19..=20).contains(&assembler.stats().frames_dropped));
    }
}

#[test]
fn late_packet_of_previous_ssrc_does_not_switch_back() {
    let mut old = pictures(VP8, 1, 3).concat();
    let straggler = old.pop().unwrap();
    let mut assembler = FrameAssembler::new(VP8);
    assert_eq!(push_all(&mut assembler, old).len(), 2);
    let new: Vec<Packet> = pictures(VP8, 2, 2).concat();
    let mut new = new.into_iter();
    assembler.push(Duration::from_secs(1), new.next().unwrap());
    assembler.push(Duration::from_secs(1), straggler);
    for packet in new {
        assembler.push(Duration::from_secs(1), packet);
    }
    assert_eq!(assembler.ssrc(), Some(2));
    assert_eq!((assembler.stats().source_changes, assembler.stats().late), (1, 1));
    assert_eq!(assembler.pop().map(|frame| (frame.keyframe, frame.epoch)), Some((true, 1)));
}

#[test]
fn restarted_sender_is_followed_with_new_epoch() {
    let mut assembler = FrameAssembler::new(VP8);
    assert_eq!(push_all(&mut assembler, pictures(VP8, 1, 3).concat()).len(), 3);
    // Run it twice: the first packet of a new sequence is only a hint.
    for round in 0..2 {
        for mut packet in pictures(VP8, 1, 3).concat() {
            packet.header.sequence_number = packet.header.sequence_number.wrapping_add(20_000);
            assembler.push(Duration::from_secs(2 + round), packet);
        }
    }
    let frames: Vec<Frame> = std::iter::from_fn(|| assembler.pop()).collect();
    assert!(frames.iter().all(|frame| frame.epoch == 1));
    assert!(assembler.stats().duplicate + assembler.stats().late > 0);
}

#[test]
fn parameter_sets_sent_before_are_added_to_keyframe() {
    let clip = Clip::bundled(ClipKind::H264Opus).unwrap();
    let data = clip.video().unwrap().samples[0].data.clone();
    let mut assembler = FrameAssembler::new(H264);
    // The STAP-A of SPS and PPS comes first, with its own marker and timestamp.
    let mut packets = pictures(H264, 1, 1).concat();
    packets[0].header.marker = true;
    packets[0].header.timestamp = 1;
    assert_eq!(packets[0].payload[0] & 0x1f, 24);
    assert_eq!(push_all(&mut assembler, packets), []);
    assembler.flush();
    let frames: Vec<Frame> = std::iter::from_fn(|| assembler.pop()).collect();
    assert_eq!(frames.len(), 1);
    let sets = frames[0].parameter_sets.clone().unwrap();
    let nals: Vec<&[u8]> = length_prefixed_nals(&frames[0].data).collect();
    assert_eq!(nals[..2], [&sets.sps[..], &sets.pps[..]]);
    assert_eq!(frames[0].data.len(), data.len());

    // Without parameter sets, an IDR picture cannot be decoded.
    let mut bare = FrameAssembler::new(H264);
    assert_eq!(push_all(&mut bare, pictures(H264, 1, 1).concat().split_off(1)), []);
    bare.flush();
    assert_eq!((bare.stats().without_parameter_sets, bare.pop()), (1, None));
    assert!(bare.needs_keyframe());
}

#[test]
fn padding_and_unmarked_frames_are_tolerated() {
    let mut pictures = pictures(VP8, 1, 3);
    for picture in &mut pictures {
        picture.last_mut().unwrap().header.marker = false;
    }
    let mut packets = pictures.concat();
    let mut padding = packets.last().unwrap().clone();
    padding.header.sequence_number = padding.header.sequence_number.wrapping_add(1);
    padding.payload = Bytes::new();
    packets.push(padding);
    let mut assembler = FrameAssembler::new(VP8);
    // The third picture has neither a marker nor a successor.
    assert_eq!(push_all(&mut assembler, packets).len(), 2);
}

#[test]
fn endless_fragment_is_dropped_at_frame_size_limit() {
    let config = AssemblerConfig { frame_bytes_max: 10_000, ..AssemblerConfig::default() };
    let mut assembler = FrameAssembler::with_config(H264, config);
    for sequence in 0..100 {
        let mut packet = Packet::default();
        packet.header.sequence_number = sequence;
        // FU-A of an IDR picture: one beginning, then never an end, a marker or another timestamp.
        let mut payload = vec![0x7c, if sequence == 0 { 0x85 } else { 0x05 }, 0x88];
        payload.resize(1000, 0);
        packet.payload = payload.into();
        assembler.push(at(usize::from(sequence)), packet);
        assert!(assembler.partial_bytes() <= 10_000);
    }
}

#[test]
fn audio_packet_is_keyframe_despite_loss() {
    let mut assembler = FrameAssembler::new(Codec::Audio(AudioCodec::Opus));
    let mut packet = pictures(VP8, 1, 1).concat().remove(0);
    packet.payload = Bytes::from_static(&[0xf8, 1, 2]);
    assembler.push(at(0), packet.clone());
    packet.header.sequence_number = packet.header.sequence_number.wrapping_add(2);
    assembler.push(at(1), packet);
    assembler.flush();
    assert_eq!((assembler.stats().frames, assembler.stats().lost), (2, 1));
    assert!(assembler.pop().is_some_and(|frame| frame.keyframe));
}

proptest! {
    /// Packets of any content and order neither panic nor accumulate.
    #[test]
    fn nothing_panics(
        codec in prop_oneof![Just(H264), Just(VP8), Just(Codec::Video(VideoCodec::Vp9))],
        packets in proptest::collection::vec(
            (any::<u16>(), 0u32..4, 0u32..3, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..12)),
            0..200,
        ),
    ) {
        let config = AssemblerConfig { reorder_packets_max: 32, ..AssemblerConfig::default() };
        let mut assembler = FrameAssembler::with_config(codec, config);
        for (index, (sequence, timestamp, ssrc, marker, payload)) in packets.into_iter().enumerate() {
            let mut packet = Packet::default();
            packet.header.sequence_number = sequence % 300;
            packet.header.timestamp = timestamp;
            packet.header.ssrc = ssrc / 2;
            packet.header.marker = marker;
            packet.payload = Bytes::from(payload);
            assembler.push(at(index), packet);
            while assembler.pop().is_some() {}
        }
        assembler.flush();
    }
}

/// With losses, the output is all pictures up to one that lacks a packet, and those from the next
/// complete keyframe on.
#[test]
fn losses_drop_pictures_only_until_next_complete_keyframe() {
    for (codec, mtu) in [(H264, 300), (VP8, 300), (H264, 1200), (VP8, 1200)] {
        let all = cut(codec, 1, 300, mtu);
        let mut chance = 3u64;
        let mut packets = Vec::new();
        let mut good = false;
        let mut expected = Vec::new();
        for (index, picture) in all.iter().enumerate() {
            let mut whole = true;
            for packet in picture {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if (chance >> 33) % 100 < 2 && index > 0 {
                    whole = false;
                } else {
                    packets.push((index, packet.clone()));
                }
            }
            good = whole && (good || index % 30 == 0);
            if good {
                expected.push(picture[0].header.timestamp);
            }
        }
        let mut assembler = FrameAssembler::new(codec);
        let mut frames = Vec::new();
        for (index, packet) in packets {
            assembler.push(at(index * 7), packet);
            frames.extend(std::iter::from_fn(|| assembler.pop()));
        }
        assembler.flush();
        frames.extend(std::iter::from_fn(|| assembler.pop()));
        let given: Vec<u32> = frames.iter().map(|frame| frame.rtp_timestamp).collect();
        assert_eq!(given, expected, "{codec} in packets of {mtu}");
    }
}
