"""A name server that takes its time: each answer comes SECONDS later.

Usage: slow_dns.py SECONDS IPV4 IPV6

Every name has the two addresses, and no other record (RFC 1035, 4).
"""

import ipaddress
import socket
import sys
import threading

A, AAAA, IN = 1, 28, 1


def answer(query: bytes, addresses: dict[int, bytes]) -> bytes:
    """The answer to a query with one question."""
    end = query.index(0, 12) + 5
    question = query[12:end]
    kind = int.from_bytes(question[-4:-2])
    address = addresses.get(kind)
    # A response, recursion desired and available; the answer's name points to the question's.
    head = query[:2] + bytes([0x81, 0x80, 0, 1, 0, int(address is not None), 0, 0, 0, 0])
    if address is None:
        return head + question
    record = b"\xc0\x0c" + kind.to_bytes(2) + IN.to_bytes(2) + (60).to_bytes(4)
    return head + question + record + len(address).to_bytes(2) + address


def main() -> None:
    """Serves until it is killed."""
    delay = float(sys.argv[1])
    v4, v6 = (ipaddress.ip_address(text).packed for text in sys.argv[2:4])
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 53))
    print('{"event": "ready"}', flush=True)
    while True:
        query, client = server.recvfrom(512)
        reply = answer(query, {A: v4, AAAA: v6})
        threading.Timer(delay, server.sendto, (reply, client)).start()


if __name__ == "__main__":
    main()
