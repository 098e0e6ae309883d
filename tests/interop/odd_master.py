#!/usr/bin/env python3
"""A master on aiortc that sends a clip with one oddity of real cameras at a time.

    odd_master.py --endpoint-url http://127.0.0.1:4700 --channel porch --clip clip.h264 [--media marker-never] ...

The clip is Annex B H.264 with access unit delimiters, as `odd_clips.sh` makes them. Packets are built
here, since an encoder of a library has no oddities. Only loopback addresses are candidates.
Prints one JSON event a line: ready, offer, answer (with the SDP), the states of its peers, and at
the end `sent` with the number of pictures. Ends with its standard input.
"""

import argparse
import asyncio
import base64
import datetime
import json
import pathlib
import random
import re
import struct
import sys
import time

import aioice.ice
import aiortc.clock
import aiortc.rtcdtlstransport as dtls
import aiortc.rtcrtpsender as rtp_sender
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack
from aiortc.rtp import RtpPacket
from aiortc.sdp import candidate_from_sdp
from aiortc_channel import Channel, add_arguments, message, read, say
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

PAYLOAD_MAX = 1200
IDR, SEI, SPS, PPS, AUD = 5, 6, 7, 8, 9
START_CODE = b"\x00\x00\x00\x01"

aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class Clip:
    """Access units without their delimiters, and the presentation time of each in seconds."""

    def __init__(self, path, rate):
        data = pathlib.Path(path).read_bytes()
        starts = [found.start() for found in re.finditer(b"\x00\x00\x01", data)]
        self.units = []
        for start, end in zip(starts, starts[1:] + [len(data)]):
            nal = data[start + 3:end].rstrip(b"\x00")
            if kind(nal) == AUD:
                self.units.append([])
            else:
                self.units[-1].append(nal)
        times = pathlib.Path(path).with_suffix(".pts")
        if times.exists():
            self.times = [float(line) for line in times.read_text().split()]
        else:
            self.times = [number / rate for number in range(len(self.units))]
        self.length = len(self.units) / rate
        nals = [nal for unit in self.units for nal in unit]
        self.sps = next(nal for nal in nals if kind(nal) == SPS)
        self.pps = next(nal for nal in nals if kind(nal) == PPS)


def kind(nal):
    return nal[0] & 31


def single_or_fragments(nal):
    """RFC 6184: a single NAL unit packet, or FU-A."""
    if len(nal) <= PAYLOAD_MAX:
        return [nal]
    body, step = nal[1:], PAYLOAD_MAX - 2
    parts = [body[at:at + step] for at in range(0, len(body), step)]
    last = len(parts) - 1
    indicator = nal[0] & 0xE0 | 28
    return [
        bytes([indicator, (at == 0) << 7 | (at == last) << 6 | kind(nal)]) + part
        for at, part in enumerate(parts)
    ]


def aggregate(nals):
    """RFC 6184: a STAP-A."""
    return bytes([0x78]) + b"".join(struct.pack(">H", len(nal)) + nal for nal in nals)


# How an access unit becomes packets: each a payload, a marker bit, and an offset to the timestamp.


def usual(unit, clip):
    packets = [[payload, False, 0] for nal in unit for payload in single_or_fragments(nal)]
    if packets:
        packets[-1][1] = True
    return packets


def marker_never(unit, clip):
    return [[payload, False, 0] for payload, _, _ in usual(unit, clip)]


def marker_on_each_unit(unit, clip):
    return [
        [payload, at == len(parts) - 1, 0]
        for parts in map(single_or_fragments, unit) for at, payload in enumerate(parts)
    ]


def sets_never(unit, clip):
    return usual([nal for nal in unit if kind(nal) not in (SPS, PPS)], clip)


def start_codes(unit, clip):
    packets = usual(unit, clip)
    return [[START_CODE + payload if kind(payload) < 24 else payload, *rest] for payload, *rest in packets]


def annex_b_in_one_packet(unit, clip):
    """What comes before the slices is one packet, with start codes between the units."""
    small = [nal for nal in unit if kind(nal) in (SEI, SPS, PPS)]
    slices = usual([nal for nal in unit if kind(nal) not in (SEI, SPS, PPS)], clip)
    return ([[START_CODE.join(small), False, 0]] if small else []) + slices


def aggregated(unit, clip):
    small = [nal for nal in unit if kind(nal) in (SEI, SPS, PPS)]
    slices = usual([nal for nal in unit if kind(nal) not in (SEI, SPS, PPS)], clip)
    return ([[aggregate(small), False, 0]] if small else []) + slices


