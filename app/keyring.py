"""The secrets of an installation: the key that signs access tokens, and the one that seals passwords on their way to the
auth worker.

They lie in `<data_dir>/secrets`, readable by their owner only, and are made on first use. All servers must hold the same
files: with two machines, copy the folder from the first to the second.
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
    """The secrets, loaded."""

    private_pem: str  # Ed25519, PKCS 8
    public_pem: str
    _sealer: Fernet

    def seal(self, text: bytes) -> str:
        """Encrypt a secret so that it can lie in the ledger (Fernet: AES-128-CBC with HMAC-SHA256)."""
        return self._sealer.encrypt(text).decode()

    def unseal(self, sealed: str) -> bytes:
        """Return a sealed secret. Raises `SettingsError` when another keyring sealed it."""
        try:
            return self._sealer.decrypt(sealed)
        except InvalidToken as exc:
            raise SettingsError(["a secret was sealed with another key: the servers' secrets folders differ; "
                                 "copy one to the other and restart"]) from exc


def load_keyring(data_dir: Path) -> Keyring:
    """Return the installation's secrets, making what is missing. Raises `SettingsError` when a file is not what it was."""
    folder = data_dir / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = _read_or_make(folder / "token-key.pem", _new_private_pem())
    seal = _read_or_make(folder / "seal.key", Fernet.generate_key())
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        sealer = Fernet(seal)
    except ValueError as exc:
        raise SettingsError([f"the secrets in {folder} are damaged ({exc}); copy them from another server, or remove the "
                             "folder to have new ones made, with which everybody has to log in again"]) from exc
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Keyring(pem.decode(), public.decode(), sealer)


def _new_private_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


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
