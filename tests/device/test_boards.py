"""The table of boards."""

import re
from pathlib import Path

import pytest

from tinyml.device import BOARDS, Board, get_board

BOARDS_TXT = Path("/usr/share/arduino/hardware/arduino/avr/boards.txt")


@pytest.mark.parametrize("name", ["uno", "nano", "mega2560", "attiny85"])
def test_a_board_is_found_by_name(name):
    board = get_board(name)
    assert board.name == name
    assert get_board(board) is board


@pytest.mark.parametrize("wrong", ["due", "Uno", None, 3, []])
def test_an_unknown_board_is_refused_in_one_sentence(wrong):
    with pytest.raises(ValueError, match=r"^The board must be one of uno, nano, .* Got .* instead"):
        get_board(wrong)


def test_only_the_tiny_has_no_multiplier():
    assert [name for name, board in BOARDS.items() if not board.has_multiplier] == ["attiny85"]


def test_ram_ends_where_the_datasheets_say():
    ends = {name: board.ram_end for name, board in BOARDS.items()}
    assert ends == {"uno": 0x8FF, "nano": 0x8FF, "mega2560": 0x21FF, "attiny85": 0x25F}


def test_time_follows_the_clock():
    assert get_board("uno").milliseconds(16_000) == 1
    assert get_board("attiny85").milliseconds(16_000) == 2


@pytest.mark.parametrize(
    ("name", "key"),
    [("uno", "uno"), ("nano", "nano.menu.cpu.atmega328"), ("mega2560", "mega.menu.cpu.atmega2560")],
)
@pytest.mark.skipif(not BOARDS_TXT.is_file(), reason="Arduino's AVR core is not installed")
def test_flash_is_what_arduino_lets_one_upload(name, key):
    line = rf"^{re.escape(key)}\.upload\.maximum_size=(\d+)$"
    (size,) = re.findall(line, BOARDS_TXT.read_text(), flags=re.MULTILINE)
    assert int(size) == BOARDS[name].flash


def test_a_board_of_ones_own_can_be_described():
    pro_mini = Board(**{**vars(get_board("uno")), "name": "pro-mini", "clock_hz": 8_000_000})
    assert get_board(pro_mini).milliseconds(8_000) == 1
