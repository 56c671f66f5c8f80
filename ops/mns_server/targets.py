"""A request's target: which resource, which operation, and what its query says.

The query is split by hand: the SDK puts receipt handles in it as they are, whose `+`, `/` and `=` must survive. A `%` is
decoded, for clients that do encode them. Parameters' names are known with a lower or an upper first letter.
"""

from dataclasses import dataclass
from urllib.parse import unquote

from ops.mns_server.errors import Refused
from ops.mns_server.limits import Range, check_queue_name


@dataclass(frozen=True, slots=True)
class Target:
    """`kind`: account, service, queues, queue or messages. `queue` is the name, checked, or empty."""

    kind: str
    queue: str
    query: dict[str, str]

    def text(self, name: str) -> str | None:
        """Return a parameter, or None."""
        return self.query.get(name.lower())

    def number(self, allowed: Range) -> int | None:
        """Return a whole number, or None where it is not given. Raises `Refused` (InvalidArgument)."""
        text = self.text(allowed.element)
        return None if text is None else allowed.read(text)

    def says(self, name: str) -> bool:
        """Return whether a parameter is `true`."""
        return (self.text(name) or "").lower() == "true"


def target_of(raw: str) -> Target:
    """Take a target apart. Raises `Refused`: InvalidRequestURL, InvalidQueryString, a bad queue name, or TopicNotExist."""
    path, _, query_text = raw.partition("?")
    query = _query(query_text)
    match path.split("/"):
        case ["", ""] if "accountmeta" in query:
            return Target("account", "", query)
        case ["", "commonbuy", "openservice"]:
            return Target("service", "", query)
        case ["", "queues"] | ["", "queues", ""]:
            return Target("queues", "", query)
        case ["", "queues", name]:
            return Target("queue", check_queue_name(unquote(name)), query)
        case ["", "queues", name, "messages"]:
            return Target("messages", check_queue_name(unquote(name)), query)
        case ["", "topics", *_]:
            raise Refused("TopicNotExist", "The topic you provided is not exist: this local server has queues only.")
    raise Refused("InvalidRequestURL", "Http request URL invalid.")


def _query(text: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for part in text.split("&") if text else ():
        name, _, value = part.partition("=")
        if not name or name.lower() in result:
            raise Refused("InvalidQueryString", "The query of the request has a parameter without a name, or one twice.")
        result[name.lower()] = unquote(value)
    return result
