"""Reading what matters of a 32-bit little-endian ELF: section sizes and symbol addresses."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

# In avr-gcc's one address space data begin at 0x800000; EEPROM and fuses lie above 0x810000.
_RAM, _EEPROM = 0x800000, 0x810000
_PROGBITS, _SYMTAB, _NOBITS = 1, 2, 8
_ALLOC = 2


@dataclass(frozen=True)
class Section:
    """One section header."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int

    @property
    def in_ram(self) -> bool:
        """Whether the section has an address in RAM."""
        return bool(self.flags & _ALLOC) and _RAM <= self.address < _EEPROM

    @property
    def in_flash(self) -> bool:
        """Whether the section is stored in flash: code, constants and initial values of data."""
        return bool(self.flags & _ALLOC) and self.kind == _PROGBITS and self.address < _EEPROM


@dataclass(frozen=True)
class Elf:
    """A linked program held in memory, so that no file outlives the build.

    Examples
    --------
    ::

        elf = Elf(Path("sketch.ino.elf").read_bytes())
        print(elf.flash, elf.static_ram, elf.symbols["main"])
    """

    image: bytes

    def __post_init__(self) -> None:
        if self.image[:6] != b"\x7fELF\x01\x01":
            raise ValueError("The file is not a 32-bit little-endian ELF.")

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All sections, in file order."""
        (start,) = struct.unpack_from("<I", self.image, 32)
        size, count, names_index = struct.unpack_from("<HHH", self.image, 46)
        rows = [struct.unpack_from("<7I", self.image, start + i * size) for i in range(count)]
        names = rows[names_index][4]
        return tuple(Section(self._text(names + row[0]), *row[1:]) for row in rows)

    @cached_property
    def symbols(self) -> dict[str, int]:
        """Address of each named symbol; RAM addresses without avr-gcc's 0x800000."""
        return {name: value & 0xFFFF if value >= _RAM else value for name, value in self._symbols()}

    @property
    def flash(self) -> int:
        """Bytes of flash: code, constants and initial values."""
        return sum(s.size for s in self.sections if s.in_flash)

    @property
    def static_ram(self) -> int:
        """Bytes of RAM that the linker has placed."""
        return sum(s.size for s in self.sections if s.in_ram)

    def _symbols(self) -> Iterator[tuple[str, int]]:
        for table in (s for s in self.sections if s.kind == _SYMTAB):
            names = self.sections[table.link].offset
            for at in range(table.offset, table.offset + table.size, 16):
                name, value = struct.unpack_from("<II", self.image, at)
                if name:
                    yield self._text(names + name), value

    def _text(self, start: int) -> str:
        return self.image[start : self.image.index(0, start)].decode()
