"""Names of queues: kombu allows any text, MNS letters, digits and hyphens, 120 at most, beginning with no hyphen."""

import hashlib
import re

#: As long as a name may be (https://www.alibabacloud.com/help/doc-detail/35129.html).
LONGEST = 120

_FORBIDDEN = re.compile(r"[^A-Za-z0-9-]")
_HASH_DIGITS = 10
_DEAD = "-dead"


def mns_name(name: str, prefix: str = "") -> str:
    """Return the name in MNS of a kombu queue.

    A name that MNS allows stays as it is. Any other is made fit and gets a hash of the whole as its end, so that `a.b`
    and `a_b`, or two long names that differ only in their last letter, stay two queues.
    """
    return _fit(prefix + name, LONGEST)


def dead_name(name: str) -> str:
    """Return the name of the queue for what is put aside from the queue `name` (both as in MNS)."""
    return _fit(name, LONGEST - len(_DEAD)) + _DEAD


def is_dead_name(name: str) -> bool:
    """Whether `name` is a queue for what was put aside."""
    return name.endswith(_DEAD)


def _fit(whole: str, longest: int) -> str:
    fit = _FORBIDDEN.sub("-", whole)
    if not fit[:1].isalnum():
        fit = f"q{fit}"
    if fit == whole and len(fit) <= longest:
        return fit
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    return f"{fit[:longest - _HASH_DIGITS - 1]}-{digest}"
