//! An MPEG transport stream (ISO/IEC 13818-1) over the packets of `mpeg2ts`: H.264 and Opus.
//!
//! A reader may join at any keyframe, so the tables are repeated before each, and nothing is ever
//! changed afterwards. Opus follows the mapping that FFmpeg reads and writes ("Opus in MPEG-TS",
//! <https://opus-codec.org/docs/ETSI_TS_opus-v0.1.3-draft.pdf>): private PES data with a
//! registration descriptor, a control header before each packet.

use encoded_frames::{Codec, h264::annex_b};
use mpeg2ts::es::{StreamId, StreamType};
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{Bytes, Pat, Pes, Pmt};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, Descriptor, EsInfo, Pid, ProgramAssociation,
    TransportScramblingControl, TsHeader, TsPacket, TsPacketWriter, TsPayload, VersionNumber,
    WriteTsPacket,
};

use super::{FileInfo, Finished, Muxer, Patch, Sample, TrackSpec, unwritable};
use crate::error::RecordError;

const PROGRAM: u16 = 1;
const PMT_PID: u16 = 0x1000;
const FIRST_TRACK_PID: u16 = 0x100;

/// Timestamps have 33 bits of 90 kHz, and wrap.
const CLOCK: u32 = 90_000;
const WRAP: i64 = 1 << 33;
/// The stream's time at the first picture, so that what is decoded before it has a time too.
const BEGIN: i64 = CLOCK as i64;
/// By how much the reference clock is behind the decoding time of what it comes with: the time that
/// a reader has to buffer it.
const REFERENCE_LEAD: i64 = CLOCK as i64 / 10;
/// The tables come at least this often, and the reference clock (13818-1, 2.7.2) too.
const TABLES_EVERY: i64 = CLOCK as i64 / 2;
const REFERENCE_EVERY: i64 = CLOCK as i64 * 8 / 100;

/// What a packet holds after its header of four bytes.
const PAYLOAD_MAX: usize = TsPacket::SIZE - 4;
/// The flags and the clock of an adaptation field, with its length.
const REFERENCE_BYTES: usize = 2 + 6;
const FLAGS_BYTES: usize = 2;
/// Start code, stream id, length, flags and header length of a PES packet, and two timestamps.
const PES_HEADER_MAX: usize = 9 + 10;

/// An access unit delimiter that allows every slice type (H.264, 7.4.2.4).
const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

#[derive(Debug, Default)]
pub(super) struct MpegTsMuxer {
    tracks: Vec<Track>,
    tables: Tables,
    /// The decoding time that the last reference clock came with.
    referenced: Option<i64>,
}

#[derive(Debug)]
struct Track {
    codec: Codec,
    pid: u16,
    counter: ContinuityCounter,
}

#[derive(Debug, Default)]
struct Tables {
    version: VersionNumber,
    association: ContinuityCounter,
    map: ContinuityCounter,
    /// When they were last written.
    written: Option<i64>,
}

/// A sample with its times in ticks of 90 kHz.
struct Unit<'a> {
    decoded: i64,
    shown: i64,
    track: usize,
    sample: &'a Sample,
}

impl Muxer for MpegTsMuxer {
    fn head(
        &mut self,
        _info: &FileInfo,
        tracks: &[TrackSpec],
        _room: bool,
    ) -> Result<Vec<u8>, RecordError> {
        for track in tracks {
            self.describe(track)?;
        }
        Ok(Vec::new())
    }

    fn add_track(&mut self, track: &TrackSpec) -> Result<Vec<Patch>, RecordError> {
        self.describe(track)?;
        self.tables.version.increment();
        self.tables.written = None;
        Ok(Vec::new())
    }

    fn fragment(&mut self, _offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError> {
        let mut units = Vec::new();
        for (track, samples) in tracks.iter().enumerate() {
            for sample in samples {
                let shown = i64::try_from(sample.shown).map_err(too_late)?;
                let (decoded, shown) =
                    (self.clock(track, sample.decoded), self.clock(track, shown));
                units.push(Unit { decoded, shown, track, sample });
            }
        }
        units.sort_by_key(|unit| (unit.decoded, unit.track));
        let mut packets = TsPacketWriter::new(Vec::new());
        for unit in units {
            self.write(&mut packets, &unit).map_err(invalid)?;
        }
        Ok(packets.into_stream())
    }

    fn index(&mut self, _offset: u64) -> Result<Vec<u8>, RecordError> {
        Ok(Vec::new())
    }

    fn patches(&self, _finished: &Finished) -> Result<Vec<Patch>, RecordError> {
        Ok(Vec::new())
    }
}

impl MpegTsMuxer {
    fn describe(&mut self, track: &TrackSpec) -> Result<(), RecordError> {
        let pid = FIRST_TRACK_PID + u16::try_from(self.tracks.len()).map_err(invalid)?;
        self.tracks.push(Track { codec: track.codec, pid, counter: ContinuityCounter::new() });
        Ok(())
    }

