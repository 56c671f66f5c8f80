"""The secret of an installation: the key that seals what must not lie open in Redis, passwords on their way to the auth
worker and the keys that sign access tokens.

It lies in `<data_dir>/secrets`, readable by its owner only, and is made on first use. All servers must hold the same file:
with two machines, copy the folder from the first to the second.
"""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Keyring:
    """The secret, loaded. `first_key` is the key that signed tokens before there could be several, where there is one:
    installations of that time go on with it."""

    first_key: Ed25519PrivateKey | None
    _sealer: Fernet

    def seal(self, text: bytes) -> str:
        """Encrypt a secret so that it can lie in Redis (Fernet: AES-128-CBC with HMAC-SHA256)."""
        return self._sealer.encrypt(text).decode()

    def unseal(self, sealed: str) -> bytes:
        """Return a sealed secret. Raises `SettingsError` when another keyring sealed it."""
        try:
            return self._sealer.decrypt(sealed)
        except InvalidToken as exc:
            raise SettingsError(["a secret was sealed with another key: the servers' secrets folders differ; "
                                 "copy one to the other and restart"]) from exc


def load_keyring(data_dir: Path) -> Keyring:
    """Return the installation's secret, making it where there is none. Raises `SettingsError` when a file is not what it
    was."""
    folder = data_dir / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    seal = _read_or_make(folder / "seal.key", Fernet.generate_key())
    try:
        return Keyring(_first_key(folder / "token-key.pem"), Fernet(seal))
    except ValueError as exc:
        raise SettingsError([f"the secrets in {folder} are damaged ({exc}); copy them from another server, or remove the "
                             "folder to have new ones made, and run `celery -A workers tokens rotate --end-old`"]) from exc


def _first_key(path: Path) -> Ed25519PrivateKey | None:
    if not path.exists():
        return None
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path.name} is no Ed25519 key")
    return key


def _read_or_make(path: Path, fresh: bytes) -> bytes:
    """Return the file's bytes. Where there is none, `fresh` becomes the file, once, whoever else tries at the same
    time."""
    if not path.exists():
        mine = path.with_suffix(f".{secrets.token_hex(8)}")
        mine.touch(mode=0o600)
        mine.write_bytes(fresh)
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)  # unlike a rename, it fails where another process was first
        mine.unlink()
    return path.read_bytes()
