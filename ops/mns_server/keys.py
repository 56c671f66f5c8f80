"""The access keys that the server knows: id, secret, and for a temporary one (STS) its security token.

Their file is JSON, one object or a list of such: {"access_key_id", "access_key_secret"[, "security_token"]}; it is the one
that clients read, too. Secrets are in no `repr` and no message.
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SHAPE = '{"access_key_id": ..., "access_key_secret": ...}'


class BadKeys(ValueError):
    """The keys' file, or what was given in its place, is not as it must be."""


@dataclass(frozen=True, slots=True)
class Key:
    """One access key. A request with a temporary one must bring the `token` in its header `security-token`."""

    id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


class Keys:
    """The keys now valid. Threads may share it; an operator may replace them, as STS does every hour."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self.replace(keys)

    def find(self, key_id: str) -> Key | None:
        """Return the key, or None."""
        with self._lock:
            return self._keys.get(key_id)

    def replace(self, keys: Iterable[Key]) -> None:
        """From now on these are valid, and no others. Raises `BadKeys` if there are none."""
        fresh = {key.id: key for key in keys}
        if not fresh:
            raise BadKeys(f"no access key was given; give at least one, as {_SHAPE}")
        with self._lock:
            self._keys = fresh

    def all(self) -> list[Key]:
        """Return the keys."""
        with self._lock:
            return list(self._keys.values())


def keys_of(document: Any) -> list[Key]:
    """Return the keys that a JSON document describes. Raises `BadKeys`, which does not say what it holds."""
    entries = document if isinstance(document, list) else [document]
    return [_key(entry) for entry in entries]


def load(path: Path) -> list[Key]:
    """Return the keys in a file. Raises `BadKeys`."""
    try:
        return keys_of(json.loads(path.read_text()))
    except OSError as exc:
        raise BadKeys(f"the keys' file {path} cannot be read: {exc.strerror}; make it, or name another") from exc
    except json.JSONDecodeError as exc:
        raise BadKeys(f"the keys' file {path} is not JSON (line {exc.lineno}); write it as {_SHAPE}") from exc


def _key(entry: Any) -> Key:
    if not isinstance(entry, dict):
        raise BadKeys("an access key is a JSON object with access_key_id and access_key_secret")
    key_id, secret, token = (entry.get(name) or "" for name in ("access_key_id", "access_key_secret", "security_token"))
    if not (isinstance(key_id, str) and isinstance(secret, str) and isinstance(token, str) and key_id and secret):
        raise BadKeys("an access key has access_key_id and access_key_secret, both text and not empty; if it has a "
                      "security_token, that is text, too")
    return Key(key_id, secret, token)
