"""Loads the ledger's Lua scripts and runs them.

The one place where Redis's errors become ours: whatever keeps a script from being run is `StoreUnavailable`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import redis

from app.errors import StoreUnavailable
from app.ledger.wakeup import lua_pieces

_FOLDER = Path(__file__).parent / "lua"

#: What may stand in front of a script, in this order.
PRELUDE = ("keys", "order", "queue", "limits", "holding", "ending", "beginning", "speaking", "spend", "cloud")
_PIECES = {name: (_FOLDER / "prelude" / f"{name}.lua").read_text() for name in PRELUDE}
_PIECES["queue"] = lua_pieces() + _PIECES["queue"]
_COMMENT = re.compile(r"--.*")
_NAMES = {name: re.compile(r"\b(?:" + "|".join(re.findall(r"\w+", " ".join(
    re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", text, re.MULTILINE)))) + r")\b")
    for name, text in _PIECES.items()}


def _whole(script: str) -> str:
    """Return a script behind the pieces of the prelude that it uses, and those that they use: defining what is not used
    would be a good part of a short script's cost."""
    used, text = set[str](), script
    while more := {name for name in PRELUDE if name not in used and _NAMES[name].search(_COMMENT.sub("", text))}:
        used |= more
        text = "\n".join(_PIECES[name] for name in more)
    return "\n".join([*(_PIECES[name] for name in PRELUDE if name in used), script])


#: Script name -> its whole text.
SOURCES = {path.stem: _whole(path.read_text()) for path in sorted(_FOLDER.glob("*.lua"))}
_SHAS = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in SOURCES.items()}

Argument = str | bytes | int | float


class Evaluator(Protocol):
    """What runs a loaded script: a Redis client, or something that shares one connection among many callers."""

    def evalsha(self, sha: str, numkeys: int, *args: Any) -> Any:
        """Run a script that is loaded already."""
        ...


class Scripts:
    """Runs scripts by name, loading them into Redis when it does not know them (first use, or it was restarted)."""

    def __init__(self, client: redis.Redis, evaluator: Evaluator | None = None) -> None:
        self._client = client
        self._evaluator = evaluator or client

    def run(self, name: str, args: Sequence[Argument]) -> Any:
        """Return the script's reply. Raises `StoreUnavailable` when Redis cannot run it."""
        return self._loaded(lambda: self._evaluator.evalsha(_SHAS[name], 0, *args))

    def run_together(self, calls: Sequence[tuple[str, Sequence[Argument]]]) -> list[Any]:
        """Run scripts one after the other in one round trip, and so with one write to disk; return their replies. Raises
        `StoreUnavailable` when Redis cannot run one of them; those before it may have been run."""
        def send() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipeline:
                for name, args in calls:
                    pipeline.evalsha(_SHAS[name], 0, *args)
                return list(pipeline.execute())

        return list(self._loaded(send))

    def _loaded(self, send: Callable[[], Any]) -> Any:
        """Send, a second time with the scripts loaded if Redis did not know one."""
        try:
            try:
                return send()
            except redis.exceptions.NoScriptError:
                self.load()
                return send()
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc

    def load(self) -> None:
        """Put every script into Redis."""
        with self._client.pipeline(transaction=False) as pipeline:
            for text in SOURCES.values():
                pipeline.script_load(text)
            pipeline.execute()


def unavailable(exc: Exception) -> StoreUnavailable:
    """Translate an error of redis-py, or of the socket under it."""
    return StoreUnavailable(f"Redis did not do it ({type(exc).__name__}: {exc}); nothing was promised, try again")
