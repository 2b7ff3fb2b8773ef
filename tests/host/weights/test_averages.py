"""Which tensors of a checkpoint are its weights, and which their average, by whoever wrote it."""

from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file

from daps_kit.errors import UserError
from daps_kit.weights.tensors import read_tensors
from tests.host.weights.states import AVERAGE, STATE, same, under


def test_averages_of_latent_diffusion_are_found_by_their_names_without_dots(tmp_path):
    raw = {
        "model.diffusion.in.0.weight": torch.zeros(2),
        "model.diffusion.in.0.bias": torch.zeros(1),
        "first_stage.conv.weight": torch.full((3,), 5.0),
    }
    average = {
        "model_ema.diffusionin0weight": torch.ones(2),
        "model_ema.diffusionin0bias": torch.full((1,), 2.0),
        "model_ema.decay": torch.tensor(0.999),
    }
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": raw | average}, path)
    expected = {
        **raw,
        "model.diffusion.in.0.weight": torch.ones(2),
        "model.diffusion.in.0.bias": torch.full((1,), 2.0),
    }
    same(read_tensors(path), expected)
    same(read_tensors(path, weights="ema"), expected)
    same(read_tensors(path, weights="raw"), raw)


def test_averages_beside_the_weights(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": {"w": torch.zeros(2), "steps": torch.tensor(3)}, "ema": {"w": torch.ones(2)}}, path)
    same(read_tensors(path), {"w": torch.ones(2), "steps": torch.tensor(3)})
    same(read_tensors(path, weights="raw"), {"w": torch.zeros(2), "steps": torch.tensor(3)})
    torch.save({"model": {"w": torch.zeros(2)}}, path)
    with pytest.raises(UserError, match="no moving average"):
        read_tensors(path, weights="ema")


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.module."]
)
@pytest.mark.parametrize("key", [None, "state_dict", "model", "unet", "net"])
def test_what_wrappers_put_before_names_is_taken_off(tmp_path, prefix, key):
    state = under(prefix, STATE)
    torch.save(state if key is None else {key: state}, tmp_path / "c.pt")
    same(read_tensors(tmp_path / "c.pt"), STATE)
    if key is None:
        save_file(state, tmp_path / "c.safetensors")
        same(read_tensors(tmp_path / "c.safetensors"), STATE)


EMAS = [
    "polyak", "ema", "ema_model", "model_ema", "ema_state_dict", "ema_params", "averaged_model", "swa_state_dict",
    "model_avg", "ema_model_state_dict", "net_ema", "EMA",
]  # fmt: skip


@pytest.mark.parametrize("key", EMAS)
@pytest.mark.parametrize(
    ("raw", "average"),
    [
        ("", ""),
        ("", "module."),
        ("module.", ""),
        ("_orig_mod.", "module._orig_mod."),
        ("model.", ""),
        ("", "net."),
    ],
)
def test_an_average_is_found_under_its_usual_names(tmp_path, key, raw, average):
    torch.save({"model": under(raw, STATE), key: under(average, AVERAGE), "step": 3}, tmp_path / "c.pt")
    kept = raw if raw == "model." else ""
    same(read_tensors(tmp_path / "c.pt"), under(kept, AVERAGE))
    same(read_tensors(tmp_path / "c.pt", weights="ema"), under(kept, AVERAGE))
    same(read_tensors(tmp_path / "c.pt", weights="raw"), under(kept, STATE))


def test_averages_as_their_keepers_write_them(tmp_path):
    swa = under("module.", AVERAGE) | {"n_averaged": torch.tensor(7)}
    torch.save({"model": STATE, "swa": swa}, tmp_path / "swa.pt")
    same(read_tensors(tmp_path / "swa.pt"), AVERAGE)
    both = under("online_model.", STATE) | under("ema_model.", AVERAGE) | {"initted": torch.tensor(True)}
    torch.save({"model": STATE, "ema": both}, tmp_path / "both.pt")
    same(read_tensors(tmp_path / "both.pt"), AVERAGE)
    torch.save({"model": STATE, "ema": {"decay": 0.99, "shadow": AVERAGE}}, tmp_path / "shadow.pt")
    same(read_tensors(tmp_path / "shadow.pt"), AVERAGE)


