"""Parts of a run are disjoint, leave nothing out and cut no batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from daps_kit.errors import UserError
from daps_kit.runs.shard import Shard


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 12, 13])
def test_parts_are_the_whole_in_its_order(parts, batch, count):
    work = list(range(count))
    found = [Shard(number, parts).of(work, batch) for number in range(1, parts + 1)]
    assert [each for part in found for each in part] == work
    assert all(part[0] % batch == 0 for part in found if part)
    sizes = [-(-len(part) // batch) for part in found]
    assert max(sizes) - min(sizes) <= 1


def test_each_part_has_a_folder_of_its_own():
    assert Shard(3, 16).folder(Path("a/b")) == Path("a/b-shard-03-of-16")
    assert Shard(3, 4).folder(Path("a/b")) == Path("a/b-shard-3-of-4")


def test_what_is_written_is_read():
    assert Shard.read("3/16") == Shard(3, 16)
    for text in ("0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/5"):
        with pytest.raises(UserError, match=f"--shard {text}: expected I/N with I from 1 to N"):
            Shard.read(text)
