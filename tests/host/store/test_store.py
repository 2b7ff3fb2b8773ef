"""What both stores do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daps_kit.store import Key, open_store
from daps_kit.store.store import ZARR

RECORDS = {
    Key("operator", "3x4x4"): {"kernel": torch.ones(2)},
    Key("measurement", "a.b"): {"y": torch.arange(12.0).reshape(3, 2, 2), "truth": torch.zeros(3, 4, 4)},
    Key("sample", "a.b", 0): {"x0": torch.full((3, 4, 4), torch.nan)},
    Key("sample", "a.b", 1): {"x0": torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))},
    Key("trajectory", "a.b", 1): {"sigma": torch.ones(2, dtype=torch.float64), "x_t": torch.ones(2, 3, 4, 4)},
    Key("posterior", "a.b"): {"mean": torch.zeros(3, 4, 4)},
    Key("picture", "a.b"): {"picture": torch.zeros(4, 4, 3, dtype=torch.uint8)},
}


@pytest.mark.parametrize("kind", ["files", "zarr"])
def test_a_record_comes_back_as_it_was_written(tmp_path: Path, kind: str) -> None:
    if kind == "zarr":
        pytest.importorskip("zarr")
    store = open_store(tmp_path, new=kind)
    store.begin(["a.b"], 2, dict)
    for key, tensors in RECORDS.items():
        assert store.read(key) is None
        store.write(key, tensors, {"said": '{"of": "ä"}'})
    for look in (lambda: store, lambda: open_store(tmp_path)):
        again = look()
        assert set(again.keys()) == set(RECORDS)
        assert again.items() == {"a.b"}
        for key, tensors in RECORDS.items():
            found, said = again.read(key)
            assert said == {"said": '{"of": "ä"}'}
            assert found.keys() == tensors.keys()
            outline, also = again.read(key, outline=True)
            assert also == said
            for name, tensor in tensors.items():
                assert found[name].dtype == outline[name].dtype == tensor.dtype
                assert torch.equal(found[name].nan_to_num(7), tensor.nan_to_num(7))
                assert outline[name].shape == tensor.shape
                assert outline[name].device.type == "meta"
        store.finish()
    assert store.size() > 2 * 48 * 4 - 48 * 4
    assert (tmp_path / ZARR).exists() == (kind == "zarr")
    assert store.pictures == (kind == "files")
