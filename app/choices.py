"""Which values a place in a request's body may have, for messages: msgspec says that a value is not among them, and not
what they are."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import inspect


def choices(kind: Any, steps: Sequence[str]) -> list[str]:
    """Return the values that are allowed at a place, none where any is. `kind` is a type that msgspec decodes, `steps` the
    names of members on the way down; "..." or a number stands for an element of a list."""
    found: Iterable[inspect.Type] = [_described(kind)]
    for index, step in enumerate(steps):
        if index == len(steps) - 1 and (tags := [tag for each in _plain(found) for tag in _tags(each, step)]):
            return tags
        found = [inner for each in _plain(found) for inner in _inside(each, step)]
    return [str(value) for each in _plain(found) for value in _values(each)]


@functools.cache
def _described(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _plain(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    """Take unions and notes apart."""
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            yield from _plain(kind.types)
        elif isinstance(kind, inspect.Metadata):
            yield from _plain([kind.type])
        else:
            yield kind


def _inside(kind: inspect.Type, step: str) -> list[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        return [field.type for field in kind.fields if field.encode_name == step]
    if isinstance(kind, inspect.ListType):
        return [kind.item_type]
    if isinstance(kind, inspect.DictType):
        return [kind.value_type]
    return []


def _tags(kind: inspect.Type, step: str) -> list[str]:
    return [str(kind.tag)] if isinstance(kind, inspect.StructType) and kind.tag_field == step else []


def _values(kind: inspect.Type) -> list[Any]:
    if isinstance(kind, inspect.EnumType):
        return [member.value for member in kind.cls]
    return list(kind.values) if isinstance(kind, inspect.LiteralType) else []
