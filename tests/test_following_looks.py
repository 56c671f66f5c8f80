"""What a follower finds when he looks in the ledger."""

import pytest
import redis

from app.following import Following
from app.job import Job, Service, State, model_part
from app.ledger import Claim, Ending, Ledger, Piece, Saying, Voice
from app.settings import Settings
from app.transcript import Mark
from tests.model_ledger import a_running_job


def say(ledger: Ledger, claim: Claim, position: int, text: str) -> None:
    assert ledger.say([Saying(claim, Piece(claim.attempt, position, Voice.CONTENT, text))]) == [True]


def test_a_long_answer_is_told_in_few_events(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.say([Saying(claim, Piece(1, 0, Voice.STARTED, "")),
                *(Saying(claim, Piece(1, end, Voice.REASONING if end <= 700 else Voice.CONTENT, "x"))
                  for end in range(1, 2001))])
    events = Following(claim.id, "ann", ledger=ledger).begin()

    assert [(event.name, str(event.mark)) for event in events] == [
        ("queued", "0-1"), ("started", "1-0"), ("token", "1-700"), ("token", "1-2000")]


def test_only_the_first_look_and_the_one_after_the_end_read_the_whole_job(client: redis.Redis, settings: Settings) -> None:
    class Counting(Ledger):
        """A ledger that counts how often a job is read whole."""

        reads = 0

        def read(self, job_id: str, tenant: str = "") -> Job:
            self.reads += 1
            return super().read(job_id, tenant)

    ledger = Counting(client, settings)
    claim = a_running_job(ledger)
    following = Following(claim.id, "ann", ledger=ledger)
    following.begin()
    for _ in range(3):
        _, job, _ = following._look()
        assert (job.state, job.attempt) == (State.RUNNING, 1)
    assert ledger.reads == 1
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text": "hello"}'))

    assert following._look()[1] == ledger.read(claim.id)


def test_the_last_event_of_a_chat_is_its_last_when_its_part_was_submitted_just_after_it(ledger: Ledger) -> None:
    chat = a_running_job(ledger, Service.CHAT)
    ledger.cancel(chat.id)
    last = Following(chat.id, "ann", ledger=ledger).begin()[-1]
    assert (last.name, str(last.mark)) == ("cancelled", "0-2")
    part = a_running_job(ledger, id=model_part(chat.id), parent=chat.id)
    say(ledger, part, 5, "hello")

    again = Following(chat.id, "ann", ledger=ledger, mark=last.mark)
    assert again.begin() == []
    assert again.over


@pytest.mark.parametrize("mark", [Mark(1, 999), Mark(1, 6), Mark(7, 3)])
def test_whoever_has_read_more_than_there_is_starts_over(ledger: Ledger, mark: Mark) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, 5, "hello")
    events = Following(claim.id, "ann", ledger=ledger, mark=mark).begin()

    assert [(event.name, str(event.mark)) for event in events] == [("restarted", "1-0"), ("token", "1-5")]
