"""What a source of a checkpoint can be."""

from __future__ import annotations

import pytest

from daps_kit.sources import Source


@pytest.mark.parametrize("wrong", [{"name": "a/b"}, {"file": "../small.ckpt"}, {"file": ""}, {"kind": "ftp"}])
def test_a_source_that_cannot_be(wrong):
    right = {"name": "small", "file": "small.ckpt", "kind": "http", "location": "http://a/b", "about": ""}
    with pytest.raises(ValueError, match="checkpoint"):
        Source(**{**right, **wrong})
