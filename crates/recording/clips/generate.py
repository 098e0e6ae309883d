#!/usr/bin/env python3
"""Draws the bundled clips and has ffmpeg encode them: counter.mp4 (H.264, Opus) and counter.webm (VP8, Opus).

Needs ffmpeg with libx264, libvpx and libopus, and the Python standard library. README.md beside
this file describes the picture. The frames and the sound are computed here, without a font or a
random number, so a run with the same ffmpeg gives the same bytes.
"""

import array
import math
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTH, HEIGHT, RATE, SECONDS = 320, 240, 15, 60
FRAMES = RATE * SECONDS
SQUARES = 16
SQUARE_WIDTH, SQUARE_TOP = WIDTH // SQUARES, 208
SAMPLE_RATE = 48_000
# Opus adds 312 samples of lead-in; with this many samples of sound the packets are exactly 3000 of 20 ms.
SOUND_SAMPLES = SAMPLE_RATE * SECONDS - 480

BLACK, WHITE, DIM = 16, 235, 60

# The lit bars of each digit of a seven-segment display, in the order top, upper left, upper right,
# middle, lower left, lower right, bottom.
SEGMENTS = {
    "0": "1110111", "1": "0010010", "2": "1011101", "3": "1011011", "4": "0111010",
    "5": "1101011", "6": "1101111", "7": "1010010", "8": "1111111", "9": "1111011",
}


def squares(counter):
    """The sixteen squares, left to right: marker 1 0, counter of 10 bits, check of 4 bits."""
    check = (counter ^ (counter >> 4) ^ (counter >> 8) ^ 0b1010) & 0b1111
    word = (0b10 << 14) | (counter << 4) | check
    return [(word >> (SQUARES - 1 - i)) & 1 for i in range(SQUARES)]


class Plane:
    def __init__(self, width, height, value):
        self.width, self.height = width, height
        self.rows = [bytearray([value]) * width for _ in range(height)]

    def fill(self, x, y, width, height, value):
        for row in self.rows[max(y, 0):max(y + height, 0)]:
            left, right = max(x, 0), min(x + width, self.width)
            if right > left:
                row[left:right] = bytes([value]) * (right - left)

    def digit(self, text, x, y, width, height, stroke, value):
        half = (height - stroke) // 2
        bars = [
            (0, 0, width, stroke), (0, 0, stroke, half + stroke), (width - stroke, 0, stroke, half + stroke),
            (0, half, width, stroke), (0, half, stroke, height - half),
            (width - stroke, half, stroke, height - half), (0, height - stroke, width, stroke),
        ]
        if text in SEGMENTS:
            for lit, (dx, dy, w, h) in zip(SEGMENTS[text], bars):
                if lit == "1":
                    self.fill(x + dx, y + dy, w, h, value)
        elif text == ":":
            self.fill(x, y + height // 4, stroke, stroke, value)
            self.fill(x, y + height * 3 // 4 - stroke, stroke, stroke, value)
        elif text == ".":
            self.fill(x, y + height - stroke, stroke, stroke, value)

    def text(self, text, x, y, width, height, stroke, value):
        for char in text:
            self.digit(char, x, y, width, height, stroke, value)
            x += (width if char.isdigit() else stroke) + stroke

    def data(self):
        return b"".join(self.rows)


def clock(counter):
    millis = counter * 1000 // RATE
    return f"{millis // 3_600_000:02}:{millis // 60_000 % 60:02}:{millis // 1000 % 60:02}.{millis % 1000:03}"


def background():
    """Colour bars along the top, so that a swapped or missing chroma plane is seen at once."""
    luma, blue, red = Plane(WIDTH, HEIGHT, 40), Plane(WIDTH // 2, HEIGHT // 2, 128), Plane(WIDTH // 2, HEIGHT // 2, 128)
    bars = [(180, 128, 128), (162, 44, 142), (131, 156, 44), (112, 72, 58), (84, 184, 198), (65, 100, 212), (35, 212, 114)]
    for i, (y, u, v) in enumerate(bars):
        luma.fill(16 + i * 42, 0, 42, 16, y)
        blue.fill(8 + i * 21, 0, 21, 8, u)
        red.fill(8 + i * 21, 0, 21, 8, v)
    return luma, blue.data(), red.data()


def frame(base, chroma, counter):
    luma = Plane(WIDTH, HEIGHT, 0)
    luma.rows = [bytearray(row) for row in base.rows]
    luma.text(f"{counter:04}", 68, 36, 40, 80, 8, WHITE)
    luma.text(clock(counter), 58, 136, 16, 36, 4, WHITE)
    # A block that crosses the picture once a second shows a stutter to the eye.
    luma.fill(16, 184, 288, 12, DIM)
    luma.fill(16 + (counter % RATE) * 18, 184, 36, 12, 160)
    for i, bit in enumerate(squares(counter)):
        luma.fill(i * SQUARE_WIDTH, SQUARE_TOP, SQUARE_WIDTH, HEIGHT - SQUARE_TOP, WHITE if bit else BLACK)
    return luma.data() + chroma[0] + chroma[1]


def sound():
    """A quiet hum, and a tone of 100 ms at each full second (an octave higher at each tenth)."""
    samples = array.array("h")
    for i in range(SOUND_SAMPLES):
        second, within = divmod(i, SAMPLE_RATE)
        level = 0.01 * math.sin(2 * math.pi * 220 * i / SAMPLE_RATE)
        if within < SAMPLE_RATE // 10:
            pitch = 880 if second % 10 else 1760
            edge = min(within, SAMPLE_RATE // 10 - within) / 240
            level += 0.12 * min(edge, 1.0) * math.sin(2 * math.pi * pitch * within / SAMPLE_RATE)
        samples.append(round(32767 * level))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def encode(wav, target, codec):
    command = [
        "ffmpeg", "-v", "error", "-y", "-hide_banner",
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", str(RATE), "-i", "-",
        "-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", str(wav),
        "-map", "0:v", "-map", "1:a", "-map_metadata", "-1", "-fflags", "+bitexact",
        "-flags:v", "+bitexact", "-flags:a", "+bitexact", "-threads", "1",
        *codec,
        "-c:a", "libopus", "-b:a", "12k", "-vbr", "on", "-application", "audio", "-frame_duration", "20",
        str(target),
    ]
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
    base, blue, red = background()
    for counter in range(FRAMES):
        encoder.stdin.write(frame(base, (blue, red), counter))
    encoder.stdin.close()
    if encoder.wait() != 0:
        sys.exit(f"ffmpeg could not write {target}")


def main():
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "sound.raw"
        wav.write_bytes(sound())
        # 42e01f asks for the constrained baseline: no B-frames, one slice, one reference is plenty here.
        encode(wav, here / "counter.mp4", [
            "-c:v", "libx264", "-profile:v", "baseline", "-level:v", "3.1", "-preset", "veryslow", "-crf", "26",
            "-x264-params", "keyint=30:min-keyint=30:scenecut=0:bframes=0:ref=1:threads=1:slices=1",
            "-movflags", "+faststart",
        ])
        # No alternate reference frames: each sample is one frame that is shown.
        encode(wav, here / "counter.webm", [
            "-c:v", "libvpx", "-b:v", "30k", "-crf", "12", "-qmax", "40", "-deadline", "good", "-cpu-used", "0",
            "-g", "30", "-keyint_min", "30", "-auto-alt-ref", "0", "-lag-in-frames", "0", "-error-resilient", "0",
        ])


if __name__ == "__main__":
    main()
