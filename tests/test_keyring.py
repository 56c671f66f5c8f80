"""The secrets of an installation: made once, for their owner only, and useless to another installation."""

import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SettingsError
from app.keyring import Keyring, load_keyring

AT_ONCE = 8  # processes
ROUNDS = 10

_others: Barrier  # in the processes of the pool


def meet(others: Barrier) -> None:
    """Keep what the processes of the pool wait for each other with."""
    global _others
    _others = others


def secret_of(data_dir: Path) -> str:
    """Load the keyring at the same moment as the other processes; return something that it sealed."""
    _others.wait(60)
    return load_keyring(data_dir).seal(b"text")


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return load_keyring(tmp_path_factory.mktemp("data"))


def test_the_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    load_keyring(tmp_path / "var")

    folder = tmp_path / "var" / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {"seal.key": 0o600}


def test_secrets_once_made_are_kept(tmp_path: Path) -> None:
    first = load_keyring(tmp_path)
    files = {path: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}

    second = load_keyring(tmp_path)

    assert second.unseal(first.seal(b"text")) == b"text"
    assert {path: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == files


def test_the_key_of_an_older_installation_is_found(tmp_path: Path) -> None:
    assert load_keyring(tmp_path).first_key is None
    key = Ed25519PrivateKey.generate()
    (tmp_path / "secrets" / "token-key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    found = load_keyring(tmp_path).first_key

    assert found is not None
    assert found.private_bytes_raw() == key.private_bytes_raw()


def test_processes_that_start_at_once_all_get_the_same_secrets(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(ROUNDS)]
    spawn = get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, spawn, initializer=meet, initargs=(spawn.Barrier(AT_ONCE),)) as processes:
        loaded = list(processes.map(secret_of, [folder for folder in folders for _ in range(AT_ONCE)]))

    for folder in folders:
        keyring = load_keyring(folder)
        theirs, loaded = loaded[:AT_ONCE], loaded[AT_ONCE:]
        assert [keyring.unseal(sealed) for sealed in theirs] == [b"text"] * AT_ONCE
        assert len(list((folder / "secrets").iterdir())) == 1, "a process left its own try behind"


@given(text=st.binary(max_size=300))
def test_what_is_sealed_can_be_unsealed_and_does_not_show(keyring: Keyring, text: bytes) -> None:
    sealed = keyring.seal(text)

    assert keyring.unseal(sealed) == text
    assert len(text) < 8 or text not in sealed.encode()
    assert keyring.seal(text) != sealed, "the same text sealed twice would show that it is the same"


def test_what_another_installation_sealed_is_refused_with_the_remedy(keyring: Keyring, tmp_path: Path) -> None:
    theirs = load_keyring(tmp_path).seal(b"text")

    with pytest.raises(SettingsError, match="the servers' secrets folders differ; copy one to the other and restart"):
        keyring.unseal(theirs)


def test_what_was_tampered_with_is_refused(keyring: Keyring) -> None:
    sealed = keyring.seal(b"text")

    for changed in ("", "no token", sealed[:-4], sealed[4:], sealed[:20] + sealed[24:], sealed[:-10] + sealed[:10]):
        with pytest.raises(SettingsError):
            keyring.unseal(changed)


@pytest.mark.parametrize("name", ["token-key.pem", "seal.key"])
@pytest.mark.parametrize("content", [b"", b"half", b"\xff" * 44])
def test_damaged_secrets_are_refused_with_where_they_lie(tmp_path: Path, name: str, content: bytes) -> None:
    load_keyring(tmp_path)
    (tmp_path / "secrets" / name).write_bytes(content)

    with pytest.raises(SettingsError, match=f"the secrets in {tmp_path}/secrets are damaged"):
        load_keyring(tmp_path)
