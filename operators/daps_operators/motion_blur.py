r"""Blur by camera shake: correlation with a kernel k,

    y(i, j) = sum_{a, b} k(a, b) x(i + a - p, j + b - q),    (p, q) = (h // 2, w // 2) the middle of the kernel.

A point-spread function is convolved, y(i, j) = sum k(a, b) x(i - a + p, j - b + q), so that it is the picture of a
point; it becomes a correlation by turning it by 180 degrees about its middle. What lies beyond the border is said in
`borders`.

A = C F^{-1} diag(conj K) F Z R: extend the border (R), fill with zeros to a size with a fast Fourier transform
(Z), multiply the spectrum, transform back and cut out the image (C). That size holds the image and its border, so
nothing wraps around into the image and A is exact. The adjoint is A^T = R^T Z^T F^{-1} diag(K) F C^T, where R^T folds
the border back.

Draws with the prior's covariance take conjugate gradients beside |K|^2, at the frequencies of a torus or of the cosine
basis, whichever describes the blur better (see `transfer`).

A^T A + w I is solved by conjugate gradients with C F^{-1} diag(1 / (|K|^2 + w)) F C^T, the inverse far from the
border, as the preconditioner: at 128 pixels it takes 1.4 times fewer steps than none at w = 0.0025, where the
circulant one of periodic borders takes 1.8 times more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daps_kit.arrays import read_map
from daps_kit.contracts import Covariance, LinearOperator, Noise, Operator, Shape, Transfer
from daps_kit.covariance import CosineCovariance, cosine_matrix
from daps_kit.errors import UserError
from daps_kit.kept import kept
from daps_kit.linalg import Constant, per_sample, solve
from daps_kit.modes import HIDDEN, Modes
from daps_kit.parameters import Parameters, kernel_names
from daps_kit.unknown import Uniform, Unknown

from .borders import Boundary, extend, fold_back
from .motion_kernel import motion_kernel
from .reflection import Border
from .transfer import fast_length, gains, transfer

__all__ = ["MotionBlur", "build_motion_blur", "build_shaped", "read_kernel", "turned"]


LEAST_SUM = 1e-6
"""The sum of a kernel in units of that of its absolute values, below which it counts as none: derivatives have none."""


class MotionBlur(LinearOperator):
    """Correlation with a kernel of any size, one for all samples or one for each.

    Args:
        shape: (C, H, W) of the images.
        noise: the noise model.
        kernel: [1 or B, 1, h, w]; its middle is at (h // 2, w // 2).
        boundary: what lies beyond the border; where it is `valid`, y is [B, C, H - h + 1, W - w + 1].

    Raises:
        UserError: the boundary is `valid`, and the kernel larger than the image.
    """

    def __init__(self, shape: Shape, noise: Noise, kernel: Tensor, boundary: Boundary = "reflect") -> None:
        super().__init__(shape, noise)
        self.kernel, self.boundary = kernel, boundary
        (_, height, width), (h, w) = shape, kernel.shape[-2:]
        valid = boundary == "valid"
        if valid and (h > height or w > width):
            raise UserError(f"a kernel of {h} x {w} leaves nothing valid of an image of {height} x {width}")
        self._vertical: Border = (0, 0) if valid else (h // 2, h - 1 - h // 2)
        self._horizontal: Border = (0, 0) if valid else (w // 2, w - 1 - w // 2)
        self._bordered = (height + sum(self._vertical), width + sum(self._horizontal))
        self._measured = (self._bordered[0] - h + 1, self._bordered[1] - w + 1)
        self._length = (fast_length(self._bordered[0]), fast_length(self._bordered[1]))
        spectrum = torch.fft.rfft2(kernel.to("cpu").to(torch.float64), s=self._length)
        self._spectrum, self._conjugate = Constant(spectrum), Constant(spectrum.conj().resolve_conj())
        self._power = Constant(spectrum.abs().square())

    def _filter(self, x: Tensor, response: Tensor, size: tuple[int, int]) -> Tensor:
        """Multiply the spectrum of x by the response and return the first `size` pixels."""
        spectrum = torch.fft.rfft2(x, s=self._length) * response
        lines = torch.fft.ifft(spectrum, dim=-2)[..., : size[0], :]
        filtered: Tensor = torch.fft.irfft(lines, n=self._length[1])[..., : size[1]]
        return filtered

    def forward(self, x: Tensor) -> Tensor:
        """Return the blurred images, [B, C, H, W], or what is valid of them."""
        bordered = extend(x, self._vertical, self._horizontal, self.boundary)
        return self._filter(bordered, self._conjugate.like(x), self._measured)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, [B, C, H, W]."""
        bordered = self._filter(y, self._spectrum.like(y), self._bordered)
        return fold_back(bordered, self._vertical, self._horizontal, self.boundary)

    def kernel_adjoint(self, x: Tensor, y: Tensor) -> Tensor:
        """Return M^T y, [B, h, w], of the M with A x = M k: y times the pixels that each number of k weighs."""
        bordered = extend(x, self._vertical, self._horizontal, self.boundary)
        spectrum = torch.fft.rfft2(bordered, s=self._length) * torch.fft.rfft2(y, s=self._length).conj()
        h, w = self.kernel.shape[-2:]
        together: Tensor = torch.fft.irfft2(spectrum.sum(1), s=self._length)[..., :h, :w]
        return together

    def solve_normal(self, b: Tensor, weight: float | Tensor) -> Tensor:
        """Return (A^T A + weight I)^{-1} b by conjugate gradients, to a relative residual of 1e-6.

        Raises:
            ArithmeticError: the residual stayed above 1e-3, as it does below weights of about 1e-5: a blur takes
                frequencies away.
        """
        scale = per_sample(weight, b)
        inverse = 1 / (self._power.like(b) + scale)
        return solve(
            lambda x: self.adjoint(self.forward(x)) + scale * x,
            b,
            precondition=lambda r: self._filter(r, inverse, self.shape[1:]),
        )

    @kept
    def _responses(self) -> Constant:
        """|K|^2 at the frequencies of the cosine basis, for both signs of one of them, [2, 1 or B, 1, H, W]."""
        down, across = (
            torch.pi / pixels * torch.arange(pixels, dtype=torch.float64) for pixels in self.shape[1:]
        )
        return Constant(torch.stack([gains(self.kernel, down, sign * across) for sign in (1, -1)]))

    def spectrum(self, covariance: Covariance) -> Tensor | None:
        """Return the mean of the `waves`."""
        waves = self.waves(covariance)
        return None if waves is None else waves.mean(0)

    def waves(self, covariance: Covariance) -> Tensor | None:
        """Return |K|^2 P, where there is one kernel, as far as the border is measured."""
        if not isinstance(covariance, CosineCovariance) or len(self.kernel) > 1:
            return None
        return self._cut(self._responses.like(covariance.power)[:, 0] * covariance.power)

    def _cut(self, spectrum: Tensor) -> Tensor:
        """Return what is about a spectrum [..., H, W] in the cosine basis of the measurement."""
        if self.boundary != "valid":
            return spectrum
        down, across = (cut.like(spectrum) for cut in self._cuts)
        found: Tensor = down @ spectrum @ across.T
        return found

    def modes(self, like: Tensor) -> Modes | None:
        """Return the waves of a torus that holds the image and its border; None where there are several kernels."""
        return None if len(self.kernel) > 1 else _Waves(self, like)

    def preconditioner(
        self, covariance: Covariance, variance: float | Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """Return the inverse of |K|^2 P + variance in the cosine basis of the measurement."""
        if not isinstance(covariance, CosineCovariance):
            return None
        power = covariance.power
        return covariance.inverse(self._cut(self._responses.like(power).mean(0) * power), variance)

    @kept
    def _cuts(self) -> tuple[Constant, Constant]:
        """The squared entries of the cosine functions of the valid part beside those of the image, of each axis."""
        cuts = []
        for pixels, valid, taps in zip(self.shape[1:], self._measured, self.kernel.shape[-2:], strict=True):
            seen = cosine_matrix(pixels)[:, taps // 2 : taps // 2 + valid]
            cuts.append(Constant((cosine_matrix(valid) @ seen.T).square()))
        return cuts[0], cuts[1]

    def transfer(self) -> Transfer | None:
        """Return |K|^2."""
        return self._transfer

    @kept
    def _transfer(self) -> Transfer | None:
        return transfer(self.kernel, self.shape[1:], self.boundary)

    def state(self) -> dict[str, Tensor]:
        """Return the kernel that is correlated."""
        return {"kernel": self.kernel}

    @classmethod
    def stack(cls, operators: Sequence[Operator]) -> Operator:
        """Join operators into one whose sample b has the kernel of `operators[b]`."""
        first, blurs = operators[0], [each for each in operators if isinstance(each, MotionBlur)]
        if all(operator is first for operator in operators) or not isinstance(first, MotionBlur):
            return super().stack(operators)
        kernels = [blur.kernel for blur in blurs]
        # Zeros around a kernel change nothing but what is valid.
        grow = first.boundary != "valid" and all(n % 2 for k in kernels for n in k.shape[-2:])
        if len(blurs) < len(operators) or not (grow or len({k.shape for k in kernels}) == 1):
            return super().stack(operators)
        height, width = (max(k.shape[axis] for k in kernels) for axis in (-2, -1))
        joined = torch.cat([centred(k, (height, width)) for k in kernels])
        return cls(first.shape, first.noise, joined, first.boundary)


class _Waves(Modes):
    """The waves of the torus on which a blur multiplies.

    Args:
        blur: of one kernel.
        like: an image, for its dtype and device.
    """

    def __init__(self, blur: MotionBlur, like: Tensor) -> None:
        self._blur, (channels, self._height, self._width) = blur, blur.shape
        self.shape = (channels, *blur._length)
        gain = blur._conjugate.like(like)[0]
        size = gain.abs()
        least = HIDDEN * float(size.max())
        self.gain = torch.where(size > least, gain, least)
        # Waves stand for their mirror images but for two columns, which hold both.
        self.count = torch.full_like(size, 2.0)
        self.count[..., [0, -1]] = 1  # lengths are even (`fast_length`)

    def coordinates(self, w: Tensor) -> Tensor:
        """Return the Fourier transform."""
        c: Tensor = torch.fft.rfft2(w, norm="ortho")
        return c

    def domain(self, c: Tensor) -> Tensor:
        """Return the torus."""
        w: Tensor = torch.fft.irfft2(c, s=self.shape[1:], norm="ortho")
        return w

    def measured(self, c: Tensor) -> Tensor:
        """Return the part of the torus that is measured."""
        height, width = self._blur._measured
        return self.domain(c)[..., :height, :width]

    def measured_transposed(self, y: Tensor) -> Tensor:
        """Return the transform of y, with zeros around it."""
        c: Tensor = torch.fft.rfft2(y, s=self.shape[1:], norm="ortho")
        return c

    def placed(self, x: Tensor) -> Tensor:
        """Return the image with zeros around it."""
        borders: list[int] = []
        for n, whole, before in zip(x.shape[-2:], self.shape[1:], self._corner, strict=True):
            borders = [before, whole - n - before, *borders]
        return torch.nn.functional.pad(x, borders)

    def taken(self, w: Tensor) -> Tensor:
        """Return what is in the place of the image."""
        top, left = self._corner
        return w[..., top : top + self._height, left : left + self._width]

    def seen(self, x: Tensor, share: Tensor) -> Tensor:
        """Return the transform of the image with its border, less a share of that of the image alone."""
        blur = self._blur
        bordered = extend(x, blur._vertical, blur._horizontal, blur.boundary)
        whole: Tensor = torch.fft.rfft2(bordered, s=self.shape[1:], norm="ortho")
        return whole - share * self.coordinates(self.placed(x))

    def seen_transposed(self, c: Tensor, share: Tensor) -> Tensor:
        """Return the transpose."""
        blur = self._blur
        height, width = blur._bordered
        bordered = self.domain(c)[..., :height, :width]
        whole = fold_back(bordered, blur._vertical, blur._horizontal, blur.boundary)
        return whole - self.taken(self.domain(share * c))

    @property
    def _corner(self) -> tuple[int, int]:
        """Row and column of the first pixel of the image."""
        return self._blur._vertical[0], self._blur._horizontal[0]


def centred(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a kernel [..., h, w] of odd sides with zeros around it, [..., *size], of odd sides that hold it."""
    (h, w), (height, width) = kernel.shape[-2:], size
    down, across = (height - h) // 2, (width - w) // 2
    return torch.nn.functional.pad(kernel, (across, across, down, down))


def build_shaped(
    shape: Shape, noise: Noise, taps: NDArray[np.float64], kernel_size: int | None, boundary: Boundary
) -> MotionBlur:
    """Return the blur by a kernel that is its own mirror image, of odd sides.

    Args:
        shape: of the images.
        noise: the noise model.
        taps: the kernel, [h, w].
        kernel_size: sides of the kernel with zeros around it; those of the taps where None.
        boundary: what lies beyond the border.

    Raises:
        UserError: the kernel is larger than `kernel_size`, or not all of it is known where the boundary is `valid`.
    """
    kernel = torch.from_numpy(taps)[None, None]
    if kernel_size is None and boundary == "valid":
        raise UserError("boundary 'valid' needs kernel_size, which says how much of the image is measured")
    if kernel_size is not None:
        if max(taps.shape) > kernel_size:
            raise UserError(
                f"the kernel has {' x '.join(map(str, taps.shape))} pixels; kernel_size is {kernel_size}"
            )
        kernel = centred(kernel, (kernel_size, kernel_size))
    return MotionBlur(shape, noise, kernel, boundary)


def read_kernel(path: Path) -> NDArray[np.float64]:
    """Read a kernel [h, w] and divide it by its sum.

    Raises:
        UserError: the file cannot be read, is not one 2-D array, or its sum is not positive.
    """
    kernel = read_map(path, "kernel", "psf")
    while kernel.ndim > 2 and 1 in (len(kernel), kernel.shape[-1]):
        kernel = kernel[0] if len(kernel) == 1 else kernel[..., 0]
    if kernel.ndim != 2:
        raise UserError(f"kernel {path} has {kernel.ndim} axes; allowed: one array, height x width")
    kernel = kernel / (float(abs(kernel).max()) or 1.0)  # the sum of numbers near 1e308 is infinite
    total, weight = float(kernel.sum()), float(abs(kernel).sum())
    if not total > LEAST_SUM * weight:
        raise UserError(
            f"kernel {path} has the sum {total:g}, in units of its largest number; allowed: a positive sum, as it is "
            "scaled to 1"
        )
    normalised: NDArray[np.float64] = kernel / total
    return normalised


def turned(psf: NDArray[np.float64], boundary: Boundary) -> NDArray[np.float64]:
    """Return the kernel [h', w'] whose correlation is the convolution with a point-spread function [h, w].

    Its middle is that of the PSF, for which an even side gets a zero more; not so where only what is valid counts.
    """
    more = [(0 if boundary == "valid" else 1 - n % 2, 0) for n in psf.shape]
    return np.pad(psf[::-1, ::-1], more)


def build_motion_blur(
    shape: Shape,
    noise: Noise,
    kernel: Literal["random"] | Path,
    *,
    kernel_size: int,
    intensity: float,
    kernel_is: Literal["psf", "correlation"] = "psf",
    boundary: Boundary = "reflect",
    seed: int,
) -> MotionBlur:
    """Return the operator with its kernel, drawn from the seed (see `motion_kernel`) or read from a file.

    Raises:
        UserError: the file holds no kernel.
    """
    if kernel == "random":
        taps = motion_kernel(kernel_size, intensity, np.random.default_rng(seed))
    else:
        taps = read_kernel(Path(kernel))
        taps = turned(taps, boundary) if kernel_is == "psf" else taps
    return MotionBlur(shape, noise, torch.from_numpy(taps)[None, None], boundary)


def build_unknown(
    shape: Shape, noise: Noise, size: int, intensity: float, boundary: Boundary, *, seed: int
) -> MotionBlur:
    """Return the operator with a random kernel, which a simulated measurement has, and all numbers of it unknown.

    Raises:
        UserError: nothing of the image is valid with such a kernel.
    """
    truth = motion_kernel(size, intensity, np.random.default_rng(seed))
    operator = MotionBlur(shape, noise, torch.from_numpy(truth)[None, None], boundary)

    def build(values: Mapping[str, float]) -> MotionBlur:
        numbers = torch.tensor([values[name] for name in names], dtype=torch.float64)
        return MotionBlur(shape, noise, numbers.reshape(1, 1, size, size), boundary)

    names = kernel_names(size)
    unknowns = tuple(Unknown(Uniform(low=0.0, high=1.0), float(number)) for number in truth.flat)
    operator.parameters = Parameters(names, unknowns, (build,))
    return operator
