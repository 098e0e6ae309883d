#!/usr/bin/env python3
"""Reads the frame counters out of a recording of a bundled clip, apart from the product.

    read_counter.py FILE                    prints the counters of the file's frames, one a line
    read_counter.py FILE --compare LIST     compares them with the frames that the camera sent

LIST has one JSON object a line: {"frame": counter, "t_ms": number, "keyframe": bool}; with --client ID
those of other viewers ("client_id") do not count. FILE may also be what pipe_reader.py printed, and
then the delay from the camera ("unix_ms" in both) to the reader is printed too.
Counted are the frames sent from the keyframe that the file begins with up to the file's last
frame; the exit code is 1 if fewer than --minimum percent of them are in the file, or if any is
there twice, out of order or was never sent. The squares are described in crates/recording/clips/README.md.
Needs ffmpeg and ffprobe, and the Python standard library alone.
"""

import argparse
import json
import subprocess
import sys

SQUARES = 16
TOP, BOTTOM = 208 / 240, 1.0
# Frames are read at one small size whatever the file's: the middle of each square survives scaling.
WIDTH, HEIGHT = 320, 240
FRAMES_MAX = 1_000_000


def frames(path):
    """The gray pictures of the file, each as the decoder gave it: none repeated, none left out."""
    command = [
        "ffmpeg", "-v", "error", "-nostdin", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough",
        "-vf", f"scale={WIDTH}:{HEIGHT}:flags=area", "-pix_fmt", "gray", "-f", "rawvideo", "-",
    ]
    try:
        decoder = subprocess.Popen(command, stdout=subprocess.PIPE)
    except FileNotFoundError:
        sys.exit("read_counter.py: ffmpeg is missing; install it (Debian: apt-get install ffmpeg)")
    size = WIDTH * HEIGHT
    while picture := decoder.stdout.read(size):
        if len(picture) == size:
            yield picture
    if decoder.wait() != 0:
        sys.exit(f"read_counter.py: ffmpeg could not decode {path}")


def counter(picture):
    """The counter in the picture's squares, or None where marker or check do not fit."""
    square_width = WIDTH // SQUARES
    square_height = int(HEIGHT * (BOTTOM - TOP))
    top = int(HEIGHT * TOP) + square_height // 4
    word = 0
    for square in range(SQUARES):
        left = square * square_width + square_width // 4
        total = count = 0
        for y in range(top, top + square_height // 2):
            row = picture[y * WIDTH + left:y * WIDTH + left + square_width // 2]
            total += sum(row)
            count += len(row)
        word = word << 1 | (total > 128 * count)
    value, check = word >> 4 & 0x3FF, word & 0xF
    expected = (value ^ (value >> 4) ^ (value >> 8) ^ 0b1010) & 0xF
    return value if word >> 14 == 0b10 and check == expected else None


def objects(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def sent_frames(path, client):
    sent = [line for line in objects(path) if client is None or line["client_id"] == client]
    return [(int(line["frame"]), bool(line["keyframe"]), line.get("unix_ms")) for line in sent]


def align(recorded, sent):
    """Where each recorded frame is in the list sent, going forward; the clip loops, so counters come again.

    Tries each sent keyframe that shows the file's first counter as the beginning and keeps the best.
    """
    starts = [i for i, (value, keyframe, _) in enumerate(sent) if keyframe and value == recorded[0]]
    best = None
    for start in starts:
        places, at, foreign = [], start, []
        for value in recorded:
            # A frame's place is looked for at most half a clip ahead, or a repeated frame would be
            # taken for the same picture of the next round.
            ahead = range(at, min(at + 450, len(sent)))
            place = next((i for i in ahead if sent[i][0] == value), None)
            if place is None:
                foreign.append(value)
            else:
                places.append(place)
                at = place + 1
        if best is None or len(places) > len(best[1]):
            best = (start, places, foreign)
    return best


def delay(places, sent, times):
    """From the camera to the reader, of the frames that were found, in milliseconds."""
    delays = sorted(at - sent[place][2] for place, at in zip(places, times))
    return {"median": round(delays[len(delays) // 2], 1), "max": round(delays[-1], 1)}


def compare(recorded, sent, minimum, times):
    readable = [value for value in recorded if value is not None]
    unreadable = len(recorded) - len(readable)
    if not readable:
        print("no frame with a readable counter in the file")
        return 1
    best = align(readable, sent)
    if best is None:
        print(f"the file begins with frame {readable[0]}, which the camera never sent as a keyframe")
        return 1
    start, places, foreign = best
    expected = places[-1] - start + 1
    percent = 100 * len(places) / expected
    is_whole = not foreign and not unreadable
    print(json.dumps({
        "file_frames": len(recorded), "unreadable": unreadable, "first": readable[0], "last": readable[-1],
        "sent_in_span": expected, "found_in_order": len(places), "percent": round(percent, 3),
        "twice_or_out_of_order": foreign[:20],
        "delay_ms": delay(places, sent, times) if times and is_whole else None,
    }))
    return 0 if percent >= minimum and is_whole else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--compare", metavar="LIST")
    parser.add_argument("--client", metavar="ID")
    parser.add_argument("--minimum", type=float, default=99.0, metavar="PERCENT")
    arguments = parser.parse_args()
    recorded, times = [], []
    if arguments.file.endswith(".jsonl"):
        for line in objects(arguments.file):
            recorded.append(line["counter"])
            times.append(line["unix_ms"])
    for picture in [] if times else frames(arguments.file):
        recorded.append(counter(picture))
        if len(recorded) > FRAMES_MAX:
            sys.exit("read_counter.py: too many frames")
    if arguments.compare is None:
        for value in recorded:
            print("?" if value is None else value)
        return 0
    sent = sent_frames(arguments.compare, arguments.client)
    return compare(recorded, sent, arguments.minimum, times)


if __name__ == "__main__":
    sys.exit(main())
