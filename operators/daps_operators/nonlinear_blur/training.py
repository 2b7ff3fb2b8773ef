r"""Training of a blur network from a recipe: network and encoder learn together from pairs and their paths.

With a code k drawn from the encoder's N(mean, variance) of a pair (u, v) of path p and kernel K, the loss is

    |b(u, k) - v|  +  kernel_loss |g(k) - K|_1  +  path_loss |p(k) - p|  +  prior_loss KL(N(mean, variance) || N(0, I)),

the first term the mean over pixels, smoothed at 1/1000, the third the root mean square over moments of the nearer of
the path and its reverse, which blurs alike. The last three are also had, without pictures, from further shakes: what
their kernels would become in the quotients that the encoder sees is known.

Every draw comes from a generator seeded by (seed, purpose, step): a step depends on its number alone, and a run resumed
from a checkpoint goes on exactly as the unbroken one.

Source: reproduction loss and divergence: Tran et al., CVPR 2021, arXiv 2104.00317, section 3.
"""

from __future__ import annotations

import datetime
import io
import itertools
import json
import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from daps_kit.errors import UserError
from daps_kit.files import write_atomic
from daps_kit.trainer import Trainer, TrainingProgress

from . import weights
from .measure import table
from .network import BlurEncoder, ShakeNetwork, ShakeNetworkConfig, path_kernel
from .pairs import Pairs, Picture, draw_pairs, draw_paths, draw_shapes, load_tiles, split
from .settings import TrainBlur

FORMAT = 1
SHAPES, STEP, NOISE, VALIDATION = range(4)
FIT_STEPS = 8
SHOWN = 12


class State:
    """Network, encoder and optimiser, and how many steps they have made.

    Args:
        settings: the recipe.
        paths: of shakes, [N, 2, moments], for the start; None where a checkpoint follows.
    """

    def __init__(self, settings: TrainBlur, paths: Tensor | None) -> None:
        self.settings = settings
        config = ShakeNetworkConfig(**settings.network.model_dump())
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(settings.seed)
            self.modules = weights.build(config)
        network, encoder = self.modules["network"], self.modules["encoder"]
        assert isinstance(network, ShakeNetwork)
        assert isinstance(encoder, BlurEncoder)
        self.network, self.encoder, self.step = network, encoder, 0
        if paths is not None:
            network.start(_at_moments(paths, config.moments))
        self.parameters = {k: p for k, p in self.modules.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )

    def rate(self) -> float:
        """Return the learning rate of the next step: linear warm-up times half a cosine that ends at zero."""
        settings, seen = self.settings, self.step * self.settings.batch_size
        rise = min(1.0, (seen + settings.batch_size) / max(1, settings.warm_up))
        return (
            settings.learning_rate * rise * (1 + math.cos(math.pi * min(1.0, seen / settings.pairs_seen))) / 2
        )

    def update(self, loss: Tensor) -> bool:
        """Make one step down the gradient of a loss; one that is not finite is left out (returns False)."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip))
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

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take over a checkpoint."""
        self.modules.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        for name, parameter in self.parameters.items():
            moments = ("step", "exp_avg", "exp_avg_sq")
            self.optimiser.state[parameter] = {m: tensors[f"adam.{m}.{name}"].clone() for m in moments}
        self.step = step


