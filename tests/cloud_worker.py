"""A real cloud worker for tests, and home's side of it: who sends it errands and hears what it reports."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from kombu import Consumer, Exchange, Message, Producer, Queue

from app.job import new_job_id
from app.settings import Settings
from ops.mns_server import LocalMns
from ops.waiting import wait_until
from routing.cloud import broker, words
from routing.cloud.post import Post
from routing.cloud.reading import read
from routing.mns.names import mns_name

KEY = ("test-id", "test-very-secret")
PATIENCE_S = 40.0  # for what takes a loaded machine a few seconds
Kind = TypeVar("Kind", bound=words.Word)


def with_key(settings: Settings, folder: Path, key: tuple[str, str] = KEY) -> Settings:
    """The settings with a key, in a file of the folder."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"access_key_id": key[0], "access_key_secret": key[1]}), encoding="utf-8")
    keys.chmod(0o600)
    return replace(settings, mns_credentials=str(keys))


@dataclass
class Home:
    """Home's side, in a corner of MNS of its own (its queues' prefix). `settings` are its own."""

    mns: LocalMns
    settings: Settings
    folder: Path
    reports: list[words.Report] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def beside(cls, mns: LocalMns, folder: Path, prefix: str) -> Iterator["Home"]:
        """A home that hears reports for as long as the block takes."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            mns_url=mns.url, mns_prefix=prefix, mns_visibility_s=2.0, cloud_store=f"file://{folder / 'store'}",
            data_dir=folder, cloud_say_s=0.05, cloud_beat_s=0.5, cloud_lease_s=10.0, shutdown_s=1.0, engine="scripted")
        home, ending = cls(mns, with_key(settings, folder), folder), threading.Event()
        thread = threading.Thread(target=home._hear_until, args=(ending,))
        thread.start()
        try:
            yield home
        finally:
            ending.set()
            thread.join()
            assert home.faults == []

    def _hear_until(self, ending: threading.Event) -> None:
        name = broker.results_queue(self.settings)
        queue = Queue(name, Exchange(""), routing_key=name)
        with broker.connection(self.settings) as connection, \
                Consumer(connection.channel(), [queue], on_message=self._take, accept=["json"]):
            while not ending.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)

    def _take(self, message: Message) -> None:
        report, faults = read(message)
        self.reports.append(report)
        self.faults += faults
        message.ack()

    def send(self, script: str, **members: Any) -> words.Errand:
        """Send a job to the cloud."""
        given = {"job": new_job_id(), "ticket": os.urandom(16).hex(), "task": "model.generate",
                 "input": json.dumps({"prompt": script}, ensure_ascii=False)} | members
        errand = words.Errand(**given)
        self.post(broker.jobs_queue(self.settings), broker.RUN_TASK, words.body("errand", errand))
        return errand

    def void(self, worker: str, *names: str) -> None:
        """Tell a worker what is void."""
        self.post(broker.stops_queue(self.settings, worker), broker.STOP_TASK,
                  words.body("stops", words.Stops(void=list(names))))

    def post(self, queue: str, task: str, arguments: dict[str, Any]) -> None:
        """Send a message."""
        with Post(self.settings) as post:
            post.send(queue, task, arguments, message_id=new_job_id())

    def put(self, queue: str, body: Any, headers: dict[str, Any]) -> None:
        """Send a message of any kind."""
        with broker.connection(self.settings) as connection:
            Producer(connection.channel(), auto_declare=False).publish(
                body, exchange="", routing_key=queue, serializer="json", headers=headers)

    def heard(self, errand: words.Errand, kind: type[Kind]) -> list[Kind]:
        """The words of a kind that were heard of an errand, in the order in which they came."""
        return [word for report in list(self.reports) for word in report.words
                if word.ticket == errand.ticket and isinstance(word, kind)]

    def hears(self, errand: words.Errand, kind: type[Kind], *, most_s: float = PATIENCE_S) -> Kind:
        """The first word of a kind, once it has come."""
        return wait_until(lambda: self.heard(errand, kind), timeout_s=most_s, what=f"a word {kind.__name__}")[0]

    def outcome(self, errand: words.Errand) -> words.Outcome:
        """How an errand ended, once all of that has come."""
        def whole() -> str | None:
            parts = {end.number: end for end in self.heard(errand, words.Ended)}
            complete = parts and len(parts) == next(iter(parts.values())).of
            return "".join(parts[number].outcome for number in sorted(parts)) if complete else None

        return msgspec.json.decode(wait_until(whole, timeout_s=PATIENCE_S, what="the whole end"), type=words.Outcome)

    def said(self, errand: words.Errand) -> str:
        """What was said of an errand's answer; a piece that does not follow on what came before fails the test."""
        text = ""
        for piece in self.heard(errand, words.Said):
            assert piece.start == len(text), f"a gap before {piece}"
            text += piece.text
        return text

    def audit(self, queue: str = "jobs") -> dict[str, int]:
        """What became of the messages of one of its queues."""
        return self.mns.audit(mns_name(f"{self.settings.mns_prefix}-{queue}"))


class CloudWorker:
    """A worker process. `name` is its node name."""

    def __init__(self, home: Home, name: str, settings: dict[str, str]) -> None:
        self.name = f"cloud@{name}"
        self.log = home.folder / f"{name}.log"
        ours = home.settings
        environ = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
        environ |= {"TANDEM_PROFILE": "cloud"} | {f"TANDEM_{key.upper()}": str(getattr(ours, key)) for key in (
            "mns_url", "mns_credentials", "mns_prefix", "mns_visibility_s", "cloud_store", "data_dir", "cloud_say_s",
            "cloud_beat_s", "cloud_lease_s", "shutdown_s", "engine")}
        environ |= {f"TANDEM_{key.upper()}": value for key, value in settings.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "workers", "worker", "-n", self.name, "--concurrency", "2"],
                env=environ, stdout=subprocess.DEVNULL, stderr=log)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of an event."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line for text in lines if text.startswith("{") and (line := json.loads(text))["event"] == name]

    def logs(self, name: str, **members: Any) -> dict[str, Any]:
        """The first line of an event with these members, once it has come."""
        def find() -> dict[str, Any] | None:
            if self.process.poll() is not None and not self.events(name):
                raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.log.read_text()}")
            return next((line for line in self.events(name) if members.items() <= line.items()), None)

        return wait_until(find, timeout_s=PATIENCE_S, what=f"{name} in the worker's log")

    def end(self, how: signal.Signals = signal.SIGTERM, *, within_s: float = PATIENCE_S) -> int:
        """Have it end, and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(within_s)


@contextmanager
def worker_of(home: Home, name: str = "w", **settings: str) -> Iterator[CloudWorker]:
    """A worker that is ready; it is not there any more afterwards."""
    with workers_of(home, name, **settings) as (worker,):
        yield worker


@contextmanager
def workers_of(home: Home, *names: str, **settings: str) -> Iterator[list[CloudWorker]]:
    """Workers that are ready; they are not there any more afterwards."""
    workers = [CloudWorker(home, name, settings) for name in names]
    try:
        for worker in workers:
            worker.logs("worker_ready")
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()


@contextmanager
def redis_bait(folder: Path) -> Iterator[socket.socket]:
    """A Redis that a checkout's note names, as `make up` leaves it: whoever connects is seen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        note = folder / "redis" / "url"
        note.parent.mkdir(parents=True)
        note.write_text(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", encoding="utf-8")
        yield listener


