"""`python -m ops.mns_server` as a real process: what it keeps when killed, how it ends, when it refuses to start."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mns.account import Account
from mns.mns_exception import MNSServerException
from mns.queue import Message, Queue, QueueMeta

from ops.mns_server.attributes import Attributes
from ops.mns_server.message import Draft
from ops.mns_server.service import NOTHING, Service
from ops.mns_server.store import Store, StoreUnusable
from ops.waiting import wait_until
from tests.mns_admin import ask

_ROOT = Path(__file__).resolve().parent.parent
_KEY = {"access_key_id": "id", "access_key_secret": "hidden"}


@contextmanager
def server(folder: Path, *more: str, **environ: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Run a server with its data in the folder, and say where it listens; kill it in the end if it still runs."""
    (folder / "keys.json").write_text(json.dumps(_KEY))
    command = [sys.executable, "-W", "error", "-m", "ops.mns_server", "--port", "0", "--data", str(folder / "mns.sqlite"),
               *(more or ("--keys", str(folder / "keys.json")))]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
                                   env={**os.environ, **environ})
    assert process.stdout
    with process.stdout:
        try:
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.kill()
            process.wait(10)


@contextmanager
def queue_at(listens: dict[str, Any]) -> Iterator[Queue]:
    """The queue `kept` through the SDK."""
    account = Account(listens["url"].replace("mns://", "http://"), "id", "hidden")
    yield account.get_queue("kept")
    account.get_client().close_connection()


def meta(visibility_s: int) -> QueueMeta:
    """Attributes of a queue."""
    return QueueMeta(vis_timeout=visibility_s)


def is_missing(error: MNSServerException) -> bool:
    """Whether the service says that there is no such message."""
    return bool(error.type == "MessageNotExist")


def test_what_was_answered_survives_a_kill_in_every_state(tmp_path: Path) -> None:
    with server(tmp_path) as (process, listens), queue_at(listens) as queue:
        queue.create(meta(visibility_s=600))
        for body in ("held", "deleted", "changed", "active"):
            queue.send_message(Message(body))
        queue.send_message(Message("delayed", delay_seconds=600))
        held, deleted, changed = (queue.receive_message() for _ in range(3))
        queue.delete_message(deleted.receipt_handle)
        latest = queue.change_message_visibility(changed.receipt_handle, 500)
        before = ask(listens["admin_port"], "/audit?queue=kept")
        assert before == {"sent": 5, "deleted": 1, "dead": 0, "expired": 0, "active": 1, "inactive": 2, "delayed": 1}
        process.kill()
        process.wait(10)
    with server(tmp_path) as (_, listens), queue_at(listens) as queue:
        assert ask(listens["admin_port"], "/audit?queue=kept") == before
        assert queue.receive_message().message_body == b"active"
        with pytest.raises(MNSServerException) as caught:  # nothing else is visible
            queue.receive_message()
        assert is_missing(caught.value)
        with pytest.raises(MNSServerException) as caught:
            queue.delete_message(changed.receipt_handle)
        assert is_missing(caught.value)
        queue.delete_message(latest.receipt_handle)
        queue.delete_message(held.receipt_handle)


def test_a_kill_in_the_midst_of_sending_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with server(tmp_path) as (process, listens), queue_at(listens) as queue:
        queue.create(meta(visibility_s=600))
        for number in range(200):
            queue.send_message(Message(f"{number}"))
        process.kill()  # no moment after the last answer
        process.wait(10)
    with server(tmp_path) as (_, listens):
        audit = ask(listens["admin_port"], "/audit?queue=kept")
        assert (audit["sent"], audit["active"]) == (200, 200)


def test_sigterm_ends_it_at_once_though_somebody_waits_and_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with server(tmp_path) as (process, listens), queue_at(listens) as queue:
        queue.create(meta(visibility_s=600))
        queue.send_message(Message("one"))
        queue.receive_message()
        with ThreadPoolExecutor(1) as threads, queue_at(listens) as another:
            waiting = threads.submit(another.receive_message, 30)
            wait_until(lambda: ask(listens["admin_port"], "/queues")[0]["waiting"] == 1, timeout_s=10,
                       what="a receive to wait")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            with pytest.raises(MNSServerException) as caught:
                waiting.result(10)
            assert is_missing(caught.value)
    assert "Traceback" not in (tmp_path / "log").read_text()
    with server(tmp_path) as (_, listens):
        assert ask(listens["admin_port"], "/audit?queue=kept")["inactive"] == 1


def test_keys_may_come_from_the_environment(tmp_path: Path) -> None:
    with server(tmp_path, "--admin-port", "0", ALIBABA_CLOUD_ACCESS_KEY_ID="id",
                ALIBABA_CLOUD_ACCESS_KEY_SECRET="hidden") as (_, listens), queue_at(listens) as queue:
        queue.create(meta(visibility_s=600))


def test_it_refuses_to_start_without_keys_and_says_what_to_do(tmp_path: Path) -> None:
    for more in (("--account", "1"), ("--keys", str(tmp_path / "missing.json"))):
        with server(tmp_path, *more) as (process, listens):
            assert listens == {}
            assert process.wait(10) == 1
    log = (tmp_path / "log").read_text()
    assert "no access keys; name their file with --keys, or set ALIBABA_CLOUD_ACCESS_KEY_ID" in log
    assert "missing.json cannot be read: No such file or directory" in log


def test_two_servers_do_not_share_a_data_file(tmp_path: Path) -> None:
    with server(tmp_path), server(tmp_path) as (second, listens):
        assert listens == {}
        assert second.wait(10) == 1
    assert "is another server's; stop that, or name another file" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("content", "says"), [(b"this is no database, and long enough to be sure of it" * 20, "not this"),
                                               (None, "version 99")])
def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "other.sqlite"
    if content is None:
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA user_version = 99")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=says):
        Store.open(path)
    assert path.read_bytes()[100:] == before[100:]


def test_a_commit_that_fails_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    store, _ = Store.open(tmp_path / "mns.sqlite")
    service = Service(store, memory=NOTHING, account="1")
    service.create("jobs", Attributes())
    service.commit()
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # a full disk
    for _ in range(2):
        service.send("jobs", Draft("x" * 60_000))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            service.commit()
    store._connection.execute("PRAGMA max_page_count = 100000")
    service.commit()
    service.close()
    store.close()
    reopened, memory = Store.open(tmp_path / "mns.sqlite")
    assert (len(memory.messages), memory.counts["jobs"].sent) == (2, 2)
    reopened.close()