class BlurTrainer(Trainer):
    """Trains a blur network as a recipe says.

    The output folder gets `checkpoint.safetensors`, `log.jsonl` with one line an epoch, `pairs-*.png` with held-out
    pictures, their blurred twins, the reproductions and the kernels, and at the end `weights.safetensors`.
    """

    def __init__(self, settings: TrainBlur) -> None:
        self.settings = settings
        self.margin = settings.network.radius
        self.checkpoint = settings.output / "checkpoint.safetensors"
        self.weights = settings.output / "weights.safetensors"
        self.log = settings.output / "log.jsonl"

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        """Train to the end, from the checkpoint in the output folder if there is one; return the file of weights.

        Raises:
            UserError: images, checkpoint or output folder cannot be used, or the loss diverged. The last checkpoint
                stays as it is.
        """
        settings = self.settings
        pool, held_out = self._tiles()
        shapes = draw_shapes(settings.shapes, self._rng(SHAPES))
        crc = 0
        for tile in pool:
            crc = zlib.crc32(tile.tobytes(), crc)
        identity = {
            "network": settings.network.model_dump(mode="json"),
            "batch_size": settings.batch_size,
            "images": f"{len(pool)} tiles, crc {crc:08x}",
        }
        state = self._resume(identity)
        if state is None:
            state = State(settings, draw_paths(shapes, len(shapes), self.margin, self._rng(SHAPES, 1)))
        pairs = self._validation(held_out)
        self._trim_log(state.step * settings.batch_size)
        self._train(state, pool, shapes, pairs, identity, progress or (lambda _: None))
        return self._export(state, pairs)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, *purpose])

    def _tiles(self) -> tuple[list[Picture], list[Picture]]:
        """Return training and held-out tiles; all tiles of a picture are on one side."""
        settings, train, held_out = self.settings, [], []
        sources = [(settings.images, settings.validation)]
        if settings.pictures is not None:
            sources.append((settings.pictures, settings.validation_pictures))
        for source, count in sources:
            found = load_tiles(source, settings.frame + 2 * self.margin)
            ours, theirs = split(len(found), count, settings.seed)
            train += list(itertools.chain.from_iterable(found[i] for i in ours))
            held_out += list(itertools.chain.from_iterable(found[i] for i in theirs))
        return train, held_out

    def _validation(self, held_out: list[Picture]) -> Pairs:
        """Return pairs of held-out tiles, all of them equally often, and of shakes of their own."""
        count, rng = self.settings.validation_pairs, self._rng(VALIDATION)
        pool = [held_out[i * len(held_out) // count % len(held_out)] for i in range(count)]
        paths = draw_paths(draw_shapes(count, rng), count, self.margin, rng)
        return draw_pairs(pool, paths, self.settings.frame, self.margin, rng)

    def _train(
        self,
        state: State,
        pool: list[Picture],
        shapes: Tensor,
        pairs: Pairs,
        identity: dict[str, Any],
        progress: Callable[[TrainingProgress], None],
    ) -> None:
        settings, first, begun = self.settings, state.step, time.monotonic()
        saved = told = begun
        losses: list[float] = []
        bad = 0
        while state.step < settings.steps:
            before, rate = state.step * settings.batch_size, state.rate()
            loss, reproduction = self._loss(state, pool, shapes)
            bad = 0 if state.update(loss) else bad + 1
            if bad == 20:
                raise UserError(
                    f"the loss was not a finite number 20 times in a row: use a smaller learning_rate; "
                    f"{self.checkpoint} is as it was"
                )
            losses.append(reproduction)
            seen, now, done = before + settings.batch_size, time.monotonic(), state.step == settings.steps
            ended = done or seen // settings.epoch > before // settings.epoch
            if ended or now - told > 1:
                told = now
                report = TrainingProgress(
                    images=seen,
                    of=settings.steps * settings.batch_size,
                    loss=sum(losses) / len(losses),
                    images_per_second=(state.step - first) * settings.batch_size / (now - begun),
                    learning_rate=rate,
                    measured=table(state.network, state.encoder, pairs) if ended else None,
                )
                if ended:
                    self._record(report, state, pairs)
                    losses = []
                progress(report)
            if done or now - saved > settings.checkpoint_seconds:
                description = identity | {"format": FORMAT, "step": state.step}
                weights.write(self.checkpoint, state.tensors(), description)
                saved = time.monotonic()

    def _loss(self, state: State, pool: list[Picture], shapes: Tensor) -> tuple[Tensor, float]:
        """Return the loss of a batch, and how far the blurred pictures are off."""
        settings, network, encoder = self.settings, state.network, state.encoder
        rng, count = self._rng(STEP, state.step), settings.batch_size
        chosen = [pool[i] for i in rng.integers(0, len(pool), count)]
        paths = draw_paths(shapes, count * (1 + settings.shakes), self.margin, rng)
        pairs = draw_pairs(chosen, paths[:count], settings.frame, self.margin, rng)
        m, frame = self.margin, settings.frame
        u, v = pairs.sharp[..., m : m + frame, m : m + frame], pairs.blurred
        kernels = path_kernel(paths, m)
        seen, responses = encoder.quotients(u, v)
        further = encoder.ideal_quotients(kernels[count:], responses.repeat(settings.shakes, 1, 1, 1))
        statistics = encoder.statistics(u, v).repeat(1 + settings.shakes, 1)
        mean, log_variance = encoder.code(torch.cat((seen, further)), statistics)
        noise = torch.Generator().manual_seed(int(self._rng(NOISE, state.step).integers(2**62)))
        code = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=noise)

        reproduction = ((network(pairs.sharp, code[:count]) - v).square() + 1e-6).sqrt().mean()
        found = network.adapter.paths(code)
        kernel = (path_kernel(found, m) - kernels).abs().sum((1, 2)).mean()
        truth = _at_moments(paths, found.shape[-1])
        distances = [(found - path).square().mean((1, 2)) for path in (truth, truth.flip(2))]
        path = (torch.minimum(*distances) + 0.01).sqrt().mean()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        loss = reproduction + settings.kernel_loss * kernel + settings.path_loss * path
        return loss + settings.prior_loss * divergence, float(reproduction.detach())

    def _resume(self, identity: dict[str, Any]) -> State | None:
        """Return the state of the checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return None
        tensors, found = weights.read(self.checkpoint)
        if found.get("format") != FORMAT or "step" not in found:
            raise UserError(f"{self.checkpoint} is no checkpoint of a blur network that this version reads")
        for what, ours in identity.items():
            if found.get(what) != ours:
                raise UserError(
                    f"{self.checkpoint} belongs to a run with other {what} ({found.get(what)}, now {ours}): change it "
                    "back in the recipe, or choose another output folder"
                )
        state = State(self.settings, None)
        state.restore(tensors, found["step"])
        return state

    def _record(self, report: TrainingProgress, state: State, pairs: Pairs) -> None:
        write_atomic(self.settings.output / f"pairs-{report.images:09d}.png", picture(state, pairs))
        line = json.dumps(vars(report))
        lines = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        write_atomic(self.log, f"{lines}{line}\n".encode())

    def _trim_log(self, seen: int) -> None:
        """Drop the lines of epochs that will be trained again."""
        if self.log.exists():
            lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
            write_atomic(self.log, "".join(x for x in lines if json.loads(x)["images"] <= seen).encode())

    def _export(self, state: State, pairs: Pairs) -> Path:
        settings = self.settings
        stored = State(settings, None)
        stored.modules.load_state_dict({k: v.float() for k, v in weights.half(state.modules).items()})
        stored.modules.requires_grad_(False)
        description = {
            "measured": {
                "pairs": len(pairs.sharp),
                "psnr": table(stored.network, stored.encoder, pairs, FIT_STEPS),
            },
            "card": settings.card.model_dump(mode="json"),
            "training": {
                "pairs_seen": state.step * settings.batch_size,
                "settings": settings.model_dump(
                    mode="json", exclude={"images", "pictures", "output", "card"}
                ),
                "torch": torch.__version__,
                "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            },
        }
        weights.save_weights(self.weights, stored.modules, description)
        return self.weights


@torch.no_grad()
def picture(state: State, pairs: Pairs) -> bytes:
    """Return a .png of sharp pictures, their blurred twins, the reproductions, and true and found kernels."""
    rows = slice(0, None, max(1, len(pairs.sharp) // SHOWN))
    sharp, v, paths = pairs.sharp[rows][:SHOWN], pairs.blurred[rows][:SHOWN], pairs.paths[rows][:SHOWN]
    m, size = state.network.margin, v.shape[-2:]
    u = sharp[..., m : m + size[0], m : m + size[1]]
    code, _ = state.encoder(u, v)
    kernels = torch.stack([path_kernel(paths, m), state.network.adapter.kernel(code)])
    kernels = kernels / kernels.amax((2, 3), keepdim=True)
    shown = [F.interpolate(k[:, None], size).expand_as(v) for k in kernels]
    lines = torch.stack([u, v, state.network(sharp, code).clamp(0, 1), *shown])  # row, column, C, H, W
    sheet = lines.permute(0, 3, 1, 4, 2).reshape(len(lines) * size[0], -1, u.shape[1])
    file = io.BytesIO()
    Image.fromarray((255 * sheet).round().byte().numpy()).save(file, "png")
    return file.getvalue()


def _at_moments(paths: Tensor, moments: int) -> Tensor:
    """Return paths at fewer or more equal moments."""
    return F.interpolate(paths, moments, mode="linear", align_corners=True)
