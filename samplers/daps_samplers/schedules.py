r"""Noise schedules: how the noise level runs with time, and where grid points are placed.

A schedule describes x~(t) = s(t) (x0 + sigma(t) n) by its noise level sigma(t) and its scaling s(t):

    EDM        sigma = t                          s = 1             Karras et al., arXiv 2206.00364, eq. (5)
    VE         sigma = sqrt t                     s = 1             Song et al., arXiv 2011.13456
    VP         sigma = sqrt(e^B(t) - 1)           s = e^{-B(t)/2}   the same, B(t) = int_0^t beta
    TrigFlow   sigma = sigma_data tan t           s = cos t         Lu and Song, arXiv 2410.11081

Grids run from t_0 = t(sigma_max) to t_1 = t(sigma_min): with u from 0 to 1 in equal steps,

    EDM        t = (t_0^{1/rho} + u (t_1^{1/rho} - t_0^{1/rho}))^rho
    VE         t = t_0 (t_1 / t_0)^u
    VP, TrigFlow   t = t_0 + u (t_1 - t_0)

All functions take a number or an array and compute in double precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["EDM", "VE", "VP", "Schedule", "TrigFlow"]

Array = NDArray[np.float64]


def _array(value: ArrayLike) -> Array:
    return np.asarray(value, dtype=np.float64)


class Schedule(ABC):
    """A noise schedule: sigma(t), s(t), their derivatives, the inverse t(sigma), and a grid."""

    @abstractmethod
    def sigma(self, t: ArrayLike) -> Array:
        """Return the noise level sigma(t)."""

    @abstractmethod
    def time(self, sigma: ArrayLike) -> Array:
        """Return t(sigma), the inverse of sigma(t)."""

    @abstractmethod
    def sigma_derivative(self, t: ArrayLike) -> Array:
        """Return d sigma / dt."""

    def scaling(self, t: ArrayLike) -> Array:
        """Return s(t)."""
        return np.ones_like(_array(t))

    def scaling_derivative(self, t: ArrayLike) -> Array:
        """Return ds / dt."""
        return np.zeros_like(_array(t))

    def times(self, sigma_max: float, sigma_min: float, points: int) -> Array:
        """Return a grid of decreasing times, [points], from t(sigma_max) to t(sigma_min).

        Raises:
            ValueError: not sigma_max >= sigma_min > 0, or no points.
        """
        if not sigma_max >= sigma_min > 0:
            raise ValueError(f"need sigma_max >= sigma_min > 0, got {sigma_max} and {sigma_min}")
        if points < 1:
            raise ValueError(f"need at least one grid point, got {points}")
        start, stop = float(self.time(sigma_max)), float(self.time(sigma_min))
        return self._grid(start, stop, np.linspace(0.0, 1.0, points))

    def sigmas(self, sigma_max: float, sigma_min: float, points: int) -> Array:
        """Return the noise levels of the grid, [points], the first and the last exactly as given."""
        sigmas = self.sigma(self.times(sigma_max, sigma_min, points))
        if points > 1:
            sigmas[-1] = sigma_min
        sigmas[0] = sigma_max
        return sigmas

    def _grid(self, start: float, stop: float, u: Array) -> Array:
        return start + u * (stop - start)


class EDM(Schedule):
    """sigma = t, unscaled.

    Args:
        rho: exponent of the grid; larger places more points at small sigma. The literature uses 7.
    """

    def __init__(self, rho: float = 7.0) -> None:
        self.rho = rho

    def sigma(self, t: ArrayLike) -> Array:
        """Return t."""
        return _array(t).copy()

    def time(self, sigma: ArrayLike) -> Array:
        """Return sigma."""
        return _array(sigma).copy()

    def sigma_derivative(self, t: ArrayLike) -> Array:
        """Return 1."""
        return np.ones_like(_array(t))

    def _grid(self, start: float, stop: float, u: Array) -> Array:
        a, b = start ** (1 / self.rho), stop ** (1 / self.rho)
        grid: Array = (a + u * (b - a)) ** self.rho
        return grid


class VE(Schedule):
    """sigma = sqrt t, unscaled (variance exploding)."""

    def sigma(self, t: ArrayLike) -> Array:
        """Return sqrt t."""
        return np.sqrt(_array(t))

    def time(self, sigma: ArrayLike) -> Array:
        """Return sigma^2."""
        return np.square(_array(sigma))

    def sigma_derivative(self, t: ArrayLike) -> Array:
        """Return 1 / (2 sqrt t)."""
        return _array(0.5 / np.sqrt(_array(t)))

    def _grid(self, start: float, stop: float, u: Array) -> Array:
        return _array(start * (stop / start) ** u)


class VP(Schedule):
    """Variance preserving: s^2 (1 + sigma^2) = 1 at all times. Times beyond 1 continue beta(t) as it is.

    Args:
        beta_min: beta(0), positive.
        beta_max: beta(1), above beta_min.
        beta: 'linear', beta(t) = beta_min + (beta_max - beta_min) t, or 'scaled_linear', whose root is linear.
    """

    def __init__(
        self,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
        beta: Literal["linear", "scaled_linear"] = "linear",
    ) -> None:
        if not beta_max > beta_min > 0:
            raise ValueError(f"need beta_max > beta_min > 0, got {beta_max} and {beta_min}")
        power = 1 if beta == "linear" else 2
        self._power = power
        self._offset = beta_min ** (1 / power)
        self._slope = beta_max ** (1 / power) - self._offset

    def beta(self, t: ArrayLike) -> Array:
        """Return beta(t) = (offset + slope t)^power."""
        return _array((self._offset + self._slope * _array(t)) ** self._power)

    def beta_integrated(self, t: ArrayLike) -> Array:
        """Return B(t), the integral of beta from 0 to t."""
        t, a, b = _array(t), self._slope, self._offset
        if self._power == 1:
            return _array(t * (b + a * t / 2))
        return _array(t * (b * b + a * b * t + a * a * t * t / 3))

    def alpha(self, t: ArrayLike) -> Array:
        """Return s(t)^2 = e^{-B(t)}."""
        return np.exp(-self.beta_integrated(t))

    def sigma(self, t: ArrayLike) -> Array:
        """Return sqrt(e^B - 1)."""
        return np.sqrt(np.expm1(self.beta_integrated(t)))

    def time(self, sigma: ArrayLike) -> Array:
        """Return t(sigma), from B = log(1 + sigma^2) in closed form."""
        integral: Any = np.log1p(np.square(_array(sigma)))
        a, b = self._slope, self._offset
        if self._power == 1:
            return _array(2 * integral / (b + np.sqrt(b * b + 2 * a * integral)))
        # (b + a t)^3 = b^3 + 3 a B, solved for t without cancellation at small B.
        root = np.cbrt(b**3 + 3 * a * integral)
        return _array(3 * integral / (root * root + root * b + b * b))

    def sigma_derivative(self, t: ArrayLike) -> Array:
        """Return beta e^B / (2 sigma)."""
        return _array(self.beta(t) * np.exp(self.beta_integrated(t)) / (2 * self.sigma(t)))

    def scaling(self, t: ArrayLike) -> Array:
        """Return e^{-B/2}."""
        return np.exp(-self.beta_integrated(t) / 2)

    def scaling_derivative(self, t: ArrayLike) -> Array:
        """Return -beta s / 2."""
        return _array(-self.beta(t) * self.scaling(t) / 2)


class TrigFlow(Schedule):
    """sigma = sigma_data tan t, s = cos t, for t in (0, pi/2).

    Args:
        sigma_data: standard deviation of the data the schedule is scaled to.
    """

    def __init__(self, sigma_data: float = 1.0) -> None:
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.sigma_data = sigma_data

    def sigma(self, t: ArrayLike) -> Array:
        """Return sigma_data tan t."""
        return _array(self.sigma_data * np.tan(_array(t)))

    def time(self, sigma: ArrayLike) -> Array:
        """Return arctan(sigma / sigma_data)."""
        return np.arctan(_array(sigma) / self.sigma_data)

    def sigma_derivative(self, t: ArrayLike) -> Array:
        """Return sigma_data / cos^2 t."""
        return _array(self.sigma_data / np.square(np.cos(_array(t))))

    def scaling(self, t: ArrayLike) -> Array:
        """Return cos t."""
        return np.cos(_array(t))

    def scaling_derivative(self, t: ArrayLike) -> Array:
        """Return -sin t."""
        return -np.sin(_array(t))
