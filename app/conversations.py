"""The tenants' conversations, in Redis.

    conversation:<tenant>:<name>   hash: uid, title, system, created_ms
    conversations:<tenant>         sorted set: the names, by when each was used last
    turns:<uid>                    list: the answered turns (`app.turns`) as JSON, oldest first

The uid is fresh for each conversation: what still runs for one that was deleted finds nothing of another that has its name.
Turns are appended by the step that records a job's result, so a conversation holds an answer if and only if its job
succeeded. The jobs of a conversation stand in one line, named as its key is: a turn is answered when the one before it
has ended, so each sees the answers before it and none is lost.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import redis

from app import turns
from app.errors import InvalidInput
from app.ledger.scripts import unavailable
from app.lua_script import LuaScript
from app.turns import Totals, Turn

Found = TypeVar("Found")


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation, and what it has come to. Times are Unix milliseconds by Redis's clock."""

    name: str
    uid: str
    title: str
    system: str
    created_ms: int
    updated_ms: int
    totals: Totals = Totals()


def key_of(tenant: str, name: str) -> str:
    """Return the Redis key of a conversation."""
    return f"conversation:{tenant}:{name}"


def turns_key(uid: str) -> str:
    """Return the Redis key of a conversation's turns."""
    return f"turns:{uid}"


def line_of(tenant: str, name: str) -> str:
    """Return the line (`NewJob.line`) that all jobs of a conversation stand in."""
    return f"conversation:{tenant}:{name}"


class Conversations:
    """Begins, finds, changes and forgets conversations. Raises `StoreUnavailable` when Redis cannot do it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._touch = LuaScript(client, "touch_conversation")
        self._change = LuaScript(client, "change_conversation")
        self._forget = LuaScript(client, "forget_conversation")

    def begin(self, tenant: str, name: str, *, title: str = "", system: str = "") -> str:
        """Begin a conversation, where there is none of this name, and note that it is used now. Return its uid."""
        return str(self._touch(_keys(tenant, name), name, os.urandom(16).hex(), title, system).decode())

    def touch(self, tenant: str, name: str) -> bool:
        """Note that a conversation is used now; tell whether there is one."""
        return self._touch(_keys(tenant, name), name, "", "", "") is not None

    def find(self, tenant: str, name: str) -> Conversation | None:
        """Return a conversation, None where there is none of this name."""
        found = self._read(tenant, [name])
        return found[0] if found else None

    def page(self, tenant: str, *, before: str = "", limit: int) -> tuple[list[Conversation], str | None]:
        """Return some conversations, the last used first: those `before` the cursor of an earlier page; and the cursor of
        the next page, None where there is none. Raises `InvalidInput` for a cursor that is none."""
        last = _place(before) if before else None
        names: list[tuple[int, bytes]] = []
        offset, step = 0, limit + 1
        while len(names) <= limit:
            part = _asked(lambda at=offset: self._client.zrevrangebyscore(  # type: ignore[misc]
                _index(tenant), last[0] if last else "+inf", "-inf", start=at, num=step, withscores=True))
            places = [(int(score), name) for name, score in part]
            names += [place for place in places if last is None or place < last]
            offset += step
            if len(part) < step:
                break
        found = self._read(tenant, [name.decode() for _, name in names[:limit]])
        cursor = f"{names[limit - 1][0]}:{names[limit - 1][1].decode()}" if len(names) > limit else None
        return found, cursor

    def change(self, tenant: str, name: str, **fields: str) -> bool:
        """Set `title` or `system`; tell whether there is such a conversation."""
        return bool(self._change([key_of(tenant, name)], "", "", *(part for pair in fields.items() for part in pair)))

    def entitle(self, tenant: str, name: str, uid: str, title: str) -> bool:
        """Give a title to a conversation that has none yet; tell whether it was given."""
        return bool(self._change([key_of(tenant, name)], uid, "1", "title", title))

    def forget(self, tenant: str, conversation: Conversation) -> None:
        """Forget a conversation with its turns. What runs for it has to be cancelled before."""
        self._forget([*_keys(tenant, conversation.name), turns_key(conversation.uid)], conversation.name, conversation.uid)

    def turns(self, uid: str) -> list[Turn]:
        """Return the turns that stand, oldest first."""
        return turns.read(_asked(lambda: self._client.lrange(turns_key(uid), 0, -1)))

    def live_jobs(self, tenant: str, name: str) -> list[str]:
        """Return the ids of the jobs that wait or run for a conversation, in their order."""
        ids = _asked(lambda: self._client.lrange(f"line:{line_of(tenant, name)}", 0, -1))
        return [job_id.decode() for job_id in ids]

    def _read(self, tenant: str, names: Sequence[str]) -> list[Conversation]:
        """Return those of these conversations that there are."""
        def records() -> Any:
            with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.hgetall(key_of(tenant, name))
                    pipeline.zscore(_index(tenant), name)
                return pipeline.execute()

        replies = _asked(records)
        known = [(name, record, score) for name, record, score in zip(names, replies[::2], replies[1::2], strict=True)
                 if record]
        last = self._last_turns([record[b"uid"].decode() for _, record, _ in known])
        return [Conversation(
            name=name, uid=record[b"uid"].decode(), title=record[b"title"].decode(), system=record[b"system"].decode(),
            created_ms=int(record[b"created_ms"]), updated_ms=int(score or record[b"created_ms"]), totals=totals)
            for (name, record, score), totals in zip(known, last, strict=True)]

    def _last_turns(self, uids: Sequence[str]) -> list[Totals]:
        """Return what each of these conversations has come to, as its last turn tells."""
        def ends() -> Any:
            with self._client.pipeline(transaction=False) as pipeline:
                for uid in uids:
                    pipeline.lindex(turns_key(uid), -1)
                return pipeline.execute()

        return [msgspec.json.decode(turn, type=Turn).totals if turn else Totals() for turn in _asked(ends)]


def _index(tenant: str) -> str:
    return f"conversations:{tenant}"


def _keys(tenant: str, name: str) -> list[str]:
    return [key_of(tenant, name), _index(tenant)]


def _place(cursor: str) -> tuple[int, bytes]:
    at_ms, colon, name = cursor.partition(":")
    if not (colon and at_ms.isascii() and at_ms.isdecimal() and len(at_ms) < 16):
        raise InvalidInput("the cursor is not one that a page came with")
    return int(at_ms), name.encode(errors="replace")


def _asked(ask: Callable[[], Found]) -> Found:
    try:
        return ask()
    except (redis.exceptions.RedisError, OSError) as exc:
        raise unavailable(exc) from exc
