"""Which values a place in a body may have."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from app.choices import choices


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Brush(msgspec.Struct, tag_field="tool", tag="brush"):
    colours: list[Colour]


class Pen(msgspec.Struct, tag_field="tool", tag="pen"):
    width: Literal[1, 2] | None = None
    by_name: dict[str, Colour] = {}
    renamed: Annotated[Colour, Meta(description="x")] = msgspec.field(default=Colour.RED, name="colour")


@pytest.mark.parametrize(("kind", "steps", "allowed"), [
    (Colour, [], ["red", "blue"]), (Brush, ["colours", "..."], ["red", "blue"]), (Brush, ["colours", "3"], ["red", "blue"]),
    (Pen, ["width"], ["1", "2"]), (Pen, ["by_name", "x"], ["red", "blue"]), (Pen, ["colour"], ["red", "blue"]),
    (Brush | Pen, ["tool"], ["brush", "pen"]), (list[Brush | Pen], ["0", "tool"], ["brush", "pen"]),
    (Brush | Pen, ["width"], ["1", "2"]), (Pen, ["nothing"], []), (Pen, ["by_name"], []), (str, [], []), (Any, ["a"], [])])
def test_the_values_of_a_place_are_those_that_its_type_allows(kind: Any, steps: list[str], allowed: list[str]) -> None:
    assert sorted(choices(kind, steps)) == sorted(allowed)
