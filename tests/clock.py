"""A clock for tests."""


class Clock:
    """A clock that stands until a test moves it."""

    now_s = 1000.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now_s
