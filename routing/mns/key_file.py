"""Access keys from a JSON file, read again whenever the file changes: so are STS tokens handed to a running process.

The file holds `{"access_key_id": ..., "access_key_secret": ...}`, and for temporary keys `security_token` and `expiration`
(ISO 8601 text or Unix seconds), or a list of such, of which the first is used: a server that checks keys reads the same
file. Write a new file and rename it over the old one; should a half-written one be met, the keys read before go on.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from routing.mns.keys import Credentials, CredentialsFileBad, Refreshing, fault, unix_time

_Stamp = tuple[int, int, int] | None


class FileProvider(Refreshing):
    """The keys of the file at `path`."""

    def __init__(self, path: str | os.PathLike[str], *, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self._path = Path(path)
        self._stamp: _Stamp = None

    def __repr__(self) -> str:
        return f"credentials file {self._path}"

    def changed(self) -> bool:
        """Whether the file is another than the one read last; one that is gone is."""
        return self._stat() != self._stamp

    def fetch(self) -> Credentials:
        """Read the file. Raises CredentialsFileBad, which names the file and what is wrong, never what stands in it."""
        self._stamp = self._stat()  # before reading: a change in between is then seen at the next look
        try:
            content = self._path.read_bytes()
        except OSError as exc:
            raise CredentialsFileBad(f"{self} cannot be read: {exc.strerror or type(exc).__name__}. Make it, or name "
                                     "another one") from exc
        try:
            document = json.loads(content)
        except ValueError:
            # not chained: the exception carries the file's content
            raise CredentialsFileBad(f"{self} is not JSON; it should be an object with access_key_id and "
                                     "access_key_secret") from None
        return self._keys(document)

    def _stat(self) -> _Stamp:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _keys(self, document: Any) -> Credentials:
        first = document[0] if isinstance(document, list) and document else document
        if not isinstance(first, dict):
            raise CredentialsFileBad(f"{self} holds no JSON object; it should be one with access_key_id and "
                                     "access_key_secret")
        needed = ["access_key_id", "access_key_secret", *(["security_token"] if first.get("security_token") else [])]
        faults = [found for name in needed if (found := fault(name, first.get(name)))]
        expires_at = None
        if first.get("expiration") is not None:
            try:
                expires_at = unix_time(first["expiration"])
            except ValueError:
                faults.append("expiration is neither a time such as 2026-01-31T12:00:00Z nor Unix seconds")
        if faults:
            raise CredentialsFileBad(f"{self}: {'; '.join(faults)}")
        return Credentials(first["access_key_id"], first["access_key_secret"], first.get("security_token") or "",
                           expires_at=expires_at)