    fn clock(&self, track: usize, ticks: i64) -> i64 {
        let rate = self.tracks.get(track).map_or(CLOCK, |track| track.codec.clock_rate());
        (ticks * i64::from(CLOCK)).div_euclid(i64::from(rate)) + BEGIN
    }

    /// The track that carries the reference clock: the video, or else the first.
    fn reference_track(&self) -> usize {
        self.tracks.iter().position(|track| matches!(track.codec, Codec::Video(_))).unwrap_or(0)
    }

    fn write(&mut self, to: &mut TsPacketWriter<Vec<u8>>, unit: &Unit<'_>) -> mpeg2ts::Result<()> {
        let is_reference = unit.track == self.reference_track();
        let is_due = self
            .tables
            .written
            .is_none_or(|last| unit.decoded.abs_diff(last) >= TABLES_EVERY as u64);
        if is_due || (is_reference && unit.sample.keyframe && self.has_video()) {
            self.write_tables(to)?;
            self.tables.written = Some(unit.decoded);
        }
        let is_stale = self
            .referenced
            .is_none_or(|last| unit.decoded.abs_diff(last) >= REFERENCE_EVERY as u64);
        let reference = ClockReference::new(wrapped(unit.decoded - REFERENCE_LEAD) * 300)?;
        let goes_on = self.referenced.is_none_or(|last| unit.decoded > last);
        let has_reference = is_reference && goes_on;
        if !is_reference && is_stale && goes_on {
            // The reference clock goes on while the video pauses.
            self.write_reference(to, reference)?;
        }
        if has_reference || (is_stale && goes_on) {
            self.referenced = Some(unit.decoded);
        }
        let Some(track) = self.tracks.get_mut(unit.track) else { return Ok(()) };
        let (stream_id, data) = match track.codec {
            Codec::Video(_) => (StreamId::new_video(StreamId::VIDEO_MIN)?, video(unit.sample)),
            Codec::Audio(_) => (StreamId::new(StreamId::PRIVATE_STREAM_1), audio(unit.sample)),
        };
        let is_reordered = unit.decoded != unit.shown;
        let header = PesHeader {
            stream_id,
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(Timestamp::new(wrapped(unit.shown))?),
            dts: is_reordered.then(|| Timestamp::new(wrapped(unit.decoded))).transpose()?,
            escr: None,
        };
        let field = AdaptationField {
            random_access_indicator: unit.sample.keyframe,
            pcr: has_reference.then_some(reference),
            ..no_field()
        };
        let has_field = has_reference || unit.sample.keyframe;
        track.write_unit(to, header, has_field.then_some(field), &data)
    }

    fn has_video(&self) -> bool {
        self.tracks.iter().any(|track| matches!(track.codec, Codec::Video(_)))
    }

    fn write_tables(&mut self, to: &mut TsPacketWriter<Vec<u8>>) -> mpeg2ts::Result<()> {
        let pat = Pat {
            transport_stream_id: 1,
            version_number: VersionNumber::new(),
            table: vec![ProgramAssociation {
                program_num: PROGRAM,
                program_map_pid: Pid::new(PMT_PID)?,
            }],
        };
        let reference = self.tracks.get(self.reference_track());
        let pmt = Pmt {
            program_num: PROGRAM,
            pcr_pid: reference.map(|track| Pid::new(track.pid)).transpose()?,
            version_number: self.tables.version,
            program_info: Vec::new(),
            es_info: self.tracks.iter().map(Track::info).collect::<mpeg2ts::Result<_>>()?,
        };
        let tables = &mut self.tables;
        write_packet(to, Pid::PAT, &mut tables.association, None, Some(TsPayload::Pat(pat)))?;
        write_packet(to, PMT_PID, &mut tables.map, None, Some(TsPayload::Pmt(pmt)))
    }

