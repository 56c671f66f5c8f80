"""Hears what jobs say while they say it, for those who follow them.

All that is said goes over one Redis channel; each process that has a follower hears it in one thread and hands out the
pieces. Nothing depends on hearing each piece: what was said lies in the ledger, and a listener that may have missed some
is told to read it there.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from app import logs
from app.ledger import Piece, Voice
from app.settings import Settings
from app.store import open_redis
from app.subscription import BLOCK_S, hear

_MOST_KEPT = 1000  # pieces for a listener that does not take them, half a minute's; then it has to read the ledger

_Payload = list[tuple[str, str, str, str, str]]  # id, attempt, position, voice, text


class Listener:
    """What one follower of a job has to see to. Safe to share between the thread that tells and the one that takes."""

    __slots__ = ("_pieces", "look", "something")

    def __init__(self) -> None:
        self.something = threading.Event()
        self.look = True  # in the ledger: pieces may have been missed, or the job may have ended
        self._pieces: deque[Piece] = deque()

    def set(self) -> None:
        """Look in the ledger."""
        self.look = True
        self.something.set()

    def tell(self, piece: Piece) -> None:
        """Here is a piece."""
        if len(self._pieces) < _MOST_KEPT:
            self._pieces.append(piece)
        else:
            self.look = True
        self.something.set()

    def take(self) -> list[Piece]:
        """Return the pieces told since the last call, in order."""
        self.something.clear()
        taken = []
        while self._pieces:
            taken.append(self._pieces.popleft())
        return taken


class Streams:
    """Tells the listeners of this process. The hearing thread lives while there are any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listeners: dict[str, list[Listener]] = defaultdict(list)
        self._lock = threading.Lock()
        self._hearing = False
        self.closing = False

    @contextmanager
    def listener(self, job_id: str) -> Iterator[Listener]:
        """One that is told what the job says from now on. Look in the ledger first."""
        listener = Listener()
        with self._lock:
            self._listeners[job_id].append(listener)
            if not self._hearing:
                threading.Thread(target=self._hear, name="tandem-streams", daemon=True).start()
                self._hearing = True  # by a thread that did start
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners[job_id].remove(listener)
                if not self._listeners[job_id]:
                    del self._listeners[job_id]

    def close(self) -> None:
        """The process is about to stop: all followers are to end, and go on elsewhere."""
        self.closing = True
        self._look()

    def _hear(self) -> None:
        client = open_redis(self._settings, timeout_s=BLOCK_S + self._settings.redis_timeout_s)
        with client:
            hear(client, "said", each=self._tell, subscribed=self._look, wanted=self._wanted)

    def _wanted(self) -> bool:
        """Whether anybody listens; if not, the thread that asks is to end, and the next listener begins another."""
        with self._lock:
            self._hearing = bool(self._listeners)
            return self._hearing

    def _look(self) -> None:
        with self._lock:
            everyone = [listener for listeners in self._listeners.values() for listener in listeners]
        for listener in everyone:
            listener.set()

    def _tell(self, payload: bytes) -> None:
        try:
            for job_id, attempt, position, voice, text in msgspec.msgpack.decode(payload, type=_Payload):
                if listeners := self._listeners.get(job_id):
                    piece = Piece(int(attempt), int(position), Voice(voice), text)
                    for listener in tuple(listeners):
                        listener.tell(piece)
        except (msgspec.DecodeError, ValueError) as exc:  # a Tandem of another version said it
            logs.event("said_unreadable", why=str(exc))
            self._look()
