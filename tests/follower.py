"""A reader who follows a job on a thread, as a gateway does for a caller; and what running jobs say to him."""

import threading

from app.announcements import Announcements
from app.following import Following
from app.job import State
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Voice
from app.streams import Streams
from app.transcript import Event, Mark
from ops.waiting import wait_until

SOON_S = 10.0  # below the 15 s after which a follower looks by himself


def say(ledger: Ledger, claim: Claim, position: int, text: str, voice: Voice = Voice.CONTENT) -> None:
    assert ledger.say([Saying(claim, Piece(claim.attempt, position, voice, text))]) == [True]


def succeed(ledger: Ledger, claim: Claim, text: str) -> None:
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text": "%s"}' % text.encode()))


class Follower:
    """Reads a job's events on a thread, as a gateway does for a caller."""

    def __init__(self, job_id: str, ledger: Ledger, streams: Streams, announcements: Announcements,
                 mark: Mark | None = None) -> None:
        self.seen: list[Event] = []
        self._following = Following(job_id, "ann", ledger=ledger, mark=mark)
        self.seen += self._following.begin()
        self._thread = threading.Thread(target=self._read, args=(streams, announcements), daemon=True)
        self._thread.start()

    def _read(self, streams: Streams, announcements: Announcements) -> None:
        for events in self._following.events(streams, announcements):
            self.seen += events

    @property
    def text(self) -> str:
        tokens = [event.data for event in self.seen if event.name == "token"]
        return "".join(token["text"] for token in tokens if isinstance(token, dict))

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.seen]

    def reads(self, text: str) -> None:
        wait_until(lambda: self.text == text, timeout_s=SOON_S, what=f"'{text}' to be read", every_s=0.005)

    def ends(self) -> None:
        self._thread.join(SOON_S)
        assert not self._thread.is_alive()
