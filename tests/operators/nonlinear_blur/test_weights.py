"""Files of weights: what the shipped ones promise, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from daps_kit.errors import UserError
from daps_operators import NonlinearBlur as NonlinearBlurSettings
from daps_operators.nonlinear_blur.measure import table
from daps_operators.nonlinear_blur.network import (
    ShakeNetwork,
)
from daps_operators.nonlinear_blur.operator import EMBEDDED
from daps_operators.nonlinear_blur.pairs import (
    draw_pairs,
    draw_paths,
    draw_shapes,
)
from daps_operators.nonlinear_blur.weights import blank, load_blur, load_shake_network, save_weights
from tests.operators.nonlinear_blur.small_network import CPU, SMALL

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pairs(astronaut):
    rng = np.random.default_rng(123)
    paths = draw_paths(draw_shapes(12, rng), 12, 8, rng)
    return draw_pairs([*astronaut[:12]], paths, 64, 8, rng)


def test_the_shipped_weights_are_small_and_say_what_they_are():
    assert EMBEDDED.stat().st_size < 3e6
    _, _, description = load_shake_network(EMBEDDED)
    card = description["card"]
    assert "CC BY 3.0" in card["attribution"]
    assert "Chris McAndrew" in card["attribution"]
    rows = description["measured"]["psnr"]
    assert rows["encoder"]["mean"] > rows["own linear"]["mean"] + 1.5
    assert rows["fitted code"]["mean"] > rows["own linear"]["mean"] + 1.5
    text = (ROOT / "docs" / "blur64.md").read_text()
    for row in rows.values():
        assert re.search(r" \| ".join(f"{number:.1f}" for number in row.values()), text)


def test_the_shipped_weights_reproduce_unseen_shakes_of_a_free_picture(pairs):
    network, encoder, _ = load_shake_network(EMBEDDED)
    rows = table(network, encoder, pairs, steps=4)
    assert rows["encoder"]["mean"] > rows["identity"]["mean"] + 6
    assert rows["encoder"]["mean"] > rows["one linear"]["mean"] + 5
    assert rows["fitted code"]["mean"] > rows["own linear"]["mean"] + 1.5


def test_weights_are_read_back(tmp_path):
    torch.manual_seed(0)
    modules = blank(SMALL)
    save_weights(tmp_path / "w.safetensors", modules, {"card": {"title": "x"}})
    network, _, description = load_shake_network(tmp_path / "w.safetensors")
    assert network.config == SMALL
    assert description["card"] == {"title": "x"}
    assert not any(p.requires_grad for p in network.parameters())
    for name, tensor in modules["network"].state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    assert isinstance(load_blur(tmp_path / "w.safetensors"), ShakeNetwork)


def test_wrong_weights_are_named(tmp_path):
    with safe_open(EMBEDDED, framework="pt") as file:
        description = json.loads(file.metadata()["daps-kit"])
    tensors, path = load_file(EMBEDDED), tmp_path / "w.safetensors"

    def save(tensors: dict[str, torch.Tensor], **changes: object) -> Path:
        save_file(tensors, path, metadata={"daps-kit": json.dumps(description | changes)})
        return path

    with pytest.raises(UserError, match="holds a denoiser, not the weights of a blur network"):
        load_blur(save(tensors, kind="denoiser"))
    with pytest.raises(UserError, match="has format 99"):
        load_blur(save(tensors, format=99))
    for size in (0, 8 * 10**18):
        with pytest.raises(UserError, match="what it says of .* does not hold .*sizes are from 1 to 65536"):
            load_blur(save(tensors, network=description["network"] | {"kernel_dim": size}))
    with pytest.raises(UserError, match=r"missing: network\.light\.log_power"):
        load_blur(save({k: v for k, v in tensors.items() if k != "network.light.log_power"}))
    with pytest.raises(UserError, match="not finite"):
        load_blur(save(tensors | {"network.light.log_power": torch.tensor(torch.nan)}))
    path.write_bytes(EMBEDDED.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"w\.safetensors is not a whole"):
        load_blur(path)
    with pytest.raises(UserError, match="takes images of 3 channels, got 1"):
        NonlinearBlurSettings().build(shape=(1, 16, 16), seed=0, device=CPU)