@pytest.mark.parametrize("keeper", ["list", "in a dict", "with objects"])
def test_an_average_without_names_has_the_order_of_the_weights(tmp_path, keeper):
    buffer = {"a.count": torch.tensor(3)}
    shadow = [tensor + 5 for tensor in STATE.values()]
    ema = shadow if keeper == "list" else {"decay": 0.99, "num_updates": 7, "shadow_params": shadow}
    extra = {"args": argparse.Namespace(lr=1)} if keeper == "with objects" else {}
    torch.save({"model": buffer | STATE, "ema": ema, "optimizer": {}, **extra}, tmp_path / "c.pt")
    same(read_tensors(tmp_path / "c.pt"), buffer | AVERAGE)
    same(read_tensors(tmp_path / "c.pt", weights="raw"), buffer | STATE)
    torch.save({"model": STATE, "ema": [*shadow, torch.zeros(9)], "optimizer": {}}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="holds no moving average"):
        same(read_tensors(tmp_path / "c.pt"), STATE)


@pytest.mark.parametrize(
    ("raw", "average"), [("model.", "ema_model."), ("net.", "net_ema.module."), ("unet.", "ema.")]
)
def test_an_average_among_the_weights(tmp_path, raw, average):
    torch.save({"state_dict": under(raw, STATE) | under(average, AVERAGE)}, tmp_path / "c.ckpt")
    same(read_tensors(tmp_path / "c.ckpt"), under(raw, AVERAGE))
    same(read_tensors(tmp_path / "c.ckpt", weights="raw"), under(raw, STATE))


def test_an_average_beside_weights_without_a_prefix(tmp_path):
    torch.save(STATE | under("ema.", AVERAGE), tmp_path / "c.pt")
    same(read_tensors(tmp_path / "c.pt"), AVERAGE)
    same(read_tensors(tmp_path / "c.pt", weights="raw"), STATE)


@pytest.mark.parametrize(
    "inside",
    [
        {"callbacks": {"EMA": {"ema_state_dict": under("model.", AVERAGE), "decay": 0.99}}},
        {"callbacks": {"EMACallback{'decay': 0.99}": {"ema_weights": under("model.", AVERAGE)}}},
        {"optimizer_states": [{"ema": list(AVERAGE.values()), "state": {}}]},
        {"ema": [under("model.", AVERAGE), under("model.", STATE)]},
        {
            "callbacks": {"Losses": {"loss_ema": {"train": torch.ones(1)}}},
            "ema_model": under("model.", AVERAGE),
        },
    ],
)
def test_an_average_deeper_in_a_checkpoint(tmp_path, inside):
    torch.save({"state_dict": under("model.", STATE)} | inside, tmp_path / "c.ckpt")
    same(read_tensors(tmp_path / "c.ckpt"), under("model.", AVERAGE))


def test_the_average_of_a_loss_is_none_of_the_weights(tmp_path):
    torch.save({"model": STATE, "loss_ema": {"train": torch.ones(1)}, "optimizer": {}}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="holds no moving average"):
        same(read_tensors(tmp_path / "c.pt"), STATE)


@pytest.mark.parametrize("mark", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_marks_of_wrappers_are_taken_off_anywhere(tmp_path, mark):
    marked = {f"{mark}." + name.replace(".", f".{mark}.", 1): tensor for name, tensor in STATE.items()}
    torch.save({"model": marked}, tmp_path / "c.pt")
    same(read_tensors(tmp_path / "c.pt"), STATE)


def test_the_absence_of_an_average_is_said(tmp_path):
    torch.save({"model": STATE, "optimizer": {}, "step": 3}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match=r"c.pt holds no moving average"):
        same(read_tensors(tmp_path / "c.pt"), STATE)
    same(read_tensors(tmp_path / "c.pt", weights="raw"), STATE)
    with pytest.raises(UserError, match="holds no moving average"):
        read_tensors(tmp_path / "c.pt", weights="ema")
