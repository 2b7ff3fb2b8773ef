"""Animations: what their frames show, read back by Pillow and by ffmpeg."""

from __future__ import annotations

import io
import subprocess
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

import daps_kit
from daps_kit.errors import RecipeError, UserError
from daps_kit.report import animation
from daps_kit.report.animation import CELL, GAP, HEAD, LAST, LEVEL, animate, encode, frames
from daps_kit.report.reading import result_in

SIGMA = [5.0, 1.0, 0.1]


def way(value: float) -> torch.Tensor:
    """Return three levels of a flat image, brighter at each."""
    return torch.stack([torch.full((1, 8, 8), value + 0.2 * level) for level in range(3)])


def shades(frame: Image.Image, count: int) -> list[float]:
    """Return the mean grey of each cell of a frame, in units of images."""
    grey = np.asarray(frame.convert("L")).astype(float) / 127.5 - 1
    left = [GAP + place * (CELL + GAP) for place in range(count)]
    return [float(grey[HEAD + 20 : HEAD + CELL - 20, x + 20 : x + CELL - 20].mean()) for x in left]


def test_frames_show_the_mean_and_samples() -> None:
    made = frames([way(-0.5), way(0.1)], SIGMA)
    assert len(made) == 3
    assert len({frame.size for frame in made}) == 1
    assert all(side % 2 == 0 for side in made[0].size)
    for level, frame in enumerate(made):
        wanted = [-0.2 + 0.2 * level, -0.5 + 0.2 * level, 0.1 + 0.2 * level]
        assert shades(frame, 3) == pytest.approx(wanted, abs=0.01)


def test_of_one_sample_there_is_no_mean_and_of_many_only_some() -> None:
    assert frames([way(0.0)], SIGMA)[0].width == CELL + 2 * GAP
    assert frames([way(0.0)] * 9, SIGMA)[0].width == (1 + animation.SAMPLES) * (CELL + GAP) + GAP


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_pillow_reads_what_it_wrote(kind) -> None:
    made = frames([way(-0.5), way(0.1)], SIGMA)
    content = encode(made, kind)
    assert encode(made, kind) == content, "the same pictures are the same file"
    with Image.open(io.BytesIO(content)) as read:
        assert (read.format.lower(), read.n_frames, read.size) == (kind, 3, made[0].size)
        durations = []
        for level in range(3):
            read.seek(level)
            read.load()
            durations.append(read.info["duration"])
            assert shades(read, 3) == pytest.approx(shades(made[level], 3), abs=0.05)
    assert durations == [LEVEL, LEVEL, LAST]


def test_ffmpeg_reads_what_it_wrote(tmp_path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    made = frames([way(-0.5), way(0.1)], SIGMA)
    content = encode(made, "mp4")
    assert encode(made, "mp4") == content
    (tmp_path / "a.mp4").write_bytes(content)
    program, size = import_module("imageio_ffmpeg").get_ffmpeg_exe(), made[0].size
    command = [
        program,
        "-loglevel",
        "error",
        "-i",
        str(tmp_path / "a.mp4"),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    length = 3 * size[0] * size[1]
    read = [Image.frombytes("RGB", size, raw[at : at + length]) for at in range(0, len(raw), length)]
    assert len(read) == sum(-(-time * animation.FPS // 1000) for time in (LEVEL, LEVEL, LAST))
    assert shades(read[0], 3) == pytest.approx(shades(made[0], 3), abs=0.05)
    assert shades(read[-1], 3) == pytest.approx(shades(made[2], 3), abs=0.05)


def test_without_ffmpeg_it_is_said_before_anything_is_drawn(toy, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        animation, "find_spec", lambda name: None if name == "imageio_ffmpeg" else find_spec(name)
    )
    with pytest.raises(
        UserError, match=r"video: mp4 needs imageio-ffmpeg \(pip install 'daps-kit\[video\]'\)"
    ):
        daps_kit.run(toy(), ["trajectory=2", "video=mp4"], quiet=True)
    assert not (tmp_path / "out" / "samples").exists()


def test_a_run_writes_one_for_each_image(toy) -> None:
    path = daps_kit.run(toy(), ["trajectory=3", "video=webp"], quiet=True).path
    assert [file.parent.name for file in sorted(path.glob("samples/*/trajectory.webp"))] == [
        "ash",
        "birch",
        "cedar",
    ]
    again = daps_kit.run(toy(), ["trajectory=3", "video=gif"], quiet=True).path
    assert (again / "samples/ash/trajectory.gif").exists(), "another kind can be had later"
    assert animate(result_in(path), "birch", "webp") == (path / "samples/birch/trajectory.webp").read_bytes()


def test_it_needs_a_trajectory(toy) -> None:
    with pytest.raises(
        RecipeError, match="video shows the levels of the trajectory: give trajectory, 2 or more"
    ):
        daps_kit.run(toy(), ["video=gif"], quiet=True)
    path = daps_kit.run(toy(), quiet=True).path
    assert animate(result_in(path), "ash", "gif") is None
