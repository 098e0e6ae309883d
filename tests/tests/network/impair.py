#!/usr/bin/env python3
"""Carries frames between two interfaces as a poor network would: late, not all, some twice, out of
order. For kernels without netem, which is preferred where it is. The same seed and frames meet the same fate.

    impair.py NEAR FAR --seed 1 --loss 0.02 --repeat 0.01 --reorder 0.02 --delay-ms 40 --jitter-ms 5

Checksums must be whole in what the neighbours send: turn off their offloads (`ethtool -K IF tx off`).
"""

import argparse
import heapq
import json
import random
import select
import socket
import time

FRAME_MAX = 65536
WAITING_MAX = 4096
PACKET_OUTGOING = 4


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("interfaces", nargs=2)
    parser.add_argument("--seed", type=int, default=0)
    for rate in ("loss", "repeat", "reorder"):
        parser.add_argument(f"--{rate}", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    args = parser.parse_args()

    sockets = []
    for interface in args.interfaces:
        # ETH_P_ALL: every frame, the other side's ARP included.
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw.bind((interface, 0))
        sockets.append(raw)
    chance = [random.Random(f"{args.seed} {side}") for side in range(2)]
    waiting, number = [], 0
    print(json.dumps({"event": "ready"}), flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, side, frame = heapq.heappop(waiting)
            try:
                sockets[side].send(frame)
            except OSError:
                pass  # The interface is down: lost, as on any network.
        patience = waiting[0][0] - now if waiting else None
        for ready in select.select(sockets, [], [], patience)[0]:
            frame, source = ready.recvfrom(FRAME_MAX)
            if source[2] == PACKET_OUTGOING:
                continue
            near = sockets.index(ready)
            dice = chance[near]
            # All dice are thrown for each frame, so that one rate does not change what others do.
            lost, again, early = (dice.random() < rate for rate in (args.loss, args.repeat, args.reorder))
            wait = max(0.0, args.delay_ms + dice.uniform(-1, 1) * args.jitter_ms) / 1000
            if lost or len(waiting) >= WAITING_MAX:
                continue
            due = time.monotonic() + (wait / 4 if early else wait)
            for _ in range(2 if again else 1):
                number += 1
                heapq.heappush(waiting, (due, number, 1 - near, frame))


if __name__ == "__main__":
    main()
