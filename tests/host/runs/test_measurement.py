"""Where measurements come from, and that nobody's depends on anybody else's."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daps_kit import build
from daps_kit.errors import UserError
from daps_kit.images import load_image
from daps_kit.prior_check.build import build_prior
from daps_kit.recipe import load_recipe
from daps_kit.runs.measurement import Bench, Operators
from daps_operators import Inpainting
from tests.host.array_files import Y, written

CPU = torch.device("cpu")


def bench_of(path: Path, *overrides: str) -> Bench:
    (recipe,) = load_recipe(path, overrides)
    return Bench(recipe, build_prior(recipe.prior, recipe.data, CPU), CPU)


def measured(bench: Bench) -> dict[str, torch.Tensor]:
    return {name: bench.measure(index).y for index, name in enumerate(bench.names)}


def test_the_measurement_is_the_operator_plus_noise_of_the_stated_size(toy):
    bench = bench_of(
        toy(operator={"use": "gaussian_blur", "kernel_size": 5, "noise": {"use": "gaussian", "sigma": 0.1}})
    )
    noise = []
    for index, name in enumerate(bench.names):
        item = bench.measure(index)
        assert item.name == name
        assert item.truth is not None
        noise.append(item.y - item.operator.forward(item.truth[None])[0])
    # 2304 draws: the standard error of their deviation is 0.0015.
    assert torch.stack(noise).std().item() == pytest.approx(0.1, abs=0.006)


def test_no_measurement_depends_on_the_other_items(toy, tmp_path):
    everything = measured(bench_of(toy()))
    assert list(everything) == ["ash", "birch", "cedar"]
    only = measured(bench_of(toy(), f"data.path={tmp_path}/photos/birch.png"))
    assert torch.equal(only["birch"], everything["birch"])
    backwards = bench_of(toy())
    assert torch.equal(backwards.measure(2).y, everything["cedar"])


def test_the_seed_decides(toy):
    first, again, other = (measured(bench_of(toy(), f"seed={seed}"))["ash"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_operator_for_all_or_one_each(toy, tmp_path):
    inpainting: dict[str, Any] = {"use": "inpainting", "mask": "random"}
    shared = bench_of(toy(operator=inpainting))
    own = bench_of(toy(operator=inpainting | {"draw": "per_image"}))
    masks = {}
    for label, bench in (("shared", shared), ("own", own)):
        states = [bench.measure(index).operator.observed for index in range(3)]
        assert all(mask is not None for mask in states)
        masks[label] = [mask for mask in states if mask is not None]
    assert torch.equal(masks["shared"][0], masks["shared"][1])
    assert not torch.equal(masks["own"][0], masks["own"][1])
    alone = bench_of(
        toy(operator=inpainting | {"draw": "per_image"}), f"data.path={tmp_path}/photos/cedar.png"
    )
    mask = alone.measure(0).operator.observed
    assert mask is not None
    assert torch.equal(mask, masks["own"][2])


def test_of_many_operators_the_oldest_are_forgotten(monkeypatch):
    settings = Inpainting(mask="random", draw="per_image")
    operators = Operators(settings, 0, torch.device("cpu"))
    operators.kept = 3
    first = {name: operators.of(name, (1, 8, 8)) for name in "abc"}
    assert all(operators.of(name, (1, 8, 8)) is first[name] for name in "abc")
    operators.of("d", (1, 8, 8))
    assert list(operators._built) == [(name, (1, 8, 8)) for name in "bcd"]
    again = operators.of("a", (1, 8, 8))
    assert again is not first["a"]
    assert torch.equal(again.observed, first["a"].observed)


def test_images_keep_their_own_sizes_where_nothing_fixes_them(toy, tmp_path):
    path = toy()
    Image.new("RGB", (20, 12), "red").save(tmp_path / "photos" / "wide.png")
    bench = bench_of(path, "data.size=null")
    shapes = [tuple(bench.measure(index).y.shape) for index in range(4)]
    assert shapes == [(3, 16, 16)] * 3 + [(3, 12, 20)]


def test_equal_names_are_told_apart(toy, tmp_path):
    toy()
    (tmp_path / "more").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "more" / "ash.png")
    bench = bench_of(toy(data={"use": "images", "path": [str(tmp_path / "photos"), str(tmp_path / "more")]}))
    assert bench.names == ["ash", "birch", "cedar", "ash-2"]


def npy(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def test_the_prior_decides_channels_and_size(toy, tmp_path):
    mean = npy(tmp_path / "mean.npy", np.zeros((1, 8, 8), dtype=np.float32))
    prior = {"use": "gaussian", "mean": mean, "std": 0.4}
    photos = str(tmp_path / "photos")
    bench = bench_of(toy(prior=prior, data={"use": "images", "path": photos}))
    assert bench.measure(0).y.shape == (1, 8, 8)
    with pytest.raises(UserError, match=r"data.size: 16 x 16 does not fit the prior, .* 8 x 8"):
        bench_of(toy(prior=prior))
    # A prior may say what to do then.
    with pytest.raises(UserError, match=r"data.size: 16 x 16 .* 64 x 64: change their size, or use .*photos"):
        bench_of(toy(prior={"use": "embedded"}))


def test_a_damaged_image_names_itself(toy, tmp_path):
    path = toy()
    (tmp_path / "photos" / "birch.png").write_bytes(b"no image")
    bench = bench_of(path)
    bench.measure(0)
    with pytest.raises(UserError, match=r"birch.png"):
        bench.measure(1)


def test_images_drawn_from_the_prior(toy, tmp_path):
    mean = np.linspace(-0.5, 0.5, 192, dtype=np.float32).reshape(3, 8, 8)
    prior = {"use": "gaussian", "mean": npy(tmp_path / "mean.npy", mean), "std": 0.1}
    bench = bench_of(toy(prior=prior, data={"use": "prior", "count": 60}))
    truths = [bench.measure(index).truth for index in range(60)]
    images = torch.stack([truth for truth in truths if truth is not None])
    # Standard errors over 60 images: 0.013 for a pixel's mean, 0.0007 for the deviation over all.
    assert (images.mean(0) - torch.tensor(mean)).abs().max().item() < 0.065
    assert (images - torch.tensor(mean)).std().item() == pytest.approx(0.1, abs=0.004)
    few = bench_of(toy(prior=prior, data={"use": "prior", "count": 3}))
    again = few.measure(2).truth
    assert again is not None
    assert torch.equal(again, images[2])


def test_a_prior_without_a_size_must_be_told_one_to_be_drawn_from(toy):
    draws = {"use": "prior", "count": 3}
    with pytest.raises(UserError, match="image_shape: needed"):
        bench_of(toy(data=draws))
    bench = bench_of(toy(data=draws | {"image_shape": [2, 5, 7]}))
    truth = bench.measure(1).truth
    assert truth is not None
    assert truth.shape == (2, 5, 7)


def test_img2_comes_before_img10(toy, tmp_path):
    recipe = toy()
    for name in ("img10", "img2"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{name}.png")
    assert bench_of(recipe).names == ["ash", "birch", "cedar", "img2", "img10"]


BLUR = {"use": "gaussian_blur", "kernel_size": 5}


def given(toy: Any, path: Path, *, operator: dict[str, Any] = BLUR, **data: Any) -> Bench:
    section = {"use": "measurement", "path": str(path), "image_shape": [3, 16, 16]} | data
    return bench_of(toy(data=section, operator=operator))


@pytest.mark.parametrize("kind", ["npy", "npz", "pt", "pth", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_every_format_with_and_without_a_batch_dimension(toy, tmp_path, kind, dtype, batch):
    array = torch.stack([Y, -Y])[:batch] if batch else Y
    bench = given(toy, written(tmp_path, kind, array.to(dtype)))
    assert bench.names == (["mine-000", "mine-001"] if batch == 2 else ["mine"])
    items = [bench.measure(index) for index in range(len(bench.names))]
    assert items[0].truth is None
    assert items[0].y.dtype == torch.float32
    for item, expected in zip(items, (Y, -Y), strict=False):
        torch.testing.assert_close(item.y, expected.to(dtype).float(), atol=0, rtol=0)


def test_an_image_is_a_measurement(toy, tmp_path):
    levels = np.arange(768, dtype=np.uint16).reshape(16, 16, 3).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "mine.png")
    item = given(toy, tmp_path / "mine.png").measure(0)
    assert torch.equal(item.y, load_image(tmp_path / "mine.png"))


def test_an_operator_may_read_files_in_its_own_way(toy, tmp_path):
    """A JPEG file, in which an operator sees more than pixels; an array is what it is, whatever doubts of a picture."""
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "mine.jpg", quality=90)
    operator = {"use": "jpeg", "file": str(tmp_path / "mine.jpg")}
    item = given(toy, tmp_path / "mine.jpg", operator=operator).measure(0)
    built = build("operator", operator, shape=(3, 16, 16))
    torch.testing.assert_close(item.y[None], built.read(tmp_path / "mine.jpg"), rtol=0, atol=1e-6)
    assert item.doubts == ()
    np.save(tmp_path / "y.npy", item.y.numpy())
    again = given(toy, tmp_path / "y.npy", operator=operator).measure(0)
    torch.testing.assert_close(again.y, item.y)


def test_a_folder_of_measurements(toy, tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    np.save(folder / "b10.npy", -Y.numpy())
    np.save(folder / "b2.npy", Y.numpy())
    bench = given(toy, folder)
    assert bench.names == ["b2", "b10"]
    assert torch.equal(bench.measure(1).y, -Y)
    np.save(folder / "b2.npy", Y.numpy() / 2)
    assert torch.equal(bench.measure(0).y, Y / 2), "read when it is wanted: they are not all in memory"


def test_the_truth_may_be_known(toy, tmp_path):
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "truth.png")
    truth = given(toy, written(tmp_path, "npy", Y), truth=str(tmp_path / "truth.png")).measure(0).truth
    assert truth is not None
    assert truth[:, 0, 0].tolist() == [1, -1, -1]
    with pytest.raises(UserError, match=r"1 images for 2 measurements"):
        given(toy, written(tmp_path, "npy", torch.stack([Y, Y])), truth=str(tmp_path / "truth.png"))


def test_what_is_not_observed_is_set_to_zero(toy, tmp_path):
    path = written(tmp_path, "npy", 0.3 + Y / 2)
    data = {"use": "measurement", "path": str(path), "image_shape": [3, 16, 16]}
    item = bench_of(toy(data=data, operator={"use": "inpainting", "mask": "random"})).measure(0)
    mask = item.operator.observed
    assert mask is not None
    assert torch.equal(item.y, (0.3 + Y / 2) * mask.expand(1, 3, 16, 16)[0])
    assert 0 < mask.float().mean().item() < 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (Y[:, :8], r"shape \[3, 8, 16\] does not fit; the measurement of this operator has \[3, 16, 16\]"),
        (Y[None, None], r"shape \[1, 1, 3, 16, 16\] does not fit"),
        (torch.zeros(0, 3, 16, 16), r"does not fit"),
        (torch.where(Y > 0.99, torch.nan, Y), r"\d+ of 768 values are infinite or NaN"),
        (torch.complex(Y, Y), "expected .*real numbers, got torch.complex64|complex64"),
    ],
)
def test_wrong_arrays_are_refused(toy, tmp_path, array, message):
    for kind in ("npy", "pt"):
        with pytest.raises(UserError, match=message) as caught:
            given(toy, written(tmp_path, kind, array)).measure(0)
        assert "\n" not in str(caught.value)


def test_without_a_shape_the_user_is_asked(toy, tmp_path):
    with pytest.raises(UserError, match=r"data.image_shape: needed as \[C, H, W\]"):
        given(toy, written(tmp_path, "npy", Y), image_shape=None)


def test_the_shape_must_be_the_priors(toy, tmp_path):
    mean = npy(tmp_path / "mean.npy", np.zeros((3, 8, 8), dtype=np.float32))
    data = {"use": "measurement", "path": str(written(tmp_path, "npy", Y)), "image_shape": [3, 16, 16]}
    with pytest.raises(UserError, match=r"\[3, 16, 16\] does not fit the prior, which knows \[3, 8, 8\]"):
        bench_of(toy(data=data, prior={"use": "gaussian", "mean": mean, "std": 0.4}))


def test_a_grey_array_is_read_like_a_grey_picture(toy, tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "mine.png")
    np.save(tmp_path / "mine.npy", levels)
    np.save(tmp_path / "real.npy", 2 * levels.astype(np.float32) / 255 - 1)
    np.save(tmp_path / "channel.npy", levels[None])
    expected = given(toy, tmp_path / "mine.png").measure(0).y
    for name in ("mine.npy", "real.npy", "channel.npy"):
        torch.testing.assert_close(given(toy, tmp_path / name).measure(0).y, expected)


def test_channels_last_are_named_and_read(toy, tmp_path):
    np.save(tmp_path / "mine.npy", Y.permute(1, 2, 0).numpy())
    with pytest.raises(UserError, match=r"the channels are last: data.axes: HWC"):
        given(toy, tmp_path / "mine.npy")
    assert torch.equal(given(toy, tmp_path / "mine.npy", axes="HWC").measure(0).y, Y)


def test_hidden_entries_may_be_anything(toy, tmp_path):
    mask = np.ones((16, 16), dtype=np.uint8)
    mask[4:9, 3:12] = 0
    np.save(tmp_path / "mask.npy", mask)
    operator = {"use": "inpainting", "mask": str(tmp_path / "mask.npy")}
    data = {"use": "measurement", "path": str(tmp_path / "mine.npy"), "image_shape": [3, 16, 16]}
    for filling in (torch.nan, torch.inf, 7.0, 0.0):
        np.save(tmp_path / "mine.npy", Y.masked_fill(torch.from_numpy(mask == 0), filling).numpy())
        item = bench_of(toy(data=data, operator=operator)).measure(0)
        assert torch.equal(item.y, Y * torch.from_numpy(mask))
    np.save(tmp_path / "mine.npy", Y.masked_fill(Y > 0.8, torch.nan).numpy())
    with pytest.raises(UserError, match=r"mine.npy: 77 of 768 values are infinite or NaN"):
        bench_of(toy(data=data, operator=operator)).measure(0)


def test_files_belong_together_by_their_names(toy, tmp_path):
    ys, truths = tmp_path / "ys", tmp_path / "truths"
    ys.mkdir()
    truths.mkdir()
    for index, name in enumerate(("a\u0301", "b", "c")):
        np.save(ys / f"{name}.npy", np.full((3, 16, 16), index / 10, np.float32))
    for index, name in ((2, "c"), (0, "\u00e1"), (9, "z")):
        np.save(truths / f"{name}.npy", np.full((3, 16, 16), index / 10, np.float32))
    (ys / "notes.txt").touch()
    (ys / ".b.npy").touch()
    bench = given(toy, ys, truth=str(truths))
    known = [bench.measure(index).truth for index in range(3)]
    assert [None if truth is None else round(float(truth.mean()), 3) for truth in known] == [0.0, None, 0.2]
    assert bench.notes == [
        f"{ys}: passed over 2 files (1 .txt, 1 hidden)",
        "no true image for b",
        "no measurement for the true image z",
    ]
    Image.new("RGB", (16, 16)).save(truths / "c.png")
    with pytest.raises(UserError, match=r"c.npy and .*c.png are both called c"):
        given(toy, ys, truth=str(truths))
    for file in truths.iterdir():
        file.rename(file.with_stem(f"truth-{file.stem}"))
    (truths / "truth-c.png").unlink()
    with pytest.raises(UserError, match="no image has the name of a measurement"):
        given(toy, ys, truth=str(truths))


def test_a_true_image_of_another_size_or_scale(toy, tmp_path):
    path = written(tmp_path, "npy", Y)
    Image.new("RGB", (32, 32)).save(tmp_path / "large.png")
    with pytest.raises(
        UserError, match=r"large.png: .*\[3, 32, 32\].*the images of this run have \[3, 16, 16\]"
    ):
        given(toy, path, truth=str(tmp_path / "large.png"))
    np.save(tmp_path / "loud.npy", 255 * Y.abs().numpy())
    with pytest.raises(UserError, match=r"loud.npy: values from .* to 255; true images lie in \[-1, 1\]"):
        given(toy, path, truth=str(tmp_path / "loud.npy"))
    for edge, allowed in ((1.5, True), (1.6, False)):
        np.save(tmp_path / "edge.npy", np.linspace(-edge, edge, Y.numel(), dtype=np.float32).reshape(Y.shape))
        with nullcontext() if allowed else pytest.raises(UserError, match="values from -1.6 to 1.6"):
            given(toy, path, truth=str(tmp_path / "edge.npy"))


def test_a_folder_of_images_says_what_it_passed_over(toy, tmp_path):
    path = toy()
    for name in (".hidden.png", "._ash.png", "notes.txt"):
        (tmp_path / "photos" / name).touch()
    bench = bench_of(path)
    assert bench.names == ["ash", "birch", "cedar"]
    assert bench.notes == [f"{tmp_path / 'photos'}: passed over 3 files (1 .txt, 2 hidden)"]


def test_the_white_level_of_images_and_measurements(toy, tmp_path):
    values = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "g12.tif")
    expected = torch.from_numpy(2 * values.astype(np.float32) / 4095 - 1)
    images = {"use": "images", "path": str(tmp_path / "g12.tif"), "white_level": 4095}
    truth = bench_of(toy(data=images)).measure(0).truth
    assert truth is not None
    torch.testing.assert_close(truth[0], expected)
    torch.testing.assert_close(given(toy, tmp_path / "g12.tif", white_level=4095).measure(0).y[1], expected)
    with pytest.raises(UserError, match=r"values out of range, 0 to 4095 .*white_level"):
        bench_of(toy(data=images | {"white_level": 1023})).measure(0)


def test_a_deep_file_that_uses_little_of_its_depth_is_warned_of(toy, tmp_path):
    Image.fromarray(np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)).save(tmp_path / "g12.tif")
    (text,) = given(toy, tmp_path / "g12.tif").warnings
    assert "the largest number is 4095 of 65535" in text
    assert "data.white_level" in text
    assert not given(toy, tmp_path / "g12.tif", white_level=4095).warnings
