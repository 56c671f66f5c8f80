"""Stores for the bodies that are too long for a message: a bucket of OSS, or a folder.

A store keeps objects under names for as long as a message refers to them (`claim_check`). What remains of messages that
were never taken is dropped after some days: in a folder by the store itself, in OSS by a lifecycle rule that the bucket's
owner sets once (expire the prefix after 8 days: no message lives longer than 7).

Errors are those below, whatever the SDK or the system raised. A store may be shared by threads, and used after a fork.
"""

import logging
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from routing.mns.errors import MnsError, Refused, Transient
from routing.mns.keys import Provider

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
_LONGEST_NAME = 200  # characters; with a prefix well under the 1023 bytes of OSS, each part under a file name's 255
_DAY_S = 86400.0
_KEEP_DAYS = 8  # one more than MNS keeps a message at most
_SWEEP_EVERY_S = 3600.0
_FINISHED, _UNFINISHED = ".body", ".part"  # how the names of a folder's files end

_log = logging.getLogger(__name__)

#: The largest object that is read, in bytes: what a message's body, however long, does not reach. A store that others can
#: write to cannot fill the memory of whoever takes a message.
LARGEST_BYTES = 64 * 1024 * 1024


class StoreFailed(MnsError):
    """The store did not do what it was asked."""


class StoreUnavailable(StoreFailed, Transient):
    """For now: it could not be reached, or had trouble of its own. The same may succeed later."""


class StoreRefused(StoreFailed, Refused):
    """It said no, and will until someone changes keys, rights, clock or address."""


class ObjectMissing(StoreFailed):
    """It has no object of that name: it was deleted, or never there."""


class StoreAddressBad(StoreFailed, Refused):
    """The URL is not that of a store."""


class ObjectNameBad(StoreFailed):
    """The name is none that a store takes: it is empty, too long, or could lead out of the store."""


class Store(Protocol):
    """Keeps bytes under names. A name has parts of letters, digits, `.`, `_` and `-`, none beginning with a dot, with
    slashes between."""

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` for good when this returns; a second time replaces it. Raises StoreFailed."""

    def get(self, name: str) -> bytes:
        """Return what was put. Raises ObjectMissing if there is nothing, StoreFailed."""

    def delete(self, name: str) -> None:
        """Forget it; if it is gone already, that is fine. Raises StoreFailed."""


def open_store(url: str, credentials: Provider | None = None) -> Store:
    """Return the store at `url`; nothing is asked of it yet.

    `oss://BUCKET/PREFIX?region=REGION`, with keys from `credentials`; `&endpoint=URL` names another way to it, for
    instance the one inside Alibaba's network. An endpoint outside `aliyuncs.com` is addressed as `URL/BUCKET/name`.
    `file:///FOLDER` (made if missing), with `?keep_days=N` for how long leftovers stay. Raises StoreAddressBad.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise StoreAddressBad("a store's URL holds no keys (user:password@); they come from the transport's credentials")
    if parts.scheme == "file":
        options = _options(parts, {"keep_days"})
        return FolderStore(_folder(parts), keep_days=_days(options.get("keep_days"), url))
    if parts.scheme == "oss":
        return _open_oss(parts, credentials)
    raise StoreAddressBad(f"a store's URL begins with oss:// or file:///, not as {url!r}")


def checked(name: str) -> str:
    """Return `name`. Raises ObjectNameBad."""
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ObjectNameBad(f"no name of an object: {name[:_LONGEST_NAME]!r}; it may have parts of letters, digits, '.', "
                            f"'_' and '-', none beginning with a dot, with slashes between, {_LONGEST_NAME} characters in "
                            "all")
    return name


