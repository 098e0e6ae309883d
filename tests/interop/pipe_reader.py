#!/usr/bin/env python3
"""Reads a live stream from standard input with PyAV or OpenCV, as a program of their users would.

    kvs-viewer watch front-door -o - | pipe_reader.py pyav|opencv

Prints one JSON object for each picture: the counter that is burned into it (see read_counter.py),
and when the reader had it decoded, in milliseconds since the Unix epoch.
"""

import json
import sys
import time

from read_counter import HEIGHT, WIDTH, counter


def pyav():
    import av

    # Without a buffer of Python's, a read returns what is there, and no picture waits for the next.
    with open(0, "rb", buffering=0) as pipe, av.open(pipe, options={"analyzeduration": "0"}) as stream:
        for frame in stream.decode(video=0):
            at = time.time()
            picture = frame.reformat(WIDTH, HEIGHT, "gray").to_ndarray().tobytes()
            yield picture, at


def opencv():
    import cv2

    stream = cv2.VideoCapture("pipe:0", cv2.CAP_FFMPEG)
    if not stream.isOpened():
        sys.exit("pipe_reader.py: OpenCV cannot read standard input")
    while True:
        is_there, frame = stream.read()
        at = time.time()
        if not is_there:
            return
        gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        yield cv2.resize(gray, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).tobytes(), at


def main():
    readers = {"pyav": pyav, "opencv": opencv}
    if len(sys.argv) != 2 or sys.argv[1] not in readers:
        sys.exit(__doc__)
    for picture, at in readers[sys.argv[1]]():
        print(json.dumps({"counter": counter(picture), "unix_ms": round(at * 1000, 1)}), flush=True)


if __name__ == "__main__":
    main()
