"""What a queue is set to: its attributes, which the data plane sets, and its dead letters, which only an operator can."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ops.mns_server import limits
from ops.mns_server.errors import Refused


@dataclass(frozen=True, slots=True)
class Attributes:
    """A queue's attributes, with the service's defaults."""

    visibility_s: int = 30
    max_message_bytes: int = limits.MAX_BODY_BYTES
    retention_s: int = 345_600  # four days
    delay_s: int = 0
    polling_wait_s: int = 0
    logging: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where messages go that were received `max_receives` times and not deleted."""

    target: str
    max_receives: int


_NUMBERS = {"visibility_s": limits.VISIBILITY_S, "max_message_bytes": limits.MESSAGE_BYTES,
            "retention_s": limits.RETENTION_S, "delay_s": limits.DELAY_S, "polling_wait_s": limits.POLLING_WAIT_S}
_TRUTH = {"true": True, "false": False}


def changed(attributes: Attributes, elements: Mapping[str, str]) -> Attributes:
    """Return the attributes with what the elements of a `<Queue>` say. Raises `Refused` (InvalidArgument)."""
    numbers: dict[str, Any] = {field: number.read(elements[number.element]) for field, number in _NUMBERS.items()
                               if number.element in elements}
    result = replace(attributes, **numbers)
    if "LoggingEnabled" not in elements:
        return result
    logging = _TRUTH.get(elements["LoggingEnabled"].strip().lower())
    if logging is None:
        raise Refused("InvalidArgument", "The value of LoggingEnabled should be True or False.")
    return replace(result, logging=logging)


def elements_of(attributes: Attributes) -> dict[str, str]:
    """Return the attributes as the elements of a `<Queue>`."""
    numbers = {number.element: str(getattr(attributes, field)) for field, number in _NUMBERS.items()}
    return {**numbers, "LoggingEnabled": str(attributes.logging)}
