#!/usr/bin/env python3
"""A viewer on aiortc: offers without trickle, decodes the master's pictures and counts them.

    aiortc_viewer.py --endpoint-url http://127.0.0.1:4700 --channel porch --frames 120

Prints one JSON event a line: begin, ready, offered, answered, picture, played. Exit code 0 once the
frames are decoded.
"""

import argparse
import asyncio
import time
import uuid

from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from aiortc_channel import Channel, add_arguments, message, read, say


class Viewer:
    def __init__(self, options, channel, began):
        self.options = options
        self.began = began
        self.peer = RTCPeerConnection(channel.configuration())
        self.early = []
        self.begun = time.monotonic()
        self.counts = {"video": 0, "audio": 0}
        self.first_ms = None
        self.enough = asyncio.Event()
        self.codec = None
        self.tasks = []
        self.peer.on("track", self.track)

    def elapsed_ms(self):
        return round((time.monotonic() - self.begun) * 1000)

    def since_begin_ms(self):
        return round((time.monotonic() - self.began) * 1000, 1)

    def track(self, track):
        self.tasks.append(asyncio.create_task(self.count(track)))

    async def count(self, track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.counts[track.kind] += 1
            if track.kind == "video":
                if self.first_ms is None:
                    self.first_ms = self.elapsed_ms()
                    say("picture", since_begin_ms=self.since_begin_ms())
                if self.counts["video"] >= self.options.frames:
                    self.enough.set()

    async def offer(self):
        for kind in ("video", "audio"):
            transceiver = self.peer.addTransceiver(kind, direction="recvonly")
            if kind == "video" and self.options.codec:
                wanted = f"video/{self.options.codec}".lower()
                codecs = RTCRtpReceiver.getCapabilities("video").codecs
                transceiver.setCodecPreferences([c for c in codecs if c.mimeType.lower() == wanted])
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return {"type": "offer", "sdp": self.peer.localDescription.sdp}

    async def listen(self, socket):
        async for frame in socket:
            kind, sender, body = read(frame)
            if kind == "SDP_ANSWER" and body:
                say("answered", sender=sender, t_ms=self.elapsed_ms(), since_begin_ms=self.since_begin_ms())
                await self.peer.setRemoteDescription(RTCSessionDescription(body["sdp"], body["type"]))
                self.codec = next((line.split()[1].split("/")[0] for line in body["sdp"].splitlines()
                                   if line.startswith("a=rtpmap:") and "90000" in line), None)
                for early in self.early:
                    await self.candidate(early)
            elif kind == "ICE_CANDIDATE" and body and self.peer.remoteDescription is None:
                self.early.append(body)
            elif kind == "ICE_CANDIDATE" and body:
                await self.candidate(body)

    async def candidate(self, body):
        if not body.get("candidate"):
            return
        candidate = candidate_from_sdp(body["candidate"].removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = body.get("sdpMid"), body.get("sdpMLineIndex")
        await self.peer.addIceCandidate(candidate)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--client-id", default=f"aiortc-{uuid.uuid4().hex[:8]}")
    parser.add_argument("--codec", choices=["vp8", "h264"], help="offer this codec alone")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    options = parser.parse_args()
    # Python and its modules are there now: from here on it is the viewer's own time.
    began = time.monotonic()
    say("begin")
    channel = Channel(options, options.client_id)
    viewer = Viewer(options, channel, began)
    async with channel.connect() as socket:
        say("ready", client_id=options.client_id)
        viewer.begun = time.monotonic()
        # As kvsWebRTCClientViewer.py has it, the recipient is the viewer's own id.
        await socket.send(message("SDP_OFFER", await viewer.offer(), options.client_id))
        say("offered", since_begin_ms=viewer.since_begin_ms())
        listening = asyncio.create_task(viewer.listen(socket))
        playing = asyncio.create_task(viewer.enough.wait())
        await asyncio.wait([listening, playing], timeout=options.timeout, return_when=asyncio.FIRST_COMPLETED)
        seconds = (viewer.elapsed_ms() - (viewer.first_ms or 0)) / 1000
        say("played", frames_decoded=viewer.counts["video"], audio_frames=viewer.counts["audio"],
            codec=viewer.codec, first_frame_ms=viewer.first_ms, seconds=seconds)
        if listening.done():
            listening.result()
        listening.cancel()
    await viewer.peer.close()
    return 0 if viewer.enough.is_set() else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
