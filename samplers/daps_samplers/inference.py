r"""Draws of an operator's unknown parameters theta, within the annealing.

At a level, x0 and theta are drawn together from p(x0, theta | x_t, y): theta first, the image left out, then x0 given
theta, which the kernel does,

    theta ~ p(theta | x_t, y), proportional to p(theta) p(y | x_t, theta)        (`evidence`)
    x0    ~ p(x0 | x_t, y, theta).

Given an image that was drawn for another theta, theta would hardly move, since that image explains y with the old one.
It is what a partially collapsed Gibbs sampler does, and every level's theta is a draw of p(theta | y) where x_t is one
of p(x_t | y).

Each parameter moves by its prior's distribution function u, in which the prior is flat on (0, 1), by slice sampling
from all of (0, 1): no width is to be chosen, and far modes are seen. (0, 1) is closed to a circle, on which an angle
passes the end of its prior. Parameters take turns there and back. A narrow mode is hardly ever left so: at the first
level, where x_t says nothing yet, the operator's own numbers are drawn from boxes of (0, 1)^P (`boxes`), sigma left out
where it is unknown, too (of those of channels the estimates stand for them), and several modes are begun from by their
weights.

Where a rougher evidence is cheaper, it finds the start, from which parameters move by the evidence itself: at the first
level the most likely of many draws from the prior is swept by the rough one, some times, and the most likely of the
ends is taken. An angle and its mirror image, which a power spectrum hardly tells apart, are both tried there; at each
level the mirror image is a proposal, which is accepted with the ratio of their evidences. Sigma is proposed by the
rough evidence q, of which a whole grid is cheap, and accepted with

    min(1, p(y | x_t, new) q(y | x_t, old) / (p(y | x_t, old) q(y | x_t, new))).

Where the evidence is not known, as for operators that are not linear, theta is drawn given the level's x0, from
p(theta) p(y | x0, theta), which moves it less; then x0 anew, and so on, where that is cheap.

Sources: van Dyk and Park, "Partially collapsed Gibbs samplers", JASA 103 (2008), and Murata et al., "GibbsDDRM", ICML
2023, arXiv 2301.12686, for theta within a diffusion sampler; Neal, "Slice sampling", Annals of Statistics 31 (2003);
Christen and Fox, "Markov chain Monte Carlo using an approximation", J. Comput. Graph. Stat. 14 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import ceil, inf

import torch
from torch import Tensor

from daps_kit.contracts import Covariance, Operator, RandomStreams, Target
from daps_kit.noise_level import noise_level
from daps_kit.parameters import NOISE, Parameters
from daps_kit.unknown import Distribution, Uniform

from .boxes import box_draw
from .evidence import Evidence, known
from .imputed import Imputed, masks

__all__ = ["Inference", "slice_step"]

SIGMA = f"{NOISE}sigma."
"""What the names of the sigma of channels begin with; that of one for all is `noise.sigma`."""

TRIES = 40
"""Points that a slice is searched by, at most."""

SMALLEST = 1e-9
"""The least u, and the least distance from 1."""

FIRST, LATER = 4, 1
"""Sweeps at the first level, where nothing is known, and at each that follows."""

AGAIN = 4
"""By how much fewer rounds a level after the first one has for what is hidden of an image."""

ROUNDS = 4
"""Draws of x0, and of theta given that, at a level, where draws of x0 are cheap: of each entry by itself."""

STARTS, DRAWS = 3, 40
"""Searches for a start, and draws of the prior that each looks at."""

POINTS, ZOOMS, NEGLIGIBLE = 32, 6, 14.0
"""Of a grid; how often it is made finer at most; and the fall of a log density beyond which it is not looked at."""

Log = Callable[[Tensor], Tensor]
Bounded = Callable[[Tensor, Tensor], Tensor]


class Inference:
    """The unknown parameters of a run, and how they are drawn.

    Args:
        operator: with parameters.
        y: the measurements, [B, ...].

    Attributes:
        u: the priors' distribution functions at the values, [B, P].
        operator: the operator at the values.
        collapsed: whether parameters are drawn with the image left out.
    """

    def __init__(self, operator: Operator, y: Tensor) -> None:
        assert operator.parameters is not None
        self.parameters: Parameters = operator.parameters
        self.u = torch.full((len(y), len(self.parameters.names)), 0.5, dtype=torch.float64)
        self._sigmas = [i for i, name in enumerate(self.parameters.names) if f"{name}.".startswith(SIGMA)]
        self._sigmas_alone = len(self._sigmas) == len(self.parameters.names)
        self._begin(y)
        self.operator = self.parameters.at(self.values)
        self.collapsed = all(map(known, self.parameters.operators(self.values)))
        self._sweeps = FIRST
        self._drawn_at = inf

    @property
    def values(self) -> Tensor:
        """The values, [B, P]."""
        return self.parameters.values(self.u)

    @property
    def rounds(self) -> int:
        """How often a level draws its image, and the parameters given that."""
        return ROUNDS if self.operator.elementwise and not self.collapsed else 1

    def _begin(self, y: Tensor) -> None:
        """Start the standard deviations of Gaussian noise from what the measurement, or its channel, looks like."""
        if y.ndim != 4:
            return
        for place in self._sigmas:
            name, prior = self.parameters.names[place], self.parameters.priors[place]
            channel = name.removeprefix(SIGMA)
            seen = y[:, [int(channel)]] if channel.isdigit() else y
            for b, image in enumerate(seen.detach().cpu().numpy()):
                if found := noise_level(image):
                    self.u[b, place] = min(max(prior.cdf(found), 0.01), 0.99)

    def before(self, target: Target, streams: RandomStreams, mean: Covariance | None = None) -> Target:
        """Draw the parameters, the image left out, where that is possible; return the target at them.

        Args:
            target: of the level; its operator is not used.
            streams: of the samples.
            mean: C as it is on average over images. What is guessed of each place is right on average, too, and yet
                misfits that it does not expect would be taken for noise; None where C is no guess.
        """
        if self.collapsed and self._due(target):
            evidence = Evidence(self.parameters, target if mean is None else target.with_covariance(mean))
            self.collapsed = evidence.known
            if self.collapsed:
                self._take(self._drawn(evidence, streams))
        return target.at(self.operator, self.operator.noise.dispersion)

    def _drawn(self, evidence: Evidence, streams: RandomStreams) -> Tensor:
        """Return u [B, P], drawn given all but the image."""
        log = self._of_u(evidence.log)
        if evidence.rough:
            u = self._beside(evidence, streams)
        elif self._sigmas_alone and not (evidence.dense or evidence.apart) and masks(evidence.target):
            u = self._imputed(evidence, streams)
        else:
            begin = self._sweeps == FIRST and not self._sigmas_alone
            u = self._swept(log, self._boxed(evidence, streams) if begin else self.u, streams, evidence)
        for mirrored in self._mirrored(u):
            u = _accepted(u, mirrored, log, streams)
        return u

    def _of_u(self, function: Log) -> Log:
        """Return a function of the values as one of u."""
        return lambda u: function(self.parameters.values(u))

    def _beside(self, evidence: Evidence, streams: RandomStreams) -> Tensor:
        """Return u [B, P] drawn by an evidence whose rough one tells where to begin, and proposes sigma."""
        log, rough = self._of_u(evidence.log), self._of_u(evidence.rough_log)

        def bounded(u: Tensor, least: Tensor) -> Tensor:
            return evidence.log(self.parameters.values(u), least)

        begin = self._sweeps == FIRST and not self._sigmas_alone
        u = self._searched(bounded, rough, streams, evidence) if begin else self.u
        for place in range(u.shape[1]):
            if place not in self._sigmas:
                u = slice_step(log, u, place, streams, bounded)
                continue
            drawn = self._sigma_drawn(evidence, u, place, streams)
            if not (evidence.average and self._sigmas_alone):
                drawn = _accepted(u, drawn, lambda u: log(u) - rough(u), streams)
            u = drawn
        return u

    def _imputed(self, evidence: Evidence, streams: RandomStreams) -> Tensor:
        """Return u [B, 1] of sigma after rounds in which what is hidden of the image is drawn, too."""
        prior, begin, self._sweeps = self.parameters.priors[0], self._sweeps == FIRST, LATER
        u = self._sigma_drawn(evidence, self.u, 0, streams) if begin else self.u.clone()
        for b in range(len(u)):
            if not self._told(evidence, prior.quantile(float(self.u[b, 0]))):
                continue
            imputed, own = Imputed(evidence.target, b), streams.of(b)

            def draw(log: Log, own: RandomStreams = own) -> float:
                def of_u(grid: Tensor) -> Tensor:
                    return log(quantiles(prior, grid).square()).cpu()

                return prior.quantile(grid_draw(of_u, float(own.uniform((), torch.float64)))) ** 2

            variance = prior.quantile(float(u[b, 0])) ** 2
            for _ in range(imputed.rounds if begin else ceil(imputed.rounds / AGAIN)):
                variance = imputed.round(variance, draw, own)
            u[b, 0] = prior.cdf(math.sqrt(variance))
        return u

    def _searched(self, bounded: Bounded, rough: Log, streams: RandomStreams, evidence: Evidence) -> Tensor:
        """Return the most likely u [B, P] of the ends of rough sweeps and their mirror images.

        Each sweep begins at the roughly most likely of some draws from the prior.
        """
        found, most = self.u, torch.full((len(self.u),), -inf, dtype=torch.float64)
        for _ in range(STARTS):
            u = self.u
            for tried in streams.uniform((DRAWS, u.shape[1]), torch.float64).cpu().unbind(1):
                tried = tried.clamp(SMALLEST, 1 - SMALLEST)
                tried[:, self._sigmas] = self.u[:, self._sigmas]
                u = torch.where((rough(tried) > rough(u))[:, None], tried, u)
            u = self._swept(rough, u, streams, evidence)
            for tried in (u, *self._mirrored(u)):
                told = bounded(tried, most)
                found = torch.where((told > most)[:, None], tried, found)
                most = torch.maximum(told, most)
        return found

    def _boxed(self, evidence: Evidence, streams: RandomStreams) -> Tensor:
        """Return u [B, P] that is drawn from about the evidence, sigma left out where it is unknown, too."""
        u, own = self.u.clone(), [place for place in range(self.u.shape[1]) if place not in self._sigmas]
        for b, draws in enumerate(streams.uniform((len(own) + 1,), torch.float64).tolist()):
            row = u[b].clone()

            def log(point: Sequence[float], b: int = b, row: Tensor = row) -> float:
                row[own] = torch.tensor(point, dtype=torch.float64)
                values = self.parameters.values(row[None])[0].tolist()
                if evidence.apart or not self._sigmas:
                    return evidence.one(b, values)
                return grid_mass(self._of_sigma(evidence, b, values, self._sigmas[0]))

            u[b, own] = torch.tensor(box_draw(log, draws), dtype=torch.float64)
        self._sweeps = LATER
        return u

    def _mirrored(self, u: Tensor) -> list[Tensor]:
        """Return u [B, P] with an angle turned to the other side of 0, for each whose prior has both sides alike."""
        found = []
        for place, (name, prior) in enumerate(
            zip(self.parameters.names, self.parameters.priors, strict=True)
        ):
            period = self.parameters.periods.get(name)
            if period and isinstance(prior, Uniform) and (prior.low + prior.high) % period == 0:
                mirrored = u.clone()
                mirrored[:, place] = 1 - u[:, place]
                found.append(mirrored)
        return found

    def _due(self, target: Target) -> bool:
        """Return whether to draw at a level: the noise alone once an octave, where it is drawn from all it can be."""
        if not self._sigmas_alone or target.level + 1 == target.levels or 2 * target.sigma <= self._drawn_at:
            self._drawn_at = target.sigma
            return True
        return False

    def after(self, target: Target, x0: Tensor, streams: RandomStreams) -> tuple[Target, Tensor]:
        """Draw the parameters given the level's x0 [B, ...], where they were not drawn before.

        Returns:
            The target at them, and x0.
        """
        if self.collapsed:
            return target, x0

        def log(u: Tensor) -> Tensor:
            operator = self.parameters.at(self.parameters.values(u))
            return operator.log_likelihood(x0, target.y).double().cpu().nan_to_num(-torch.inf)

        self._take(self._swept(log, self.u, streams))
        return target.at(self.operator, self.operator.noise.dispersion), x0

    def _swept(self, log: Log, u: Tensor, streams: RandomStreams, evidence: Evidence | None = None) -> Tensor:
        count = u.shape[1]
        order = [*range(count), *reversed(range(count))] if count > 1 else [0]
        once = evidence is not None and (self._sigmas_alone or evidence.rough)
        for _ in range(1 if once else self._sweeps):
            for place in order:
                if evidence is not None and place in self._sigmas:
                    u = self._sigma_drawn(evidence, u, place, streams)
                else:
                    u = slice_step(log, u, place, streams)
        self._sweeps = LATER
        return u

    def _sigma_drawn(self, evidence: Evidence, u: Tensor, place: int, streams: RandomStreams) -> Tensor:
        """Return u [B, P] with a sigma of the noise drawn from its conditional density, of the rough evidence."""
        rows, drawn = self.parameters.values(u).tolist(), u.clone()
        for b, (row, at) in enumerate(zip(rows, streams.uniform((), torch.float64).tolist(), strict=True)):
            if self._told(evidence, row[place]):
                drawn[b, place] = grid_draw(self._of_sigma(evidence, b, row, place), at)
        return drawn

    def _told(self, evidence: Evidence, sigma: float) -> bool:
        """Return whether a level tells of a sigma.

        Below the noise, the misfit is that of an image which has followed y already; C, a mean, no longer tells.
        """
        return not evidence.average or evidence.target.sigma >= sigma

    def _of_sigma(self, evidence: Evidence, sample: int, values: Sequence[float], place: int) -> Log:
        """Return the rough evidence of a sample as a function of u [G] of a sigma, the other values [P] as they are."""
        prior = self.parameters.priors[place]

        def log(grid: Tensor) -> Tensor:
            return evidence.along_sigma(sample, values, place, quantiles(prior, grid))

        return log

    def _take(self, u: Tensor) -> None:
        self.u = u
        self.operator = self.parameters.at(self.values)


def quantiles(prior: Distribution, u: Tensor) -> Tensor:
    """Return the quantiles of a prior at u, [G], in double precision."""
    return torch.tensor([prior.quantile(p) for p in u.tolist()], dtype=torch.float64)


def _accepted(u: Tensor, proposal: Tensor, log: Log, streams: RandomStreams) -> Tensor:
    """Return a proposal [B, P] where it is accepted, and else u.

    Args:
        u: [B, P].
        proposal: [B, P].
        log: of the ratio of the density to that of the proposal, up to a constant, [B].
        streams: of the samples.
    """
    accepted = streams.uniform((), torch.float64).cpu().log() < log(proposal) - log(u)
    return torch.where(accepted[:, None], proposal, u)


def _gridded(log: Log) -> tuple[float, float, Tensor]:
    """Return a log density on the cells of a grid where it is not negligible: where they begin, their width, it [G].

    Args:
        log: log density of u [G], [G], with one mode that a grid of `POINTS` does not miss.
    """
    low, high = 0.0, 1.0
    for _ in range(ZOOMS):
        begin, cell = low, (high - low) / POINTS
        u = begin + cell * (torch.arange(POINTS, dtype=torch.float64) + 0.5)
        logs = log(u)
        told = (logs > logs.max() - NEGLIGIBLE).nonzero().flatten()
        if len(told) > POINTS // 2:
            break
        low, high = max(low, float(u[told[0]]) - cell), min(high, float(u[told[-1]]) + cell)
    return begin, cell, logs


def grid_mass(log: Log) -> float:
    """Return the logarithm of the integral of a density, see `_gridded`, over (0, 1)."""
    _, cell, logs = _gridded(log)
    return float(logs.logsumexp(0)) + math.log(cell)


def grid_draw(log: Log, share: float) -> float:
    """Return where the distribution function of a density on (0, 1), see `_gridded`, is `share`, in [0, 1)."""
    low, cell, logs = _gridded(log)
    density = (logs - logs.max()).exp()
    mass = torch.cat([density.new_zeros(1), density]).cumsum(0)
    goal = share * float(mass[-1])
    place = min(int(torch.searchsorted(mass, goal, right=True)) - 1, POINTS - 1)
    inside = (goal - float(mass[place])) / float(density[place])
    return low + cell * (place + inside)


def slice_step(
    log: Log,
    u: Tensor,
    place: int,
    streams: RandomStreams,
    bounded: Bounded | None = None,
) -> Tensor:
    """Return u [B, P] with one coordinate moved by slice sampling on the circle (0, 1), shrunk to where it was.

    Args:
        log: log density of u, [B].
        u: [B, P].
        place: of the coordinate.
        streams: of the samples; each draws as many numbers whatever happens.
        bounded: the same as log, but need not be right where it is below a bound [B] that is given, too.
    """
    draws = streams.uniform((TRIES + 2,), torch.float64).cpu()
    height = log(u) + draws[:, 0].clamp_min(1e-300).log()
    at = u[:, place].clone()
    low, high = at - draws[:, 1], at - draws[:, 1] + 1
    found = at.clone()
    going = torch.ones(len(u), dtype=torch.bool)
    for draw in draws[:, 2:].T:
        tried = low + draw * (high - low)
        proposal = u.clone()
        wrapped = (tried % 1.0).clamp(SMALLEST, 1 - SMALLEST)
        proposal[:, place] = torch.where(going, wrapped, found)
        inside = (bounded(proposal, height) if bounded else log(proposal)) >= height
        found = torch.where(going & inside, wrapped, found)
        going = going & ~inside
        if not bool(going.any()):
            break
        low = torch.where(going & (tried < at), tried, low)
        high = torch.where(going & (tried >= at), tried, high)
    moved = u.clone()
    moved[:, place] = found
    return moved
