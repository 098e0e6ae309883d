//! Tests streams in the forms of real encoders: the same pictures must be output for every form.

use std::time::Duration;

use bytes::Bytes;
use encoded_frames::h264::{length_prefixed_nals, nal_type};
use encoded_frames::rtp::Packet;
use encoded_frames::{Codec, Frame, FrameAssembler, VideoCodec};
use proptest::prelude::*;

const H264: Codec = Codec::Video(VideoCodec::H264);

/// Writes bits, most significant first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn u(mut self, count: u32, value: u32) -> Self {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn ue(self, value: u32) -> Self {
        let length = u32::BITS - (value + 1).leading_zeros();
        self.u(length - 1, 0).u(length, value + 1)
    }

    /// Builds the NAL unit, with the stop bit and emulation prevention.
    fn nal(mut self, header: u8, body: &[u8]) -> Vec<u8> {
        self.0.push(true);
        let mut bytes: Vec<u8> = self
            .0
            .chunks(8)
            .map(|bits| bits.iter().enumerate().map(|(at, bit)| u8::from(*bit) << (7 - at)).sum())
            .collect();
        bytes.extend_from_slice(body);
        let mut nal = vec![header];
        for byte in bytes {
            if byte <= 3 && nal.ends_with(&[0, 0]) {
                nal.push(3);
            }
            nal.push(byte);
        }
        nal
    }
}

/// Builds a baseline SPS for pictures of 16 * `width` x 240.
fn sps(id: u32, width: u32) -> Vec<u8> {
    Bits::default()
        .u(8, 66)
        .u(16, 0xc0_1f)
        .ue(id)
        .ue(0)
        .ue(0)
        .ue(0)
        .ue(1)
        .u(1, 0)
        .ue(width - 1)
        .ue(14)
        .u(4, 0b1100)
        .nal(0x67, &[])
}

fn pps(id: u32, sps: u32) -> Vec<u8> {
    Bits::default()
        .ue(id)
        .ue(sps)
        .u(2, 0)
        .ue(0)
        .ue(0)
        .ue(0)
        .u(3, 0)
        .ue(0)
        .ue(0)
        .ue(0)
        .u(3, 0)
        .nal(0x68, &[])
}

/// Builds a slice of picture `number` since the last IDR picture.
fn slice(number: u32, first_macroblock: u32, pps: u32, body: &[u8]) -> Vec<u8> {
    let bits = Bits::default().ue(first_macroblock).ue(7).ue(pps).u(4, number % 16);
    let bits = if number == 0 { bits.ue(0) } else { bits };
    bits.u(4, number * 2 % 16).nal(if number == 0 { 0x65 } else { 0x41 }, body)
}

/// Builds an SEI message with a recovery point after this many pictures.
fn recovery_sei(pictures: u32) -> Vec<u8> {
    // The count, exact match, no broken link, no slice groups: 4 bits and the code.
    let bits = Bits::default().u(8, 6).u(8, 2).ue(pictures).u(4, 0b1000);
    let used = u32::try_from(bits.0.len()).unwrap();
    bits.u(32 - used, 1 << (31 - used)).nal(0x06, &[])
}

const SEI: &[u8] = &[0x06, 5, 2, 1, 2, 0x80];
const AUD: &[u8] = &[0x09, 0xf0];

/// Returns whether a unit has the marker, given its index and the number of units.
type Marked<'a> = &'a dyn Fn(usize, usize) -> bool;

/// A payload and its marker.
type Payload = (Vec<u8>, bool);

/// Assembles packets with the timestamps of their pictures, 40 ms apart.
fn assemble(assembler: &mut FrameAssembler, pictures: &[(u32, Vec<Payload>)]) -> Vec<Frame> {
    let mut packets = Vec::new();
    for (index, (timestamp, payloads)) in pictures.iter().enumerate() {
        for (payload, marker) in payloads {
            let mut packet = Packet::default();
            packet.header.sequence_number =
                u16::try_from(packets.len()).unwrap().wrapping_add(65_500);
            packet.header.timestamp = *timestamp;
            packet.header.marker = *marker;
            packet.payload = Bytes::copy_from_slice(payload);
            packets.push((Duration::from_millis(40 * u64::try_from(index).unwrap()), packet));
        }
    }
    push(assembler, packets)
}