def sets_apart(unit, clip):
    """Parameter sets are an access unit of their own: an older timestamp, and a marker on each."""
    small = [[nal, True, -3000] for nal in unit if kind(nal) in (SPS, PPS)]
    return small + usual([nal for nal in unit if kind(nal) not in (SPS, PPS)], clip)


def delimiter_first(unit, clip):
    return usual([bytes([AUD, 0xF0]), *unit], clip)


MEDIA = {
    "usual": usual,
    "marker-never": marker_never,
    "marker-on-each-unit": marker_on_each_unit,
    "sets-never": sets_never,
    "start-codes": start_codes,
    "annex-b-in-one-packet": annex_b_in_one_packet,
    "aggregated": aggregated,
    "sets-apart": sets_apart,
    "delimiter-first": delimiter_first,
}


# What becomes of the answer that aiortc made.


def sections(sdp):
    head, *media = re.split(r"(?m)^(?=m=)", sdp)
    return head, media


def without_audio_mid(sdp, clip):
    head, media = sections(sdp)
    return head + "".join(re.sub(r"a=mid:\S+\r\n", "", m) if m.startswith("m=audio") else m for m in media)


def without_any_mid(sdp, clip):
    return re.sub(r"a=(mid|group):[^\r]*\r\n", "", sdp)


def audio_refused(sdp, clip):
    """A camera without a microphone: port 0, its mid, and nothing else."""
    head, media = sections(sdp)
    for at, section in enumerate(media):
        if section.startswith("m=audio"):
            mid = re.search(r"a=mid:(\S+)", section)[1]
            number = re.match(r"m=audio \d+ \S+ (\d+)", section)[1]
            media[at] = f"m=audio 0 UDP/TLS/RTP/SAVPF {number}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n"
            head = re.sub(rf"(a=group:BUNDLE[^\r]*?) {mid}\b", r"\1", head)
    return head + "".join(media)


def sets_in_sdp(sdp, clip):
    sets = ",".join(base64.b64encode(nal).decode() for nal in (clip.sps, clip.pps))
    return re.sub(r"(a=fmtp:\d+ [^\r]*profile-level-id=\w+)", rf"\1;sprop-parameter-sets={sets}", sdp)


def h265_never_offered(sdp, clip):
    number = re.search(r"a=rtpmap:(\d+) H264", sdp)[1]
    sdp = re.sub(rf"(m=video \d+ \S+) {number}\b[^\r]*", r"\1 127", sdp)
    sdp = re.sub(rf"a=(fmtp|rtcp-fb):{number} [^\r]*\r\n", "", sdp)
    return sdp.replace(f"a=rtpmap:{number} H264/90000", "a=rtpmap:127 H265/90000")


def no_section(sdp, clip):
    return "v=0\r\no=- 17 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE\r\na=msid-semantic: WMS cam\r\n"


def pcmu(sdp, clip):
    sdp = re.sub(r"(m=audio \d+ \S+)[^\r]*", r"\1 0", sdp)
    sdp = re.sub(r"a=rtpmap:8 PCMA[^\r]*\r\n", "", sdp)
    return re.sub(r"a=rtpmap:\d+ opus/48000/2", "a=rtpmap:0 PCMU/8000", sdp)


def odd_line_ends(sdp, clip):
    return sdp.replace("\r\n", " \r\r\n")


def passive(sdp, clip):
    return sdp.replace("a=setup:active", "a=setup:passive")


ANSWERS = {
    "usual": lambda sdp, clip: sdp,
    "without-audio-mid": without_audio_mid,
    "without-any-mid": without_any_mid,
    "audio-refused": audio_refused,
    "sets-in-sdp": sets_in_sdp,
    "h265-never-offered": h265_never_offered,
    "no-section": no_section,
    "pcmu": pcmu,
    "odd-line-ends": odd_line_ends,
    "passive": passive,
}


