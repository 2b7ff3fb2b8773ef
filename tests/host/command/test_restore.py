"""`daps-kit restore`, as its users meet it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.host.command_line import call, ok
from tests.host.restore.conftest import noisy
from tests.plugin_files import write_plugin

PRIOR = ("--prior", "{use: gaussian, std: 0.4}")
FAST = (*PRIOR, "--budget", "2", "--samples", "2", "--quiet")


@pytest.fixture(autouse=True)
def photo(folder: Path) -> Path:
    noisy(0, (24, 32)).save("photo.png")
    mask = np.zeros((24, 32), np.uint8)
    mask[10:13] = 255
    Image.fromarray(mask).save("mask.png")
    return folder / "photo.png"


def opened(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_a_photograph_is_restored_and_what_happens_is_said():
    result = call("restore", "photo.png", *PRIOR, "--budget", "2", "--samples", "2")
    assert (result.exit_code, result.stdout) == (0, f"restored{os.sep}photo.png\n")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("photo.png: 32 x 24, noise 0.")
    assert lines[0].endswith("estimated")
    assert any(line.startswith("photo: level 1/") and line.endswith(" left") for line in lines)
    assert {"before-after.png", "sample-1.png", "sample-2.png", "uncertainty.png"} <= set(
        os.listdir("restored/photo")
    )


def test_the_recipe_runs_again_to_the_same_result():
    ok("restore", "photo.png", *FAST, "--motion", "5:30")
    first = Path("restored/photo/samples/photo/sample-02.safetensors").read_bytes()
    ok("run", "restored/photo.yaml", "--output", "again", "--quiet")
    assert Path("again/samples/photo/sample-02.safetensors").read_bytes() == first
    before = opened("restored/photo.png")
    assert ok("restore", "photo.png", *FAST, "--motion", "5:30") == f"restored{os.sep}photo.png\n"
    assert np.array_equal(opened("restored/photo.png"), before)


def test_a_prior_from_a_file_of_python_is_named_in_the_recipe():
    file = write_plugin(Path.cwd())
    wishes = ("--plugin", str(file), "--prior", "{use: pixels, std: 0.4}", "--recipe", "mine.yaml", "--quiet")
    assert ok("restore", "photo.png", *wishes) == "mine.yaml\n"
    assert ok("check", "--quick", "mine.yaml").startswith("mine: valid")
    assert yaml.safe_load(Path("mine.yaml").read_text())["plugins"] == [str(file)]


def test_the_recipe_instead_of_the_run():
    assert ok("restore", "photo.png", *FAST, "--mask", "mask.png", "--recipe", "mine.yaml") == "mine.yaml\n"
    assert not Path("restored").exists()
    assert ok("check", "--quick", "mine.yaml") == f"mine: valid; results go to {Path.cwd()}/restored/photo\n"
    assert yaml.safe_load(Path("mine.yaml").read_text())["operator"]["mask"] == str(
        Path("mine-mask.png").absolute()
    )
    result = call("restore", "photo.png", *FAST, "--recipe", "mine.yaml")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "error: mine.yaml is there, and is of something else; choose another name or move it away\n"
    )


def test_a_folder():
    Path("album").mkdir()
    noisy(1, (16, 16)).save("album/ash.png")
    noisy(2, (16, 24)).save("album/birch.jpg")
    Path("album/notes.txt").write_text("no picture")
    result = call("restore", "album", *PRIOR, "--budget", "2", "--samples", "1", "--output", "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [f"out{os.sep}ash.png", f"out{os.sep}birch.png"]
    assert result.stderr.startswith("album: passed over 1 file (1 .txt)\nalbum/ash.png: 16 x 16, noise ")
    levels = [line for line in result.stderr.splitlines() if ": level " in line]
    # The time that is left at a picture is that of the pictures after it, too.
    assert [line.endswith("left in all") for line in levels if line.startswith("album/ash")].count(False) == 0
    assert [line.endswith("left in all") for line in levels if line.startswith("album/birch")].count(
        True
    ) == 0
    assert opened("out/birch.png").shape == (16, 24, 3)
    assert call("check", "out/album.yaml").exit_code == 0


def test_several_photographs_and_names_that_are_numbers():
    noisy(1, (16, 16)).save("2020.png")
    Path("other").mkdir()
    noisy(2, (16, 16)).save("other/photo.png")
    told = ok("restore", "photo.png", "2020.png", "other", *FAST)
    assert told.split() == [f"restored{os.sep}{name}.png" for name in ("photo", "2020", "photo-2")]
    assert Path("restored/photos.yaml").exists()
    assert ok("restore", "2020.png", *FAST, "--output", "o") == f"o{os.sep}2020.png\n"
    assert ok("restore", "p*.png", *FAST, "--mask", "mask.png", "--recipe", "glob.yaml") == "glob.yaml\n"


@pytest.mark.parametrize(
    "options",
    [("--blur", "1.5"), ("--psf", "mask.png"), ("--upscale", "2"), ("--denoise", "auto"), ("--counts", "30"), ("--mask", "mask.png", "--denoise", "0.05")],
)  # fmt: skip
def test_every_wish(options: tuple[str, ...]):
    ok("restore", "photo.png", *FAST, *options)
    times = 2 if options[0] == "--upscale" else 1
    assert opened("restored/photo.png").shape == (24 * times, 32 * times, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no.png",), "error: no such file: no.png"),
        (("good.yaml",), "error: good.yaml is no picture; pictures are .png, "),
        ((".empty",), "error: no picture in the folder .empty"),
        (("broken.png",), "error: cannot read broken.png: "),
        (("photo.png", "--mask", "no.png"), "error: cannot read no.png: No such file or directory"),
        (("photo.png", "--psf", "bad.yaml"), "error: cannot read {folder}/bad.yaml: the suffix .yaml tells no format"),
        (("photo.png", "--psf", "no.png"), "error: no such file: {folder}/no.png"),
        (("photo.png", "--blur", "1", "--psf", "mask.png"), "error: --blur and --psf: allowed is one of --mask, --blur, "),
        (("photo.png", "--denoise", "1", "--counts", "9"), "error: --denoise and --counts: allowed is one of "),
        (("photo.png", "--recipe", "x.txt"), "error: --recipe x.txt: the name of a recipe ends in .yaml"),
        (("photo.png", "--prior", "gausian"), "error: no prior and no recipe 'gausian'; "),
        (("photo.png", "--prior", "embedded"), "error: data.image_shape: [3, 24, 32] does not fit the prior"),
    ],
)  # fmt: skip
def test_mistakes_are_a_line(arguments: tuple[str, ...], message: str):
    Path(".empty").mkdir()
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:200])
    result = call("restore", *arguments, "--quiet", *(() if "--prior" in arguments else PRIOR))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message.format(folder=Path.cwd()))
    assert not Path("restored/photo.yaml").exists()
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "--blur": ["0", "-1", "nan", "x"], "--motion": ["0.5:3", "21", "21:x", "inf:0", ":"], "--upscale": ["1", "inf"],
        "--denoise": ["0", "nan"], "--counts": ["0"], "--budget": ["1", "quick", "-3", "2.5"], "--samples": ["0"],
    }.items(),
)  # fmt: skip
def test_options_out_of_their_range(option: str, values: list[str]):
    for value in values:
        result = call("restore", "photo.png", *PRIOR, option, value)
        assert result.exit_code == 2, value
        assert f"Invalid value for '{option}'" in result.stderr, value
        assert not Path("restored").exists()
