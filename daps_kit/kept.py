"""What an object computes once and its copies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["kept"]

Value = TypeVar("Value")


class kept(Generic[Value]):
    """A property that is computed once, when it is first asked for.

    Unlike `functools.cached_property` it is so for all copies (`copy.copy`) of an object, too, whichever asks first:
    a copy of an operator with other noise has the same matrices.
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        values = instance.kept
        if self.name not in values:
            values[self.name] = self.function(instance)
        return values[self.name]
