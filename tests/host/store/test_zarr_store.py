"""One Zarr store: what strangers read in it, and that nothing is lost, whatever is killed when."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import daps_kit
from daps_kit.errors import UserError
from daps_kit.runs.merge import merge
from daps_kit.runs.runner import run
from daps_kit.runs.states import run_states
from daps_kit.store import Key, Store, open_store
from daps_kit.tensor_file import DamagedFile

pytest.importorskip("zarr")
module = pytest.importorskip("daps_kit.store.zarr_store")

SHAPE = (1, 3, 2)
NAMES = [f"image-{number}" for number in range(5)]


def tensor(name: str, run: int) -> torch.Tensor:
    seed = 10 * (NAMES.index(name) if name in NAMES else 7) + run
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def quickly(path: Path, data: bytes) -> None:
    """Write a file without waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def opened(path: Path, names: list[str] = NAMES, runs: int = 2) -> Store:
    store = open_store(path, quickly, new="zarr")
    store.begin(names, runs, lambda: {"recipe": "any"})
    return store


def write(store: Store, name: str, run: int) -> None:
    store.write(Key("sample", name, run), {"x0": tensor(name, run)}, {"said": f'{{"of": {run}}}'})


def whole(store: Store) -> Iterator[tuple[str, int]]:
    """The samples that are there; each is as it was written."""
    for key in store.keys():  # noqa: SIM118 (not a mapping)
        found, said = store.read(key)
        assert torch.equal(found["x0"], tensor(key.name, key.run))
        assert said == {"said": f'{{"of": {key.run}}}'}
        yield key.name, key.run


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images in a block."""
    monkeypatch.setattr(module, "SHARD", 4 * math.prod(SHAPE) * 2 * 2)


# --- a run


@pytest.fixture
def both(toy, tmp_path: Path) -> dict[str, daps_kit.RunResult]:
    operator = {
        "use": "inpainting",
        "mask": "random",
        "draw": "per_image",
        "noise": {"use": "gaussian", "sigma": "unknown"},
    }
    changes = ["runs=3", "batch_size=2", "trajectory=2", "check_prior=false"]
    return {
        store: daps_kit.run(
            toy(operator=operator), [*changes, f"store={store}", f"output={tmp_path / store}"], quiet=True
        )
        for store in ("files", "zarr")
    }


def test_a_run_is_the_same_in_both_stores(both) -> None:
    read_by_xarray(both["files"], both["zarr"])
    files, zarr = both["files"], both["zarr"]
    for store in (zarr, daps_kit.open(zarr.path)):
        assert torch.equal(store.samples, files.samples)
        assert torch.equal(store.measurement, files.measurement)
        assert torch.equal(store.truth, files.truth)
        for name in files.names:
            one, other = store[name], files[name]
            np.testing.assert_allclose(one._pictures(), other._pictures(), atol=1 / 255)
    assert zarr.metrics == files.metrics
    assert (zarr.path / "grid.png").read_bytes() == (files.path / "grid.png").read_bytes()
    assert not list(zarr.path.rglob("*.safetensors"))
    assert {path.name for path in zarr.path.iterdir()} == {
        *(path.name for path in files.path.iterdir()),
        "results.zarr",
    } - {"samples", "measurement"}
    pages = [(result.path / "report.html").read_text().replace("zarr", "files") for result in (zarr, files)]
    assert pages[0].count("data:image/webp") == pages[1].count("data:image/webp")
    # The same command goes on, and draws no sample again.
    written = {path: path.stat().st_mtime_ns for path in (zarr.path / "results.zarr" / "samples").iterdir()}
    again = daps_kit.run(zarr.path / "recipe.yaml", quiet=True)
    assert torch.equal(again.samples, files.samples)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert [state.state for state in run_states(zarr.path)] == ["finished"]


def read_by_xarray(files, zarr) -> None:
    xarray = pytest.importorskip("xarray")
    data = xarray.open_zarr(zarr.path / "results.zarr", chunks=None)
    assert data["image"].values.tolist() == list(files.names)
    assert data["samples"].dims == ("image", "run", "channel", "height", "width")
    assert (data["samples"].values == files.samples.numpy()).all()
    assert (data["truth"].values == files.truth.numpy()).all()
    assert (data["measurement"].values == files.measurement.numpy()).all()
    assert data["measurement"].dims == data["truth"].dims
    np.testing.assert_allclose(data["mean"], torch.stack([image.mean for image in files]), atol=1e-6)
    np.testing.assert_allclose(data["std"], files.samples.std(1), atol=1e-6)
    np.testing.assert_allclose(data["q50"], files.samples.median(1).values, atol=1e-6)
    assert data["x0y"].dims == ("image", "run", "level", "channel", "height", "width")
    assert data["parameter"].values.tolist() == ["noise.sigma"]
    values = [files.metrics["images"][name]["parameters"]["noise.sigma"]["samples"] for name in files.names]
    np.testing.assert_allclose(data["parameters"].values[..., 0], values)
    assert data.attrs["data_range"] == [-1, 1]
    assert "use: inpainting" in data.attrs["recipe"]
    assert data.attrs["versions"]["libraries"]["torch"] == torch.__version__


def test_a_folder_of_files_becomes_a_zarr_store(toy) -> None:
    files = daps_kit.run(toy(), ["check_prior=false"], quiet=True)
    samples = files.samples
    zarr = daps_kit.run(toy(), ["check_prior=false", "store=zarr", "runs=3"], quiet=True)
    assert torch.equal(zarr.samples[:, :2], samples)
    assert not list((zarr.path / "samples").rglob("*.safetensors"))
    stays = daps_kit.run(toy(), ["check_prior=false", "store=files", "runs=3"], quiet=True)
    assert torch.equal(stays.samples, zarr.samples)
    assert not list((zarr.path / "samples").rglob("*.safetensors"))


def test_parts_are_joined(toy, tmp_path: Path) -> None:
    changes = ["batch_size=2", "runs=3", "check_prior=false"]
    files = daps_kit.run(toy(), [*changes, f"output={tmp_path / 'whole'}"], quiet=True)
    parts = [run(toy(), [*changes, "store=zarr"], quiet=True, shard=f"{part}/2").path for part in (1, 2)]
    assert all((part / "results.zarr").is_dir() and not list(part.rglob("*.safetensors")) for part in parts)
    joined = merge(parts, tmp_path / "joined", quiet=True)
    assert (joined.path / "results.zarr").is_dir()
    assert torch.equal(joined.samples, files.samples)
    assert joined.metrics == files.metrics


@pytest.mark.slow
def test_workers_that_see_the_folder_fill_one_store(toy, tmp_path: Path) -> None:
    changes = ["batch_size=2", "runs=3", "check_prior=false"]
    files = daps_kit.run(toy(), [*changes, f"output={tmp_path / 'whole'}"], quiet=True)
    many = ["store=zarr", "execution.use=processes", "execution.workers=2", "execution.shared_folder=true"]
    zarr = daps_kit.run(toy(), [*changes, *many], quiet=True)
    assert not list(zarr.path.rglob("*.safetensors"))
    assert torch.equal(zarr.samples, files.samples)
    assert zarr.metrics == files.metrics


# --- killed


class Killed(BaseException):
    """What no clause catches."""


@pytest.mark.slow
def test_nothing_is_lost_whenever_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before and after every file that is written or removed, from the first to the last."""
    names = NAMES[:3]
    order = [(name, run) for name in names for run in (0, 1)]
    original, taken = module._Files.set, module.FileStore.remove
    left = math.inf

    def tick() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    async def set_(self, key, value):
        tick()
        await original(self, key, value)

    def remove(self, key):
        tick()
        taken(self, key)

    monkeypatch.setattr(module._Files, "set", set_)
    monkeypatch.setattr(module.FileStore, "remove", remove)
    kills = 0
    for moment in range(1000):
        path = tmp_path / str(moment)
        done: list[tuple[str, int]] = []
        left = moment
        try:
            store = opened(path, names)
            for place in order:
                done.append(place)
                write(store, *place)
            store.finish()
        except Killed:
            kills += 1
        left = math.inf
        after = opened(path, names)
        assert set(whole(after)) == set(done)
        for place in order:
            if place not in done:
                write(after, *place)
        after.finish()
        assert sorted(whole(open_store(path))) == sorted(order)
        assert not list(path.rglob("*.safetensors"))
        shutil.rmtree(path)
        if len(done) == len(order) and moment > kills:
            break
    assert kills > 20


