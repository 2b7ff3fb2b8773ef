"""The array formats of the extra `formats`: what the library that owns a format wrote is what is read."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from daps_kit.arrays import read_array, read_map
from daps_kit.errors import UserError

MADE = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)


def test_hdf5(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "y.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("deep/y", data=MADE.astype(">f8"), compression="gzip")
        file.create_dataset("other", data=np.arange(3, dtype=np.uint8))
        file.create_dataset("text", data="words")
    assert np.array_equal(read_array(path, "deep/y").numpy(), MADE)
    assert read_array(path, "other").tolist() == pytest.approx([-1, 2 / 255 - 1, 4 / 255 - 1])
    with pytest.raises(UserError, match="y.h5.*deep/y, other, text; say which"):
        read_array(path)
    with pytest.raises(UserError, match="expected an array of real numbers, got object"):
        read_array(path, "text")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("y", shape=(10**6, 10**5), dtype="f4", chunks=(1000, 1000), compression="gzip")
    with pytest.raises(UserError, match="bomb.h5.*would become"):
        read_array(tmp_path / "bomb.h5")
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match="cannot read .*cut.h5"):
        read_array(tmp_path / "cut.h5")


def test_matlab_7_3_keeps_the_axes_of_matlab(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "y.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("y", data=MADE.T).attrs["MATLAB_class"] = np.bytes_("single")
        mask = file.create_dataset("mask", data=(MADE[0] > 0).T.astype(np.uint8))
        mask.attrs["MATLAB_class"] = np.bytes_("logical")
        file.create_dataset("#refs#/a", data=np.zeros(2))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    assert np.array_equal(read_array(path).numpy(), MADE)
    assert np.array_equal(read_map(path, "mask"), MADE[0] > 0)


@pytest.mark.parametrize("name", ["y.nii", "y.nii.gz"])
@pytest.mark.parametrize("version", ["Nifti1Image", "Nifti2Image"])
def test_nifti(tmp_path, name, version, monkeypatch):
    nibabel = pytest.importorskip("nibabel")
    make = getattr(nibabel, version)
    make(MADE, np.eye(4)).to_filename(tmp_path / name)
    assert np.array_equal(read_array(tmp_path / name).numpy(), MADE)
    scaled = make(np.arange(20, dtype=np.int16).reshape(4, 5, 1), np.eye(4))
    scaled.header.set_slope_inter(0.5, -1)
    scaled.to_filename(tmp_path / name)
    stored = np.arange(20).reshape(4, 5)
    assert np.array_equal(
        read_array(tmp_path / name).numpy(), nibabel.load(tmp_path / name).get_fdata()[..., 0]
    )
    assert read_array(tmp_path / name).shape == stored.shape
    data = (tmp_path / name).read_bytes()
    (tmp_path / f"cut-{name}").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(UserError, match=f"cut-{name}"):
        read_array(tmp_path / f"cut-{name}")
    if name.endswith(".gz"):
        make(np.zeros((128, 128, 128), np.float32), np.eye(4)).to_filename(tmp_path / "bomb.nii.gz")
        monkeypatch.setenv("DAPS_KIT_UNPACK_MIB", "1")
        with pytest.raises(UserError, match="would become"):
            read_array(tmp_path / "bomb.nii.gz")


def test_netcdf(tmp_path):
    xarray = pytest.importorskip("xarray")
    variable = xarray.DataArray(MADE, dims=("c", "h", "w"))
    xarray.Dataset({"y": variable, "other": ("n", [1.0])}).to_netcdf(tmp_path / "y.nc", engine="scipy")
    assert np.array_equal(read_array(tmp_path / "y.nc").numpy(), MADE)


@pytest.mark.parametrize(
    ("suffix", "library"),
    [
        (".h5", "h5py"), (".nii", "nibabel"), (".nc", "xarray"), (".fits", "astropy"), (".dcm", "pydicom"),
    ],
)  # fmt: skip
def test_a_missing_extra_is_one_line(tmp_path, monkeypatch, suffix, library):
    real = importlib.import_module

    def absent(name: str, *rest: object) -> object:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr("daps_kit.reading.guard.importlib.import_module", absent)
    path = tmp_path / f"y{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(UserError) as caught:
        read_array(path)
    assert str(caught.value) == f"cannot read {path}: it needs {library}: pip install 'daps-kit[formats]'"
