"""Damaged and hostile checkpoints and archives, through what reads them."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import struct
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from daps_kit.errors import UserError
from daps_kit.weights.pickles import read_arrays
from daps_kit.weights.tensors import convert, read_tensors

from .mutate import mutated_bytes
from .watch import CANARY, Case

__all__ = ["checkpoint_cases"]


class Runs:
    """What runs a program when it is unpickled by a reader that lets it."""

    def __init__(self, function: str = "os.system") -> None:
        self.function = function

    def __reduce__(self) -> Any:
        import os

        return {
            "os.system": (os.system, (f"touch {CANARY}",)),
            "open": (open, (CANARY, "w")),
            "exec": (exec, (f"open('{CANARY}', 'w')",)),
        }[self.function]


def _contents() -> list[Any]:
    state = OrderedDict((f"block.{i}.weight", torch.arange(12.0).reshape(3, 4) * i) for i in range(3))
    state["block.0.bias"] = torch.zeros(3, dtype=torch.float16)
    return [
        state,
        {
            "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
            "epoch": 3,
            "optimizer": {"lr": 0.1},
        },
        {
            "model": state,
            "ema": {name: tensor * 2 for name, tensor in state.items()},
            "opt": Namespace(a=1, b=[1, 2]),
        },
        {"ema_model": {"deep": state}, "arguments": Namespace(path=Path("x"))},
        torch.zeros(3),
        [state, state],
        {},
    ]


def _saved(content: Any, *, old: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=not old)
    return out.getvalue()


HUGE = (
    b"\x8a\xff" + b"\x7f" * 255,  # a number of 255 bytes
    b"\x8b\xff\xff\xff\x7f",  # a number of two billion bytes
    b"\x8e" + struct.pack("<Q", 2**40),  # bytes without end
    b"\x8d" + struct.pack("<Q", 2**40),  # text without end
    b"\x95" + struct.pack("<Q", 2**62),  # a frame without end
    b"T" + struct.pack("<I", 2**31 - 1),
    b"(" * 100_000,
    b"]" * 100_000,
    b"]\x85" * 50_000,
    b"]q\x00" + b"h\x00a" * 1000,
    b"r" + struct.pack("<I", 2**30),  # a place in the memo far away
    b"p2000000000\n",
    b"h\xff",
    b"0" * 10,
    b"cos\nsystem\n(S'touch canary'\ntR",
    b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'touch canary'\ntR",
    b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    b"ctorch._utils\n_rebuild_parameter\n)R",
    b"ccollections\nOrderedDict\n(K\x01K\x02tR",
    b"ctorch\nSize\n(K\x01tR",
    b"ctorch\nfloat32\n)R",
    b"\x82\x01",
    b"Q",
    b"b",
    b"}b",
    b"\x93",
    b"S'unended",
    b"Fnan\n",
    b"I99999999999999999999999999999999999\n",
    b"L" + b"9" * 100_000 + b"L\n",
    b"V\\ud800\n",
)
"""Instructions of pickles that no trainer writes."""


def _pickle_changed(data: bytes, draw: Random) -> bytes:
    """Change the instructions of a pickle: put some in, take some out, change what they hold."""
    if draw.random() < 0.4:
        return mutated_bytes(data, draw)
    try:
        places = [place for _, _, place in pickletools.genops(data) if place is not None]
    except Exception:  # noqa: BLE001 (any pickle will do)
        return mutated_bytes(data, draw)
    at = draw.choice(places)
    end = next((place for place in places if place > at), len(data))
    match draw.randrange(4):
        case 0:
            return data[:at] + draw.choice(HUGE) + data[at:]
        case 1:
            return data[:at] + draw.choice(HUGE) + data[end:]
        case 2:
            return data[:at] + data[end:]
        case _:
            other = draw.choice(places)
            last = next((place for place in places if place > other), len(data))
            return data[:at] + data[other:last] + data[at:]


def _tensor_changed(data: bytes, draw: Random) -> bytes:
    """Change a number in a pickle of tensors: sizes, strides, offsets and counts."""
    places = [
        (op, place)
        for op, _, place in pickletools.genops(data)
        if op.name in ("BININT1", "BININT2", "BININT") and place is not None
    ]
    if not places:
        return data
    op, place = draw.choice(places)
    length = {"BININT1": 2, "BININT2": 3, "BININT": 5}[op.name]
    number = draw.choice((0, -1, 1, 2**31 - 1, -(2**31), 10**6, 10**9))
    wide = b"\x8a\x08" + struct.pack("<q", draw.choice((2**40, 2**62, -(2**62), 2**33)))
    return data[:place] + draw.choice((b"J" + struct.pack("<i", number), wide)) + data[place + length :]


def _zip_changed(data: bytes, draw: Random) -> bytes:
    """Change an archive: what its entries hold, are called, how they are packed, and what it says of them."""
    out = io.BytesIO()
    how = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", how) as new:
        names = old.namelist()
        pickled = next(name for name in names if name.endswith("data.pkl"))
        kind = draw.choice(
            (
                "pickle",
                "pickle",
                "pickle",
                "tensor",
                "tensor",
                "tensor",
                "entry",
                "name",
                "twice",
                "gone",
                "bomb",
                "many",
                "numbers",
            )
        )
        chosen = pickled if kind in ("pickle", "tensor") else draw.choice(names)
        for name in names:
            content = old.read(name)
            if kind == "gone" and name == chosen:
                continue
            if name == chosen:
                content = {
                    "pickle": lambda c: _pickle_changed(c, draw), "tensor": lambda c: _tensor_changed(c, draw),
                    "entry": lambda c: mutated_bytes(c, draw), "bomb": lambda c: c + bytes(3 << 26),
                    "numbers": lambda c: c[: len(c) // 2],
                }.get(kind, lambda c: c)(content)  # fmt: skip
            written = (
                draw.choice(("../../x", "/x", "archive/data.pkl", "a" * 5000, "archive/../data.pkl", " "))
                if kind == "name" and name == chosen
                else name
            )
            new.writestr(written, content)
        if kind == "twice":
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new.writestr(chosen, b"\x80\x02N.")
        if kind == "many":
            for index in range(3_000):
                new.writestr(f"x/{index}", b"", zipfile.ZIP_STORED)
    changed = bytearray(out.getvalue())
    if (
        draw.random() < 0.3
    ):  # what the list of contents says of an entry: its sizes, its checksum, its place, its method
        at = changed.rfind(b"PK\x01\x02")
        place = at + draw.choice((6, 8, 10, 16, 20, 24, 28, 30, 42))
        changed[place : place + 4] = draw.choice(
            (b"\xff\xff\xff\xff", b"\0\0\0\0", struct.pack("<I", 10**9), draw.randbytes(4))
        )
    return bytes(changed)


def checkpoint_cases(count: int) -> Iterator[Case]:
    """Yield so many checkpoints: zipped ones, ones in PyTorch's old format, hostile ones, and pickles of arrays."""
    kinds = (_zipped, _zipped, _zipped, _old, _hostile, _arrays)
    for index in range(count):
        do = kinds[index % len(kinds)]
        yield Case(f"checkpoints: {do.__name__[1:]}", f"{index}", do)


