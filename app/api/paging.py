"""Lists a page at a time."""

from flask import request

from app.errors import InvalidInput

MOST = 100
_USUAL = 20


def limit() -> int:
    """Return how many things `?limit=` asks for. Raises `InvalidInput`."""
    given = request.args.get("limit", str(_USUAL))
    if not (given.isascii() and given.isdecimal() and len(given) < 4 and 1 <= int(given) <= MOST):
        raise InvalidInput(f"limit must be a whole number from 1 to {MOST}; got '{given[:60]}'")
    return int(given)


def offset() -> int:
    """Return how many things come before the page that `?cursor=` asks for, where a cursor is such a number. Raises
    `InvalidInput`."""
    given = request.args.get("cursor", "") or "0"
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise InvalidInput("the cursor is not one that a page came with")
    return int(given)
