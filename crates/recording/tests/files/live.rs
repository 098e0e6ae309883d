//! Live streams: what is written when, and what another reader makes of it.

use std::io::{Error, ErrorKind, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpeg2ts::ts::{ReadTsPacket, TsPacket, TsPacketReader, TsPayload};
use recording::{
    AudioCodec, Clip, ClipKind, Container, LiveOutput, RecordError, Recorder, RecorderConfig,
};

use crate::ffmpeg::{complaints, counters};
use crate::network::{Sender, Sent, video_codec};

/// What a pipe has taken.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Pipe {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const LIVE: [(Container, ClipKind, &str); 4] = [
    (Container::Matroska, ClipKind::H264Opus, "mkv"),
    (Container::WebM, ClipKind::Vp8Opus, "webm"),
    (Container::MpegTs, ClipKind::H264Opus, "ts"),
    (Container::H264, ClipKind::H264Opus, "h264"),
];

/// Streams what was sent; the length of the stream after each packet.
fn stream(container: Container, kind: ClipKind, sent: &[Sent]) -> (Vec<u8>, Vec<usize>) {
    let pipe = Pipe::default();
    let output = LiveOutput::writer("the test", pipe.clone());
    let mut recorder = Recorder::live(output, container, RecorderConfig::default()).unwrap();
    let video = recorder.add_video(video_codec(kind).0).unwrap();
    let audio = recorder.add_audio(AudioCodec::Opus).ok();
    let mut lengths = Vec::new();
    for Sent { at, video: is_video, packet } in sent {
        let track = if *is_video { Some(video) } else { audio };
        if let Some(track) = track {
            recorder.push_rtp(track, *at, packet.clone()).unwrap();
        }
        lengths.push(pipe.bytes().len());
    }
    recorder.finish().unwrap();
    (pipe.bytes(), lengths)
}

#[test]
fn each_frame_is_written_when_it_is_whole() {
    for (container, kind, _) in LIVE {
        let sent = Sender::wrapping(10).send(&Clip::bundled(kind).unwrap());
        let (_, lengths) = stream(container, kind, &sent);
        // No picture of the VP8 clip has two packets, so nothing proves that marks end pictures.
        let behind = usize::from(kind == ClipKind::Vp8Opus);
        let (mut sizes, mut picture, mut before) = (Vec::new(), 0, 0);
        for (sent, length) in sent.iter().zip(&lengths).filter(|(sent, _)| sent.video) {
            picture += sent.packet.payload.len();
            if sent.packet.header.marker {
                sizes.push(std::mem::take(&mut picture));
                // The first ones wait for the first audio.
                if sizes.len() > 8 {
                    let expected = sizes[sizes.len() - 1 - behind] - 3;
                    let written = length - before;
                    let count = sizes.len();
                    assert!(written >= expected, "{container}: {written} bytes of picture {count}");
                }
                before = *length;
            }
        }
        assert_eq!(sizes.len(), 150);
    }
}

#[test]
fn live_stream_decodes_without_a_complaint() {
    for (container, kind, extension) in LIVE {
        let sent = Sender::wrapping(10).send(&Clip::bundled(kind).unwrap());
        let (bytes, _) = stream(container, kind, &sent);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r").with_extension(extension);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(complaints(&path), "", "{container}");
        assert_eq!(counters(&path), (0..150).collect::<Vec<_>>(), "{container}");
    }
}

/// The stream, the time and the elementary data of a PES packet.
type Unit = (u16, u64, Vec<u8>);

fn demultiplex(bytes: &[u8]) -> (Vec<TsPacket>, Vec<Unit>) {
    let mut reader = TsPacketReader::new(bytes);
    let (mut packets, mut units) = (Vec::new(), Vec::<Unit>::new());
    while let Some(packet) = reader.read_ts_packet().unwrap() {
        let pid = packet.header.pid.as_u16();
        match &packet.payload {
            Some(TsPayload::PesStart(pes)) => {
                let time = pes.header.pts.unwrap().as_u64();
                units.push((pid, time, pes.data.to_vec()));
            }
            Some(TsPayload::PesContinuation(data)) => {
                let of_pid = units.iter_mut().rev().find(|unit| unit.0 == pid);
                of_pid.unwrap().2.extend_from_slice(data);
            }
            _ => {}
        }
        packets.push(packet);
    }
    (packets, units)
}

