"""A client that makes a call an exact number of times, which wrk cannot, and keeps the answers.

It shares the machine with what it measures, so it does as little as it can: one process, epoll, requests made beforehand,
answers cut out but not looked into.
"""

import select
import socket
from dataclasses import dataclass

from app.topology import Address
from ops.bench.call import Call
from ops.bench.errors import NotAsPromised

_CONNECTIONS = 64
_SILENCE_S = 30  # no answer on any connection for this long: the subject hangs
_RECEIVE_BYTES = 65_536
_LENGTH = b"content-length:"


@dataclass(slots=True)
class _Connection:
    """A kept-alive connection and what has come of the answer under way."""

    socket: socket.socket
    partial: bytes = b""


def burst(call: Call, address: Address, count: int) -> list[bytes]:
    """Make a call `count` times over 64 connections, each waiting for its answer before it calls again; return the bodies
    of the answers. Raises `NotAsPromised` unless every answer is a 2xx."""
    connections = [_Connection(socket.create_connection((address.host, address.port)))
                   for _ in range(min(_CONNECTIONS, count))]
    try:
        with select.epoll() as poll:
            return _answers(call.raw(address), connections, count, poll)
    finally:
        for connection in connections:
            connection.socket.close()


def _answers(request: bytes, connections: list[_Connection], count: int, poll: select.epoll) -> list[bytes]:
    by_file = {connection.socket.fileno(): connection for connection in connections}
    for file, connection in by_file.items():
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(file, select.EPOLLIN)
        connection.socket.sendall(request)
    sent = len(connections)
    bodies: list[bytes] = []
    while len(bodies) < count:
        ready = poll.poll(_SILENCE_S)
        if not ready:
            raise NotAsPromised(f"no answer for {_SILENCE_S} s, after {len(bodies)} of {count}")
        for file, _ in ready:
            connection = by_file[file]
            body = _received(connection)
            if body is None:
                continue
            bodies.append(body)
            if sent < count:
                connection.socket.sendall(request)
                sent += 1
    return bodies


def _received(connection: _Connection) -> bytes | None:
    """Return the body of the answer once it is whole."""
    data = connection.socket.recv(_RECEIVE_BYTES)
    if not data:
        raise NotAsPromised("the subject closed a connection instead of answering")
    answer = connection.partial + data
    end = answer.find(b"\r\n\r\n")
    if end < 0 or len(answer) < end + 4 + _body_length(answer[:end]):
        connection.partial = answer
        return None
    if not answer.startswith(b"HTTP/1.1 2"):
        raise NotAsPromised(f"a call was answered: {answer[:300].decode(errors='replace')}")
    connection.partial = b""
    return answer[end + 4:]


def _body_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(_LENGTH)
    if not found:
        raise NotAsPromised(f"an answer does not say how long it is: {head[:300].decode(errors='replace')}")
    return int(rest.partition(b"\r\n")[0])