    /// A packet with the reference clock alone. Its counter does not count (13818-1, 2.4.3.3).
    fn write_reference(
        &self,
        to: &mut TsPacketWriter<Vec<u8>>,
        reference: ClockReference,
    ) -> mpeg2ts::Result<()> {
        let at = self.reference_track();
        let Some(track) = self.tracks.get(at) else { return Ok(()) };
        let mut counter = ContinuityCounter::from_u8(track.counter.as_u8().wrapping_sub(1) & 0xf)?;
        let field = AdaptationField { pcr: Some(reference), ..no_field() };
        write_packet(to, track.pid, &mut counter, Some(field), None)
    }
}

impl Track {
    fn info(&self) -> mpeg2ts::Result<EsInfo> {
        let (stream_type, descriptors) = match self.codec {
            Codec::Video(_) => (StreamType::H264, Vec::new()),
            Codec::Audio(_) => {
                let descriptors = vec![
                    // A registration descriptor (13818-1, 2.6.8).
                    Descriptor { tag: 0x05, data: b"Opus".to_vec() },
                    // DVB's extension descriptor (EN 300 468, 6.2.16): Opus, two channels.
                    Descriptor { tag: 0x7f, data: vec![0x80, 2] },
                ];
                (StreamType::Mpeg2PacketizedData, descriptors)
            }
        };
        Ok(EsInfo { stream_type, elementary_pid: Pid::new(self.pid)?, descriptors })
    }

    /// Writes one PES packet in as many transport packets as it takes.
    fn write_unit(
        &mut self,
        to: &mut TsPacketWriter<Vec<u8>>,
        header: PesHeader,
        field: Option<AdaptationField>,
        data: &[u8],
    ) -> mpeg2ts::Result<()> {
        let field_bytes = field
            .as_ref()
            .map_or(0, |field| if field.pcr.is_some() { REFERENCE_BYTES } else { FLAGS_BYTES });
        let timestamps = if header.dts.is_some() { 10 } else { 5 };
        let first = (PAYLOAD_MAX - field_bytes - PES_HEADER_MAX).min(data.len());
        let (first, rest) = data.split_at(first);
        // What follows the length field. Zero, for pictures too long to say (13818-1, 2.4.3.7),
        // makes a reader wait for the next one.
        let length = u16::try_from(3 + timestamps + data.len()).unwrap_or(0);
        let pes = Pes { header, pes_packet_len: length, data: Bytes::new(first)? };
        write_packet(to, self.pid, &mut self.counter, field, Some(TsPayload::PesStart(pes)))?;
        for part in rest.chunks(PAYLOAD_MAX) {
            let payload = TsPayload::PesContinuation(Bytes::new(part)?);
            write_packet(to, self.pid, &mut self.counter, None, Some(payload))?;
        }
        Ok(())
    }
}

fn write_packet(
    to: &mut TsPacketWriter<Vec<u8>>,
    pid: u16,
    counter: &mut ContinuityCounter,
    adaptation_field: Option<AdaptationField>,
    payload: Option<TsPayload>,
) -> mpeg2ts::Result<()> {
    let header = TsHeader {
        transport_error_indicator: false,
        transport_priority: false,
        pid: Pid::new(pid)?,
        transport_scrambling_control: TransportScramblingControl::NotScrambled,
        continuity_counter: *counter,
    };
    counter.increment();
    to.write_ts_packet(&TsPacket { header, adaptation_field, payload })
}

fn no_field() -> AdaptationField {
    AdaptationField {
        discontinuity_indicator: false,
        random_access_indicator: false,
        es_priority_indicator: false,
        pcr: None,
        opcr: None,
        splice_countdown: None,
        transport_private_data: Vec::new(),
        extension: None,
    }
}

/// The picture with start codes, after a delimiter (13818-1, 2.14.1 requires one). The assembler
/// removes those of the camera.
fn video(sample: &Sample) -> Vec<u8> {
    let mut data = DELIMITER.to_vec();
    data.extend_from_slice(&annex_b(&sample.data));
    data
}

/// The packet after its control header: eleven bits of mark, no trimming, and its length in bytes.
fn audio(sample: &Sample) -> Vec<u8> {
    let mut data = vec![0x7f, 0xe0];
    let mut rest = sample.data.len();
    while rest >= 255 {
        data.push(255);
        rest -= 255;
    }
    data.push(u8::try_from(rest).unwrap_or(0));
    data.extend_from_slice(&sample.data);
    data
}

fn wrapped(ticks: i64) -> u64 {
    ticks.rem_euclid(WRAP).unsigned_abs()
}

fn too_late(error: impl std::fmt::Display) -> RecordError {
    unwritable("a frame's time", error)
}

fn invalid(error: impl std::fmt::Display) -> RecordError {
    unwritable("a packet of the transport stream", error)
}
