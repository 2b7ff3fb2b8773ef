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
DeviceMap = Annotated[
    Literal["auto", "balanced", "balanced_low_0", "sequential", "offload"] | dict[str, int | str] | None,
    Field(
        description="for a network that does not fit one device, by accelerate: offload keeps the weights in main "
        "memory and brings each module's to the device while it computes; a strategy spreads them over GPUs, main "
        "memory and disk; a map says it itself, such as {unet.conv_in: 0, unet: cpu}, with numbers of GPUs, cpu or disk"
    ),
]
MaxMemory = Annotated[
    dict[str, int | str] | None,
    Field(
        description="with a strategy, how much of a device it may use, such as {0: 10GiB, cpu: 30GiB}; all that is "
        "free where not named"
    ),
]
Calibration = Annotated[
    FilePath | None,
    Field(description="file of the denoiser's measured errors, which `daps-kit calibrate` writes"),
]
Heads = Annotated[int | None, Field(gt=0, description="attention heads, where num_head_channels is -1")]
HeadChannels = Annotated[int | None, Field(description="channels of an attention head; -1 to use num_heads")]


def require_spreadable(device_map: str | dict[str, int | str] | None, memory: object, *parts: str) -> None:
    """Refuse a map of parts that a pipeline does not have, and a limit where nothing asks for it.

    Raises:
        ValueError: the text says what.
    """
    for key in device_map if isinstance(device_map, dict) else ():
        if key.partition(".")[0] not in parts:
            raise ValueError(f"device_map: '{key}' begins with none of its networks ({', '.join(parts)})")
    if memory and (device_map == "offload" or not isinstance(device_map, str)):
        raise ValueError(
            "max_memory is for a strategy of device_map: auto, balanced, balanced_low_0, sequential"
        )


def require_own_checkpoint(model: str, checkpoint: Path | None) -> None:
    """Refuse a network of one's own without its weights.

    Raises:
        ValueError: there are none.
    """
    if model == "custom" and checkpoint is None:
        raise ValueError("model: custom needs checkpoint, the file of its weights")
