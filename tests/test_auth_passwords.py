"""Passwords: what fits, and how long it takes to say so."""

import time

from app import passwords


def test_a_password_fits_its_own_hash_only() -> None:
    kept = passwords.hashed("correct horse")

    assert passwords.matches(kept, "correct horse")
    assert not passwords.matches(kept, "correct horse ")
    assert not passwords.matches(None, "nobody has this password"), "not even what an unknown name is compared with"
    assert not passwords.matches("no hash", "correct horse")
    assert kept.startswith("$argon2id$")
    assert passwords.hashed("correct horse") != kept


def test_an_unknown_name_takes_as_long_as_a_wrong_password() -> None:
    kept = passwords.hashed("correct horse")
    passwords.prepare()

    def cpu_s(password_hash: str | None) -> float:
        """The shortest of some tries, in seconds of the processor, which a busy machine does not lengthen."""
        tries = []
        for _ in range(5):
            began_s = time.process_time()
            passwords.matches(password_hash, "wrong")
            tries.append(time.process_time() - began_s)
        return min(tries)

    assert 0.6 < cpu_s(None) / cpu_s(kept) < 1.6
