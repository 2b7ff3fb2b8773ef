"""Checkpoints of others: tensors come out of every kind of file, nothing else happens."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from daps_kit.errors import UserError
from daps_kit.weights.tensors import convert, load_into, read_tensors, rooted
from tests.host.weights.evil import Evil
from tests.host.weights.states import STATE, same, under


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", "-old.pt"])
def test_reads_files_of_torch(tmp_path, network, suffix, key):
    state = network.state_dict()
    path = tmp_path / f"model{suffix}"
    torch.save(
        state if key is None else {key: state, "step": 7},
        path,
        _use_new_zipfile_serialization="old" not in suffix,
    )
    same(read_tensors(path), state)


def test_reads_safetensors(tmp_path, network):
    state = network.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    found = read_tensors(tmp_path / "model.safetensors")
    same({name: found[name] for name in state}, state)


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", "-old.pt"])
def test_a_file_that_was_cut_short_is_refused(tmp_path, network, suffix, kept, objects):
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        content = {"state_dict": network.state_dict()} | ({"other": Evil(int, 3)} if objects else {})
        torch.save(content, path, _use_new_zipfile_serialization="old" not in suffix)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match=r"model.*(cut short|not a checkpoint|damaged)"):
        read_tensors(path)


def test_damage_inside_is_found(tmp_path, network):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": network.state_dict(), "other": Evil(int, 3)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "less.ckpt", "w") as less:
        for name in whole.namelist():
            if not name.endswith("data/0"):
                less.writestr(name, whole.read(name))
    with pytest.raises(UserError, match=r"less.ckpt.*damaged"):
        read_tensors(tmp_path / "less.ckpt")
    data = bytearray(path.read_bytes())
    at = data.index(network.state_dict()["0.weight"].numpy().tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_tensors(path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    page = tmp_path / "page.pt"
    page.write_text("<!DOCTYPE html><html><title>Quota exceeded</title>", encoding="utf-8")
    with pytest.raises(UserError, match="web page"):
        read_tensors(page)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=r"zip.pt"):
        read_tensors(tmp_path / "zip.pt")
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(UserError, match="no state dict"):
        read_tensors(tmp_path / "none.pt")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(UserError, match="no state dict"):
        read_tensors(tmp_path / "list.pt")
    with pytest.raises(UserError, match="no such checkpoint"):
        read_tensors(tmp_path / "absent.pt")


def test_loading_is_strict_and_names_the_first_that_differ(network):
    state = network.state_dict()
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_into(empty, state, "file")
    same(empty.state_dict(), state)
    less = {name: tensor for name, tensor in state.items() if not name.startswith("1.")}
    wrong = {**less, "0.weight": torch.zeros(4, 3, 5, 5), "extra": torch.zeros(1)}
    with pytest.raises(UserError) as caught:
        load_into(empty, wrong, "file")
    assert str(caught.value) == (
        "file does not fit the network: missing: 1.weight, 1.bias, 1.running_mean and 2 more; unexpected: extra; "
        "of another shape: 0.weight [4, 3, 5, 5] instead of [4, 3, 3, 3]"
    )
    same(empty.state_dict(), state)
    with pytest.raises(UserError, match=r"1\.bias holds numbers that are not finite"):
        load_into(empty, {**state, "1.bias": torch.tensor([1.0, float("nan"), 0, 0])}, "file")
    load_into(empty, {name: t.half() if t.is_floating_point() else t for name, t in state.items()}, "file")
    assert empty[0].weight.dtype == torch.float32


def test_converts_to_safetensors(tmp_path, network, lightning):
    state = network.state_dict()
    source, target = tmp_path / "model.ckpt", tmp_path / "model.safetensors"
    shared = {**state, "again": state["0.weight"], "transposed": torch.arange(6.0).reshape(2, 3).t()}
    torch.save({"state_dict": shared, **lightning}, source)
    assert convert(source, target) == len(shared)
    found = load_file(target)
    same({name: found[name] for name in shared}, shared)
    read = read_tensors(target)
    same({name: read[name] for name in shared}, shared)
    with safe_open(target, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    with pytest.raises(UserError, match="must be named .safetensors"):
        convert(source, tmp_path / "model.bin")
    with pytest.raises(UserError, match="cannot write"):
        convert(source, tmp_path / "absent" / "model.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.ckpt", "model.safetensors"]


def test_importing_it_does_not_import_torch():
    code = "import sys, daps_kit.weights.tensors, daps_kit.weights.checkpoints, daps_kit.command.checkpoints; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_network_is_taken_out_of_the_module_that_holds_it():
    assert rooted(STATE, "time.0.weight", "c.pt") == STATE
    lightning = under("model.unet.", STATE) | {"betas": torch.zeros(2)}
    same(rooted(lightning, "time.0.weight", "c.pt"), STATE)
    with pytest.raises(
        UserError,
        match="c.pt holds more than one network: time.0.weight is under first_stage., and there is model",
    ):
        rooted(under("model.", STATE) | under("first_stage.", STATE), "time.0.weight", "c.pt")
    with pytest.raises(UserError, match="there is vae.conv.weight"):
        rooted(under("model.", STATE) | {"vae.conv.weight": torch.zeros(1)}, "time.0.weight", "c.pt")
    assert rooted({"other.weight": torch.zeros(1)}, "time.0.weight", "c.pt").keys() == {"other.weight"}


def test_checkpoints_that_unpack_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "4")
    torch.save({"w": torch.zeros(4 << 20)}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert len(read_tensors(tmp_path / "stored.pt")["w"]) == 4 << 20
    with pytest.raises(UserError, match=r"bomb.pt: .* would become 16 MiB"):
        read_tensors(tmp_path / "bomb.pt")
    header = b'"t": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},' * 300_000
    (tmp_path / "many.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match=r"many.safetensors.*: its header has"):
        read_tensors(tmp_path / "many.safetensors")
