"""Training of a blur network: its pictures, start or resume, and the finished weights."""

from __future__ import annotations

import datetime
import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from daps_kit.trainer import Trainer, TrainingProgress
from daps_kit.training import Pace, TrainingFolder, train
from daps_kit.training_images import split

from . import weights
from .learner import (
    SHAPES,
    VALIDATION,
    BlurLearner,
    BlurOptimisation,
    LossWeights,
    Shakes,
    State,
    random,
)
from .measure import table
from .network import ShakeNetworkConfig
from .pairs import Pairs, Pixels, draw_pairs, draw_paths, draw_shapes, load_tiles

FORMAT = 1
FIT_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class BlurTrainer(Trainer):
    """Trains a blur network on pictures.

    The output folder gets `checkpoint.safetensors` (and the one before it), `log.jsonl` with one line an epoch,
    `pairs-*.png` with held-out pictures, their blurred twins, the reproductions and the kernels, and at the end
    `weights.safetensors`.

    Attributes:
        output: the folder.
        sources: where the pictures are, and how many of each source are held out.
        frame: side of the blurred pictures, pixels.
        network: sizes.
        optimisation, loss_weights: how it learns.
        shakes: further shakes for each pair.
        shapes: of shakes, turned and scaled anew each time.
        validation_pairs: pairs to measure with.
        epoch: pairs between two reports.
        checkpoint_seconds: seconds between two checkpoints.
        seed: of all that is drawn.
        card, settings: written into the file of weights.
    """

    output: Path
    sources: tuple[tuple[Path, int], ...]
    frame: int
    network: ShakeNetworkConfig
    optimisation: BlurOptimisation
    loss_weights: LossWeights
    shakes: int
    shapes: int
    validation_pairs: int
    epoch: int
    checkpoint_seconds: float
    seed: int
    card: Mapping[str, str]
    settings: Mapping[str, Any]

    def run(self, progress: Callable[[TrainingProgress], None] | None = None) -> Path:
        """Train to the end, from the checkpoint in the output folder if there is one; return the file of weights.

        Raises:
            UserError: images, checkpoint or output folder cannot be used, or the loss diverged. The last checkpoint
                stays as it is.
        """
        margin, optimisation = self.network.radius, self.optimisation
        pool, held_out = self.tiles()
        shapes = draw_shapes(self.shapes, random(self.seed, SHAPES))
        crc = 0
        for tile in pool:
            crc = zlib.crc32(tile.tobytes(), crc)
        identity = {
            "network": {name: size for name, size in asdict(self.network).items() if name != "channels"},
            "batch_size": optimisation.batch_size,
            "images": f"{len(pool)} tiles, crc {crc:08x}",
        }
        folder = TrainingFolder(self.output, FORMAT, identity)
        if found := folder.resume():
            state = State(self.network, optimisation, None)
            state.restore(*found)
        else:
            paths = draw_paths(shapes, len(shapes), margin, random(self.seed, SHAPES, 1))
            state = State(self.network, optimisation, paths)
        pairs = self._validation(held_out)
        shakes = Shakes(pool, shapes, self.shakes, self.frame, margin, self.seed)
        pace = Pace(optimisation.pairs_seen, optimisation.batch_size, self.epoch, self.checkpoint_seconds)
        learner = BlurLearner(state, shakes, self.loss_weights, pairs)
        train(learner, folder, pace, progress or (lambda _: None))
        self._write(folder.weights, state, pairs)
        return folder.weights

    def tiles(self) -> tuple[list[Pixels], list[Pixels]]:
        """Return training and held-out tiles; all tiles of a picture are on one side."""
        train, held_out = [], []
        for source, count in self.sources:
            found = load_tiles(source, self.frame + 2 * self.network.radius)
            ours, theirs = split(len(found), count, self.seed)
            train += list(itertools.chain.from_iterable(found[i] for i in ours))
            held_out += list(itertools.chain.from_iterable(found[i] for i in theirs))
        return train, held_out

    def _validation(self, held_out: list[Pixels]) -> Pairs:
        """Return pairs of held-out tiles, all of them equally often, and of shakes of their own."""
        count, margin, rng = self.validation_pairs, self.network.radius, random(self.seed, VALIDATION)
        pool = [held_out[i * len(held_out) // count % len(held_out)] for i in range(count)]
        paths = draw_paths(draw_shapes(count, rng), count, margin, rng)
        return draw_pairs(pool, paths, self.frame, margin, rng)

    def _write(self, path: Path, state: State, pairs: Pairs) -> None:
        """Write the weights, with what was measured of them as they are stored."""
        stored = State(self.network, self.optimisation, None)
        stored.modules.load_state_dict({k: v.float() for k, v in weights.half(state.modules).items()})
        stored.modules.requires_grad_(False)
        description = {
            "measured": {
                "pairs": len(pairs.sharp),
                "psnr": table(stored.network, stored.encoder, pairs, FIT_STEPS),
            },
            "card": dict(self.card),
            "training": {
                "pairs_seen": state.step * self.optimisation.batch_size,
                "settings": dict(self.settings),
                "torch": torch.__version__,
                "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            },
        }
        weights.save_weights(path, stored.modules, description)
