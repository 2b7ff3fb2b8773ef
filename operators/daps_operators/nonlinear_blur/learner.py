r"""How a blur network learns: network and encoder together, from pairs of pictures and the paths that blurred them.

With a code k drawn from the encoder's N(mean, variance) of a pair (u, v) of path p and kernel K, the loss is

    |b(u, k) - v|  +  w_K |g(k) - K|_1  +  w_p |p(k) - p|  +  w_N KL(N(mean, variance) || N(0, I)),

the first term the mean over pixels, smoothed at 1/1000, the third the root mean square over moments of the nearer of
the path and its reverse, which blurs alike. The last three are also had, without pictures, from further shakes: what
their kernels would become in the quotients that the encoder sees is known.

Every draw comes from a generator seeded by (seed, purpose, step): a step depends on its number alone, and a training
resumed from a checkpoint goes on exactly as the unbroken one.

Source: reproduction loss and divergence: Tran et al., CVPR 2021, arXiv 2104.00317, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daps_kit.files import write_atomic
from daps_kit.trainer import TrainingProgress
from daps_kit.training import Learner, TrainingFolder

from . import weights
from .measure import sheet, table
from .network import BlurEncoder, ShakeNetwork, ShakeNetworkConfig, path_kernel
from .pairs import Pairs, Pixels, draw_pairs, draw_paths

__all__ = ["BlurLearner", "BlurOptimisation", "LossWeights", "Shakes", "State", "random"]

SHAPES, STEP, NOISE, VALIDATION = range(4)
"""What random numbers are for."""


def random(seed: int, *purpose: int) -> np.random.Generator:
    """Return a generator that depends on the seed and on what it is for."""
    return np.random.default_rng([seed, *purpose])


@dataclass(frozen=True)
class BlurOptimisation:
    """How the weights are moved.

    Attributes:
        pairs_seen: to train on in all.
        batch_size: pairs a step.
        learning_rate: its peak.
        warm_up: pairs over which it rises.
        weight_decay: decoupled, of AdamW.
        clip: largest norm of the gradient.
        seed: of the initial weights.
    """

    pairs_seen: int
    batch_size: int
    learning_rate: float
    warm_up: int
    weight_decay: float
    clip: float
    seed: int

    def rate(self, seen: int) -> float:
        """Return the rate after so many pairs: linear warm-up times half a cosine that ends at zero."""
        rise = min(1.0, (seen + self.batch_size) / max(1, self.warm_up))
        return self.learning_rate * rise * (1 + math.cos(math.pi * min(1.0, seen / self.pairs_seen))) / 2


@dataclass(frozen=True)
class LossWeights:
    """The weights w_K, w_p and w_N of the loss."""

    kernel: float
    path: float
    prior: float


@dataclass(frozen=True)
class Shakes:
    """The examples of every step.

    Attributes:
        pool: tiles of pictures, [H, W, 3].
        shapes: of shakes, [N, 2, moments].
        further: shakes for each pair that come without pictures.
        frame: side of the blurred pictures, pixels.
        margin: around it.
        seed: of all that is drawn.
    """

    pool: Sequence[Pixels]
    shapes: Tensor
    further: int
    frame: int
    margin: int
    seed: int

    def draw(self, step: int, count: int) -> tuple[Pairs, Tensor]:
        """Return the pairs of a step, and the paths of all its shakes: those of the pairs, then the further ones."""
        rng = random(self.seed, STEP, step)
        chosen = [self.pool[i] for i in rng.integers(0, len(self.pool), count)]
        paths = draw_paths(self.shapes, count * (1 + self.further), self.margin, rng)
        return draw_pairs(chosen, paths[:count], self.frame, self.margin, rng), paths


class State:
    """Network, encoder and optimiser, and how many steps they have made.

    Args:
        config: sizes of the networks.
        optimisation: how they are moved.
        paths: of shakes, [N, 2, moments], for the start; None where a checkpoint follows.
    """

    def __init__(
        self, config: ShakeNetworkConfig, optimisation: BlurOptimisation, paths: Tensor | None
    ) -> None:
        self.optimisation = optimisation
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(optimisation.seed)
            self.modules = weights.blank(config)
        network, encoder = self.modules["network"], self.modules["encoder"]
        assert isinstance(network, ShakeNetwork)
        assert isinstance(encoder, BlurEncoder)
        self.network, self.encoder, self.step = network, encoder, 0
        if paths is not None:
            network.start(_at_moments(paths, config.moments))
        self.parameters = {k: p for k, p in self.modules.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), weight_decay=optimisation.weight_decay, betas=(0.9, 0.99)
        )

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return self.optimisation.rate(self.step * self.optimisation.batch_size)

    def update(self, loss: Tensor) -> bool:
        """Make one step down the gradient of a loss; one that is not finite is left out (returns False)."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.optimisation.clip))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        if math.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        return math.isfinite(norm)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything a checkpoint holds."""
        found = {f"model.{name}": tensor for name, tensor in self.modules.state_dict().items()}
        for name, parameter in self.parameters.items():
            for moment, value in self.optimiser.state[parameter].items():
                found[f"adam.{moment}.{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take over a checkpoint."""
        self.modules.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        for name, parameter in self.parameters.items():
            moments = ("step", "exp_avg", "exp_avg_sq")
            self.optimiser.state[parameter] = {m: tensors[f"adam.{m}.{name}"].clone() for m in moments}
        self.step = step


class BlurLearner(Learner):
    """A blur network in training.

    Args:
        state: of network and encoder.
        shakes: where the examples come from.
        loss_weights: of the loss.
        pairs: held out, to measure with.
    """

    def __init__(self, state: State, shakes: Shakes, loss_weights: LossWeights, pairs: Pairs) -> None:
        self.state, self.shakes, self.loss_weights, self.pairs = state, shakes, loss_weights, pairs

    @property
    def step(self) -> int:  # type: ignore[override]
        """How many steps it has made."""
        return self.state.step

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return self.state.rate()

    def advance(self) -> float:
        """Make the next step; return how far its blurred pictures are off (see `Learner`)."""
        loss, reproduction = self._loss()
        return reproduction if self.state.update(loss) else math.nan

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds."""
        return self.state.tensors()

    def measure(self) -> dict[str, dict[str, float]]:
        """Return how well the held-out pairs are reproduced (see `measure.table`)."""
        return table(self.state.network, self.state.encoder, self.pairs)

    def record(self, report: TrainingProgress, folder: TrainingFolder) -> None:
        """Keep pictures and a line of the log."""
        picture = sheet(self.state.network, self.state.encoder, self.pairs)
        write_atomic(folder.path / f"pairs-{report.images:09d}.png", picture)
        folder.record(vars(report))

    def _loss(self) -> tuple[Tensor, float]:
        """Return the loss of a batch, and how far the blurred pictures are off."""
        state, network, encoder, weights = (
            self.state,
            self.state.network,
            self.state.encoder,
            self.loss_weights,
        )
        count = state.optimisation.batch_size
        pairs, paths = self.shakes.draw(state.step, count)
        m, frame, further = self.shakes.margin, self.shakes.frame, self.shakes.further
        u, v = pairs.sharp[..., m : m + frame, m : m + frame], pairs.blurred
        kernels = path_kernel(paths, m)
        seen, responses = encoder.quotients(u, v)
        ideal = encoder.ideal_quotients(kernels[count:], responses.repeat(further, 1, 1, 1))
        statistics = encoder.statistics(u, v).repeat(1 + further, 1)
        mean, log_variance = encoder.code(torch.cat((seen, ideal)), statistics)
        seed = int(random(self.shakes.seed, NOISE, state.step).integers(2**62))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
        code = mean + (log_variance / 2).exp() * noise

        reproduction = ((network(pairs.sharp, code[:count]) - v).square() + 1e-6).sqrt().mean()
        found = network.adapter.paths(code)
        kernel = (path_kernel(found, m) - kernels).abs().sum((1, 2)).mean()
        truth = _at_moments(paths, found.shape[-1])
        distances = [(found - path).square().mean((1, 2)) for path in (truth, truth.flip(2))]
        path = (torch.minimum(*distances) + 0.01).sqrt().mean()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        loss = reproduction + weights.kernel * kernel + weights.path * path
        return loss + weights.prior * divergence, float(reproduction.detach())


def _at_moments(paths: Tensor, moments: int) -> Tensor:
    """Return paths at fewer or more equal moments."""
    return F.interpolate(paths, moments, mode="linear", align_corners=True)
