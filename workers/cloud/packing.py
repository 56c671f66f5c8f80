"""(pure) Divides words into messages, each well under what MNS takes (64 KB).

What counts is the length as JSON in ASCII, in which a Chinese character takes six bytes. On the wire that is compressed,
then in base64 twice: incompressible text grows by half, so that `MOST` comes to some 50 KB at worst, envelope included.
"""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from routing.cloud.words import Ended, Outcome, Word

MOST = 28_000  # ASCII characters of JSON in the words of one message
_MOST_TEXT = 24_000  # of these, in the text of one word; the rest is for its ids

Item = TypeVar("Item")


def weight(word: Word) -> int:
    """Return how long a word is as JSON in ASCII."""
    return len(json.dumps(msgspec.to_builtins(word)))


def split(text: str, most: int = _MOST_TEXT) -> list[str]:
    """Return the text in pieces that are each at most `most` long as JSON in ASCII; at least one piece, if an empty one."""
    if len(json.dumps(text)) <= most or len(text) == 1:
        return [text]
    middle = len(text) // 2
    return split(text[:middle], most) + split(text[middle:], most)


def ends(job: str, ticket: str, run: str, outcome: Outcome) -> list[Word]:
    """Return the end of a run, in as many parts as it takes."""
    parts = split(msgspec.json.encode(outcome).decode())
    return [Ended(job=job, ticket=ticket, run=run, outcome=part, number=number, of=len(parts))
            for number, part in enumerate(parts)]


def pack(items: Sequence[Item], weigh: Callable[[Item], int], most: int = MOST) -> list[list[Item]]:
    """Return the items in groups, in order, each as large as `most` allows; an item above that is a group of its own."""
    groups: list[list[Item]] = []
    left = 0
    for item in items:
        weighs = weigh(item)
        if not groups or weighs > left:
            groups.append([])
            left = most
        groups[-1].append(item)
        left -= weighs
    return groups
