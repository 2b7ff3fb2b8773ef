r"""The Gaussian of an image and of the noise that it is measured with, where an operator knows its patterns.

What is asked for is the x and r of least

    x^T C^{-1} x + |r|^2 + |m - L g ((F E - T F J) x + o^{1/2} r)|^2 / rest

(`coupled`), r being real noise in the coordinates F. Where A C A^T is about diagonal in the cosine basis of
measurements, r is eliminated, and conjugate gradients go on in the space of measurements, with that diagonal as the
preconditioner. Other convolutions are solved for x and r together. Were the domain all image and all of it measured,
each wave and colour would be a system of two numbers: the preconditioner is the inverse of that, of which the place of
the image is cut out (`convolved` says why it is cut out of the inverse).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, LinearOperator
from daps_kit.covariance import CosineCovariance, LocalCovariance, turned
from daps_kit.linalg import conjugate_gradients, inner, least_squares
from daps_kit.modes import Modes

from .convolved import on_torus
from .exact import balanced
from .weighted import ROUNDING

__all__ = ["System"]


class System:
    """Least squares for x and r.

    Args:
        operator, modes, covariance: A, its patterns, and C.
        share: T, real, like the gain of the modes.
        spare: o, like T.
        rest: the variance of eps.
    """

    def __init__(
        self,
        operator: LinearOperator,
        modes: Modes,
        covariance: Covariance,
        share: Tensor,
        spare: Tensor,
        rest: float,
    ) -> None:
        self._operator, self._modes, self._covariance = operator, modes, covariance
        self._share, self._spare, self._rest = share, spare, rest

    def solve(self, misfit: Tensor, *, accuracy: float, max_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return x [B, ...], o^{1/2} r, and about the error, [B].

        Args:
            misfit: m, [B, ...].
            accuracy: the error to reach, in posterior standard deviations, root mean square.
            max_steps: products with the system at most.
        """
        covariance = self._covariance
        # Where the border is left out, what is not measured is far from a torus of which all is.
        waves = self._modes.waves and self._operator.transfer() is not None
        if waves and isinstance(covariance, CosineCovariance | LocalCovariance):
            return self._together(misfit, covariance, accuracy, max_steps)
        return self._by_measurements(misfit, accuracy, max_steps)

    def _forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return L g ((F E - T F J) x + w)."""
        return self._modes.measured(self._modes.gain * (self._modes.seen(x, self._share) + w))

    def _by_measurements(
        self, misfit: Tensor, accuracy: float, max_steps: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Solve for what is left of the misfit."""
        modes, covariance, rest = self._modes, self._covariance, self._rest

        def pulled(z: Tensor) -> tuple[Tensor, Tensor]:
            w = modes.gain.conj() * modes.measured_transposed(z)
            return covariance.multiply(modes.seen_transposed(w, self._share)), self._spare * w

        norm = inner(misfit, misfit).sqrt().clamp_min(torch.finfo(misfit.dtype).tiny)
        unit = (rest * misfit[0].numel()) ** 0.5
        z, residual = conjugate_gradients(
            lambda z: self._forward(*pulled(z)) + rest * z,
            misfit,
            precondition=self._beside_cosines(),
            tolerance=(accuracy * unit / norm).clamp_min(ROUNDING),
            max_steps=max_steps,
        )
        return *pulled(z), residual * norm / unit

    def _beside_cosines(self) -> Callable[[Tensor], Tensor] | None:
        """Return about the inverse of the system for measurements, by its diagonal in their cosine basis."""
        covariance = self._covariance
        even = covariance.even if isinstance(covariance, LocalCovariance) else covariance
        if not isinstance(even, CosineCovariance):
            return None
        even = even.common
        spectrum = self._operator.spectrum(even)
        gains = self._operator.spectrum(CosineCovariance(torch.ones_like(even.power), even.colours))
        if spectrum is None or gains is None:
            return None
        share, noise = self._at(gains)
        whole = (1 - share).square() * spectrum + noise
        inverse = even.inverse(whole, self._rest)
        if isinstance(covariance, LocalCovariance):
            return balanced(self._operator, covariance, float(noise.max()) + self._rest, inverse)
        return inverse

    def _at(self, gains: Tensor) -> tuple[Tensor, Tensor]:
        """Return T and |g|^2 o at patterns of other squared gains, by those of the modes."""
        squares, order = self._modes.gain.abs().square().flatten().sort()
        noise, share = squares * self._spare.flatten()[order], self._share.flatten()[order]
        place = torch.searchsorted(squares, gains.contiguous()).clamp(max=len(squares) - 1)
        return share[place], noise[place]

    def _together(
        self,
        misfit: Tensor,
        covariance: CosineCovariance | LocalCovariance,
        accuracy: float,
        max_steps: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Solve for x and r."""
        modes, root, image = self._modes, self._spare.sqrt(), self._operator.shape
        split, own = prod(image), (image[0], *modes.gain.shape[-2:])
        count = modes.count.sqrt()
        once = 1 / count

        def parts(v: Tensor) -> tuple[Tensor, Tensor]:
            x, rest = v[:, :split], v[:, split:]
            return x.reshape(-1, *image), torch.view_as_complex(rest.reshape(-1, *own, 2)) * once

        def joined(x: Tensor, r: Tensor) -> Tensor:
            return torch.cat([x.flatten(1), torch.view_as_real(count * r).flatten(1)], 1)

        def forward(v: Tensor) -> Tensor:
            x, r = parts(v)
            return self._forward(x, root * r)

        def adjoint(z: Tensor) -> Tensor:
            w = modes.gain.conj() * modes.measured_transposed(z)
            return joined(modes.seen_transposed(w, self._share), root * w)

        def precision(v: Tensor) -> Tensor:
            x = covariance.precision(v[:, :split].reshape(-1, *image))
            return torch.cat([x.flatten(1), v[:, split:]], 1)

        found, error = least_squares(
            forward,
            adjoint,
            1 / self._rest,
            precision,
            misfit,
            precondition=self._beside_waves(covariance, parts, joined),
            tolerance=accuracy,
            max_steps=max_steps,
        )
        x, r = parts(found)
        return x, root * r, error

    def _beside_waves(
        self,
        covariance: CosineCovariance | LocalCovariance,
        parts: Callable[[Tensor], tuple[Tensor, Tensor]],
        joined: Callable[[Tensor, Tensor], Tensor],
    ) -> Callable[[Tensor], Tensor]:
        """Return about the inverse of the system: what it were if the domain were all image, and measured."""
        modes, like = self._modes, self._share
        even, scale = covariance, torch.ones((), dtype=like.dtype, device=like.device)
        if isinstance(covariance, LocalCovariance):
            even, scale = covariance.even, covariance.scale.to(like)
        assert isinstance(even, CosineCovariance)
        typical = scale.log().mean((-2, -1), keepdim=True).exp() if scale.ndim else scale
        told, seen = modes.gain.abs().square() / self._rest, (1 - like) * typical
        alone = 1 / on_torus(even.power.to(like), (modes.shape[-2], modes.shape[-1])) + told * seen.square()
        spare, both = 1 + told * self._spare, told * seen * self._spare.sqrt()
        inverse = 1 / (alone * spare - both.square())
        alone, spare, both = inverse * alone, inverse * spare, inverse * both
        colours = even.colours.to(modes.gain)

        def precondition(v: Tensor) -> Tensor:
            x, r = parts(v)
            a = modes.coordinates(modes.placed(scale * even.turned_back(x)))
            b = turned(r, colours.T)
            picture = modes.taken(modes.domain(spare * a - both * b))
            return joined(even.turned(scale * picture), turned(alone * b - both * a, colours))

        return precondition
