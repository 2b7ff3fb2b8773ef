"""A row of the grid of a run, with the scores that its samples have."""

from __future__ import annotations

import torch

from daps_kit.runs.metrics import score
from daps_kit.runs.pictures import Row


def row(
    name: str = "a", *, runs: int = 2, truth: bool = True, lost: int | None = None, shape=(3, 16, 16)
) -> Row:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(shape, generator=generator) * 2 - 1
    samples = clean + 0.1 * torch.randn(runs, *shape, generator=generator)
    if lost is not None:
        samples[lost] = torch.nan
    scores = score(
        samples, clean if truth else None, lambda x: (x - clean).square().flatten(1).mean(1).sqrt()
    )
    alive = samples[[record["run"] for record in scores["samples"]]]
    mean, std = (alive.mean(0), alive.std(0)) if len(alive) > 1 else (None, None)
    return Row(
        name, clean if truth else None, clean, [(i, x) for i, x in enumerate(samples)], mean, std, scores
    )
