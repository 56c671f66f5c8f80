"""Keeps queues and messages in one SQLite file, so that a restart, or a SIGKILL, loses nothing that was answered.

Changes are taken down in memory as they are made, and written by whoever needs them to last: the first such thread
writes everything there is in one transaction, the others find theirs written (a group commit). The file is in WAL mode
with `synchronous=NORMAL`: a commit survives the process's death at any moment, and the machine's orderly shutdown; a
power cut may take the last commits, but never the file. It belongs to one process at a time.

The messages in the file carry all that their state follows from (when visible, how often handed out, the handle), so
that what was in flight is still in flight after a restart, and its handles are still good.
"""

import json
import sqlite3
import threading
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

from ops.mns_server.attributes import Attributes, DeadLetters
from ops.mns_server.journal import Counts, Journal, QueueRecord
from ops.mns_server.message import Draft, Message, Property
from ops.mns_server.service import Memory

_VERSION = 1  # of the tables
_TABLES = """
CREATE TABLE queues (name TEXT PRIMARY KEY, attributes TEXT, target TEXT, max_receives INTEGER, created_ms INTEGER,
                     modified_ms INTEGER) WITHOUT ROWID;
CREATE TABLE messages (id TEXT PRIMARY KEY, queue TEXT, place INTEGER, body TEXT, priority INTEGER, delay_s INTEGER,
                       grouped TEXT, properties TEXT, enqueued_ms INTEGER, visible_ms INTEGER, first_dequeued_ms INTEGER,
                       dequeues INTEGER, tail TEXT, handle_until_ms INTEGER);
CREATE TABLE counts (name TEXT PRIMARY KEY, sent INTEGER, deleted INTEGER, dead INTEGER, expired INTEGER) WITHOUT ROWID;
CREATE TABLE account (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_PUT_QUEUE = "INSERT OR REPLACE INTO queues VALUES (?, ?, ?, ?, ?, ?)"
_DROP_QUEUE = "DELETE FROM queues WHERE name = ?"
_DROP_ITS_MESSAGES = "DELETE FROM messages WHERE queue = ?"
_PUT_MESSAGE = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TOUCH_MESSAGE = ("UPDATE messages SET visible_ms = ?, first_dequeued_ms = ?, dequeues = ?, tail = ?, handle_until_ms = ? "
                  "WHERE id = ?")
_DROP_MESSAGE = "DELETE FROM messages WHERE id = ?"
_PUT_COUNTS = "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?, ?)"
_PUT_ACCOUNT = "INSERT OR REPLACE INTO account VALUES (?, ?)"


class StoreUnusable(Exception):
    """The data file cannot be used; says why and what to do."""


class Store(Journal):
    """The journal on a file. See the module."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # around what is taken down
        self._writing = threading.Lock()  # around the connection
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        self._counts: dict[str, tuple[int, ...]] = {}
        self._taken = self._written = 0  # changes

    @classmethod
    def open(cls, path: Path) -> tuple["Store", Memory]:
        """Open the file, made if need be, and return what it remembers. Raises `StoreUnusable`."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # prompts are in it
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        except (OSError, sqlite3.Error) as exc:
            raise StoreUnusable(f"the data file {path} cannot be opened: {exc}; name another with --data") from exc
        try:
            _prepare(connection)
            return cls(connection), _memory(connection)
        except sqlite3.OperationalError as exc:
            connection.close()
            if "locked" in str(exc):
                raise StoreUnusable(f"the data file {path} is another server's; stop that, or name another file") from exc
            raise StoreUnusable(f"the data file {path} cannot be used: {exc}; name another with --data") from exc
        except (sqlite3.DatabaseError, StoreUnusable) as exc:
            connection.close()
            raise StoreUnusable(f"the data file {path} is not this server's: {exc}; name another with --data") from exc

    def queue(self, record: QueueRecord) -> None:
        """A queue was made or changed."""
        dead = record.dead_letters
        self._take(_PUT_QUEUE, record.name, json.dumps(asdict(record.attributes)), dead and dead.target,
                   dead and dead.max_receives, record.created_ms, record.modified_ms)

    def queue_gone(self, name: str) -> None:
        """A queue was deleted, and its messages with it."""
        self._take(_DROP_QUEUE, name)
        self._take(_DROP_ITS_MESSAGES, name)

    def message(self, queue: str, message: Message) -> None:
        """A message came into the queue."""
        draft = message.draft
        properties = [[astuple(one) for one in several] for several in (draft.user_properties, draft.system_properties)]
        self._take(_PUT_MESSAGE, message.id, queue, message.order, draft.body, draft.priority, draft.delay_s, draft.group,
                   json.dumps(properties), message.enqueued_ms, message.visible_ms, message.first_dequeued_ms,
                   message.dequeues, message.tail, message.handle_until_ms)

    def touched(self, message: Message) -> None:
        """A message was handed out, or its visibility was changed."""
        self._take(_TOUCH_MESSAGE, message.visible_ms, message.first_dequeued_ms, message.dequeues, message.tail,
                   message.handle_until_ms, message.id)

    def message_gone(self, message_id: str) -> None:
        """A message left its queue."""
        self._take(_DROP_MESSAGE, message_id)

    def counted(self, queue: str, counts: Counts) -> None:
        """These are the queue's counts now; of several before a commit only the last is written."""
        with self._lock:
            self._counts[queue] = astuple(counts)
            self._taken += 1

    def account(self, name: str, value: str) -> None:
        """An attribute of the account was set."""
        self._take(_PUT_ACCOUNT, name, value)

    def commit(self) -> None:
        """Return when everything taken down so far is in the file. Raises `sqlite3.Error` (a full disk, say): then it stays
        taken down, and the next commit tries again."""
        with self._lock:
            wanted = self._taken
        if self._written >= wanted:
            return
        with self._writing:
            if self._written < wanted:
                self._write()

    def close(self) -> None:
        """Commit, and close the file."""
        self.commit()
        with self._writing:
            self._connection.close()

    def _take(self, statement: str, *values: Any) -> None:
        with self._lock:
            self._pending.append((statement, values))
            self._taken += 1

    def _write(self) -> None:
        with self._lock:
            changes, self._pending = self._pending, []
            counts, self._counts = self._counts, {}
            taken = self._taken
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, values in changes:
                self._connection.execute(statement, values)
            self._connection.executemany(_PUT_COUNTS, [(name, *values) for name, values in counts.items()])
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            with self._lock:
                self._pending[:0] = changes
                self._counts = counts | self._counts
            raise
        self._written = taken


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")  # takes the file for this process
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _VERSION):
        raise StoreUnusable(f"its tables are of version {version}, and this server's of version {_VERSION}")
    if version == 0:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")


def _memory(connection: sqlite3.Connection) -> Memory:
    return Memory(
        queues=[QueueRecord(name, Attributes(**json.loads(attributes)), DeadLetters(target, most) if target else None,
                            created_ms, modified_ms)
                for name, attributes, target, most, created_ms, modified_ms in connection.execute("SELECT * FROM queues")],
        messages=[_message(row) for row in connection.execute("SELECT * FROM messages ORDER BY place")],
        counts={name: Counts(*counts) for name, *counts in connection.execute("SELECT * FROM counts")},
        account=dict(connection.execute("SELECT name, value FROM account")))


def _message(row: tuple[Any, ...]) -> tuple[str, Message]:
    (message_id, queue, order, body, priority, delay_s, group, properties, enqueued_ms, visible_ms, first_dequeued_ms,
     dequeues, tail, handle_until_ms) = row
    user, system = ((Property(*one) for one in several) for several in json.loads(properties))
    draft = Draft(body, priority, delay_s, group, tuple(user), tuple(system))
    return queue, Message(message_id, draft, order, enqueued_ms, visible_ms, first_dequeued_ms, dequeues, tail,
                          handle_until_ms)
