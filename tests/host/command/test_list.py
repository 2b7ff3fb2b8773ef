"""`daps-kit list`."""

from __future__ import annotations

import json

import daps_kit
from daps_kit.registry import default_registry
from tests.host.command_line import call, ok


def test_list() -> None:
    lines = ok("list").splitlines()
    assert lines[0].split() == ["kind", "name", "summary", "provided", "by"]
    assert len(lines) == 1 + len(default_registry().components())
    (line,) = [line for line in lines if " gaussian_blur " in line]
    summary = default_registry().find("operator", "gaussian_blur").settings.summary()
    assert line.split()[0] == "operator"
    assert summary in line
    assert line.endswith(f"daps-kit {daps_kit.__version__}")
    kernels = json.loads(ok("list", "kernels", "--json"))
    assert {"langevin", "underdamped", "metropolis"} <= {c["name"] for c in kernels}
    assert {c["kind"] for c in kernels} == {"kernel"}
    assert all(set(c) == {"kind", "name", "summary", "distribution", "version"} for c in kernels)
    assert call("list", "kernel").exit_code == 2
