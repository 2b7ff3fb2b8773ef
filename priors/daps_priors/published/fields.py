"""Settings that several published networks have. Importing this module does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from daps_kit.settings import FilePath

PublishedNetwork = Annotated[
    Literal["ffhq256", "imagenet256", "custom"],
    Field(description="which network; custom for a checkpoint of your own"),
]
Average = Annotated[
    Literal["auto", "ema", "raw"],
    Field(description="moving average of the weights, the last ones, or the average where there is one"),
]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"],
    Field(description="what the network computes in; float16 for GPUs"),
]
ChannelsLast = Annotated[bool, Field(description="memory layout of images; faster nearly everywhere")]
Compile = Annotated[
    bool, Field(description="compile the network (torch.compile): a slow start, then faster on GPUs")
]
Calibration = Annotated[
    FilePath | None,
    Field(description="file of the denoiser's measured errors, which `daps-kit calibrate` writes"),
]
Heads = Annotated[int | None, Field(gt=0, description="attention heads, where num_head_channels is -1")]
HeadChannels = Annotated[int | None, Field(description="channels of an attention head; -1 to use num_heads")]


def require_own_checkpoint(model: str, checkpoint: Path | None) -> None:
    """Refuse a network of one's own without its weights.

    Raises:
        ValueError: there are none.
    """
    if model == "custom" and checkpoint is None:
        raise ValueError("model: custom needs checkpoint, the file of its weights")
