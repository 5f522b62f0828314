"""The boards a program can be measured on: one row each.

`flash` is what a sketch may occupy once the usual bootloader has taken its share, as the Arduino
AVR core's ``boards.txt`` states it (``upload.maximum_size``); the ATtiny85 is programmed over ISP
and has no bootloader, and it runs from its internal 8 MHz oscillator.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """What building for a board and simulating it need to know.

    Attributes
    ----------
    name : str
        The name used in ``measure(..., board=name)``.
    mcu : str
        The chip, as ``avr-gcc -mmcu`` and simavr both spell it.
    core : str
        The instruction set; ``avr25`` has no multiplier and no jump beyond 8 KB.
    flash, ram : int
        Bytes a program may use.
    clock_hz : int
        Clock of the board as sold.
    active_current_ma : float
        Typical supply current of the active chip at 8 MHz and 5 V, a point that all the datasheets
        tabulate.
    datasheet : str
        Where that current is printed.
    ram_start : int
        Data-space address of the first byte of RAM.
    mark_address : int
        Data-space address of GPIOR0, the register through which a firmware talks to the simulator.
    fqbn : str
        The board in Arduino's own naming; empty when Arduino's AVR core does not know it.
    """

    name: str
    mcu: str
    core: str
    flash: int
    ram: int
    clock_hz: int
    active_current_ma: float
    datasheet: str
    ram_start: int
    mark_address: int
    fqbn: str

    @property
    def has_multiplier(self) -> bool:
        """Whether the core multiplies in hardware."""
        return self.core != "avr25"

    @property
    def flash_reach(self) -> int:
        """Bytes of flash that the core's jumps can address, whatever the chip has."""
        return _REACH[self.core]

    @property
    def ram_end(self) -> int:
        """Data-space address of the last byte of RAM."""
        return self.ram_start + self.ram - 1

    def milliseconds(self, cycles: float) -> float:
        """Duration of `cycles` on this board.

        Examples
        --------
        >>> get_board("uno").milliseconds(16_000)
        1.0
        """
        return cycles / self.clock_hz * 1e3


_REACH = {"avr25": 8_192, "avr5": 131_072, "avr6": 262_144}
_M328 = "ATmega48PA/88PA/168PA/328P, document 8161D, page 316: Power Supply Current"
_M2560 = "ATmega640/1280/1281/2560/2561, document 2549, DC Characteristics: Power Supply Current"
_T85 = "ATtiny25/45/85, document 7598H, page 151: Power Supply Current"

# fmt: off
BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        #     name        mcu           core     flash    ram   clock       mA    datasheet
        #     first byte of RAM, GPIOR0, Arduino's name
        Board("uno",      "atmega328p", "avr5",   32_256, 2048, 16_000_000,  5.2, _M328,
              0x100, 0x3E, "arduino:avr:uno"),
        Board("nano",     "atmega328p", "avr5",   30_720, 2048, 16_000_000,  5.2, _M328,
              0x100, 0x3E, "arduino:avr:nano:cpu=atmega328"),
        Board("mega2560", "atmega2560", "avr6",  253_952, 8192, 16_000_000, 10.0, _M2560,
              0x200, 0x3E, "arduino:avr:mega:cpu=atmega2560"),
        Board("attiny85", "attiny85",   "avr25",   8_192,  512,  8_000_000,  5.0, _T85,
              0x060, 0x31, ""),
    )
}
# fmt: on


def get_board(board: str | Board) -> Board:
    """Look a board up by name; a `Board` is returned as it is.

    Examples
    --------
    >>> get_board("nano").flash
    30720
    """
    if isinstance(board, Board):
        return board
    try:
        return BOARDS[board]
    except (KeyError, TypeError):
        known = ", ".join(BOARDS)
        raise ValueError(f"The board must be one of {known}. Got {board!r} instead.") from None
