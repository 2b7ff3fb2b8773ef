"""What is computed once is shared by copies, whichever asks first."""

from __future__ import annotations

import copy
from typing import Any

from daps_kit.kept import kept


class Square:
    def __init__(self, side: float) -> None:
        self.side, self.calls = side, [0]
        self.kept: dict[str, Any] = {}

    @kept
    def area(self) -> float:
        """The area."""
        self.calls[0] += 1
        return self.side**2


def test_copies_share_it() -> None:
    one = Square(3.0)
    two = copy.copy(one)
    assert two.area == one.area == 9.0
    assert one.calls == [1]
    assert Square(2.0).area == 4.0
    assert Square.area.__doc__ == "The area."
