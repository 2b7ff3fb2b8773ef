"""Pickled weights: read without running anything, whatever is in them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from daps_kit.errors import UserError
from daps_kit.weights.pickles import read_arrays
from daps_kit.weights.tensors import read_tensors
from tests.host.weights.evil import Evil
from tests.host.weights.states import same


def test_reads_a_checkpoint_with_objects_of_unknown_classes(tmp_path, network, lightning, monkeypatch):
    state = dict(network.state_dict())
    whole = torch.arange(24.0).reshape(4, 6)
    state |= {
        "view": whole[1:3, ::2],
        "transposed": whole.t(),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.zeros(0),
        "parameter": nn.Parameter(torch.arange(3.0)),
        "flags": torch.tensor([True, False]),
    }
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state, "optimizer": [{"momentum": torch.ones(5)}], **lightning}, path)
    monkeypatch.delitem(sys.modules, "old_framework")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    same(read_tensors(path, weights="raw"), {name: t.detach() for name, t in state.items()})
    monkeypatch.setitem(sys.modules, "old_framework", types.ModuleType("old_framework"))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {mark}",)),
        (eval, ("open({mark!r}, 'w').close()",)),
        (exec, ("open({mark!r}, 'w').close()",)),
        (subprocess.check_call, (["touch", "{mark}"],)),
        (getattr, (os, "system")),
    ],
)
def test_a_malicious_pickle_runs_nothing(tmp_path, network, function, arguments):
    mark = tmp_path / "mark"

    def fill(value):
        if isinstance(value, list):
            return [fill(item) for item in value]
        return (
            value.replace("{mark!r}", repr(str(mark))).replace("{mark}", str(mark))
            if isinstance(value, str)
            else value
        )

    if function is getattr:
        evil = Evil(getattr, Evil(__import__, "os"), "system")
    else:
        evil = Evil(function, *map(fill, arguments))
    state = network.state_dict()
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": state, "callbacks": evil}, path)
    same(read_tensors(path), state)
    assert not mark.exists()
    if function is not getattr:  # the mark does tell: the file does it to a reader that is not careful
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_malice_in_the_old_format_or_in_the_place_of_weights_is_refused(tmp_path):
    mark = tmp_path / "mark"
    evil = Evil(os.system, f"touch {mark}")
    torch.save({"state_dict": {}, "evil": evil}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(evil))
    torch.save({"state_dict": {"weight": evil}}, tmp_path / "weight.pt")
    torch.save(evil, tmp_path / "all.pt")
    for name in ("old", "bare", "weight", "all"):
        with pytest.raises(UserError, match=name):
            read_tensors(tmp_path / f"{name}.pt")
    assert not mark.exists()


@pytest.mark.parametrize("extra", [{}, {"arguments": types.SimpleNamespace(a=1)}], ids=["torch", "ours"])
def test_a_tensor_that_repeats_its_numbers(tmp_path, extra):
    path = tmp_path / "wide.pt"
    torch.save({"model": {"a": torch.zeros(1).expand(2000, 3)}, **extra}, path)
    assert read_tensors(path)["a"].shape == (2000, 3)
    torch.save({"model": {"a": torch.zeros(1).expand(10**6, 10**6)}, **extra}, path)
    with pytest.raises(UserError, match=r"a tensor of 1000000000000 numbers repeats 1\)"):
        read_tensors(path)


def test_a_pickle_that_says_that_it_is_larger_than_the_memory(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x04\x8e" + (1 << 46).to_bytes(8, "little") + b"...")
    with pytest.raises(UserError, match=r"weights\.pkl: it is damaged \(it says that it is larger than"):
        read_arrays(path)
