"""The rectangle of ragged rows against a plain list of lists: whatever joins, leaves and is appended, each row holds what
was put into it, and a model is shown of it just that."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from transformers import AutoConfig

from tests.test_engine_families import tiny
from workers.engine import rows as rows_module
from workers.engine.rows import Row, Rows, holds_ragged_rows, row_room

MOST_ROWS = 5
CONFIG = AutoConfig.for_model("llama", num_hidden_layers=2, hidden_size=8, num_attention_heads=2, num_key_value_heads=2)

Model = list[list[float]]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers so tight that they grow, shrink and move all the time."""
    monkeypatch.setattr(rows_module, "_LEAST_COLUMNS", 4)
    monkeypatch.setattr(rows_module, "_AHEAD", 3)


def entries(values: list[float], layer: int, name: str) -> torch.Tensor:
    """Return what a layer holds of a row with these values, of shape (heads, tokens, size)."""
    sign = {"keys": 1.0, "values": -1.0}[name] * (layer + 1)
    column = torch.tensor(values, dtype=torch.float32).view(1, -1, 1)
    return sign * torch.cat([column, column + 0.5]).expand(2, -1, 3)


def a_row(values: list[float]) -> Row:
    """Return a row with these values."""
    return Row([{name: entries(values, layer, name).contiguous() for name in ("keys", "values")} for layer in range(2)],
               len(values))


def append(rows: Rows, fresh: list[list[float]]) -> tuple[torch.Tensor | None, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Do what a model does in a step: write these to all layers. Returns the mask, and what each layer showed."""
    most = max(map(len, fresh))
    mask = rows.open([len(each) for each in fresh])
    shown = []
    for layer in range(2):
        padded = [[777.0] * (most - len(each)) + each for each in fresh]
        keys, values = (torch.stack([entries(each, layer, name) for each in padded]) for name in ("keys", "values"))
        shown.append(rows.update(keys, values, layer))
    rows.close([len(each) for each in fresh])
    return mask, shown


def check(rows: Rows, model: Model) -> None:
    """Fail unless each row holds what the model says."""
    assert rows.lengths == [len(each) for each in model]
    for at, values in enumerate(model):
        row = rows.row(at)
        assert row.length == len(values)
        for layer, held in enumerate(row.layers):
            for name in held:
                assert torch.equal(held[name], entries(values, layer, name)), f"{name} of layer {layer}, row {at}"


class Machine(RuleBasedStateMachine):
    """Rows come, grow by a token each, and go; as when rows are run."""

    @initialize()
    def begin(self) -> None:
        self.rows = Rows(CONFIG, torch.device("cpu"), most_rows=MOST_ROWS)
        self.model: Model = []
        self.next = 1.0

    def values(self, count: int) -> list[float]:
        """Return numbers that were never used before."""
        self.next += count
        return [self.next - each for each in range(count, 0, -1)]

    @precondition(lambda self: len(self.model) < MOST_ROWS)
    @rule(length=st.integers(1, 40), expected=st.integers(0, 60))
    def join(self, length: int, expected: int) -> None:
        values = self.values(length)
        self.rows.join(a_row(values), expected=expected)
        self.model.append(values)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.model) - 1))
        self.rows.leave(at)
        last = self.model.pop()
        if at < len(self.model):
            self.model[at] = last

    @precondition(lambda self: self.model)
    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            fresh = [self.values(1) for _ in self.model]
            mask, shown = append(self.rows, fresh)
            self.model = [held + more for held, more in zip(self.model, fresh, strict=True)]
            self.shown_right(mask, shown)

    @precondition(lambda self: self.model)
    @rule()
    def copies_do_not_change(self) -> None:
        before = [self.rows.row(at).copy() for at in range(len(self.model))]
        append(self.rows, [[555.0] for _ in self.model])
        for copy, values in zip(before, self.model, strict=True):
            assert torch.equal(copy.layers[1]["keys"], entries(values, 1, "keys"))
        self.model = [[*held, 555.0] for held in self.model]

    def shown_right(self, mask: torch.Tensor | None, shown: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Fail unless what a layer was shown is, where the mask does not hide it, the row."""
        width = max(map(len, self.model))
        for layer, (keys, _) in enumerate(shown):
            assert keys.shape == (len(self.model), 2, width, 3)
            for at, values in enumerate(self.model):
                real = torch.ones(width, dtype=torch.bool) if mask is None else mask[at]
                assert torch.equal(keys[at][:, real], entries(values, layer, "keys"))

    @invariant()
    def every_row_holds_what_was_put_into_it(self) -> None:
        if hasattr(self, "rows"):
            check(self.rows, self.model)
            assert bool(self.model) or self.rows.nbytes() == 0


def test_rows_that_come_grow_and_go_hold_what_was_put_into_them(small: None) -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=25, derandomize=True,
                                                         database=None))


