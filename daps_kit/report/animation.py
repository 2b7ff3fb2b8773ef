"""The way through the noise levels as an animation: the mean of the samples, and samples, as they emerge.

A frame a level, of what is drawn given x_t and the measurement (x0y of the trajectory); the last one stays a while.
WebP and GIF are written by Pillow; MP4 (H.264) by the ffmpeg that the extra `video` brings.
"""

from __future__ import annotations

import io
import math
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image, ImageDraw, ImageFont

from daps_kit.errors import UserError
from daps_kit.images import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

    from .reading import Result

__all__ = ["Format", "animate", "encode", "frames", "require"]

Format = Literal["mp4", "webp", "gif"]

CELL, GAP, HEAD = 192, 12, 34
SAMPLES = 3
"""How many samples stand beside the mean."""
LEVEL, LAST = 320, 2200
"""Milliseconds of a level, and of the last."""
FPS = 25
_INK, _PAPER = "#1d2733", "#ffffff"


def require(kind: Format) -> None:
    """See that an animation of a kind can be written.

    Raises:
        UserError: it needs something that is not installed.
    """
    if kind == "mp4" and find_spec("imageio_ffmpeg") is None:
        raise UserError(
            "video: mp4 needs imageio-ffmpeg (pip install 'daps-kit[video]'); webp and gif need nothing more"
        )


def animate(result: Result, name: str, kind: Format) -> bytes | None:
    """Return the animation of an image as the content of a file; None where no trajectory was kept."""
    ways = [way for run in range(result.runs) if (way := result.trajectory(name, run))]
    ways = [way for way in ways if bool(torch.isfinite(way["x0y"]).all())]
    return encode(frames([way["x0y"] for way in ways], ways[0]["sigma"].tolist()), kind) if ways else None


def frames(ways: Sequence[Tensor], sigma: Sequence[float]) -> list[Image.Image]:
    """Return a picture a level.

    Args:
        ways: of each sample, its images [L, C, H, W].
        sigma: the noise levels, L.
    """
    shown = [(f"sample {place}", way) for place, way in enumerate(ways[:SAMPLES], 1)]
    if len(ways) > 1:
        shown = [("mean", torch.stack(list(ways)).mean(0)), *shown]
    height, width = shown[0][1].shape[-2:]
    ratio = CELL / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    # Sizes are even, as H.264 wants them.
    whole = [side + side % 2 for side in (len(shown) * (size[0] + GAP) + GAP, HEAD + size[1] + GAP + 20)]
    found = []
    for level, s in enumerate(sigma):
        canvas = Image.new("RGB", (whole[0], whole[1]), _PAPER)
        draw = ImageDraw.Draw(canvas)
        draw.text((GAP, 9), f"sigma {s:.3g}", fill=_INK, font=ImageFont.load_default(16))
        for place, (label, way) in enumerate(shown):
            levels = to_uint8(way[level])
            picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).convert("RGB")
            x = GAP + place * (size[0] + GAP)
            canvas.paste(picture.resize(size, Image.Resampling.LANCZOS), (x, HEAD))
            draw.text(
                (x + size[0] / 2, HEAD + size[1] + 5),
                label,
                fill=_INK,
                font=ImageFont.load_default(14),
                anchor="ma",
            )
        found.append(canvas)
    return found


def encode(pictures: Sequence[Image.Image], kind: Format) -> bytes:
    """Return pictures as an animation, the content of a file that begins anew when it has ended.

    Raises:
        UserError: see `require`.
    """
    require(kind)
    if kind == "mp4":
        return _mp4(pictures)
    buffer = io.BytesIO()
    durations = [LEVEL] * (len(pictures) - 1) + [LAST]
    first, *rest = [picture.quantize(256) for picture in pictures] if kind == "gif" else pictures
    first.save(buffer, kind.upper(), save_all=True, append_images=rest, duration=durations, loop=0)
    return buffer.getvalue()


def _mp4(pictures: Sequence[Image.Image]) -> bytes:
    program = import_module("imageio_ffmpeg").get_ffmpeg_exe()
    times = [LEVEL] * (len(pictures) - 1) + [LAST]
    raw = b"".join(
        picture.tobytes() * math.ceil(time * FPS / 1000)
        for picture, time in zip(pictures, times, strict=True)
    )
    size = f"{pictures[0].width}x{pictures[0].height}"
    coming = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(FPS), "-i", "-"]
    going = ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    # One thread and no date: the same pictures give the same file.
    exact = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "way.mp4"
        command = [program, "-y", "-loglevel", "error", *coming, *going, *exact, str(path)]
        done = subprocess.run(command, input=raw, capture_output=True, check=False)
        if done.returncode:
            raise UserError(f"video: ffmpeg failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return path.read_bytes()
