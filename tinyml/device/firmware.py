"""The C program around the models on a chip: it takes rows, calls, and marks what happens when.

Two of them: `minimal` only calls the model and is what flash and RAM are read from; `bench` talks
to the simulator through GPIOR0 (the protocol is at the top of ``simavr_host.c``).

The model's own text is compiled unchanged, but the measured function is declared ``noinline``
before it, so that with link-time optimisation too there is a call whose cycles and stack can be
told from those of the program around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tinyml.device.boards import Board
from tinyml.device.build import AvrBuild, CModel
from tinyml.device.driving import Driver
from tinyml.device.elf import Elf

#: RAM beyond the chip's own, so that a program which needs too much is measured, not guessed at.
EXTRA_RAM = 0x4000

_HEAD = """\
#include <avr/io.h>
#include <stdint.h>
#define SHARED __attribute__((used, externally_visible))
#define BARRIER() __asm__ volatile ("" ::: "memory")
/* One spelling for all marks, so that they cost the same everywhere. */
#define MARK(value) __asm__ volatile ("ldi r24, %1\\n\\tout %0, r24" \\
    :: "I" (_SFR_IO_ADDR(GPIOR0)), "M" (value) : "r24", "memory")
"""


def build_minimal(avr: AvrBuild, driver: Driver) -> Elf:
    """A program that does nothing but use the model."""
    model = driver.model
    at_first, for_ever = driver.minimal
    main = _HEAD + _buffers([driver], scores=model.predict_ctype is None)
    main += f"int main(void) {{ {at_first} for (;;) {{ BARRIER(); {for_ever} BARRIER(); }} }}\n"
    objects = compile_model(avr, driver)
    return avr.link([*objects, *avr.compile({"minimal.c": main})])


def build_bench(avr: AvrBuild, drivers: Sequence[Driver], *, scores: bool = True) -> Elf:
    """A program that runs rows for the simulator, several models by turns.

    Parameters
    ----------
    avr : AvrBuild
        Where to build.
    drivers : sequence of Driver
        Models, all with different names, and how each is driven.
    scores : bool
        Also compute the score vector, outside the time that is taken.
    """
    empties = [driver.model.empty(f"{driver.model.name}_empty") for driver in drivers]
    main = _HEAD + _buffers(drivers, scores=True)
    main += "".join(f'#include "{empty.name}.h"\n' for empty in empties)
    main += "".join(driver.function(scores) for driver in drivers)
    main += _bench_main([driver.model for driver in drivers])
    ways = [*drivers, *(type(d)(empty) for d, empty in zip(drivers, empties, strict=True))]
    objects = [o for driver in ways for o in compile_model(avr, driver)]
    return avr.link([*objects, *avr.compile({"bench.c": main})], symbols=_room(avr.board))


def compile_model(avr: AvrBuild, driver: Driver) -> list[Path]:
    """Objects of one model, its measured functions kept out of line."""
    name = driver.model.name
    pins = "".join(f"{head} __attribute__((noinline, noclone));\n" for head in driver.timed)
    files = {f"{name}_pin.h": f'#include "{name}.h"\n{pins}', **driver.model.sources}
    return avr.compile(files, before=f"{name}_pin.h")


def _buffers(drivers: Sequence[Driver], *, scores: bool) -> str:
    models = [driver.model for driver in drivers]
    lines = [f'#include "{model.name}.h"' for model in models]
    # External and "used": the optimiser must believe that somebody else writes and reads them.
    lines.append(_union("row", (driver.row_member for driver in drivers)))
    lines += [driver.variables for driver in drivers]
    if scores:
        members = (f"{m.name}_score_t {m.name}[{m.n_outputs}];" for m in models)
        lines.append(_union("scores", members))
    decisions = (f"{m.predict_ctype} {m.name}[1];" for m in models if m.predict_ctype)
    lines.append(_union("decision", decisions))
    return "\n".join(line for line in lines if line) + "\n"


def _union(what: str, members: Iterable[str]) -> str:
    fields = " ".join(members)
    return f"SHARED union {{ {fields} }} bench_{what};" if fields else ""


def _bench_main(models: Sequence[CModel]) -> str:
    if len(models) == 1:
        return f"int main(void) {{ for (;;) {{ MARK(1); run_{models[0].name}(); }} }}\n"
    cases = "".join(f"        case {i}: run_{m.name}(); break;\n" for i, m in enumerate(models))
    return (
        "SHARED uint8_t bench_model;\n"
        "int main(void) {\n    for (;;) {\n        MARK(1);\n        switch (bench_model) {\n"
        f"{cases}        }}\n    }}\n}}\n"
    )


def _room(board: Board) -> dict[str, int]:
    return {
        "__stack": board.ram_end + EXTRA_RAM,
        "__DATA_REGION_LENGTH__": board.ram + EXTRA_RAM,
        "__TEXT_REGION_LENGTH__": board.flash_reach,
    }
