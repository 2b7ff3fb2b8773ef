"""What the pages say can be done is done: their commands, recipes and Python run, cut short, on files of the names they use."""

from __future__ import annotations

import re
import shlex
import string
import textwrap
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from daps_kit.command.main import main
from daps_kit.recipe import load_recipe, load_training

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [
    "README",
    "start",
    "restore",
    "results",
    "guide-imaging",
    "guide-samplers",
    "guide-engineering",
    "index",
    "photos",
    "report",
    "train",
    "blur64",
    "unknowns",
]
"""Pages whose commands and Python are run as they stand, but for what makes them short."""

ELSEWHERE = {
    "arena": "plugins/daps-rivals/tests/test_recipes.py",
    "deepinv": "plugins/daps-deepinv/tests/test_recipes.py",
    "guide-plugins": "tests/host/scaffold/test_write.py",
    "many-machines": "tests/test_pages.py",
    "python": "tests/test_docs.py",
    "recipes": "tests/host/runs/test_sweep.py",
    "reproduce": "tests/test_reproduce.py",
    "write-a-plugin": "tests/test_docs.py",
}
"""Pages that need packages, weights or several machines, and who tries what they say."""

CUT = {
    "run": ["runs=1", "sampler.budget=4"],
    "restore": ["--samples", "2", "--budget", "4"],
    "coverage": ["--count", "2", "--runs", "2"],
    "recipe.yaml": [
        "trainer.frame=16", "trainer.images_seen=16", "trainer.batch_size=8", "trainer.validation=1",
        "trainer.workers=1",
        "trainer.network={components: 1, channels: [8, 8], blocks: [1, 1], embedding: 8, attention: 0}",
    ],
    "train/photos": [
        "trainer.images_seen=4", "trainer.batch_size=2", "trainer.validation=1", "trainer.sizes=[16]",
        "trainer.validation_side=32", "trainer.network={widths: [8, 8, 8, 8], blocks: [1, 1, 1, 1], embedding: 8}",
    ],
    "train/blur64": [
        "trainer.frame=16", "trainer.pairs_seen=4", "trainer.batch_size=2", "trainer.validation=1",
        "trainer.validation_pairs=1", "trainer.network.radius=4",
    ],
}  # fmt: skip
"""What makes a command short, and the training of a recipe."""

BLOCK = re.compile(r"(?:<!-- (?P<file>\S+) -->\n\n)?```(?P<language>\w+)\n(?P<code>.*?)```\n", re.S)


