"""Where the object server keeps its objects: in memory, or in a folder in which they outlive it."""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from os import fsync, utime
from pathlib import Path
from typing import Protocol

_FINISHED, _UNFINISHED = ".object", ".part"  # how the names of a folder's files end


@dataclass(frozen=True, slots=True)
class Kept:
    """An object."""

    data: bytes
    put_at: float  # Unix time


class Shelf(Protocol):
    """Keeps objects under bucket and key. Threads may share it."""

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Keep it, instead of what may be there."""

    def get(self, bucket: str, key: str) -> Kept | None:
        """Return it, or None if there is none."""

    def delete(self, bucket: str, key: str) -> None:
        """Forget it; it may be gone already."""

    def drop_older(self, age_s: float) -> None:
        """Forget what was put more than `age_s` ago."""


class MemoryShelf:
    """Keeps objects for as long as the process lives."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._objects: dict[tuple[str, str], Kept] = {}
        self._lock, self._clock = threading.Lock(), clock

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """See Shelf."""
        with self._lock:
            self._objects[bucket, key] = Kept(data, self._clock())

    def get(self, bucket: str, key: str) -> Kept | None:
        """See Shelf."""
        with self._lock:
            return self._objects.get((bucket, key))

    def delete(self, bucket: str, key: str) -> None:
        """See Shelf."""
        with self._lock:
            self._objects.pop((bucket, key), None)

    def drop_older(self, age_s: float) -> None:
        """See Shelf."""
        oldest = self._clock() - age_s
        with self._lock:
            self._objects = {name: kept for name, kept in self._objects.items() if kept.put_at >= oldest}


class FolderShelf:
    """Keeps each object in a file `FOLDER/BUCKET/<sha256 of the key>.object`, written whole or not at all. The key is
    hashed, as it may be longer than a file's name may be, and hold anything."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """See Shelf."""
        path = self._path(bucket, key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_name(f"{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                fsync(file.fileno())
            utime(unfinished, (self._clock(), self._clock()))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def get(self, bucket: str, key: str) -> Kept | None:
        """See Shelf."""
        try:
            with self._path(bucket, key).open("rb") as file:
                return Kept(file.read(), self._path(bucket, key).stat().st_mtime)
        except FileNotFoundError:
            return None

    def delete(self, bucket: str, key: str) -> None:
        """See Shelf."""
        self._path(bucket, key).unlink(missing_ok=True)

    def drop_older(self, age_s: float) -> None:
        """See Shelf."""
        oldest = self._clock() - age_s
        for path in (*self._folder.glob(f"*/*{_FINISHED}"), *self._folder.glob(f"*/*{_UNFINISHED}")):
            try:
                if path.is_file() and path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:
                continue  # deleted by a request meanwhile

    def _path(self, bucket: str, key: str) -> Path:
        return self._folder / bucket / f"{hashlib.sha256(key.encode()).hexdigest()}{_FINISHED}"