class FolderStore:
    """A folder, for one machine or a file system that all sides share. Objects are files `NAME.body`, written whole or not
    at all; other files there are left alone."""

    def __init__(self, folder: Path, *, keep_days: float = _KEEP_DAYS, now: Callable[[], float] = time.time) -> None:
        self._folder, self._keep_s, self._now = folder, keep_days * _DAY_S, now
        self._swept_at = now()

    def __repr__(self) -> str:
        return f"FolderStore({str(self._folder)!r})"

    def put(self, name: str, data: bytes) -> None:
        """See Store."""
        path = self._path(name)
        unfinished = path.with_name(f".{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            _make_folder(path.parent)
            _write(unfinished, data)
            unfinished.replace(path)
            _sync_folder(path.parent)
        except OSError as exc:
            with suppress(OSError):  # the same trouble again; should the file stay, it is swept in time
                unfinished.unlink(missing_ok=True)
            raise self._failed("write", name, exc) from exc
        self._sweep()

    def get(self, name: str) -> bytes:
        """See Store."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_BYTES + 1)
        except FileNotFoundError as exc:
            raise ObjectMissing(f"{self} has no object {name}; it was deleted, or this is not the folder that it was put "
                                "into") from exc
        except OSError as exc:
            raise self._failed("read", name, exc) from exc
        return small_enough(data, self, name)

    def delete(self, name: str) -> None:
        """See Store."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as exc:
            raise self._failed("delete", name, exc) from exc

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked(name)}{_FINISHED}"

    def _failed(self, verb: str, name: str, exc: OSError) -> StoreFailed:
        return StoreUnavailable(f"{self}: cannot {verb} {name}: {exc.strerror or type(exc).__name__}; see to the folder's "
                                "rights and room")

    def _sweep(self) -> None:
        """Drop what no message can refer to any more, and what a crash left half written; now and then."""
        now = self._now()
        if 0 <= now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        for path in (*self._folder.rglob(f"*{_FINISHED}"), *self._folder.rglob(f".*{_UNFINISHED}")):
            try:
                if path.is_file() and now - path.stat().st_mtime > self._keep_s:
                    path.unlink()
            except OSError as exc:  # whoever acknowledged its message was faster; anything else is tried again next time
                _log.debug("not dropped: %s", exc)


def small_enough(data: bytes, store: object, name: str) -> bytes:
    """Return `data`, of which at most LARGEST_BYTES + 1 were read. Raises StoreRefused."""
    if len(data) > LARGEST_BYTES:
        raise StoreRefused(f"{store}: object {name} is larger than the {LARGEST_BYTES} bytes that are read; it is no "
                           "message's body")
    return data


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make it, and what it lies in, for the owner alone, so that they outlive a crash."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _options(parts: SplitResult, known: set[str]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := set(options) - known:
        raise StoreAddressBad(f"a store's URL with {parts.scheme}:// has no option {', '.join(sorted(unknown))}; it may "
                              f"have {', '.join(sorted(known))}")
    return options


def _folder(parts: SplitResult) -> Path:
    folder = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not folder.is_absolute() or folder == Path("/"):
        raise StoreAddressBad(f"a folder's URL is as file:///var/lib/bodies, not as {parts.geturl()!r}")
    return folder


def _days(text: str | None, url: str) -> float:
    if text is None:
        return _KEEP_DAYS
    if not text.isdecimal() or int(text) < 1:
        raise StoreAddressBad(f"keep_days is a whole number of days, at least 1, not as in {url!r}")
    return float(text)


def _open_oss(parts: SplitResult, credentials: Provider | None) -> Store:
    options = _options(parts, {"region", "endpoint"})
    bucket, prefix, region = parts.netloc, unquote(parts.path).strip("/"), options.get("region", "")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket):
        raise StoreAddressBad(f"{parts.geturl()!r} names no bucket: 3 to 63 lower-case letters, digits and hyphens")
    if prefix:
        checked(prefix)
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise StoreAddressBad(f"{parts.geturl()!r} names no region; add ?region=cn-hangzhou or the like, which signatures "
                              "need")
    endpoint = options.get("endpoint", "")
    if endpoint and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname
                     or "@" in endpoint):
        raise StoreAddressBad("the endpoint of a store is as https://oss-cn-hangzhou-internal.aliyuncs.com, without a user")
    if credentials is None:
        raise StoreAddressBad(f"{parts.geturl()!r} needs access keys; hand over a provider of credentials")
    from routing.mns.oss import OssStore  # as late as this: the SDK takes 0.2 s to import

    return OssStore(bucket, prefix, region=region, endpoint=endpoint, credentials=credentials)