class Block(NamedTuple):
    """A block of code of a page: its language where it has one, and the file that it is the content of."""

    language: str
    code: str
    file: str | None = None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, fenced or indented, in order."""
    text = page.read_text(encoding="utf-8")
    found = [(m.start(), Block(m["language"], m["code"], m["file"])) for m in BLOCK.finditer(text)]
    bare = re.sub(r"```.*?```", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
    for m in re.finditer(r"(?:^|\n\n)((?:    .*\n+)+)", bare):
        if m[1].strip():
            found.append((m.start(), Block("", textwrap.dedent(m[1]))))
    return [block for _, block in sorted(found, key=lambda pair: pair[0])]


def commands(block: Block) -> list[list[str]]:
    """Return the words of each `daps-kit` command of a block."""
    lines = [re.split(r"\|\||&&", line)[0] for line in block.code.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("daps-kit ")]
    return [line[1:] for line in words if block.language in ("", "sh")]


@pytest.fixture
def folder(tmp_path):
    """A folder with small files of the names that pages use."""
    here = tmp_path
    rng = np.random.default_rng(0)
    with as_file(files("daps_recipes") / "images" / "cat.png") as path:
        cat = Image.open(path).convert("RGB").resize((40, 40))
    noisy = (np.asarray(cat) + 20 * rng.standard_normal((40, 40, 3))).clip(0, 255).astype(np.uint8)
    photos = ["photo.jpg", "scratched.jpg", "blurred.jpg", "moved.jpg", "shaken.jpg", "small.jpg"]
    folders = [f"{name}/{photo}.png" for name in ("photos", "photographs") for photo in "abc"]
    for name in (*photos, "album/a.png", *folders):
        (here / name).parent.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(here / name)
    mask = np.zeros((40, 40), np.uint8)
    mask[::8] = 255
    Image.fromarray(mask).save(here / "scratches.png")
    star = np.zeros((9, 9), np.uint8)
    star[3:6, 3:6] = 255
    Image.fromarray(star).save(here / "star.png")
    np.save(here / "y.npy", rng.uniform(-1, 1, (1, 256, 256)).astype(np.float32))
    np.save(here / "psf.npy", np.ones((5, 5), np.float32))
    data = f"data: {{path: {here}/photos/*.png}}"
    recipe = f"format: 1\nextends: embedded/inpainting_box\n{data}\nruns: 2\noutput: results/mine\n"
    (here / "parts").mkdir()
    for name in ("my.yaml", "recipe.yaml", "parts/mine.yaml"):
        (here / name).write_text(recipe)
    return here


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_has_the_options_that_pages_give_it(page):
    for words in (words for block in blocks(page) for words in commands(block)):
        command: click.Command = main
        context = click.Context(main, info_name="daps-kit")
        while isinstance(command, click.Group) and words:
            found = command.get_command(context, words[0])
            assert found is not None, words
            command, words = found, words[1:]
            context = click.Context(command, parent=context, info_name=command.name)
        command.make_parser(context).parse_args(list(words))


def test_every_recipe_of_a_page_is_valid(folder, monkeypatch):
    monkeypatch.chdir(folder)
    seen = 0
    for page in PAGES:
        for block in blocks(page):
            if block.file is not None and Path(block.file).name == block.file:
                (folder / block.file).write_text(block.code)
            if not re.search("^format: 1", block.code, re.M) or block.language not in ("", "yaml"):
                continue
            if re.search(
                r"use: (deepinv|demosaic|dps|ddrm)", block.code
            ):  # plugins that need not be installed
                continue
            recipe = folder / f"{page.stem}-{seen}.yaml"
            recipe.write_text(block.code.replace("/home/me/photo.jpg", "photo.jpg"))
            (load_training if "trainer:" in block.code else load_recipe)(recipe)
            seen += 1
    assert seen >= 8


def finished_runs(folder: Path) -> dict[str, object]:
    """Leave the results that the page on reports names."""
    for name in ("deblurring", "fast", "accurate"):
        short = ["runs=2", "sampler.budget=3", f"output=results/{name}", "--quiet"]
        assert CliRunner().invoke(main, ["run", str(folder / "my.yaml"), *short]).exit_code == 0
    return {}


def blurred_pictures(folder: Path) -> dict[str, object]:
    """Return what the page on the weights of blurs calls its own."""
    from daps_operators.nonlinear_blur.operator import EMBEDDED

    pictures = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return {"path": EMBEDDED, "sharp": pictures[0], "blurred": pictures[1]}


def training_recipe(folder: Path) -> dict[str, object]:
    """Leave the recipe that the page on training shows after its command."""
    page = next(page for page in PAGES if page.stem == "train")
    (shown,) = [block.code for block in blocks(page) if block.language == "yaml"]
    (folder / "recipe.yaml").write_text(shown)
    return {}


def zarr_and_xarray(folder):
    """What the page on results uses."""
    pytest.importorskip("zarr")
    pytest.importorskip("xarray")
    return {}


PREPARED = {
    "results": zarr_and_xarray,
    "report": finished_runs,
    "blur64": blurred_pictures,
    "train": training_recipe,
}
"""What pages take for granted."""


def test_no_page_is_left_out():
    for page in PAGES:
        code = [b for b in blocks(page) if b.language in ("python", "bash") or commands(b)]
        assert bool(code) == (page.stem in RUN or page.stem in ELSEWHERE), page
    for name, file in ELSEWHERE.items():
        assert name not in RUN
        assert (ROOT / file).is_file()


def test_samplers_are_compared_on_the_same_measurements(folder):
    (page,) = [page for page in PAGES if page.stem == "guide-samplers"]
    (shown,) = [block.code for block in blocks(page) if block.file == "compare.yaml"]
    (folder / "compare.yaml").write_text(shown)
    first, second = load_recipe(folder / "compare.yaml")
    assert (first.data, first.operator, first.seed) == (second.data, second.operator, second.seed)
    assert first.sampler != second.sampler


@pytest.mark.slow
def test_the_shards_of_the_page_on_many_machines_are_joined(folder, monkeypatch):
    monkeypatch.chdir(folder)
    page = next(page for page in PAGES if page.stem == "many-machines")
    text = page.read_text(encoding="utf-8")
    (line,) = re.findall(r"^daps-kit (run .*--shard .*)$", text, re.M)
    slurm = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
    for task in ("1", "2"):
        words = shlex.split(string.Template(line).substitute(slurm, SLURM_ARRAY_TASK_ID=task))
        done = CliRunner().invoke(main, [*words, "runs=2", "sampler.budget=3", "output=results/my"])
        assert done.exit_code == 0, done.output
    (line,) = re.findall(r"^    daps-kit (merge .*)$", text, re.M)
    words = [str(found) for word in line.split() for found in (sorted(Path().glob(word)) or [word])]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert Path(words[-1], "metrics.json").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_says_is_done(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    page = next(page for page in PAGES if page.stem == name)
    scope: dict[str, object] = PREPARED[name](folder) if name in PREPARED else {}
    ran = 0
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.code)
        if block.language == "python":
            exec(compile(block.code, str(page), "exec"), scope)
            ran += 1
        for words in commands(block):
            if words[:2] == ["recipes", "copy"]:
                Path(words[-1]).unlink(missing_ok=True)
            extra = CUT.get(words[1] if words[0] == "train" else words[0], [])
            if words[-1] == "compare.yaml":  # its samplers say how many levels they have
                extra = extra[:1]
            done = CliRunner().invoke(main, [*words, *extra])
            assert done.exit_code == 0, f"{' '.join(words)}: {done.output} {done.exception!r}"
            ran += 1
    assert ran