def _zipped(place: Path, draw: Random) -> str:
    data = _saved(draw.choice(_contents()))
    return _read(place, mutated_bytes(data, draw) if draw.random() < 0.2 else _zip_changed(data, draw), draw)


def _old(place: Path, draw: Random) -> str:
    data = _saved(draw.choice(_contents()), old=True)
    changed = (mutated_bytes, _pickle_changed, _tensor_changed)
    return _read(place, draw.choice(changed)(data, draw), draw)


def _hostile(place: Path, draw: Random) -> str:
    state = _contents()[0]
    runs = Runs(draw.choice(("os.system", "open", "exec")))
    content = draw.choice(
        (
            {**state, "x": runs},
            runs,
            [runs],
            {"state_dict": {**state, "x": runs}},
            {"ema": runs, "model": state},
        )
    )
    form = draw.randrange(3)
    return _read(
        place,
        _saved(content, old=form == 1) if form < 2 else pickle.dumps(content, draw.choice((0, 2, 4))),
        draw,
    )


def _arrays(place: Path, draw: Random) -> str:
    content: Any = OrderedDict(
        (f"layer{i}", {"w": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, np.int8)}) for i in range(3)
    )
    if draw.random() < 0.2:
        content["x"] = draw.choice(
            (Runs(), np.array([{}, None]), Namespace(a=1), np.zeros(2, "U3"), np.zeros(2, [("a", "<i4")]))
        )
    data = pickle.dumps(content, draw.choice((2, 3, 4)))
    path = place / "bad.pkl"
    path.write_bytes(draw.choice((_pickle_changed, _pickle_changed, _tensor_changed))(data, draw))
    read_arrays(path)
    return "read"


def _read(place: Path, data: bytes, draw: Random) -> str:
    path = place / f"bad.{draw.choice(('pt', 'pth', 'ckpt', 'bin', 'pt', 'pt', 'safetensors'))}"
    if path.suffix == ".safetensors" and draw.random() < 0.7:
        data = mutated_bytes(save({"a.weight": torch.zeros(3, 4), "a.bias": torch.ones(3)}), draw, head=200)
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        read_tensors(path, weights="ema")
    with contextlib.suppress(UserError):
        read_tensors(path, weights="raw")
    convert(path, place / "out.safetensors")
    return "read"
