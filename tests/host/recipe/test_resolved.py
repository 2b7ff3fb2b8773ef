"""The resolved recipe says everything and is read back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import daps_kit
from daps_kit.recipe import file_hashes, load_recipe, resolved_yaml
from tests.recipe_text import MINIMAL, load, write


def test_the_resolved_recipe_says_everything(folder: Path) -> None:
    write("pictures/a.png", "")
    recipe = load(
        MINIMAL.replace("{use: prior, count: 2}", "{use: images, path: pictures/*.png, size: [8, 9]}"),
        "seed=3",
    )
    text = resolved_yaml(recipe)
    head = [line for line in text.splitlines() if line.startswith("#")]
    version = daps_kit.__version__
    assert head == [
        f"# resolved by daps-kit {version}; run it again with: daps-kit run FILE",
        f"# prior gaussian: daps-kit {version}",
        f"# operator identity: daps-kit {version}",
        f"# noise gaussian: daps-kit {version}",
        f"# sampler daps: daps-kit {version}",
        f"# kernel auto: daps-kit {version}",
        f"# executor local: daps-kit {version}",
        f'# file "{folder}/pictures/a.png": sha256 {hashlib.sha256().hexdigest()}',
    ]
    assert file_hashes(text) == {f"{folder}/pictures/a.png": hashlib.sha256().hexdigest()}
    assert f"path: [{folder}/pictures/*.png]" in text
    assert f"output: {folder}/results/r" in text
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert load_recipe(write("copy.yaml", text)) == (recipe,)


def test_a_comment_that_is_no_hash() -> None:
    digest = "0" * 64
    text = f'# file "a": sha256 {digest}\n# file "b\\x": sha256 {digest}\n# file "c": sha256 12\n'
    assert file_hashes(text) == {"a": digest}
