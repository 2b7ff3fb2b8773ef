r"""Step sizes that fall with the annealing level.

At level i of N the step size is lr (1 + r (lr_min_ratio - 1)) with r = i / (N - 1), from lr down to lr lr_min_ratio.
The published implementation takes r = i / (N + 1) and so never comes to the end.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StepSize"]


@dataclass(frozen=True)
class StepSize:
    """A step size for each annealing level.

    Attributes:
        lr: at the first level, positive.
        min_ratio: what is left of it at the last level, in (0, 1].
        reach_min: whether the last level really has lr * min_ratio; false is the published rule.
    """

    lr: float
    min_ratio: float = 0.01
    reach_min: bool = True

    def __post_init__(self) -> None:
        if not self.lr > 0 or not 0 < self.min_ratio <= 1:
            raise ValueError(f"need lr > 0 and 0 < lr_min_ratio <= 1, got {self.lr} and {self.min_ratio}")

    def at(self, level: int, levels: int) -> float:
        """Return the step size at `level`, which counts from 0 to levels - 1."""
        ratio = level / max(levels - 1, 1) if self.reach_min else level / (levels + 1)
        return self.lr * (1 + ratio * (self.min_ratio - 1))