#[test]
fn transport_stream_holds_every_frame_and_can_be_joined_at_each_keyframe() {
    let clip = Clip::bundled(ClipKind::H264Opus).unwrap();
    let sent = Sender::wrapping(10).send(&clip);
    let (bytes, _) = stream(Container::MpegTs, ClipKind::H264Opus, &sent);
    assert_eq!(bytes.len() % TsPacket::SIZE, 0);
    let (packets, units) = demultiplex(&bytes);

    let video: Vec<_> = units.iter().filter(|unit| unit.0 == 0x100).collect();
    for (unit, sample) in video.iter().zip(&clip.video().unwrap().samples) {
        let mut expected = vec![0, 0, 0, 1, 9, 0xf0];
        expected.extend_from_slice(&sample.data);
        assert!(unit.2 == expected, "picture at {}", unit.1);
    }
    assert_eq!(video.len(), 150);
    assert!(video.windows(2).all(|pair| pair[1].1 - pair[0].1 == 6000), "15 pictures a second");

    let audio: Vec<_> = units.iter().filter(|unit| unit.0 == 0x101).collect();
    let original = &clip.audio().unwrap().samples;
    assert!(audio.len() > 480, "{} packets", audio.len());
    for unit in &audio {
        let mut length = 0;
        let mut at = 2;
        while unit.2[at] == 255 {
            (length, at) = (length + 255, at + 1);
        }
        length += usize::from(unit.2[at]);
        assert_eq!(unit.2[..2], [0x7f, 0xe0]);
        let packet = &unit.2[at + 1..];
        assert_eq!(packet.len(), length);
        assert!(original.iter().any(|sample| sample.data == packet));
    }

    let mut counters = std::collections::BTreeMap::new();
    let mut tables = 0;
    for packet in &packets {
        let field = packet.adaptation_field.as_ref();
        if let Some(payload) = &packet.payload {
            let (pid, counter) = (packet.header.pid.as_u16(), packet.header.continuity_counter);
            if let Some(last) = counters.insert(pid, counter.as_u8()) {
                assert_eq!(counter.as_u8(), (last + 1) % 16, "no packet of {pid} is missing");
            }
            tables += usize::from(matches!(payload, TsPayload::Pmt(_)));
            if field.is_some_and(|field| field.random_access_indicator)
                && packet.header.pid.as_u16() == 0x100
            {
                assert!(tables > 0);
                tables = 0;
            }
        }
    }
    assert_references_go_on(&packets);
}

/// The reference clock never steps back, and comes ten times a second (13818-1, 2.7.2).
fn assert_references_go_on(packets: &[TsPacket]) {
    let fields = packets.iter().filter_map(|packet| packet.adaptation_field.as_ref());
    let references: Vec<u64> = fields.filter_map(|field| Some(field.pcr?.as_u64())).collect();
    for pair in references.windows(2) {
        let step = pair[1].checked_sub(pair[0]).expect("it steps back");
        assert!((1..=27_000_000 / 10).contains(&step), "{step} ticks of 27 MHz");
    }
}

#[test]
fn reference_clock_goes_on_while_video_pauses() {
    let clip = Clip::bundled(ClipKind::H264Opus).unwrap();
    let mut sent = Sender::wrapping(10).send(&clip);
    let begin = sent[0].at;
    let pause = begin + Duration::from_secs(4)..begin + Duration::from_secs(6);
    sent.retain(|sent| !(sent.video && pause.contains(&sent.at)));
    // Video arrives after the audio of a later time.
    for sent in sent.iter_mut().filter(|sent| sent.video) {
        sent.at += Duration::from_millis(150);
    }
    sent.sort_by_key(|sent| sent.at);
    let (bytes, _) = stream(Container::MpegTs, ClipKind::H264Opus, &sent);
    let (packets, units) = demultiplex(&bytes);
    assert_eq!(units.iter().filter(|unit| unit.0 == 0x100).count(), 120);
    assert_references_go_on(&packets);
}

#[test]
fn audio_that_comes_late_is_added_to_a_transport_stream() {
    let clip = Clip::bundled(ClipKind::H264Opus).unwrap();
    let mut sent = Sender::wrapping(10).send(&clip);
    sent.retain(|sent| sent.video || sent.at > Duration::from_secs(8));
    let (bytes, lengths) = stream(Container::MpegTs, ClipKind::H264Opus, &sent);
    let waited = sent.iter().zip(&lengths).find(|(_, length)| **length > 0).unwrap().0.at;
    let waited = waited - sent[0].at;
    assert!(waited >= Duration::from_millis(500), "{waited:?}");
    assert!(waited < Duration::from_millis(700), "{waited:?}");
    let (packets, units) = demultiplex(&bytes);
    assert_eq!(units.iter().filter(|unit| unit.0 == 0x100).count(), 150);
    assert!(units.iter().filter(|unit| unit.0 == 0x101).count() > 200);
    let mut streams = Vec::new();
    for packet in &packets {
        if let Some(TsPayload::Pmt(pmt)) = &packet.payload {
            let described = (pmt.version_number.as_u8(), pmt.es_info.len());
            if streams.last() != Some(&described) {
                streams.push(described);
            }
        }
    }
    assert_eq!(streams, [(0, 1), (1, 2)]);
}

