"""The limits of the service: ranges of numbers, sizes and names, as its documentation gives them (2026).

What is out of range is refused with InvalidArgument, whose sentence names the element and its range.
"""

import re
from dataclasses import dataclass

from ops.mns_server.errors import Refused

#: The longest body of a message, and of all messages of a batch together.
MAX_BODY_BYTES = 65_536
MAX_BATCH = 16
#: A queue's name: the limits page says 120 (an older error text says 256).
MAX_NAME = 120

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Range:
    """A whole number called `element` from `low` to `high`, both included."""

    element: str
    low: int
    high: int
    unit: str = ""

    def read(self, text: str) -> int:
        """Return the number that the text says. Raises `Refused` (InvalidArgument) for no number, or one out of range."""
        if not _INTEGER.fullmatch(text.strip()):
            raise Refused("InvalidArgument", f"The value of {self.element} should be a whole number.")
        return self.check(int(text))

    def check(self, value: int) -> int:
        """Return the value. Raises `Refused` (InvalidArgument) if it is out of range."""
        if not self.low <= value <= self.high:
            unit = f" {self.unit}" if self.unit else ""
            raise Refused("InvalidArgument",
                          f"The value of {self.element} should between {self.low} and {self.high}{unit}.")
        return value


VISIBILITY_S = Range("VisibilityTimeout", 1, 43_200, "seconds")
MESSAGE_BYTES = Range("MaximumMessageSize", 1024, MAX_BODY_BYTES, "bytes")
RETENTION_S = Range("MessageRetentionPeriod", 60, 604_800, "seconds")
DELAY_S = Range("DelaySeconds", 0, 604_800, "seconds")
POLLING_WAIT_S = Range("PollingWaitSeconds", 0, 30, "seconds")
WAIT_S = Range("waitseconds", 0, 30, "seconds")
BATCH = Range("numOfMessages", 1, MAX_BATCH)
PRIORITY = Range("Priority", 1, 16)
PAGE = Range("x-mns-ret-number", 1, 1000)


def check_queue_name(name: str) -> str:
    """Return the name. Raises `Refused`: InvalidQueueName or QueueNameLengthError."""
    if not _NAME.fullmatch(name):
        raise Refused("InvalidQueueName", "The queue name you provided is invalid. Queue name should start with a letter "
                                          "or a digit, and hold letters, digits and hyphens only.")
    if len(name) > MAX_NAME:
        raise Refused("QueueNameLengthError", f"The length of queue name should be between 1 and {MAX_NAME}.")
    return name
