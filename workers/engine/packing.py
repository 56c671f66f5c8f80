"""Faster multiplications on a CPU in float32: weights laid out once, as oneDNN wants them for several rows.

torch's own linear layer rearranges the weights with each call, which for a batch of a few rows costs as much as multiplying
does. The weights as they were stay, for single rows, where they are faster, and for whoever else looks at them: so memory
for a copy is needed, and where it is short nothing is packed.

Source: the operators that torch's compiler uses for frozen weights (torch/_inductor/fx_passes/mkldnn_fusion.py).
"""

import time
from typing import Any

import torch
from torch import nn

from app import logs
from workers.engine.host_memory import free_memory

_ROWS = 16  # the batch that the layout is chosen for, and measured with
_ROUNDS = 5
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
    gains: dict[torch.Size, bool] = {}
    packed, held = 0, 0
    for layer in plain:
        shape, size = layer.weight.shape, layer.weight.nbytes
        if shape not in gains:
            gains[shape] = _is_faster(layer)
        if gains[shape] and held + size <= free:
            layer._packed = _packed(layer)
            layer.__class__ = PackedLinear
            packed, held = packed + 1, held + size
    logs.event("weights_packed", layers=packed, of=len(plain), bytes=held)


def _packed(layer: nn.Linear) -> torch.Tensor:
    packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS)
    return packed


def _is_faster(layer: nn.Linear) -> bool:
    """Measure; and see that the answer is the same."""
    rows = torch.linspace(-1, 1, _ROWS * layer.in_features).view(_ROWS, 1, layer.in_features)
    try:
        packed = _packed(layer)
        found, wanted = _multiplied(rows, packed, layer.bias), nn.functional.linear(rows, layer.weight, layer.bias)
    except (RuntimeError, NotImplementedError) as exc:  # a build of torch without it
        logs.event("weights_not_packed", why=f"{type(exc).__name__}: {str(exc)[:200]}")
        return False
    if (found - wanted).norm() > _FARTHEST * wanted.norm():
        return False
    times: dict[Any, float] = {}
    for weight, multiply in ((packed, _multiplied), (layer.weight, nn.functional.linear)):
        for _ in range(_ROUNDS):
            began_s = time.perf_counter()
            multiply(rows, weight, layer.bias)
            times[multiply] = min(times.get(multiply, float("inf")), time.perf_counter() - began_s)
    return times[_multiplied] < _GAIN * times[nn.functional.linear]
