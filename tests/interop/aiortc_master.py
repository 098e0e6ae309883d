#!/usr/bin/env python3
"""A master on aiortc: answers offers with moving pictures, a frame counter in them, and sound.

    aiortc_master.py --endpoint-url http://127.0.0.1:4700 --channel porch [--codec vp8] ...

The counter is drawn as the bundled clips have it, so `read_counter.py` reads its recordings.
Prints one JSON event a line: ready, offer, answered, and the states of its peers. Ends with its
standard input.
"""

import argparse
import asyncio
import fractions
import sys
import time

import av
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack
from aiortc.sdp import candidate_from_sdp
from aiortc_channel import Channel, add_arguments, message, read, say
from websockets.exceptions import WebSocketException

WIDTH, HEIGHT, STRIP = 320, 240, 208
RATE = 30


class CounterTrack(VideoStreamTrack):
    """A gray picture that changes, with 16 squares below: marker, counter, check."""

    def __init__(self):
        super().__init__()
        self.counter = 0
        self.begun = time.monotonic()

    async def recv(self):
        due = self.begun + self.counter / RATE
        await asyncio.sleep(max(0, due - time.monotonic()))
        value = self.counter % 1024
        check = (value ^ (value >> 4) ^ (value >> 8) ^ 0b1010) & 0xF
        word = 0b10 << 14 | value << 4 | check
        squares = bytes(235 if word >> (15 - i) & 1 else 16 for i in range(16))
        strip = bytes(level for level in squares for _ in range(WIDTH // 16))
        moving = bytes((x + self.counter * 4) % 220 + 16 for x in range(WIDTH))
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        luma, *chroma = frame.planes
        padding = bytes(luma.line_size - WIDTH)
        luma.update((moving + padding) * STRIP + (strip + padding) * (HEIGHT - STRIP))
        for plane in chroma:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.time_base = fractions.Fraction(1, 90000)
        frame.pts = self.counter * 90000 // RATE
        self.counter += 1
        return frame


class Master:
    def __init__(self, options, channel):
        self.options = options
        self.channel = channel
        self.configuration = None
        self.peers = {}
        self.tasks = set()

    async def run(self):
        """Media outlives the socket, and so do we: a lost one is opened again."""
        while True:
            try:
                # Once for all viewers: the service takes five such calls a second.
                self.configuration = self.channel.configuration()
                async with self.channel.connect() as socket:
                    say("ready")
                    await self.listen(socket)
            except (OSError, WebSocketException) as error:
                say("unreachable", error=type(error).__name__)
            await asyncio.sleep(1)

    async def listen(self, socket):
        async for frame in socket:
            kind, sender, body = read(frame)
            if kind == "SDP_OFFER" and body:
                task = asyncio.create_task(self.answer(socket, sender, body))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            elif kind == "ICE_CANDIDATE" and body:
                await self.candidate(sender, body)

    async def candidate(self, sender, body):
        peer, line = self.peers.get(sender), body.get("candidate")
        if peer is None or not line or peer.remoteDescription is None:
            return
        candidate = candidate_from_sdp(line.removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = body.get("sdpMid"), body.get("sdpMLineIndex")
        await peer.addIceCandidate(candidate)

    async def answer(self, socket, sender, offer):
        old = self.peers.get(sender)
        say("offer", sender=sender, repeated=old is not None)
        if old is not None and self.options.repeated == "ignore":
            return
        peer = RTCPeerConnection(self.configuration)
        self.peers[sender] = peer
        if old is not None:
            await old.close()

        @peer.on("connectionstatechange")
        async def changed():
            say(peer.connectionState, sender=sender)
            if peer.connectionState in ("closed", "failed") and self.peers.get(sender) is peer:
                del self.peers[sender]
                await peer.close()

        for kind, track in ("video", CounterTrack), ("audio", AudioStreamTrack):
            if f"m={kind} " in offer["sdp"]:
                peer.addTrack(track())
        wanted = {f"video/{self.options.codec}".lower()} | ({"video/rtx"} if self.options.rtx else set())
        for transceiver in peer.getTransceivers():
            if transceiver.kind == "video":
                codecs = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() in wanted])
        await peer.setRemoteDescription(RTCSessionDescription(offer["sdp"], offer["type"]))
        await asyncio.sleep(self.options.answer_delay)
        await peer.setLocalDescription(await peer.createAnswer())
        sdp = peer.localDescription.sdp
        if self.options.candidates_first:
            sdp = await self.send_candidates(socket, sender, sdp)
        for _ in range(self.options.answers):
            await socket.send(message("SDP_ANSWER", {"type": "answer", "sdp": sdp}, sender))
        say("answered", sender=sender)

    async def send_candidates(self, socket, sender, sdp):
        """Sends the candidates on their own and returns the description without them."""
        kept, section = [], -1
        for line in sdp.splitlines(keepends=True):
            section += line.startswith("m=")
            if line.startswith("a=candidate:"):
                body = {"candidate": line[2:].strip(), "sdpMid": str(section), "sdpMLineIndex": section}
                await socket.send(message("ICE_CANDIDATE", body, sender))
            elif not line.startswith("a=end-of-candidates"):
                kept.append(line)
        return "".join(kept)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--codec", choices=["vp8", "h264"], default="vp8")
    parser.add_argument("--rtx", action="store_true", help="resend lost packets by RTX, where the viewer offers it")
    parser.add_argument("--repeated", choices=["replace", "ignore"], default="replace",
                        help="what an offer from a client id with a session does")
    parser.add_argument("--answer-delay", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--answers", type=int, default=1, help="how often each answer is sent")
    parser.add_argument("--candidates-first", action="store_true", help="before the answer, and not in it")
    return parser.parse_args()


async def main():
    options = arguments()
    master = asyncio.create_task(Master(options, Channel(options)).run())
    reader = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([master, reader], return_when=asyncio.FIRST_COMPLETED)
    if master.done():
        master.result()


if __name__ == "__main__":
    asyncio.run(main())
