"""Text becomes nodes with places: scalars of YAML 1.2, anchors, and files that are no text."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from daps_kit.errors import RecipeError
from daps_kit.recipe import load_recipe, plain_yaml, to_yaml
from daps_kit.registry import Registry
from tests.recipe_text import MINIMAL, load, problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-5", 5e-5), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1.5E+2", -150.0), ("+3", 3), ("-0", 0),
        ("0o17", 15), ("0x1F", 31), ("017", 17), ("1_000", "1_000"), ("12:30", "12:30"), ("1e", "1e"),
        ("true", True), ("False", False), ("on", "on"), ("yes", "yes"), ("No", "No"), ("off", "off"), ("y", "y"),
        ("null", None), ("~", None), ("", None), ("'5e-5'", "5e-5"), ('"true"', "true"), ("2024-01-02", "2024-01-02"),
        ("a b", "a b"), ("[1, 2e0, x]", [1, 2.0, "x"]), ("{a: 1, b: [~]}", {"a": 1, "b": [None]}),
        ("!x", "error"), ("e5", "e5"), (".", "."), ("=", "="),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object, registry: Registry) -> None:
    body = MINIMAL + f"sampler:\n  kernel:\n    use: anything\n    x: {text}\n"
    if value == "error":
        assert problems(body, registry=registry) == [
            "r.yaml:8:8: tags (!) are not allowed; write the plain value"
        ]
        return
    read = load(body, registry=registry).sampler.kernel.x  # type: ignore[attr-defined]
    assert read == value
    assert type(read) is type(value) or isinstance(value, str)
    back = load(
        MINIMAL + f"sampler: {{kernel: {{use: anything, x: {to_yaml(value, flow=True)}}}}}", registry=registry
    )
    assert back.sampler.kernel.x == value  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", [".inf", "-.inf"])
def test_the_infinite_is_a_number_that_no_setting_takes(text: str, registry: Registry) -> None:
    body = MINIMAL + f"sampler:\n  kernel:\n    use: anything\n    x: {text}\n"
    (told,) = problems(body, registry=registry)
    assert told.startswith(f"r.yaml:8:8: sampler.kernel.x: {text.replace('.', '')} is beyond")


def test_anchors_work() -> None:
    recipe = load(
        "format: 1\ndata: {use: prior, count: &n 2}\nprior: {use: gaussian}\noperator: {use: identity}\nruns: *n\n"
    )
    assert recipe.runs == 2


def test_an_alias_that_contains_itself() -> None:
    found = problems(MINIMAL + "sampler: &a {use: daps, kernel: *a}\n")
    assert "r.yaml:5:10: this alias contains itself" in found


def test_files_that_are_no_text() -> None:
    Path("bin.yaml").write_bytes(b"\xff\xfe\x00a: 1")
    with pytest.raises(RecipeError, match=r"^bin.yaml:1:1: not a text file in UTF-8: the byte 0xff$"):
        load_recipe("bin.yaml")
    Path("nul.yaml").write_bytes(b"a: \x00")
    with pytest.raises(RecipeError, match=r"^nul.yaml:1:4: not valid YAML: the character \\x00$"):
        load_recipe("nul.yaml")
    Path("later.yaml").write_bytes("é: 1\r\nßé".encode() + b"\xe9\n")
    with pytest.raises(RecipeError, match=r"^later.yaml:2:3: not a text file in UTF-8: the byte 0xe9$"):
        load_recipe("later.yaml")
    Path("bom.yaml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_recipe("bom.yaml")[0].name == "bom"


BOMB = "b0: &b0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOMB, "r.yaml:5:1: more than 20000 values, with aliases (*) written out"),
        (f"a: [{'1, ' * 50_000}]\n", "r.yaml:1:119996: more than 20000 values, with aliases (*) written out"),
        (f"seed: {'[' * 33}", "r.yaml:1:38: sections and lists are nested more than 32 deep"),
        (f"seed: {'[' * 50_000}", "r.yaml:1:38: sections and lists are nested more than 32 deep"),
        (f"seed: {'{a: ' * 50_000}", "r.yaml:1:131: sections and lists are nested more than 32 deep"),
        (f"seed:\n {'- ' * 50_000}1", "r.yaml:2:64: sections and lists are nested more than 32 deep"),
        (
            "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 50)),
            "r.yaml:32:1: sections and lists are nested more than 32 deep",
        ),
        (f"seed: {'9' * 5000}", "r.yaml:1:7: a whole number of 5000 letters; at most 40 are read"),
        (f"seed: 0x{'f' * 5000}", "r.yaml:1:7: a whole number of 5002 letters; at most 40 are read"),
        ('name: "\\ud800"', "r.yaml:1:7: the control character \\ud800 is not allowed in text"),
        ('? "a\\e[2J"\n: 1', "r.yaml:1:3: the control character \\x1b is not allowed in text"),
        ("[a, b]: 1", "r.yaml:1:1: a key must be text"),
        (f"a: {'x' * 500_000}", "r.yaml:1:1: the file has 500004 letters; a recipe has at most 500000"),
    ],
    ids=lambda text: text[:20],
)
def test_what_a_few_letters_must_not_become(text: str, expected: str) -> None:
    begun = time.process_time()
    assert expected in problems(text + "\n")
    assert time.process_time() - begun < 10


def test_limits_leave_room_for_what_is_meant(registry: Registry) -> None:
    base = MINIMAL + "sampler:\n  kernel: {use: anything, x: "
    deep = load(f"{base}{'[' * 29}1{']' * 29}}}\n", registry=registry).sampler.kernel.x  # type: ignore[attr-defined]
    assert str(deep).strip("[]") == "1"
    many = load(f"{base}[{'1, ' * 5_000}]}}\n", registry=registry).sampler.kernel.x  # type: ignore[attr-defined]
    assert len(many) == 5_000
    number = load(f"{base}{'9' * 40}}}\n", registry=registry).sampler.kernel.x  # type: ignore[attr-defined]
    assert number == 10**40 - 1
    hashes = "# file of a picture: sha256 0123456789\n" * 20_000
    assert load(hashes + MINIMAL).name == "r"


def test_thousands_of_problems_are_counted() -> None:
    begun = time.process_time()
    with pytest.raises(RecipeError) as caught:
        load(MINIMAL + "".join(f"operatr{i}: 1\n" for i in range(5000)))
    lines = str(caught.value).splitlines()
    assert lines[-1] == "and 4900 more"
    assert len(lines) == 101
    body = MINIMAL.replace("{use: prior, count: 2}", f"{{use: images, path: [{'{},' * 5000}]}}")
    with pytest.raises(RecipeError, match="expected a path, got a section"):
        load(body)
    assert time.process_time() - begun < 20


def test_plain_values() -> None:
    text = "a: {b: [x, 1, 5e-5, ~]}\n"
    assert plain_yaml(text, "r.yaml") == {"a": {"b": ["x", 1, 5e-5, None]}}
    assert type(plain_yaml(text, "r.yaml")["a"]["b"][0]) is str
    assert plain_yaml("", "r.yaml") is None
    with pytest.raises(RecipeError, match=r"^r.yaml:1:5: the key 'a' is written twice"):
        plain_yaml("{a, a}", "r.yaml")


def test_thousands_of_hashes_at_the_end_are_read_in_no_time() -> None:
    hashes = "".join(f'# file "/photos/{i}.png": sha256 {i:064x}\n' for i in range(20_000))
    began = time.process_time()
    assert plain_yaml(f"a: 1\n# mine\n{hashes}", "r.yaml") == {"a": 1}
    assert time.process_time() - began < 1.0
    assert plain_yaml(f"a: 1\n{hashes[:20_000]}\nb: 2\n", "r.yaml") == {"a": 1, "b": 2}
