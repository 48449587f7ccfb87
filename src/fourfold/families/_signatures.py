"""What ``encode`` returns for which arguments, for type checkers; nothing here runs.

A method decorated with :func:`returns_by_flags` keeps its code and its documentation, and a type checker sees
:class:`Encode` in its place. Calls that it cannot follow, such as flags that are variables, are ``Any``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Batch = list[Any] | tuple[Any, ...] | NDArray[Any]
    Vector = Literal["sentence_embedding"]
    Whole = Literal["float32"] | None


class Encode(Protocol):
    """``encode``, ``encode_query`` and ``encode_document`` of the dense family."""

    # Calls that go by a variable or by position come last: were there one overload for all of them, every argument of
    # unknown type, such as a list from elsewhere, would fit two, and its result be unknown.
    # fmt: off
    @overload
    def __call__(self, inputs: Any = ..., *, convert_to_tensor: Literal[True], output_value: Vector = ...,
                 **options: Any) -> Tensor: ...
    @overload
    def __call__(self, inputs: Any = ..., *, convert_to_numpy: Literal[True] = ...,
                 convert_to_tensor: Literal[False] = ..., output_value: Vector = ...,
                 **options: Any) -> NDArray[Any]: ...
    @overload
    def __call__(self, inputs: str, *, convert_to_numpy: Literal[False], convert_to_tensor: Literal[False] = ...,
                 output_value: Vector = ..., **options: Any) -> Tensor: ...
    @overload
    def __call__(self, inputs: Batch, *, convert_to_numpy: Literal[False], convert_to_tensor: Literal[False] = ...,
                 output_value: Vector = ..., **options: Any) -> list[Tensor]: ...
    @overload
    def __call__(self, inputs: str, *, output_value: Literal["token_embeddings"], precision: Whole = ...,
                 **options: Any) -> Tensor: ...
    @overload
    def __call__(self, inputs: Batch, *, output_value: Literal["token_embeddings"], precision: Whole = ...,
                 **options: Any) -> list[Tensor]: ...
    @overload
    def __call__(self, inputs: str, *, output_value: None, **options: Any) -> dict[str, Any]: ...
    @overload
    def __call__(self, inputs: Batch, *, output_value: None, **options: Any) -> list[dict[str, Any]]: ...
    @overload
    def __call__(self, inputs: Any, prompt_name: str | None, /, *args: Any, **options: Any) -> Any: ...
    @overload
    def __call__(self, inputs: Any = ..., *, convert_to_tensor: bool, **options: Any) -> Any: ...
    @overload
    def __call__(self, inputs: Any = ..., *, convert_to_numpy: bool, **options: Any) -> Any: ...
    @overload
    def __call__(self, inputs: Any = ..., *, output_value: str | None, **options: Any) -> Any: ...
    # fmt: on


class EncodeStream(Protocol):
    """``encode_stream`` of the dense family."""

    # fmt: off
    @overload
    def __call__(self, inputs: Iterable[Any], *, convert_to_tensor: Literal[True], output_value: Vector = ...,
                 **options: Any) -> Generator[Tensor, None, None]: ...
    @overload
    def __call__(self, inputs: Iterable[Any], *, convert_to_numpy: Literal[False], output_value: Vector = ...,
                 **options: Any) -> Generator[Tensor, None, None]: ...
    @overload
    def __call__(self, inputs: Iterable[Any], *, convert_to_numpy: Literal[True] = ...,
                 convert_to_tensor: Literal[False] = ..., output_value: Vector = ...,
                 **options: Any) -> Generator[NDArray[Any], None, None]: ...
    @overload
    def __call__(self, inputs: Iterable[Any], *, convert_to_tensor: bool,
                 **options: Any) -> Generator[Any, None, None]: ...
    @overload
    def __call__(self, inputs: Iterable[Any], *, output_value: str | None,
                 **options: Any) -> Generator[Any, None, None]: ...
    # fmt: on


class _EncodeMethod(Protocol):
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Encode: ...


class _StreamMethod(Protocol):
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> EncodeStream: ...


def returns_by_flags(method: Callable[..., Any]) -> _EncodeMethod:
    """Return the method itself, typed as :class:`Encode`."""
    return method


def streams_by_flags(method: Callable[..., Any]) -> _StreamMethod:
    """Return the method itself, typed as :class:`EncodeStream`."""
    return method