class Player:
    """Sends the clip in the place of aiortc's encoders."""

    def __init__(self, options):
        self.options = options
        self.clip = Clip(options.clip, options.rate)
        self.sent = 0
        self.usual_run = RTCRtpSender._run_rtp

    def install(self):
        player = self

        async def run(sender, codec):
            if sender.kind == "audio" and player.options.answer != "pcmu":
                return await player.usual_run(sender, codec)
            await player.run(sender, codec)

        RTCRtpSender._run_rtp = run

    async def run(self, sender, codec):
        def get(name):
            return getattr(sender, f"_RTCRtpSender__{name}")

        def put(name, value):
            setattr(sender, f"_RTCRtpSender__{name}", value)

        get("rtp_started").set()
        sequence = random.randrange(1 << 16)
        base = random.randrange(1 << 30) + (1 << 30)

        async def send(payload_type, timestamp, payload, marker):
            nonlocal sequence
            packet = RtpPacket(payload_type=payload_type, sequence_number=sequence & 0xFFFF,
                               timestamp=timestamp & 0xFFFFFFFF, marker=int(marker))
            packet.ssrc, packet.payload = sender._ssrc, payload
            get("rtp_history")[packet.sequence_number % rtp_sender.RTP_HISTORY_SIZE] = packet
            await sender.transport._send_rtp(packet.serialize(get("rtp_header_extensions_map")))
            put("ntp_timestamp", aiortc.clock.current_ntp_time())
            put("rtp_timestamp", packet.timestamp)
            put("packet_count", get("packet_count") + 1)
            put("octet_count", get("octet_count") + len(payload))
            sequence += 1

        play = self.play_sound if sender.kind == "audio" else self.play_pictures
        try:
            await play(send, base, self.options.payload_type or codec.payloadType)
        except (asyncio.CancelledError, ConnectionError):
            pass
        get("rtp_exited").set()

    async def play_sound(self, send, base, _):
        """PCMU, 20 ms a packet."""
        begun, number = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0, begun + number * 0.02 - time.monotonic()))
            await send(0, base + number * 160, bytes([0x55, 0xD5] * 80), number == 0)
            number += 1

    async def play_pictures(self, send, base, payload_type):
        clip, options = self.clip, self.options
        packets_of = MEDIA[options.media]
        begun, number = time.monotonic(), 0
        while True:
            await asyncio.sleep(max(0, begun + number / options.rate - time.monotonic()))
            at = number + options.first
            if options.loop_last and at >= len(clip.units):
                at = len(clip.units) - options.loop_last + (at - len(clip.units)) % options.loop_last
            rounds, at = divmod(at, len(clip.units))
            seconds = rounds * clip.length + clip.times[at]
            if options.loop_last:
                seconds = number / options.rate
            timestamp = base + self.clock(seconds, number)
            for payload, marker, offset in packets_of(clip.units[at], clip):
                await send(payload_type, timestamp + offset, payload, marker)
            number += 1
            self.sent = number

    def clock(self, seconds, number):
        return {
            "right": round(seconds * 90_000),
            "still": 0,
            "half": round(seconds * 45_000),
            "jumps": round(seconds * 90_000) + (number // 20) * 7_777_777,
            "back": round(seconds * 90_000) - (number // 20) * 45_000,
        }[self.options.clock]


class Datagrams:
    """DTLS flights cut at a size of our own, with some of the datagrams lost."""

    def __init__(self, options):
        self.size, self.lost, self.number = options.dtls_mtu, set(options.dtls_drop), 0

    def install(self):
        datagrams, usual_context = self, dtls.RTCCertificate._create_ssl_context

        async def write(transport):
            await datagrams.write(transport)

        def context(certificate, srtp_profiles):
            made = usual_context(certificate, srtp_profiles)
            made.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
            made.set_options(SSL.OP_NO_QUERY_MTU)
            return made

        class Connection(SSL.Connection):
            def __init__(self, *args):
                super().__init__(*args)
                self.set_ciphertext_mtu(datagrams.size)

        dtls.RTCDtlsTransport._write_ssl = write
        dtls.RTCCertificate._create_ssl_context = context
        dtls.SSL.Connection = Connection
        certificate = rsa_certificate()
        dtls.RTCCertificate.generateCertificate = classmethod(lambda cls: certificate)

    async def write(self, transport):
        data = b""
        try:
            while True:
                data += transport._ssl.bio_read(65536)
        except SSL.Error:
            pass
        datagram = b""
        while data:
            length = 13 + struct.unpack(">H", data[11:13])[0]
            if datagram and len(datagram) + length > self.size:
                await self.send(transport, datagram)
                datagram = b""
            datagram, data = datagram + data[:length], data[length:]
        if datagram:
            await self.send(transport, datagram)

    async def send(self, transport, datagram):
        if transport._state == dtls.State.CONNECTING:
            self.number += 1
            if self.number in self.lost:
                say("lost", datagram=self.number, size=len(datagram))
                return
        await transport.transport._send(datagram)


def rsa_certificate():
    """Large enough that it comes in several fragments."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - day).not_valid_after(now + day)
    return dtls.RTCCertificate(key=key, cert=builder.sign(key, hashes.SHA256()))


class Master:
    def __init__(self, options, channel, player):
        self.options, self.channel, self.player = options, channel, player
        self.peers, self.early, self.closing = {}, {}, set()

    async def run(self):
        async with self.channel.connect() as socket:
            say("ready")
            async for frame in socket:
                kind, sender, body = read(frame)
                if kind == "SDP_OFFER" and body:
                    await self.answer(socket, sender, body)
                elif kind == "ICE_CANDIDATE" and body:
                    await self.candidate(sender, body)

    async def candidate(self, sender, body):
        line = body.get("candidate")
        if not line:
            return
        candidate = candidate_from_sdp(line.removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = body.get("sdpMid"), body.get("sdpMLineIndex")
        peer = self.peers.get(sender)
        if peer is None:
            self.early.setdefault(sender, []).append(candidate)
        else:
            await peer.addIceCandidate(candidate)

    async def answer(self, socket, sender, offer):
        old = self.peers.pop(sender, None)
        if old is not None:
            task = asyncio.create_task(old.close())
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)
        say("offer", sender=sender)
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.on("connectionstatechange", lambda: say(peer.connectionState, sender=sender))
        refused = "audio" if self.options.answer == "audio-refused" else None
        for kind, track in ("video", VideoStreamTrack), ("audio", AudioStreamTrack):
            if f"m={kind} " in offer["sdp"] and kind != refused:
                peer.addTrack(track())
        h264 = [codec for codec in RTCRtpSender.getCapabilities("video").codecs if codec.mimeType == "video/H264"]
        opus = [codec for codec in RTCRtpSender.getCapabilities("audio").codecs if codec.mimeType == "audio/opus"]
        for transceiver in peer.getTransceivers():
            transceiver.setCodecPreferences(h264 if transceiver.kind == "video" else opus)
        await peer.setRemoteDescription(RTCSessionDescription(offer["sdp"], offer["type"]))
        await peer.setLocalDescription(await peer.createAnswer())
        if self.options.answer == "passive":
            transports = [transceiver.sender.transport for transceiver in peer.getTransceivers()]
            for transport in transports + ([peer.sctp.transport] if peer.sctp else []):
                transport._set_role("server")
        self.peers[sender] = peer
        for candidate in self.early.pop(sender, []):
            await peer.addIceCandidate(candidate)
        sdp = ANSWERS[self.options.answer](peer.localDescription.sdp, self.player.clip)
        say("answer", sdp=sdp)
        frame = message("SDP_ANSWER", {"type": "answer", "sdp": sdp}, sender)
        await socket.send(with_nul(frame) if self.options.nul else frame)


def with_nul(frame):
    """The payload's JSON ends with a NUL, as C strings do that are sent with their end."""
    frame = json.loads(frame)
    payload = base64.b64decode(frame["messagePayload"]) + b"\0"
    return json.dumps(frame | {"messagePayload": base64.b64encode(payload).decode()})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--rate", type=float, default=15, help="access units a second")
    parser.add_argument("--media", choices=MEDIA, default="usual", help="how access units become packets")
    parser.add_argument("--answer", choices=ANSWERS, default="usual", help="how the answer differs")
    parser.add_argument("--clock", choices=["right", "still", "half", "jumps", "back"], default="right")
    parser.add_argument("--payload-type", type=int, help="of the pictures' packets, whatever the answer says")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the access unit to begin with")
    parser.add_argument("--loop-last", type=int, default=0, metavar="N", help="repeat the last N, not all")
    parser.add_argument("--nul", action="store_true", help="end the answer's JSON with a NUL")
    parser.add_argument("--dtls-mtu", type=int, help="cut DTLS flights at this size, with an RSA certificate")
    parser.add_argument("--dtls-drop", type=int, nargs="*", default=[], metavar="N", help="datagrams to lose")
    return parser.parse_args()


async def main():
    options = arguments()
    player = Player(options)
    player.install()
    if options.dtls_mtu:
        Datagrams(options).install()
    master = asyncio.create_task(Master(options, Channel(options), player).run())
    reader = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([master, reader], return_when=asyncio.FIRST_COMPLETED)
    if master.done():
        master.result()
    say("sent", pictures=player.sent)


if __name__ == "__main__":
    asyncio.run(main())
