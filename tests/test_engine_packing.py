"""Packed weights give the same products, and are used only where they are for."""

import pytest
import torch
from torch import nn

from tests.test_engine_batcher import one_thread  # noqa: F401 - a fixture
from workers.engine import packing
from workers.engine.packing import PackedLinear, pack


@pytest.fixture(autouse=True)
def _always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is faster depends on the machine."""
    monkeypatch.setattr(packing, "_GAIN", 1e9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (16, 1), (3, 40)])
def test_a_packed_layer_says_what_the_plain_one_says(bias: bool, shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(320, 256, bias=bias)
    rows = torch.randn(*shape, 320)
    with torch.inference_mode():
        wanted = layer(rows)
        pack(layer)
        found = layer(rows)

    assert type(layer) is PackedLinear
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-4)


def test_small_layers_other_types_and_other_kinds_stay_as_they_are() -> None:
    class Own(nn.Linear):
        pass

    layers = [nn.Linear(32, 32), nn.Linear(320, 256, dtype=torch.bfloat16), Own(320, 256), nn.Linear(320, 256)]
    pack(nn.Sequential(*layers))

    assert [type(layer) for layer in layers] == [nn.Linear, nn.Linear, Own, PackedLinear]


@pytest.mark.parametrize("tried_bytes", [1, 2 * 320 * 256 * 4, 2**28])
def test_all_layers_of_a_shape_are_packed_however_many_were_measured(
        monkeypatch: pytest.MonkeyPatch, tried_bytes: int) -> None:
    monkeypatch.setattr(packing, "_TRIED_BYTES", tried_bytes)
    layers = [nn.Linear(320, 256) for _ in range(3)]
    rows = torch.randn(5, 320)
    with torch.inference_mode():
        wanted = [layer(rows) for layer in layers]
        pack(nn.Sequential(*layers))
        found = [layer(rows) for layer in layers]

    assert [type(layer) for layer in layers] == [PackedLinear] * 3
    assert all(torch.allclose(*pair, atol=1e-4) for pair in zip(found, wanted, strict=True))


def test_where_memory_is_short_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "free_memory", lambda: 1000)
    layer = nn.Linear(320, 256)
    pack(layer)

    assert type(layer) is nn.Linear


def test_a_build_of_torch_without_it_leaves_the_layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: nn.Linear) -> torch.Tensor:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(packing, "_packed", missing)
    layer = nn.Linear(320, 256)
    pack(layer)

    assert type(layer) is nn.Linear
