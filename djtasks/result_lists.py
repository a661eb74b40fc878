"""The results of very many calls."""

from collections.abc import Sequence
from typing import TypeVar, overload

from djtasks.result import AsyncResult

R_co = TypeVar("R_co", covariant=True)


class Results(Sequence[AsyncResult[R_co]]):
    """The results of many calls, in their order. It keeps 16 bytes a call, and makes an AsyncResult when asked."""

    __slots__ = ("_ids", "_ignored")

    def __init__(self, ids: bytes | bytearray, ignored: bool = False) -> None:
        self._ids = ids
        self._ignored = ignored

    def __len__(self) -> int:
        return len(self._ids) // 16

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R_co]: ...

    @overload
    def __getitem__(self, index: slice) -> list[AsyncResult[R_co]]: ...

    def __getitem__(self, index: int | slice) -> AsyncResult[R_co] | list[AsyncResult[R_co]]:
        if isinstance(index, slice):
            return [self._result(number) for number in range(len(self))[index]]
        return self._result(range(len(self))[index])

    def ids(self) -> list[str]:
        """The ids of the tasks."""
        whole = self._ids.hex()
        texts = (whole[start : start + 32] for start in range(0, len(whole), 32))
        return [f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" for text in texts]

    def _result(self, number: int) -> AsyncResult[R_co]:
        text = self._ids[number * 16 : number * 16 + 16].hex()
        result: AsyncResult[R_co] = AsyncResult(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
        result.ignored = self._ignored
        return result

    def __repr__(self) -> str:
        return f"<Results: {len(self)} tasks>"
