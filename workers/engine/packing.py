"""Faster multiplications on a CPU in float32: weights laid out once, as oneDNN wants them for several rows.

torch's own linear layer rearranges the weights with each call, which for a batch of a few rows costs as much as multiplying
does. The weights as they were stay, for single rows, where they are faster, and for whoever else looks at them: so memory
for a copy is needed, and where it is short nothing is packed.

Source: the operators that torch's compiler uses for frozen weights (torch/_inductor/fx_passes/mkldnn_fusion.py).
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from app import logs
from workers.engine.host_memory import free_memory

_ROWS = 16  # the batch that the layout is chosen for
_TRIED_ROWS = (8, 16)  # the batches it is measured with
_TRIED_BYTES = 2**28  # of weights, one layer's after another: as in the model, few are in the processor's cache
_ROUNDS = 3
_SMALLEST = 2**16  # weights; below it a call costs more than the multiplication
_GAIN = 0.95  # what a packed layer may take of the plain one's time to be worth its memory
_MEMORY_SHARE = 0.25  # of the memory that is free, for the copies
_FARTHEST = 1e-4  # of the values' size: what another order of additions may change


class PackedLinear(nn.Linear):
    """A linear layer with a packed copy of its weights."""

    _packed: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Multiply; shapes as nn.Linear's."""
        if input.numel() == self.in_features:
            return nn.functional.linear(input, self.weight, self.bias)
        return _multiplied(input, self._packed, self.bias)


def _multiplied(rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, packed, bias, "none", [], "")
    return product


@torch.inference_mode()
def pack(model: nn.Module) -> None:
    """Pack the linear layers of a model in float32 on a CPU, where that makes them faster."""
    plain = [layer for layer in model.modules() if type(layer) is nn.Linear and layer.weight.dtype is torch.float32
             and layer.weight.device.type == "cpu" and layer.weight.numel() >= _SMALLEST]
    if not plain or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    free = free_memory() * _MEMORY_SHARE
    shapes: dict[torch.Size, list[nn.Linear]] = {}
    for layer in plain:
        shapes.setdefault(layer.weight.shape, []).append(layer)
    packed, held = 0, 0
    for alike in shapes.values():
        size = alike[0].weight.nbytes
        fitting = alike[:int((free - held) // size)]
        tried = fitting[:max(_TRIED_BYTES // size, 1)]
        if not tried or not (copies := _faster_copies(tried)):
            continue
        for layer, copy in zip(fitting, [*copies, *(_packed(layer) for layer in fitting[len(tried):])], strict=True):
            layer._packed = copy
            layer.__class__ = PackedLinear
            packed, held = packed + 1, held + size
    logs.event("weights_packed", layers=packed, of=len(plain), bytes=held)


def _packed(layer: nn.Linear) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS)
    return packed


def _faster_copies(layers: Sequence[nn.Linear]) -> list[torch.Tensor]:
    """Return the packed weights of layers of one shape; none where they are not faster, or say something else."""
    try:
        copies = [_packed(layer) for layer in layers]
        found, wanted = (multiply(_rows(layers[0], _ROWS), weight, layers[0].bias) for multiply, weight in
                         ((_multiplied, copies[0]), (nn.functional.linear, layers[0].weight)))
    except (RuntimeError, NotImplementedError) as exc:  # a build of torch without it
        logs.event("weights_not_packed", why=f"{type(exc).__name__}: {str(exc)[:200]}")
        return []
    if (found - wanted).norm() > _FARTHEST * wanted.norm():
        return []
    plain = [layer.weight for layer in layers]
    packed_s = sum(_seconds(layers, _multiplied, copies, rows) for rows in _TRIED_ROWS)
    plain_s = sum(_seconds(layers, nn.functional.linear, plain, rows) for rows in _TRIED_ROWS)
    return copies if packed_s < _GAIN * plain_s else []


def _seconds(layers: Sequence[nn.Linear], multiply: Callable[..., torch.Tensor], weights: Sequence[torch.Tensor],
             rows: int) -> float:
    """Return what the layers take of a step, other programs' disturbances aside."""
    given = _rows(layers[0], rows)
    times = []
    for _ in range(_ROUNDS):
        began_s = time.perf_counter()
        for layer, weight in zip(layers, weights, strict=True):
            multiply(given, weight, layer.bias)
        times.append(time.perf_counter() - began_s)
    return min(times)


def _rows(layer: nn.Linear, rows: int) -> torch.Tensor:
    return torch.linspace(-1, 1, rows * layer.in_features).view(rows, 1, layer.in_features)
