"""Where a run computes: devices that are not there, and batches by the memory."""

from __future__ import annotations

import pytest
import torch

from daps_kit.errors import UserError
from daps_kit.runs.devices import batch_of, device_of


def test_a_device_that_computes() -> None:
    assert device_of("cpu") == torch.device("cpu")
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["meta", "gpu", "cuda:99", "", "cpu:x"])
def test_a_device_that_does_not_is_named_in_a_line(name: str) -> None:
    with pytest.raises(
        UserError, match=f"^device: '{name}' cannot be used here .*; auto takes what"
    ) as caught:
        device_of(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "batch"), [((3, 64, 64), 16), ((1, 8, 8), 16), ((3, 128, 128), 4), ((3, 1000, 1000), 1)]
)
def test_a_batch_has_as_many_numbers_as_sixteen_small_pictures(
    shape: tuple[int, int, int], batch: int
) -> None:
    assert batch_of(shape, torch.device("cpu")) == batch


@pytest.mark.parametrize(
    ("shape", "free", "batch"), [((3, 256, 256), 80e9, 64), ((3, 256, 256), 10e9, 8), ((3, 512, 512), 1e9, 1)]
)
def test_a_batch_on_a_gpu_has_four_thousand_bytes_for_each_number(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], free: float, batch: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    assert batch_of(shape, torch.device("cuda")) == batch