# --- damaged


def test_what_was_changed_is_not_taken_for_whole(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in NAMES[:2]:
        for number in (0, 1):
            write(store, name, number)
    (shard,) = (tmp_path / "results.zarr/samples").glob("c.*")
    content = bytearray(shard.read_bytes())
    place = content.index(tensor(NAMES[1], 0).numpy().tobytes())
    content[place] ^= 1
    shard.write_bytes(content)
    again = opened(tmp_path)
    with pytest.raises(DamagedFile, match="the sample of image-1 is damaged"):
        again.read(Key("sample", NAMES[1], 0))
    for name, number in ((NAMES[0], 0), (NAMES[0], 1), (NAMES[1], 1)):
        assert torch.equal(again.read(Key("sample", name, number))[0]["x0"], tensor(name, number))
    write(again, NAMES[1], 0)
    again.finish()
    assert len(set(whole(open_store(tmp_path)))) == 4
    # A shard that is cut takes all of it along, but not what comes.
    shard.write_bytes(content[:-3])
    cut = opened(tmp_path)
    for name, number in ((NAMES[0], 0), (NAMES[0], 1), (NAMES[1], 1)):
        with pytest.raises(DamagedFile):
            cut.read(Key("sample", name, number))
    write(cut, NAMES[0], 0)
    cut.finish()
    assert set(whole(open_store(tmp_path))) == {(NAMES[0], 0)}


def test_a_record_counts_only_with_its_own_tensors(tmp_path: Path) -> None:
    """As when the shard of a kind was written and that of its records was not."""
    store = opened(tmp_path, NAMES[:2], 1)
    for name in NAMES[:2]:
        write(store, name, 0)
    store.arrays["samples"][0, 0] = 1.0
    with pytest.raises(DamagedFile, match="its checksum is another"):
        store.read(Key("sample", NAMES[0], 0))


# --- growing


def test_runs_and_images_may_come_later(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in NAMES:
        write(store, name, 0)
        write(store, name, 1)
    store.finish()
    more = ["earlier", *NAMES]
    store = opened(tmp_path, more, 3)
    assert len(set(whole(store))) == 10
    for name in more:
        for number in (0, 1, 2) if name == "earlier" else (2,):
            write(store, name, number)
    store.finish()
    assert set(whole(open_store(tmp_path))) == {(name, number) for name in more for number in range(3)}
    assert store.arrays["samples"].shape == (6, 3, *SHAPE)
    assert list(store.arrays["image"][:]) == [*NAMES, "earlier"]


def test_images_of_another_size_stay_files(tmp_path: Path) -> None:
    store = opened(tmp_path, NAMES[:3], 1)
    large = torch.zeros(1, 5, 5)
    write(store, NAMES[0], 0)
    store.write(Key("sample", NAMES[1], 0), {"x0": large}, {})
    write(store, NAMES[2], 0)
    store.finish()
    assert [path.name for path in (tmp_path / "samples").iterdir()] == [NAMES[1]]
    again = opened(tmp_path, NAMES[:3], 1)
    assert torch.equal(again.read(Key("sample", NAMES[1], 0))[0]["x0"], large)
    assert torch.equal(again.read(Key("sample", NAMES[2], 0))[0]["x0"], tensor(NAMES[2], 0))


def test_its_files_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 32 << 20)
    names = [f"image-{number}" for number in range(200)]
    counts = {}
    for kind in ("files", "zarr"):
        store = open_store(tmp_path / kind, quickly, new=kind)
        store.begin(names, 4, dict)
        for name in names:
            for number in range(4):
                store.write(Key("sample", name, number), {"x0": torch.zeros(SHAPE)}, {})
        store.finish()
        counts[kind] = sum(path.is_file() for path in (tmp_path / kind).rglob("*"))
    assert counts == {"files": 800, "zarr": 7}


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    store = open_store(tmp_path, new="zarr")
    store.begin(NAMES[:1], 1, dict)
    (tmp_path / "results.zarr").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        write(store, NAMES[0], 0)
