"""Memory that does not suffice is one line, before it is taken where that can be known."""

from __future__ import annotations

import pytest
import torch

from daps_kit import memory
from daps_kit.errors import UserError
from daps_kit.memory import out_of_memory, require_memory
from tests.host.command_line import call


def test_what_cannot_fit_is_refused_with_both_sizes(monkeypatch):
    monkeypatch.setattr(memory, "_there", lambda: 1 << 30)
    require_memory(1 << 28, "images")
    with pytest.raises(UserError, match=r"^images: 2 GiB of memory at least, and this machine has 1$"):
        require_memory(1 << 29, "images")
    monkeypatch.setattr(memory, "_there", lambda: None)
    require_memory(1e30, "images")


def test_what_is_raised_where_memory_does_not_suffice():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert out_of_memory(caught.value)
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_command_that_finds_no_memory_ends_with_a_line(monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("daps_kit.command.list.print_table", fail)
    result = call("list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr == "error: there is not enough memory for this; try smaller images, or fewer at once\n"
    )


def test_the_most_that_was_held_is_told_and_forgotten():
    memory.forget_peak()
    before = memory.peak_memory()
    if before is None:
        pytest.skip("this system does not tell")
    block = torch.ones(1 << 24)  # 64 MiB
    assert memory.peak_memory() >= before + (1 << 25)
    del block
    if torch.cuda.is_available():
        return
    memory.forget_peak()
    assert memory.peak_memory() < before + (1 << 25)
