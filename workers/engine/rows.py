"""The keys and values of a running batch: ragged rows in one rectangle, as a cache that transformers' models take.

    column   0 ........... end - width ....... end ...... capacity
    row 0                    . . k k k k k k k |  free
    row 1                    k k k k k k k k k |
    row 2                    . . . . . k k k k |

Rows are aligned at their right, so each step writes one column for all of them, in place. A row joins by being copied to
the columns before `end`; it leaves by having the last row moved into its place, and then `width` becomes that of the
longest row left, so nothing that nobody needs is read. What is left of a row's beginning is masked, and each token carries
its position in its own row, so a model sees of each row what it would see of that row alone.

Models put different things into a cache (keys and values of one head size or of two, DeepSeek's latents, the keys of a
sparse-attention indexer). All have a dimension of tokens before the last, and that is all this file knows of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicIndexedLayer, DynamicLayer
from transformers.cache_utils import DynamicSlidingWindowLayer as SlidingLayer

from workers.engine.failures import out_of_memory

#: Columns of a rectangle for each column in use. Each growth, and each move back to the left, copies everything.
SLACK = 1.25
_LEAST_COLUMNS = 64
_AHEAD = 256  # columns that are made ready for a row's answer at most; many answers end before what they may take

#: The kinds of layer whose contents are one entry a token, in order, each kept for as long as the row runs.
_ONE_ENTRY_A_TOKEN = (DynamicLayer, SlidingLayer, DynamicIndexedLayer)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """The contents of one row: for each layer its tensors, with `length` entries in the dimension before the last."""

    layers: list[Tensors]
    length: int

    def first(self, length: int) -> "Row":
        """The beginning of the row, sharing its memory."""
        return Row([{name: held.narrow(-2, 0, length) for name, held in layer.items()} for layer in self.layers], length)

    def copy(self) -> "Row":
        """The row in memory of its own."""
        return Row([{name: held.clone(memory_format=torch.contiguous_format) for name, held in layer.items()}
                    for layer in self.layers], self.length)

    @property
    def nbytes(self) -> int:
        """Memory of the contents."""
        return sum(held.numel() * held.element_size() for layer in self.layers for held in layer.values())


def row_room(rows: int, most: int) -> int:
    """Return how many rows there is memory for when so many run: the next power of two, or the most there may be."""
    return min(1 << max(rows - 1, 0).bit_length(), most)


def holds_ragged_rows(config: Any) -> bool:
    """Tell whether a model of this configuration keeps one entry a token in each layer, so that its rows can be ragged."""
    return all(type(layer) in _ONE_ENTRY_A_TOKEN for layer in _model_layers(config))


def _model_layers(config: Any) -> list[Any]:
    """The cache's layers as the model itself would make them."""
    layers = list(DynamicCache(config=config).layers)
    return layers or [DynamicLayer()] * int(config.get_text_config().num_hidden_layers)


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's buffers, of shape (rows, ..., columns, size), with room for `room` rows that end before column `end`.

    Each layer has its own `end`: where memory runs out while all layers are moved, some have been and some have not, and
    nothing is lost.
    """

    def __init__(self, rows: "Rows", kind: Any = None) -> None:
        super().__init__()
        self._rows = rows
        self.is_sliding = isinstance(kind, SlidingLayer)
        self.buffers: Tensors = {}
        self.room = self.columns = self.end = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: a buffer is made when it is first written to."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any,
               **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write this step's entries; return all entries in view, to the end of this step."""
        return self._write("keys", key_states), self._write("values", value_states)

    def update_indexer(self, indexer_key_states: torch.Tensor) -> torch.Tensor:
        """The same for the keys of an indexer."""
        return self._write("indexer_keys", indexer_key_states)

    def buffer(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """The buffer of this name, made where there is none yet, for entries shaped like these."""
        if name not in self.buffers:
            self.buffers[name] = _zeros(like, self.room, self.columns)
        return self.buffers[name]

    def move(self, room: int, columns: int, end: int) -> None:
        """Move to buffers of so many rows and columns, with the rows ending before column `end`."""
        count, width = len(self._rows.lengths), self._rows.width
        moved: Tensors = {}
        for name, old in self.buffers.items():
            moved[name] = _zeros(old, room, columns)
            moved[name][:count].narrow(-2, end - width, width).copy_(old[:count].narrow(-2, self.end - width, width))
        self.buffers, self.room, self.columns, self.end = moved, room, columns, end

    def shrink(self, room: int, columns: int, end: int) -> None:
        """The same to smaller ones; where there is no memory to do it, later is as good."""
        try:
            self.move(room, columns, end)
        except Exception as exc:
            if not out_of_memory(exc):
                raise

    def _write(self, name: str, fresh: torch.Tensor) -> torch.Tensor:
        rows, length = self._rows, fresh.shape[-2]
        held = self.buffer(name, fresh)[:len(rows.lengths)]
        held.narrow(-2, self.end, length).copy_(fresh)
        return held.narrow(-2, self.end - rows.width, rows.width + length)

    def get_seq_length(self) -> int:
        """Columns in view before this step."""
        return self._rows.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns in view with this step, and their offset."""
        return self._rows.width + query_length, 0

    def get_max_length(self) -> int:
        """No bound."""
        return -1


def _zeros(like: torch.Tensor, room: int, columns: int) -> torch.Tensor:
    """A buffer for entries shaped like these. Zeros, because what is masked is still multiplied by 0."""
    return torch.zeros((room, *like.shape[1:-2], columns, like.shape[-1]), dtype=like.dtype, device=like.device)


class Rows(Cache):  # type: ignore[misc]
    """The rectangle. `lengths` holds the entries of each row, `width` is how many columns are in view; only the thread that
    runs the model may touch it."""

    def __init__(self, config: Any, device: torch.device, *, most_rows: int) -> None:
        super().__init__(layers=[_Layer(self, kind) for kind in _model_layers(config)])
        self.lengths: list[int] = []
        self.width = 0
        self._most_rows = most_rows
        self._device = device
        self._mask = _Layer(self)  # which entries are not padding
        self._parts: list[_Layer] = [self._mask, *self.layers]

    @property
    def gaps_allowed(self) -> bool:
        """Whether a row may have padding in its middle: a sliding window would count it."""
        return not any(self.is_sliding)

    def nbytes(self) -> int:
        """Memory of the buffers. May be asked from any thread."""
        return sum(buffer.numel() * buffer.element_size() for layer in self.layers
                   for buffer in list(layer.buffers.values()))

    def join(self, row: Row | None, *, expected: int = 0) -> None:
        """Add a row; None for one that has no entries yet. `expected` is how many it may have in the end."""
        length = row.length if row else 0
        at = len(self.lengths)
        self._make_room(at + 1, max(self.width, length), min(max(expected - length, 0), _AHEAD))
        real = self._real()[at]
        real.fill_(False)
        real[self._mask.end - length:self._mask.end] = True
        for layer, tensors in zip(self.layers, row.layers if row else (), strict=False):
            for name, held in tensors.items():
                layer.buffer(name, held.unsqueeze(0))[at].narrow(-2, layer.end - length, length).copy_(held)
        self.lengths.append(length)
        self.width = max(self.width, length)

    def leave(self, at: int) -> None:
        """Remove a row. The last row takes its place."""
        last = len(self.lengths) - 1
        if at != last:
            for layer in self.layers:
                for buffer in layer.buffers.values():
                    view = buffer.narrow(-2, layer.end - self.width, self.width)
                    view[at].copy_(view[last])
            self._real()[at] = self._real()[last]
            self.lengths[at] = self.lengths[last]
        self.lengths.pop()
        self._trim()

    def open(self, fresh: Sequence[int]) -> torch.Tensor | None:
        """Make room for so many fresh entries of each row, right-aligned; return the mask of the columns in view with
        them, of shape (rows, width), or None if none is padding. Call `close` after the model ran."""
        most = max(fresh)
        self._make_room(len(self.lengths), self.width, most)
        end = self._mask.end
        real = self._real()[:len(self.lengths), end - self.width:end + most]
        real[:, self.width:] = True
        for at, length in enumerate(fresh):
            if length < most:
                real[at, self.width:self.width + most - length] = False
        if all(held + length == self.width + most for held, length in zip(self.lengths, fresh, strict=True)):
            return None
        return real

    def close(self, fresh: Sequence[int]) -> None:
        """The model ran: what `open` made room for is held now."""
        self.width += max(fresh)
        for part in self._parts:
            part.end += max(fresh)
        self.lengths = [held + length for held, length in zip(self.lengths, fresh, strict=True)]

    def row(self, at: int) -> Row:
        """The contents of a row, sharing the rectangle's memory if they lie in one piece."""
        real = self._real()[at, self._mask.end - self.width:self._mask.end]
        length = self.lengths[at]
        if bool(real[self.width - length:].all()):
            return Row([{name: buffer[at].narrow(-2, layer.end - length, length) for name, buffer in layer.buffers.items()}
                        for layer in self.layers], length)
        columns = real.nonzero().squeeze(-1)
        return Row([{name: buffer[at].index_select(-2, columns + layer.end - self.width)
                     for name, buffer in layer.buffers.items()} for layer in self.layers], length)

    def _real(self) -> torch.Tensor:
        """The mask of all columns, of shape (room, columns)."""
        like = torch.empty((1, 1, 1), dtype=torch.bool, device=self._device)
        return self._mask.buffer("real", like).squeeze(-1)

    def _trim(self) -> None:
        """Let the view begin where the longest row does, and give back memory that is much more than those left need. Only
        rows without padding in their middle are ever left here."""
        self.width = max(self.lengths, default=0)
        wanted = max(math.ceil((self.width + _AHEAD) * SLACK), _LEAST_COLUMNS)
        room = row_room(len(self.lengths), self._most_rows)
        for part in self._parts:
            if not self.lengths:
                part.buffers.clear()
                part.move(0, 0, 0)
            elif part.columns > 2 * wanted or part.room > 2 * room:
                part.shrink(room, min(wanted, part.columns), self.width)

    def _make_room(self, rows: int, width: int, right: int) -> None:
        """Make sure of so many rows, and of `width` columns before `end` and `right` free ones after it."""
        columns = max(math.ceil((width + right) * SLACK), _LEAST_COLUMNS)
        for part in self._parts:
            room = row_room(rows, self._most_rows)
            if room > part.room or width > part.end or part.end + right > part.columns:
                # where it need not grow, moving left is enough
                part.move(room, max(columns, min(part.columns, 2 * columns)), width)