#[test]
fn mp4_and_a_file_with_content_are_refused() {
    let output = LiveOutput::writer("the test", Pipe::default());
    let refused = Recorder::live(output, Container::Mp4, RecorderConfig::default());
    assert!(matches!(refused, Err(RecordError::NotLive(Container::Mp4))));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.mkv");
    std::fs::write(&path, b"kept").unwrap();
    assert!(matches!(LiveOutput::open(&path), Err(RecordError::AlreadyExists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
}

/// A pipe whose reader is gone.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(Error::from(ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn reader_that_closed_is_named() {
    let sent = Sender::wrapping(2).send(&Clip::bundled(ClipKind::H264Opus).unwrap());
    let output = LiveOutput::writer("the test", Broken);
    let config = RecorderConfig::default();
    let mut recorder = Recorder::live(output, Container::MpegTs, config).unwrap();
    let video = recorder.add_video(recording::VideoCodec::H264).unwrap();
    let mut pushed = sent.into_iter().filter(|sent| sent.video);
    let failure = pushed.find_map(|sent| recorder.push_rtp(video, sent.at, sent.packet).err());
    let failure = failure.unwrap();
    assert_eq!(failure.to_string(), "the reader of the test closed it");
    assert!(matches!(recorder.finish(), Err(RecordError::ReaderClosed(_))));
}

#[cfg(unix)]
#[test]
fn named_pipe_starts_at_a_keyframe_once_it_has_a_reader() {
    use std::io::Read as _;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("live");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let clip = Clip::bundled(ClipKind::H264Opus).unwrap();
    let frames = clip_frames(&clip);
    let (failed, failures) = channel();
    let handle = recording::RecorderHandle::spawn_live(
        LiveOutput::open(&path).unwrap(),
        Container::H264,
        RecorderConfig { audio_wait: Duration::ZERO, ..RecorderConfig::default() },
        Box::new(move |error| failed.send(error.clone()).unwrap()),
    )
    .unwrap();
    let track = handle.add_video(recording::VideoCodec::H264).unwrap();
    let keyframes: Vec<usize> = (0..frames.len()).filter(|index| frames[*index].keyframe).collect();
    // All of the first group of pictures and some of the second come before there is a reader.
    let joins = keyframes[1] + 3;
    for frame in &frames[..joins] {
        handle.push_frame(track, frame.clone());
    }
    let alone = recording::RecorderHandle::spawn_live(
        LiveOutput::open(&path).unwrap(),
        Container::H264,
        RecorderConfig::default(),
        Box::new(|error| panic!("{error}")),
    );
    assert!(matches!(alone.unwrap().finish(), Err(RecordError::NoReader(_))));
    let patience = 20_000;
    let needs_keyframe = (0..patience).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        handle.needs_keyframe()
    });
    assert!(needs_keyframe, "frames were dropped");
    let mut reader = std::fs::File::open(&path).unwrap();
    // The thread sees the reader when it looks next.
    for frame in frames[joins..].iter().cycle().take(patience) {
        handle.push_frame(track, frame.clone());
        if frame.keyframe && !handle.needs_keyframe() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut begin = [0; 5];
    reader.read_exact(&mut begin).unwrap();
    assert_eq!(begin, [0, 0, 0, 1, 0x67], "it begins with the parameter sets of a keyframe");
    assert!(failures.try_recv().is_err());
    drop(reader);
    let failure = failures.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(failure, RecordError::ReaderClosed(_)), "{failure}");
    assert!(matches!(handle.finish(), Err(RecordError::ReaderClosed(_))));
}

/// The clip's pictures as an assembler gives them out.
#[cfg(unix)]
fn clip_frames(clip: &Clip) -> Vec<encoded_frames::Frame> {
    let mut assembler =
        recording::FrameAssembler::new(recording::Codec::Video(recording::VideoCodec::H264));
    let mut frames = Vec::new();
    for sent in Sender::wrapping(20).send(clip).into_iter().filter(|sent| sent.video) {
        assembler.push(sent.at, sent.packet);
        frames.extend(std::iter::from_fn(|| assembler.pop()));
    }
    frames
}
