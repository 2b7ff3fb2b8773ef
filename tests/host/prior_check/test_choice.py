"""Which priors are meant by the words of a command, and what cannot be checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.registry import default_registry
from tests.host.command_line import call

PRIORS = ", ".join(component.name for component in default_registry().components("prior"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embeded"], f"error: no prior and no recipe 'embeded'; the priors are {PRIORS}; did you mean 'embedded'?"),
        (["my.yaml"], "error: no such file: my.yaml"),
        (["weights.safetensors"], "error: weights.safetensors is no recipe; to check weights write "
         "'{use: trained, path: weights.safetensors}'"),
        (["{use: trained, path: no.safetensors}"], "override 'prior={use: trained, path: no.safetensors}': prior.path: "),
        (["{use: trained, path: weights.safetensors}"], "error: "),
        (["gaussian", "runs=4"], "override 'runs=4': runs: without a recipe only prior... can be set"),
        (["gaussian", "prior.std=-1"], "override 'prior.std=-1': prior.std: "),
        (["{use: gaussian"], "override 'prior={use: gaussian': not valid YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.safetensors").write_bytes(b"no tensors")
    result = call("check-prior", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message), result.stderr
    assert result.stderr.count("\n") == 1
