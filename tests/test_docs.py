"""The documentation says what the code does: generated pages are current, and the tutorial's code is the plugin's."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from click import Context
from click.testing import CliRunner
from PIL import Image

from daps_kit.command.main import main
from daps_kit.recipe import load_recipe
from daps_kit.registry import default_registry
from daps_kit.settings import GaussianNoiseSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "write-a-plugin.md"
PLUGIN = ROOT / "plugins" / "daps-demosaic"
BLOCK = re.compile(r"(?:<!-- (?P<file>\S+) -->\n\n)?```(?P<language>\w+)\n(?P<code>.*?)```\n", re.S)


def load(name: str) -> ModuleType:
    """Return a program of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks() -> list[tuple[str | None, str, str]]:
    found = BLOCK.finditer(TUTORIAL.read_text(encoding="utf-8"))
    return [(match["file"], match["language"], match["code"]) for match in found]


@pytest.fixture
def demosaic(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The tutorial's plugin, registered without installing it."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    module = importlib.import_module("daps_demosaic")
    installed = [c.settings for c in default_registry().components("operator") if c.name == "demosaic"]
    if installed:
        yield module
    else:
        with default_registry().extended(*module.daps_operators(), distribution="daps-demosaic"):
            yield module
    for name in [name for name in sys.modules if name.partition(".")[0] == "daps_demosaic"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", ["contracts.md", "components.md", "recipe-reference.md"])
def test_generated_pages_are_current(page):
    generate = load("generate")
    assert set(generate.PAGES) == {"contracts.md", "components.md", "recipe-reference.md"}
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == generate.PAGES[page](), f"{page} is out of date: run `{generate.COMMAND}`"


def test_every_contract_and_component_is_on_its_page():
    from daps_kit import contracts

    page = (DOCS / "contracts.md").read_text(encoding="utf-8")
    for cls in vars(contracts).values():
        if (
            isinstance(cls, type)
            and cls.__module__ == "daps_kit.contracts"
            and not cls.__name__.startswith("_")
        ):
            assert f"\n## {cls.__name__}\n" in page
    page = (DOCS / "components.md").read_text(encoding="utf-8")
    for c in default_registry().components():
        if c.distribution == "daps-kit":
            assert f"\n### {c.kind}/{c.name}\n" in page


def test_docstrings_become_markdown():
    generate = load("generate")
    text = """Return a thing.

    With a formula

        a = b

    and more
    words.

    Args:
        x: first,
            second line.
        y: other.

    Raises:
        ValueError: never.
    """
    assert generate.markdown(text) == [
        "Return a thing.", "", "With a formula", "", "```text", "a = b", "```", "", "and more words.", "",
        "*Args:*", "", "- `x`: first, second line.", "- `y`: other.", "", "*Raises:*", "", "- `ValueError`: never.",
    ]  # fmt: skip


# --- the tutorial


def test_the_tutorial_shows_every_file_of_the_plugin_as_it_is():
    shown = {file: code for file, _, code in blocks() if file}
    for file, code in shown.items():
        assert code == (ROOT / file).read_text(encoding="utf-8"), file
    own = {p for p in PLUGIN.rglob("*") if p.is_file() and p.suffix in (".py", ".toml", ".yaml")}
    own = {p for p in own if not {"build", "results"} & set(p.relative_to(PLUGIN).parts)}
    assert {str(p.relative_to(ROOT)) for p in own} == set(shown)


def test_the_plugin_is_small():
    files = [p for p in PLUGIN.rglob("*") if p.suffix in (".py", ".toml", ".yaml", ".md")]
    files = [p for p in files if not {"build", "results"} & set(p.relative_to(PLUGIN).parts)]
    assert sum(len(p.read_text(encoding="utf-8").splitlines()) for p in files) < 100


def test_the_tutorials_python_runs(demosaic, capsys):
    scope: dict[str, object] = {}
    code = [code for file, language, code in blocks() if language == "python" and not file]
    assert len(code) == 3
    for block in code:
        exec(compile(block, str(TUTORIAL), "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    assert "dot_test: passed" in printed
    (source,) = scope["daps_checkpoints"]()
    assert source.address.startswith("https://")
    assert all(line.endswith("passed") for line in printed if "settings_import" not in line)


def test_the_message_of_a_failed_check_is_as_shown(demosaic):
    from daps_demosaic.mosaic import Mosaic

    from daps_kit.contracts import GaussianNoise
    from daps_kit.testing import check_operator

    class TooLarge(Mosaic):
        def forward(self, x):
            return 1.01 * super().forward(x)

    with pytest.raises(AssertionError) as caught:
        check_operator(TooLarge((3, 6, 7), GaussianNoise(0.05), "RGGB"))
    (shown,) = [code for _, language, code in blocks() if language == "text"]
    wanted = shown.splitlines()
    got = str(caught.value).splitlines()
    assert got[0].replace("TooLarge", "demosaic") == wanted[0]
    assert [line.partition(": relative error")[0] for line in got[1:]] == [
        line.partition(": relative error")[0] for line in wanted[1:]
    ]


def test_the_tutorials_commands_exist():
    words = [
        shlex.split(line, comments=True)
        for _, lang, code in blocks()
        if lang == "sh"
        for line in code.splitlines()
    ]
    asked = [line[1] for line in words if line[:1] == ["daps-kit"]]
    assert {"new", "list", "show", "check", "run"} <= set(asked)
    assert set(asked) <= set(main.list_commands(Context(main)))


def test_the_tutorials_recipe_is_valid(demosaic):
    (recipe,) = load_recipe(PLUGIN / "demosaic.yaml")
    assert recipe.operator == demosaic.Demosaic(noise=GaussianNoiseSettings(sigma=0.05))


@pytest.mark.parametrize("check", ["dot_test", "solve_normal", "same_seed_same_operator", "noise_moments"])
@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_every_pattern_of_the_plugin_passes(demosaic, pattern, check):
    from daps_kit.testing import CHECKS
    from daps_kit.testing.operators import OperatorCase

    case = OperatorCase(demosaic.Demosaic(pattern=pattern), (3, 5, 8))
    {function.__name__: function for function in CHECKS["operator"]}[check](case)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see [it](https://arxiv.org/abs/2407.01521).", "https://arxiv.org/abs/2407.01521"),
        ("(https://example.org/a_(b).jpg)", "https://example.org/a_(b).jpg"),
        ("`https://example.org/x?y=1#z`, and", "https://example.org/x?y=1#z"),
        ("<https://example.org>", "https://example.org"),
    ],
)
def test_addresses_are_told_from_what_is_around_them(text, found):
    links = load("links")
    assert links.addresses(text) == [found]
    assert links.fault(found) == ""


@pytest.mark.parametrize(
    "address",
    [
        "http://arxiv.org/abs/2407.01521", "https://arxiv.org/2407.01521", "https://arxiv.org/abs/2407.152",
        "https://doi.org/2407.01521", "https://example", "https://example.org/a_(b.jpg", "https:///x",
    ],
)  # fmt: skip
def test_the_form_of_an_address(address):
    assert load("links").fault(address)


def test_addresses_elsewhere_have_their_form(capsys):
    assert load("links").main() == 0, capsys.readouterr().out
    assert "https://arxiv.org/abs/2407.01521" in capsys.readouterr().out


def test_links_lead_somewhere():
    plugins = ROOT.glob("plugins/*/README.md")
    for page in (*DOCS.glob("*.md"), *ROOT.glob("*.md"), *plugins, *ROOT.glob("benchmarks/*.md")):
        text = page.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
            other = (page.parent / target) if target else page
            assert other.exists(), f"{page.name} links to {target}"
            if anchor and other.suffix == ".md":
                content = other.read_text(encoding="utf-8")
                headings = {
                    re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-")
                    for h in re.findall(r"^#+ (.*)$", content, re.M)
                }
                assert anchor in headings or f'id="{anchor}"' in content, f"{page.name}: no {target}#{anchor}"


# --- restoring a photograph


def test_every_option_of_restore_is_on_its_page():
    page = (DOCS / "restore.md").read_text(encoding="utf-8")
    command = main.get_command(Context(main), "restore")
    assert command is not None
    options = {word for parameter in command.params for word in parameter.opts if word.startswith("--")}
    assert set(re.findall(r"--[a-z]+", page)) == options - {"--help"}


def test_the_recipe_on_the_page_of_restore_is_what_is_written(tmp_path, monkeypatch):
    from daps_kit.restore.recipe import Wishes, draft

    page = (DOCS / "restore.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"\n((?:    .*\n)*    format: 1\n(?:    .*\n)*)", page)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (384, 512, 3), dtype=np.uint8)).save("photo.jpg")
    written = draft([Path("photo.jpg")], Wishes(blur=2.5), Path("mine.yaml"), Path("restored")).text
    expected, found = (yaml.safe_load(textwrap.dedent(text)) for text in (shown, written))
    expected["operator"]["noise"]["sigma"] = found["operator"]["noise"]["sigma"]
    expected["data"]["path"], expected["output"] = (
        str(tmp_path / "photo.jpg"),
        str(tmp_path / "restored/photo"),
    )
    assert found == expected
    comments = [line.strip() for line in shown.splitlines() if line.strip().startswith("#")]
    assert comments == [line for line in written.splitlines() if line.startswith("#")]


# --- the page on Python


def test_the_component_in_a_file_works_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    files = {match["file"]: match["code"] for match in BLOCK.finditer(page) if match["file"]}
    assert set(files) >= {"my_operator.py", "vignette.yaml"}
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    commands = re.search(r"```sh\n(daps-kit check vignette.*?)```", page, re.S)
    for line in commands[1].splitlines():
        arguments = shlex.split(line)[1:]
        if arguments[0] == "run":
            arguments += ["sampler.budget=3", "--quiet"]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "results/vignette/grid.png").is_file()


def test_the_posterior_of_a_measurement_is_as_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    (code, *rest) = [m["code"] for m in BLOCK.finditer(page) if m["language"] == "python" and not m["file"]]
    assert not rest
    exec(compile(code, "python.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "<Posterior of an image [3, 64, 64], 4 samples" in printed
    assert "torch.Size([4, 3, 64, 64])" in printed
    assert float(re.search(r"([0-9.]+) dB", printed)[1]) > 20