fn push(assembler: &mut FrameAssembler, packets: Vec<(Duration, Packet)>) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (at, packet) in packets {
        assembler.push(at, packet);
        frames.extend(std::iter::from_fn(|| assembler.pop()));
    }
    assembler.flush();
    frames.extend(std::iter::from_fn(|| assembler.pop()));
    frames
}

/// Returns the slices of a frame.
fn slices(frame: &Frame) -> Vec<Vec<u8>> {
    let is_slice = |nal: &&[u8]| matches!(nal_type(nal), 1 | 5);
    length_prefixed_nals(&frame.data).filter(is_slice).map(<[u8]>::to_vec).collect()
}

/// Puts each unit into one payload, with a marker where `marked` returns true.
fn single(units: &[Vec<u8>], marked: impl Fn(usize, usize) -> bool) -> Vec<Payload> {
    let count = units.len();
    units.iter().enumerate().map(|(at, unit)| (unit.clone(), marked(at, count))).collect()
}

/// Builds ten pictures of four slices each; the first is an IDR picture after the `head` units.
fn four_slices(head: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let picture = |number: u32| {
        let slices =
            (0..4).map(|at| slice(number, at * 75, 0, &[7, u8::try_from(number).unwrap()]));
        let head = if number == 0 { head } else { &[] };
        head.iter().cloned().chain(slices).collect()
    };
    (0..10).map(picture).collect()
}

fn sets() -> Vec<Vec<u8>> {
    vec![sps(0, 20), pps(0, 0)]
}

fn check(expected: &[Vec<Vec<u8>>], frames: &[Frame], missing: usize) {
    assert_eq!(frames.len(), expected.len() - missing);
    for (index, (frame, units)) in frames.iter().zip(expected).enumerate() {
        let expected: Vec<Vec<u8>> =
            units.iter().filter(|unit| matches!(unit[0] & 0x1f, 1 | 5)).cloned().collect();
        assert_eq!(slices(frame), expected, "{index}");
        assert_eq!(frame.keyframe, index == 0, "{index}");
    }
    assert_eq!(frames[0].size, Some((320, 240)));
    let head: Vec<u8> = length_prefixed_nals(&frames[0].data).take(2).map(nal_type).collect();
    assert_eq!(head, [7, 8]);
}

