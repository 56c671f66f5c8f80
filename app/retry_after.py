"""Reads `Retry-After` of an HTTP answer."""

import email.utils
from datetime import UTC, datetime


def retry_after_s(given: str, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` (RFC 9110, 10.2.3), None where it says nothing that can be understood."""
    if given.isascii() and given.isdecimal():
        return float(given[:12])
    try:
        at = email.utils.parsedate_to_datetime(given)
    except (ValueError, OverflowError):  # a year or an offset may have any number of digits
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds(), 0.0)
