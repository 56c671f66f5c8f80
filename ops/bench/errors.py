"""What can go wrong with a measurement; each message says what to do about it."""

from app.errors import TandemError


class BenchError(TandemError):
    """Base: there is no figure."""

    code = "no-figure"
    title = "Not measured"


class NotInstalled(BenchError):
    """Something that the measurement needs is not there."""


class NotAsPromised(BenchError):
    """A subject answered with an error, gave a wrong result, or did what it must not do; its figure would mean nothing."""
