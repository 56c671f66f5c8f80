"""Stands in for a cloud worker in the tests of the home side: it speaks the words, and does no work of its own."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from kombu import Message

from app import logs
from app.job import new_job_id
from app.settings import Settings
from ops.mns_server import LocalMns
from ops.waiting import wait_until
from routing.cloud import broker, words
from routing.cloud.post import Post


def reaching(settings: Settings, mns: LocalMns, folder: Path) -> Settings:
    """Return settings with which this server is reached, and queues of their own in it."""
    keys = folder / "keys.json"
    keys.write_text('{"access_key_id": "id", "access_key_secret": "secret"}')
    return replace(settings, mns_url=mns.url, mns_credentials=str(keys), mns_prefix=f"t{secrets.token_hex(4)}")


class StandIn:
    """A cloud worker named `name`, driven by a test. It takes and says only what it is told to."""

    def __init__(self, settings: Settings, name: str = "cloud@a") -> None:
        self.settings = settings
        self.name = name
        self.busy = 0
        self.post = Post(settings)

    def worker(self) -> words.Worker:
        return words.Worker(name=self.name, processor="P11", slots=4, busy=self.busy, engine="scripted",
                            figures={"batch": self.busy})

    def report(self, *said: words.Word) -> words.Report:
        return words.Report(worker=self.worker(), words=list(said))

    def send(self, *said: words.Word) -> None:
        """Send a report with these words."""
        self.send_raw(broker.REPORT_TASK, words.body("report", self.report(*said)))

    def send_raw(self, task: str, arguments: dict[str, Any]) -> None:
        self.post.send(broker.results_queue(self.settings), task, arguments, message_id=new_job_id())

    def errand(self) -> words.Errand:
        """Take the next errand from the queue; wait for one."""
        return msgspec.convert(self._take(broker.jobs_queue(self.settings))["errand"], words.Errand)

    def stops(self) -> list[str]:
        """Take the next message that tells this worker what is void; wait for one."""
        return msgspec.convert(self._take(broker.stops_queue(self.settings, self.name))["stops"], words.Stops).void

    def _take(self, queue: str) -> dict[str, Any]:
        return dict(take(self.settings, queue).payload[1])

    def close(self) -> None:
        self.post.close()


def counting() -> Callable[[str], int]:
    """Return what says how often an event has been logged since now."""
    before = dict(logs.counters)
    return lambda name: logs.counters[name] - before.get(name, 0)


def take(settings: Settings, queue: str) -> Message:
    """Take the next message from a queue; wait for one."""
    with broker.connected(settings) as connection:
        channel = connection.channel()
        message: Message = wait_until(lambda: channel.basic_get(queue), timeout_s=20, what=f"a message in {queue}")
        message.ack()
        return message


class Run:
    """A run of an errand, with the words that it may say."""

    def __init__(self, job: str, ticket: str) -> None:
        self.job, self.ticket, self.run = job, ticket, f"{ticket}.{secrets.token_hex(4)}"
        self._who = {"job": self.job, "ticket": self.ticket, "run": self.run}

    def began(self) -> words.Began:
        return words.Began(**self._who)

    def alive(self) -> words.Alive:
        return words.Alive(**self._who)

    def said(self, start: int, text: str, voice: str = "content") -> words.Said:
        return words.Said(**self._who, start=start, voice=voice, text=text)

    def ended(self, text: str = "hello", *, of: int = 1, state: str = "succeeded") -> list[words.Ended]:
        """The words of an end, in `of` parts."""
        outcome = words.Outcome(state=state, usage='{"prompt_tokens":1,"completion_tokens":2}', **(
            {"result": msgspec.json.encode({"text": text, "finish_reason": "stop", "model": "scripted"}).decode()}
            if state == "succeeded" else {"error": '{"code":"engine-failed","detail":"no","fault":"engine"}'}))
        whole = msgspec.json.encode(outcome).decode()
        size = -(-len(whole) // of)
        return [words.Ended(**self._who, outcome=whole[number * size:(number + 1) * size], number=number, of=of)
                for number in range(of)]

    def gave_back(self, because: str = "error", wait_s: float = 0.0) -> words.GaveBack:
        return words.GaveBack(**self._who, because=because, wait_s=wait_s, why="the test says so")


