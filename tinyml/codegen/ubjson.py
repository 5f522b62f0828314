"""UBJSON, the binary form of JSON in which XGBoost saves models, as far as it is used there."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_DTYPES = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_CONSTANTS = {"T": True, "F": False, "Z": None}


def read_ubjson(data: bytes) -> Any:
    r"""Return the value that a document stands for; arrays of one type come as NumPy arrays.

    Examples
    --------
    >>> from tinyml.codegen.ubjson import read_ubjson
    >>> read_ubjson(b"{U\x01aSU\x02hiU\x01b[TF]}")
    {'a': 'hi', 'b': [True, False]}
    """
    try:
        return _Reader(data).value()
    except (IndexError, KeyError, struct.error, ValueError) as error:
        raise ValueError("The file is no complete document of UBJSON.") from error


class _Reader:
    """Goes through a document once, value by value."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self, marker: str | None = None) -> Any:
        marker = marker or self._marker()
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker == "S":
            return self._text()
        if marker == "[":
            return self._array()
        return self._object() if marker == "{" else self._numbers(marker, 1)[0].item()

    def _marker(self) -> str:
        self.at += 1
        return chr(self.data[self.at - 1])

    def _follows(self, marker: str) -> bool:
        """Step over a marker if it comes next."""
        found = chr(self.data[self.at]) == marker
        self.at += found
        return found

    def _numbers(self, marker: str, n: int) -> Any:
        dtype = np.dtype(_DTYPES[marker])
        numbers = np.frombuffer(self.data, dtype, n, self.at)
        self.at += n * dtype.itemsize
        return numbers

    def _text(self) -> str:
        n = int(self.value())
        self.at += n
        return self.data[self.at - n : self.at].decode()

    def _array(self) -> Any:
        kind = self._marker() if self._follows("$") else None
        if self._follows("#"):
            n = int(self.value())
            return self._numbers(kind, n) if kind in _DTYPES else [self.value() for _ in range(n)]
        items = []
        while not self._follows("]"):
            items.append(self.value())
        return items

    def _object(self) -> dict[str, Any]:
        items = {}
        while not self._follows("}"):
            name = self._text()
            items[name] = self.value()
        return items