@given(held=st.lists(st.integers(0, 30), min_size=1, max_size=MOST_ROWS), data=st.data())
@settings(max_examples=80, derandomize=True, database=None)
def test_prompts_of_several_lengths_that_go_on_from_several_beginnings_leave_gaps_that_no_row_shows(
        held: list[int], data: st.DataObject) -> None:
    rows = Rows(CONFIG, torch.device("cpu"), most_rows=len(held))
    numbers = iter(range(1, 10_000))
    model: Model = [[float(next(numbers)) for _ in range(length)] for length in held]
    for values in model:
        rows.join(a_row(values) if values else None)
    for _ in range(data.draw(st.integers(1, 3))):
        fresh = [[float(next(numbers)) for _ in range(data.draw(st.integers(0 if min(held) else 1, 9)))] for _ in held]
        if not any(fresh):
            continue
        mask, shown = append(rows, fresh)
        model = [old + more for old, more in zip(model, fresh, strict=True)]
        for at, values in enumerate(model):
            real = torch.ones(shown[0][0].shape[-2], dtype=torch.bool) if mask is None else mask[at]
            assert torch.equal(shown[1][1][at][:, real], entries(values, 1, "values"))
    check(rows, model)


def test_a_beginning_of_a_row_is_the_row_cut_off_and_a_copy_has_memory_of_its_own() -> None:
    row = a_row([1.0, 2.0, 3.0])
    first = row.first(2)

    assert (first.length, first.nbytes) == (2, row.nbytes * 2 // 3)
    assert torch.equal(first.layers[1]["values"], entries([1.0, 2.0], 1, "values"))
    copy = first.copy()
    row.layers[1]["values"].zero_()
    assert torch.equal(copy.layers[1]["values"], entries([1.0, 2.0], 1, "values"))


def test_a_rectangle_that_has_become_far_too_large_is_given_back() -> None:
    rows = Rows(CONFIG, torch.device("cpu"), most_rows=MOST_ROWS)
    for length in (5000, 10, 12):
        rows.join(a_row([1.0] * length))
    large = rows.nbytes()
    rows.leave(0)

    assert rows.nbytes() < large / 5
    check(rows, [[1.0] * 12, [1.0] * 10])


@pytest.mark.parametrize(("rows", "most", "room"), [(1, 16, 1), (2, 16, 2), (3, 16, 4), (9, 16, 16), (9, 10, 10)])
def test_there_is_room_for_a_power_of_two_of_rows_or_the_most(rows: int, most: int, room: int) -> None:
    assert row_room(rows, most) == room


@pytest.mark.parametrize(("family", "ragged"), [("llama", True), ("mistral", True), ("deepseek_v3", True), ("mamba", False),
                                                ("deepseek_v4", False)])
def test_only_caches_with_an_entry_a_token_are_ragged(family: str, ragged: bool) -> None:
    assert holds_ragged_rows(tiny(family).model.config) is ragged
