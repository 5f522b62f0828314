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


def build_minimal(avr: AvrBuild, model: CModel) -> Elf:
    """A program that does nothing but call the model."""
    main = _HEAD + _buffers([model], scores=model.predict_ctype is None)
    call = _call(model, model.name)
    main += f"int main(void) {{ for (;;) {{ BARRIER(); {call} BARRIER(); }} }}\n"
    objects = compile_model(avr, model)
    return avr.link([*objects, *avr.compile({"minimal.c": main})])


def build_bench(avr: AvrBuild, models: Sequence[CModel], *, scores: bool = True) -> Elf:
    """A program that runs rows for the simulator, several models by turns.

    Parameters
    ----------
    avr : AvrBuild
        Where to build.
    models : sequence of CModel
        All with different names.
    scores : bool
        Also compute the score vector, outside the time that is taken.
    """
    empties = [model.empty(f"{model.name}_empty") for model in models]
    main = _HEAD + _buffers(models, scores=True)
    main += "".join(f'#include "{empty.name}.h"\n' for empty in empties)
    main += "".join(_bench_function(model, scores=scores) for model in models)
    main += _bench_main(models)
    objects = [o for model in (*models, *empties) for o in compile_model(avr, model)]
    return avr.link([*objects, *avr.compile({"bench.c": main})], symbols=_room(avr.board))


def compile_model(avr: AvrBuild, model: CModel) -> list[Path]:
    """Objects of one model, its measured function kept out of line."""
    declaration = model.timed_declaration(model.name)
    pin = f'#include "{model.name}.h"\n{declaration} __attribute__((noinline, noclone));\n'
    return avr.compile({f"{model.name}_pin.h": pin, **model.sources}, before=f"{model.name}_pin.h")


def _buffers(models: Sequence[CModel], *, scores: bool) -> str:
    lines = [f'#include "{model.name}.h"' for model in models]
    # External and "used": the optimiser must believe that somebody else writes and reads them.
    lines.append(_union("row", ((m.name, f"{m.name}_input_t", m.n_features) for m in models)))
    if scores:
        lines.append(_union("scores", ((m.name, f"{m.name}_score_t", m.n_outputs) for m in models)))
    decisions = [(m.name, m.predict_ctype, 1) for m in models if m.predict_ctype]
    lines.append(_union("decision", decisions))
    return "\n".join(lines) + "\n"


def _union(what: str, members: Iterable[tuple[str, str | None, int]]) -> str:
    fields = " ".join(f"{ctype} {name}[{length}];" for name, ctype, length in members)
    return f"SHARED union {{ {fields} }} bench_{what};" if fields else ""


def _call(model: CModel, name: str) -> str:
    """The call of the measured function of `name`, which has the interface of `model`."""
    if model.predict_ctype is None:
        return f"{name}_scores(bench_row.{model.name}, bench_scores.{model.name});"
    return f"bench_decision.{model.name}[0] = {name}_predict(bench_row.{model.name});"


def _bench_function(model: CModel, *, scores: bool) -> str:
    untimed = f"{model.name}_scores(bench_row.{model.name}, bench_scores.{model.name});"
    return (
        f"static void run_{model.name}(void) {{\n"
        f"    MARK(5); {_call(model, f'{model.name}_empty')} MARK(6);\n"
        f"    MARK(2); {_call(model, model.name)} MARK(3);\n"
        f"    {untimed if scores and model.predict_ctype else ''}\n"
        f"    MARK(4);\n"
        f"}}\n"
    )


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
