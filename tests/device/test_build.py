"""C to programs: what is refused, what is left behind."""

import re
import subprocess
from pathlib import Path

import pytest

from tinyml.device import BuildError, ToolNotFound, check_header, get_board, toolchain
from tinyml.device.build import ARDUINO, FLAGS, OS, AvrBuild, DoesNotLink
from tinyml.device.driving import ByRow
from tinyml.device.exactness import run_models_host
from tinyml.device.firmware import build_bench, build_minimal

PLATFORM_TXT = Path("/usr/share/arduino/hardware/arduino/avr/platform.txt")
UNO = get_board("uno")


@pytest.mark.device
def test_a_literal_table_takes_its_size_in_flash_and_no_ram(c_model):
    def firmware(size):
        numbers = ", ".join(str((37 * i + 11) % 251) for i in range(size))
        table = f"static const uint8_t t[{size}] PROGMEM = {{{numbers}}};\n"
        return c_model("return pgm_read_byte(&t[(uint8_t)x[0]]);", top=table)

    with AvrBuild(UNO, OS) as avr:
        small, large = (build_minimal(avr, ByRow(firmware(size))) for size in (100, 350))
    assert large.flash - small.flash == 250
    assert large.static_ram == small.static_ram == 2 * 2 + 2  # the row and the decision


@pytest.mark.device
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_static_variables_are_counted_as_ram_and_their_values_as_flash(c_model, flags):
    top = "static volatile uint8_t zeros[30]; static volatile uint8_t ones[20] = {1, 1, 1};\n"
    body = "return (int16_t)(zeros[x[0]] + ones[x[1]]);"
    with AvrBuild(UNO, flags) as avr:
        elf = build_minimal(avr, ByRow(c_model(body, top=top)))
        plain = build_minimal(avr, ByRow(c_model("return 1;")))
        larger = build_minimal(avr, ByRow(c_model(body, top=top.replace("[30]", "[430]"))))
    assert elf.static_ram - plain.static_ram == 50
    assert elf.flash - plain.flash >= 20
    assert (larger.static_ram - elf.static_ram, larger.flash - elf.flash) == (400, 0)


@pytest.mark.device
def test_functions_that_are_not_called_take_no_flash(c_model):
    top = "double unused(double a);\ndouble unused(double a) { return a / 3.0; }\n"
    with AvrBuild(UNO, OS) as avr:
        without, with_it = (
            build_minimal(avr, ByRow(c_model("return x[0];", top=t))) for t in ("", top)
        )
    assert with_it.flash == without.flash


@pytest.mark.skipif(not PLATFORM_TXT.is_file(), reason="Arduino's AVR core is not installed")
def test_arduinos_flags_are_those_of_its_core():
    text = PLATFORM_TXT.read_text().replace("{compiler.warning_flags}", "-w")

    def words(key):
        (line,) = re.findall(rf"^{re.escape(key)}=(.*)$", text, flags=re.MULTILINE)
        return set(line.split()) - {"-c", "-MMD"}  # neither changes the code

    assert set(ARDUINO.compile) == words("compiler.c.flags")
    assert set(ARDUINO.link) == words("compiler.c.elf.flags")


@pytest.mark.device
def test_a_program_too_large_to_link_still_has_sizes(c_model):
    table = f"static const uint8_t t[9000] PROGMEM = {{{', '.join(['7'] * 9000)}}};\n"
    model = c_model("return pgm_read_byte(&t[x[0]]);", top=table)
    with AvrBuild(get_board("attiny85"), OS) as avr, pytest.raises(DoesNotLink) as caught:
        build_minimal(avr, ByRow(model))
    assert 9000 < caught.value.sizes.flash < 9200


@pytest.mark.device
def test_broken_c_is_reported_without_folders(linear, temporary_files):
    files = {**linear.sources, "m.c": '#include "m.h"\nint f(void) { return undeclared; }\n'}
    with AvrBuild(UNO, OS) as avr, pytest.raises(BuildError) as caught:
        avr.compile(files)
    assert re.fullmatch(r"avr-gcc failed: m\.c:2:\d+: error: .undeclared. .*", str(caught.value))


@pytest.mark.device
def test_nothing_is_left_of_a_build(linear, temporary_files):
    with AvrBuild(UNO, OS) as avr:
        build_bench(avr, [ByRow(linear)])
        assert list(temporary_files.iterdir())
    assert not list(temporary_files.iterdir())


@pytest.mark.device
def test_nothing_is_left_of_a_build_that_is_interrupted(linear, rows, temporary_files, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt), AvrBuild(UNO, OS) as avr:
        build_minimal(avr, ByRow(linear))
    with pytest.raises(KeyboardInterrupt):
        run_models_host([linear], [rows])
    assert not list(temporary_files.iterdir())


def test_without_a_compiler_the_build_says_so(linear, monkeypatch, temporary_files):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(toolchain, "_SYSTEM_FOLDERS", ())
    monkeypatch.setattr(toolchain, "_HOME_FOLDERS", ())
    with pytest.raises(ToolNotFound, match=r"^avr-gcc was not found\. Install it with"):
        AvrBuild(UNO, OS)
    with pytest.raises(ToolNotFound, match=r"^clang was not found\. Install it with"):
        check_header(linear.sources, "m", standard="c99")
    assert not list(temporary_files.iterdir())


def find_or_skip(*tools):
    for tool in tools:
        try:
            toolchain.find_tool(tool)
        except ToolNotFound as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("standard", ["c99", "c++11"])
def test_a_clean_header_passes_in_both_languages(linear, standard):
    find_or_skip("gcc", "g++")
    check_header(linear.sources, "m", standard=standard)


@pytest.mark.parametrize(
    ("line", "standard"),
    [
        ("int twice;", "c++11"),  # defined again by the second inclusion
        ("static inline int8_t f(int a) { return a; }", "c99"),  # -Wconversion
        ("static int unused(void) { return 1; }", "c99"),
        ("static inline long f(void) { return 1LL << 3; }", "c++11"),
        ("int class;", "c++11"),
    ],
)
def test_a_header_with_a_flaw_does_not(line, standard):
    find_or_skip("gcc", "g++")
    with pytest.raises(BuildError, match=r"(gcc|g\+\+) failed: m\.h:2:"):
        check_header({"m.h": f"#include <stdint.h>\n{line}\n"}, "m", standard=standard)
