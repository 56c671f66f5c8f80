"""Runs the Lua scripts of `app/lua`, each of which is one step that nothing else can come between.

Each may be sent twice: after a lost reply it does no harm. The ledger's scripts are loaded by `app.ledger.scripts`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from app.ledger.scripts import Evaluator, unavailable

_FOLDER = Path(__file__).parent / "lua"


class LuaScript:
    """One script, by the name of its file. `evaluator` may replace the client for running it."""

    def __init__(self, client: redis.Redis, name: str, evaluator: Evaluator | None = None) -> None:
        self._client = client
        self._evaluator = evaluator or client
        self._text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], *args: str | int) -> Any:
        """Return the script's reply. Raises `StoreUnavailable` when Redis cannot run it."""
        try:
            try:
                return self._evaluator.evalsha(self._sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:  # first use, or Redis was restarted
                self._client.script_load(self._text)
                return self._evaluator.evalsha(self._sha, len(keys), *keys, *args)
        except (redis.exceptions.RedisError, OSError) as exc:
            raise unavailable(exc) from exc