#[test]
fn any_marker_placement_keeps_picture_boundaries() {
    let last = |at: usize, count: usize| at + 1 == count;
    let slices_alone = |at: usize, _: usize| at >= 2;
    // Each entry has the marker rule, and the number of pictures that are incomplete at the end.
    let modes: [(Marked<'_>, usize); 4] =
        [(&last, 0), (&|_, _| true, 1), (&slices_alone, 1), (&|_, _| false, 1)];
    for (mode, (marked, missing)) in modes.into_iter().enumerate() {
        let pictures = four_slices(&sets());
        let packets: Vec<_> =
            (0..).zip(&pictures).map(|(at, units)| (at * 6000, single(units, marked))).collect();
        let mut assembler = FrameAssembler::new(H264);
        let frames = assemble(&mut assembler, &packets);
        check(&pictures, &frames, missing);
        assert_eq!(assembler.stats().frames_dropped, 0, "mode {mode}");
    }
}

#[test]
fn picture_with_proven_marker_is_output_at_once() {
    let pictures = four_slices(&sets());
    let last = |at: usize, count: usize| at + 1 == count;
    let mut assembler = FrameAssembler::new(H264);
    for (at, units) in (0..).zip(&pictures[..3]) {
        let frames_before = assembler.stats().frames;
        assert_eq!(frames_before, u64::from(at), "at once, but for the first");
        for (payload, marker) in single(units, last) {
            let mut packet = Packet::default();
            packet.header.sequence_number = u16::try_from(assembler.stats().packets).unwrap();
            packet.header.timestamp = at * 6000;
            packet.header.marker = marker;
            packet.payload = payload.into();
            assembler.push(Duration::from_millis(40 * u64::from(at)), packet);
        }
        if at == 0 {
            assert_eq!(assembler.stats().frames, 0, "the next packet may belong to it");
            assert_eq!(assembler.stats().first_keyframe_at, Some(Duration::ZERO));
            assert!(!assembler.needs_keyframe());
            assembler.advance(Duration::from_millis(20));
            assert_eq!(assembler.stats().frames, 0);
            assembler.advance(Duration::from_millis(100));
            assert_eq!(assembler.stats().frames, 1, "no packet came to say so");
        }
    }
}

#[test]
fn pictures_with_equal_timestamps_are_separated() {
    for marker in [0, 1, 2] {
        let marked = |at: usize, count: usize| marker == 2 || (marker == 1 && at + 1 == count);
        for aud in [false, true] {
            let pictures = four_slices(&sets());
            let packets: Vec<_> = pictures
                .iter()
                .map(|units| {
                    let head = if aud { vec![AUD.to_vec(), SEI.to_vec()] } else { Vec::new() };
                    (5, single(&[head, units.clone()].concat(), marked))
                })
                .collect();
            let frames = assemble(&mut FrameAssembler::new(H264), &packets);
            check(&pictures, &frames, usize::from(marker != 1));
        }
    }
}

#[test]
fn units_before_parameter_sets_are_tolerated() {
    let last = |at: usize, count: usize| at + 1 == count;
    for before in
        [vec![], vec![SEI.to_vec()], vec![AUD.to_vec(), SEI.to_vec()], vec![vec![0x0c, 0xff, 0x80]]]
    {
        let pictures = four_slices(&[before, sets()].concat());
        let packets: Vec<_> =
            (0..).zip(&pictures).map(|(at, units)| (at * 6000, single(units, last))).collect();
        let mut assembler = FrameAssembler::new(H264);
        let frames = assemble(&mut assembler, &packets);
        check(&pictures, &frames, 0);
    }
}

#[test]
fn parameter_sets_apply_with_any_timestamp_marker_or_source() {
    let last = |at: usize, count: usize| at + 1 == count;
    let stap = |units: &[Vec<u8>]| {
        let mut payload = vec![0x78];
        for unit in units {
            payload.extend_from_slice(&u16::try_from(unit.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(unit);
        }
        payload
    };
    let pictures = four_slices(&[]);
    let mut plain: Vec<_> =
        (1..).zip(&pictures).map(|(at, units)| (at * 6000, single(units, last))).collect();
    // The sets have their own, an old or the picture's timestamp, with and without a marker.
    for timestamp in [1, 6000, 12_000] {
        for marker in [false, true] {
            let mut packets = plain.clone();
            let mut first = packets.remove(0);
            let before = (timestamp, vec![(stap(&sets()), marker)]);
            // The previous picture has the old timestamp.
            packets.insert(0, (6000, vec![(slice(3, 0, 0, &[1]), true)]));
            first.0 = 12_000;
            for (at, packet) in (3..).zip(&mut packets[1..]) {
                packet.0 = at * 6000;
            }
            packets.insert(1, before);
            packets.insert(2, first);
            let mut assembler = FrameAssembler::new(H264);
            let frames = assemble(&mut assembler, &packets);
            check(&pictures, &frames, usize::from(marker && timestamp == 12_000));
        }
    }
    // The sets come only from outside the stream, with or without start codes.
    for code in [&[][..], &[0, 0, 0, 1]] {
        let mut assembler = FrameAssembler::new(H264);
        let sets: Vec<Bytes> = sets().iter().map(|set| [code, set].concat().into()).collect();
        assembler.add_parameter_sets(&sets);
        check(&pictures, &assemble(&mut assembler, &plain), 0);
    }
    let mut assembler = FrameAssembler::new(H264);
    assert_eq!(assemble(&mut assembler, &plain), []);
    assert_eq!(assembler.stats().without_parameter_sets, 1);
    // Sets in the stream take precedence over them.
    let mut assembler = FrameAssembler::new(H264);
    assembler.add_parameter_sets(&[sps(0, 40).into(), pps(0, 0).into()]);
    plain.insert(0, (1, vec![(stap(&sets()), false)]));
    check(&pictures, &assemble(&mut assembler, &plain), 0);
}

#[test]
fn keyframe_carries_parameter_sets_it_refers_to() {
    let last = |at: usize, count: usize| at + 1 == count;
    let sets = vec![sps(0, 20), sps(1, 40), pps(0, 0), pps(5, 1)];
    let second = vec![slice(0, 0, 5, &[2])];
    let pictures = [
        [sets, vec![slice(0, 0, 0, &[1])]].concat(),
        second,
        // From here the same id has another size.
        vec![sps(1, 60), slice(0, 0, 5, &[3])],
    ];
    let packets: Vec<_> =
        (1..).zip(&pictures).map(|(at, units)| (at * 6000, single(units, last))).collect();
    let frames = assemble(&mut FrameAssembler::new(H264), &packets);
    let sizes: Vec<_> = frames.iter().map(|frame| frame.size.unwrap().0).collect();
    assert_eq!(sizes, [320, 640, 960]);
    let used: Vec<_> = frames.iter().map(|frame| frame.parameter_sets.clone().unwrap()).collect();
    assert_eq!((&used[0].pps[..], &used[2].pps[..]), (&pps(0, 0)[..], &pps(5, 1)[..]));
    assert_eq!(&used[2].sps[..], sps(1, 60));
}

#[test]
fn recovery_point_begins_decoding_and_recovers_after_count() {
    let last = |at: usize, count: usize| at + 1 == count;
    let picture = |number: u32| match number % 4 {
        1 => [sets(), vec![recovery_sei(3), slice(number, 0, 0, &[1])]].concat(),
        _ => vec![slice(number, 0, 0, &[1])],
    };
    let packets: Vec<_> =
        (3..20).map(|number| (number * 6000, single(&picture(number), last))).collect();
    let mut assembler = FrameAssembler::new(H264);
    let frames = assemble(&mut assembler, &packets);
    // Pictures 3 and 4 come before the recovery point.
    let entries: Vec<_> =
        frames.iter().map(|frame| (frame.keyframe, frame.recovered)).take(5).collect();
    let expected = [(true, false), (false, false), (false, false), (false, true), (false, true)];
    assert_eq!(entries, expected);
    assert_eq!(frames.len(), 15);
    assert_eq!(assembler.stats().without_keyframe, 2);
    assert_eq!(assembler.stats().first_keyframe_at, Some(frames[3].completed));
}

#[test]
fn end_of_sequence_filler_and_padding_make_no_pictures() {
    let last = |at: usize, count: usize| at + 1 == count;
    let pictures = four_slices(&sets());
    let mut packets = Vec::new();
    for (at, units) in (1..).zip(&pictures) {
        packets.push((at * 6000 + 7, vec![(AUD.to_vec(), false)]));
        packets.push((at * 6000, single(units, last)));
        // These come after the marker, with the picture's timestamp or another.
        packets.push((at * 6000, vec![(vec![0x0c, 0xff, 0xff, 0x80], false), (vec![], false)]));
        packets.push((at * 6000 + 3000, vec![(vec![0x0a], true), (vec![0x0b], false)]));
    }
    let mut assembler = FrameAssembler::new(H264);
    let frames = assemble(&mut assembler, &packets);
    check(&pictures, &frames, 0);
    assert_eq!((assembler.stats().malformed, assembler.stats().frames_dropped), (0, 0));
}

#[test]
fn interleaved_packets_are_refused_and_counted() {
    for kind in [25, 26, 27, 29] {
        let mut assembler = FrameAssembler::new(H264);
        let payload = [&[0x60 | kind, 0, 1, 0, 4][..], &sps(0, 20)].concat();
        assert_eq!(assemble(&mut assembler, &[(1, vec![(payload, true)])]), []);
        assert_eq!(assembler.stats().malformed, 1, "{kind}");
    }
}

#[test]
fn lost_parameter_sets_are_not_replaced_by_old_ones() {
    let last = |at: usize, count: usize| at + 1 == count;
    let key = |width: u32| [vec![sps(0, width), pps(0, 0)], vec![slice(0, 0, 0, &[1])]].concat();
    let mut packets = Vec::new();
    for (index, units) in [key(20), key(40), key(40)].iter().enumerate() {
        for (payload, marker) in single(units, last) {
            let mut packet = Packet::default();
            packet.header.sequence_number = u16::try_from(packets.len()).unwrap();
            packet.header.timestamp = u32::try_from(index).unwrap() * 6000;
            packet.header.marker = marker;
            packet.payload = payload.into();
            packets.push((Duration::from_secs(u64::try_from(index).unwrap()), packet));
        }
    }
    // This packet has the second keyframe's new size.
    packets.remove(3);
    let frames = push(&mut FrameAssembler::new(H264), packets);
    let sizes: Vec<_> = frames.iter().map(|frame| frame.size.unwrap().0).collect();
    assert_eq!(sizes, [320, 640]);
}

/// The packetization of a stream.
#[derive(Clone, Debug)]
struct Form {
    /// Packets with a marker: 0: the last of a picture, 1: the last of each unit, 2: all, 3: none.
    marker: u8,
    /// 0: none, 1: three bytes, 2: four bytes, 3: units of a picture joined by four bytes.
    start_codes: u8,
    aggregate: bool,
    delimiter: bool,
    sei: bool,
    start_bit: bool,
    end_bit: bool,
    mtu: usize,
    still: bool,
}

fn form() -> impl Strategy<Value = Form> {
    (0u8..4, 0u8..4, any::<[bool; 6]>(), 20usize..90).prop_map(
        |(marker, start_codes, flags, mtu)| {
            let [aggregate, delimiter, sei, start_bit, end_bit, still] = flags;
            // Without start and end bits, two units cannot be separated.
            let start_bit = start_bit || !end_bit;
            Form { marker, start_codes, aggregate, delimiter, sei, start_bit, end_bit, mtu, still }
        },
    )
}

/// Generates pictures: whether each is a keyframe, and the lengths of its slices.
fn stream() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    proptest::collection::vec((any::<bool>(), proptest::collection::vec(1u8..120, 1..5)), 3..12)
}

/// Encodes the pictures as units.
fn encode(stream: &[(bool, Vec<u8>)]) -> Vec<Vec<Vec<u8>>> {
    let mut number = 0;
    let mut pictures = Vec::new();
    for (index, (key, lengths)) in stream.iter().enumerate() {
        number = if *key || index == 0 { 0 } else { number + 1 };
        let mut units = if number == 0 { sets() } else { Vec::new() };
        for (at, length) in (0..).zip(lengths) {
            let body = vec![u8::try_from(index).unwrap() | 0x40; usize::from(*length)];
            units.push(slice(number, at * 75, 0, &body));
        }
        pictures.push(units);
    }
    pictures
}

fn fragments(unit: &[u8], form: &Form) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = unit[1..].chunks(form.mtu).collect();
    let last = parts.len() - 1;
    let cut = |(at, part): (usize, &&[u8])| {
        let mut header = unit[0] & 0x1f;
        header |= if at == 0 && form.start_bit { 0x80 } else { 0 };
        header |= if at == last && form.end_bit { 0x40 } else { 0 };
        [&[unit[0] & 0xe0 | 28, header], *part].concat()
    };
    parts.iter().enumerate().map(cut).collect()
}

fn packetize(units: &[Vec<u8>], form: &Form) -> Vec<Payload> {
    let mut all = Vec::new();
    if form.delimiter {
        all.push(AUD.to_vec());
    }
    if form.sei {
        all.push(SEI.to_vec());
    }
    all.extend_from_slice(units);
    let code: &[u8] = match form.start_codes {
        0 => &[],
        1 => &[0, 0, 1],
        _ => &[0, 0, 0, 1],
    };
    if form.start_codes == 3 {
        all = vec![all.iter().map(|unit| [code, unit].concat()).collect::<Vec<_>>().concat()];
    } else {
        all = all.iter().map(|unit| [code, unit].concat()).collect();
    }
    let mut packets: Vec<Payload> = Vec::new();
    let mut small: Vec<u8> = Vec::new();
    for unit in &all {
        let is_set = matches!(unit[code.len()] & 0x1f, 6..=9);
        if form.aggregate && is_set && form.start_codes != 3 {
            small = if small.is_empty() { vec![0x78] } else { small };
            small.extend_from_slice(&u16::try_from(unit.len()).unwrap().to_be_bytes());
            small.extend_from_slice(unit);
            continue;
        }
        if !small.is_empty() {
            packets.push((std::mem::take(&mut small), form.marker == 1));
        }
        if unit.len() > form.mtu {
            // The fragments may lack a start bit, because no packet is lost here.
            let parts = fragments(unit, form);
            let last = parts.len() - 1;
            packets.extend(
                parts
                    .into_iter()
                    .enumerate()
                    .map(|(at, part)| (part, form.marker == 1 && at == last)),
            );
        } else {
            packets.push((unit.clone(), form.marker == 1));
        }
    }
    let count = packets.len();
    for (at, packet) in packets.iter_mut().enumerate() {
        packet.1 |= form.marker == 2 || (form.marker == 0 && at + 1 == count);
    }
    packets
}

proptest! {
    /// Any packetization, reordering and repetition of the same pictures gives the same frames.
    #[test]
    fn any_form_of_a_stream_gives_the_same_frames(
        stream in stream(),
        form in form(),
        shuffle in proptest::collection::vec((0u64..30, any::<bool>()), 400),
        shuffled in any::<bool>(),
    ) {
        let pictures = encode(&stream);
        let mut sent = Vec::new();
        for (index, units) in (0u32..).zip(&pictures) {
            // The sender's first packet is not a continuation, so it has its start bit.
            let form = if index == 0 { Form { start_bit: true, ..form.clone() } } else { form.clone() };
            for (payload, marker) in packetize(units, &form) {
                let mut packet = Packet::default();
                packet.header.sequence_number = u16::try_from(sent.len()).unwrap().wrapping_add(65_520);
                packet.header.timestamp = if form.still { 9 } else { index * 6000 };
                packet.header.marker = marker;
                packet.payload = payload.into();
                sent.push((u64::try_from(sent.len()).unwrap() * 5, packet));
            }
        }
        if shuffled {
            let copies: Vec<_> = sent
                .iter()
                .zip(&shuffle)
                .filter(|(_, (_, twice))| *twice)
                .map(|((at, packet), (delay, _))| (at + delay * 3, packet.clone()))
                .collect();
            // The first packet arrives first: an earlier start of the stream cannot be known.
            for ((at, _), (delay, _)) in sent.iter_mut().zip(&shuffle).skip(1) {
                *at += delay * 5;
            }
            sent.extend(copies);
            sent.sort_by_key(|(at, _)| *at);
        }
        let packets = sent.into_iter().map(|(at, packet)| (Duration::from_millis(at), packet)).collect();
        let mut assembler = FrameAssembler::new(H264);
        let frames = push(&mut assembler, packets);
        prop_assert_eq!(assembler.stats().malformed, 0);
        prop_assert_eq!(assembler.stats().frames_dropped, 0);
        // The last picture is complete only with a trusted marker, a last unit with an end bit.
        prop_assert!(pictures.len() - frames.len() <= 1 + usize::from(!form.end_bit));
        if form.marker == 0 && form.end_bit {
            prop_assert_eq!(pictures.len(), frames.len());
        }
        for (frame, units) in frames.iter().zip(&pictures) {
            let expected: Vec<Vec<u8>> =
                units.iter().filter(|unit| matches!(unit[0] & 0x1f, 1 | 5)).cloned().collect();
            prop_assert_eq!(slices(frame), expected);
            prop_assert_eq!(frame.keyframe, units[0][0] & 0x1f == 7);
        }
    }

    /// The same holds for VP8: markers on each packet or on none, and constant timestamps.
    #[test]
    fn any_form_of_a_vp8_stream_gives_the_same_frames(
        lengths in proptest::collection::vec(1usize..60, 2..12),
        marker in 0u8..3,
        still in any::<bool>(),
        mtu in 8usize..40,
    ) {
        let mut assembler = FrameAssembler::new(Codec::Video(VideoCodec::Vp8));
        let (mut packets, mut pictures) = (Vec::new(), Vec::new());
        for (index, length) in (0u32..).zip(&lengths) {
            let mut picture = if index == 0 {
                vec![0x30, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]
            } else {
                vec![0x31, 0, 0]
            };
            picture.resize(picture.len() + length, u8::try_from(index).unwrap());
            let parts: Vec<&[u8]> = picture.chunks(mtu).collect();
            for (at, part) in parts.iter().enumerate() {
                let mut packet = Packet::default();
                packet.header.sequence_number = u16::try_from(packets.len()).unwrap();
                packet.header.timestamp = if still { 1 } else { index * 3000 };
                packet.header.marker = marker == 1 || (marker == 0 && at + 1 == parts.len());
                packet.payload = [&[if at == 0 { 0x10 } else { 0 }], *part].concat().into();
                packets.push((Duration::from_millis(33 * u64::from(index)), packet));
            }
            pictures.push(picture);
        }
        let frames = push(&mut assembler, packets);
        prop_assert!(pictures.len() - frames.len() <= 1);
        prop_assert_eq!(assembler.stats().frames_dropped, 0);
        for (frame, picture) in frames.iter().zip(&pictures) {
            prop_assert_eq!(&frame.data[..], &picture[..]);
        }
    }
}
