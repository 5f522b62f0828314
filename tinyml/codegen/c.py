"""Program → C99 text. Knows how C is laid out and nothing about any particular op."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyml.codegen.fixed import ctype_bytes, ctype_range, index_ctype
from tinyml.codegen.ops.base import Elementwise, Op, Ref, Store, Table
from tinyml.codegen.ops.elementwise import c_int
from tinyml.codegen.ops.layout import rides, shared

if TYPE_CHECKING:
    from tinyml.codegen.program import Program

# words of C and C++, functions of every sketch, headers that a file of that name would hide
_RESERVED = set(
    re.findall(
        r"\w+",
        """
        alignas alignof and and_eq asm auto bitand bitor bool break case catch char class
        compl const constexpr continue decltype default delete do double else enum explicit
        export extern false float for friend goto if inline int long main mutable namespace
        new noexcept not not_eq nullptr operator or or_eq private protected public register
        restrict return short signed sizeof static struct switch template this throw true
        try typedef typeid typename union unsigned using virtual void volatile wchar_t while
        xor xor_eq loop setup
        arduino errno inttypes limits math setjmp signal stddef stdint stdio stdlib string time
        """,
    )
)


_LONGEST_STRING = 4095  # bytes that any C99 compiler takes in one literal


def check_name(name: Any) -> str:
    """Return `name` if it can prefix every identifier of a C file, else raise ValueError."""
    legal = isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
    if not legal or "__" in name or len(name) > 40 or name.lower() in _RESERVED:
        raise ValueError(
            "The 'name' parameter must be a C identifier of at most 40 letters, digits and single "
            f"underscores that begins with a letter and is no reserved word. Got {name!r} instead."
        )
    return str(name)


def c_string(text: str) -> str:
    """Return `text` as a C string literal; bytes that could end or bend it become octal escapes."""
    plain = set(b" !#$%&'()*+,-./0123456789:;<=>@[]^_`{|}~") | set(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    )
    data = text.encode("utf-8", "surrogatepass")
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in data) + '"'


def _strings(names: list[str]) -> str:
    """Spell names end to end, a line for each."""
    return "\n".join(f'    {c_string(name)} "\\0"' for name in names)


def _characters(names: list[str]) -> str:
    """Spell names end to end where they are longer than what C promises to take as one string."""
    data = b"".join(name.encode("utf-8", "surrogatepass") + b"\0" for name in names)
    spelled = (f"'{chr(b)}'" if b < 128 and chr(b).isalnum() else f"'\\{b:03o}'" for b in data)
    body = textwrap.fill(", ".join([*spelled, "0"]), 96, break_on_hyphens=False)
    return "{\n" + textwrap.indent(body, "    ") + "\n}"


def comment_safe(text: str) -> str:
    """Return `text` in ASCII that can neither end a comment nor begin one or break a line."""
    text = re.sub(r"\s+", " ", text).encode("ascii", "backslashreplace").decode()
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "|").replace("??", "? ?")


class Printer:
    """The C of one Program under one name."""

    def __init__(self, program: Program, name: str) -> None:
        self.program = program
        self.prefix = check_name(name)
        self._lines: list[str] = []
        self._depth = 0
        self._used: set[str] = set()
        self._position = {id(op): k for k, op in enumerate(program.ops)}
        self._tables = {id(op): op.tables() for op in program.ops}
        self._fragments: dict[str, str] = {}
        self._routines: dict[str, str] = {}
        self._linkage = ""
        self._arrays: dict[Op, str] = {}

    # What ops ask for ----------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write one line at the present indentation."""
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write `head`, a brace, what the body writes, and the closing brace."""
        if self._depth == 0:
            self.line(head)
            self.line("{")
        else:
            self.line(f"{head} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    @contextmanager
    def loop(self, variable: str, n: int) -> Iterator[str]:
        """Count `variable` from 0 to `n` - 1; yields the variable's name."""
        variable = self.fresh(variable)
        ctype = index_ctype(n)
        with self.block(f"for ({ctype} {variable} = 0; {variable} < {n}; {variable}++)"):
            yield variable

    def fresh(self, base: str) -> str:
        """Return a local name not used so far in this function."""
        candidates = [base, *(f"{base}{k}" for k in range(1, len(self._used) + 2))]
        name = next(c for c in candidates if c not in self._used)
        self._used.add(name)
        return name

    def name(self, op: Op, suffix: str) -> str:
        """Return the file-scope name of something that belongs to `op`."""
        return f"{self.prefix}_{self._position[id(op)]}_{suffix}"

    def ctype(self, ctype: str) -> str:
        """Return the spelling of a type in this file."""
        if ctype != "int24_t":
            return ctype
        self._need("int24", "int24")
        return f"{self.prefix}_int24_t"

    def read(self, op: Op, table: str, index: str) -> str:
        """Return the expression of one element of a table of `op`."""
        return self._read(self._tables[id(op)][table].ctype, self.name(op, table), index)

    def _read(self, ctype: str, table: str, index: str) -> str:
        short = _short(ctype)
        self._need(f"read_{short}", "read", ctype)
        return f"{self.prefix}_read_{short}({table} + {index})"

    def cursor(self, op: Op, table: str, offset: str = "0") -> tuple[str, str]:
        """Declare a pointer into a table; return its name and the function that steps it."""
        pointer = self.fresh(table[0])
        start = self.name(op, table) + ("" if offset == "0" else f" + {offset}")
        self.line(f"const {self._tables[id(op)][table].ctype} *{pointer} = {start};")
        return pointer, self.stepper(op, table)

    def stepper(self, op: Op, table: str) -> str:
        """Return the function that reads what a pointer into a table points to, and steps it."""
        ctype = self._tables[id(op)][table].ctype
        short = _short(ctype)
        self._need(f"next_{short}", f"next{8 * ctype_bytes(ctype)}", ctype)
        return f"{self.prefix}_next_{short}"

    def routine(self, op: Op, fragment: str, **fields: str) -> str:
        """Print a fragment of the run time as a function; return its name.

        It is named after `op`, or after the first op that needed the very same function.
        """
        key = f"{fragment} {sorted(fields.items())}"
        if key not in self._routines:
            function = self._routines[key] = self.name(op, fragment)
            text = self._fragment(fragment, function=function, **fields)
            self._fragments[function] = re.sub(r"\n[ \t]*(?=\n)", "", text)
        return self._routines[key]

    # Fragments -----------------------------------------------------------------------------------

    def _need(self, key: str, fragment: str, ctype: str = "int8_t") -> None:
        """Remember that a fragment of the run time is used, so that it is printed."""
        if key not in self._fragments:
            self._fragments[key] = self._fragment(fragment, ctype)

    def _fragment(self, fragment: str, ctype: str = "int8_t", **fields: str) -> str:
        text = (
            resources.files("tinyml.codegen")
            .joinpath("runtime", f"{fragment}.h")
            .read_text("ascii")
        )
        return Template(text).substitute(
            name=self.prefix,
            NAME=self.prefix.upper(),
            short=_short(ctype),
            type=ctype,
            access={8: "byte", 16: "word", 32: "dword"}[8 * ctype_bytes(ctype)],
            **fields,
        )

    # The parts of a file -------------------------------------------------------------------------

    def declarations(self, linkage: str = "") -> str:
        """Return macros, types and prototypes."""
        p, name = self.program, self.prefix
        prototypes = [f"{signature};" for signature in self._signatures(linkage).values()]
        macros = [
            f"#define {name.upper()}_N_FEATURES {p.n_features}",
            f"#define {name.upper()}_N_OUTPUTS {p.n_outputs}",
        ]
        if p.recurrence is not None:
            macros.insert(1, f"#define {name.upper()}_N_STEPS {p.recurrence.n_steps}")
            macros.insert(2, f"#define {name.upper()}_N_CHANNELS {p.n_channels}")
        fracs = p.output_fracs
        if p.head == "identity" and len(fracs) > 1:
            values = ", ".join(map(str, fracs))
            macros.append(f"#define {name.upper()}_OUTPUT_FRACS {{{values}}}")
        else:
            macros.append(f"#define {name.upper()}_OUTPUT_FRAC {c_int(fracs[0])}")
        types = [
            f"typedef {p.input.type.ctype} {name}_input_t;",
            f"typedef {p.scores.type.ctype} {name}_score_t;",
        ]
        if p.recurrence is not None:
            fields = [f"{s.type.ctype} {self._field(k)}[{s.type.size}];" for k, s in self._states]
            types.append(f"typedef struct {{ {' '.join(fields)} }} {name}_state_t;")
        parts = [*macros, "", *types, "", *prototypes]
        if p.classes is not None:
            parts += ["", self._fragment("label", index_ctype(len(p.classes) - 1)).rstrip()]
        return "\n".join(parts) + "\n"

    def _signatures(self, linkage: str) -> dict[str, str]:
        """Return the head of each function, by the end of its name."""
        p, name = self.program, self.prefix
        row, state = f"const {name}_input_t *x", f"const {name}_state_t *s"
        heads = {}
        if p.recurrence is not None:
            if p.input.missing is not None:
                heads["ended"] = f"uint8_t {name}_ended({row})"
            heads["reset"] = f"void {name}_reset({name}_state_t *s)"
            heads["step"] = f"void {name}_step({name}_state_t *s, {row})"
            heads["result_scores"] = f"void {name}_result_scores({state}, {name}_score_t *out)"
            if p.has_predict:
                heads["result"] = f"{self.predict_ctype} {name}_result({state})"
        heads["scores"] = f"void {name}_scores({row}, {name}_score_t *out)"
        if p.has_predict:
            heads["predict"] = f"{self.predict_ctype} {name}_predict({row})"
        k = f"{index_ctype(p.n_channels - 1)} k"
        heads["quantize_feature"] = f"{name}_input_t {name}_quantize_feature({k}, float value)"
        floats = f"const float *features, {name}_input_t *x"
        if p.recurrence is not None:
            heads["quantize_step"] = f"void {name}_quantize_step({floats})"
        heads["quantize"] = f"void {name}_quantize({floats})"
        if p.classes is not None:
            k = f"{index_ctype(len(p.classes) - 1)} k"
            heads["label_P"] = f"const char *{name}_label_P({k})"
        return {key: linkage + head for key, head in heads.items()}

    @property
    def _states(self) -> list[tuple[int, Op]]:
        assert self.program.recurrence is not None
        return list(enumerate(self.program.recurrence.states))

    def _field(self, k: int) -> str:
        return "h" if len(self._states) == 1 else f"h{k}"

    @property
    def predict_ctype(self) -> str:
        """C type that ``<name>_predict`` returns."""
        return (
            self.program.predict_ctype
            if self.program.head != "identity"
            else f"{self.prefix}_score_t"
        )

    def definitions(self, linkage: str = "") -> str:
        """Return fragments, tables and functions."""
        heads, self._linkage = self._signatures(linkage), linkage
        functions = [self._functions_of_ops()]
        if self.program.recurrence is not None:
            functions += [self._reset(heads["reset"]), self._step(heads["step"])]
            functions += self._results(heads)
        else:
            functions.append(self._scores(heads["scores"]))
            if self.program.has_predict:
                functions.append(self._predict(heads["predict"]))
        functions.append(self._quantize(heads))
        if self.program.classes is not None:
            functions.append(self._label(heads["label_P"]))
        assertions = (
            f"typedef char {self.prefix}_requires_arithmetic_shift[((-3) >> 1) == -2 ? 1 : -1];\n"
            f"typedef char {self.prefix}_requires_ieee_float[sizeof(float) == 4 ? 1 : -1];\n"
        )
        tables = "\n".join(
            self._table(self.name(op, key), table)
            for op in self.program.ops
            for key, table in self._tables[id(op)].items()
        )
        fragments = [self._fragment("tables"), *self._fragments.values()]
        parts = [assertions, *fragments, tables, *functions]
        return "\n".join(part for part in parts if part)

    def _table(self, name: str, table: Table) -> str:
        values = ", ".join(table_entry(int(v)) for v in table.values.ravel())
        body = textwrap.fill(values, 100, initial_indent="    ", subsequent_indent="    ")
        array = f"{table.ctype} {name}[{table.values.size}] {self.prefix.upper()}_TABLE"
        return f"static const {array} = {{\n{body}\n}};\n"

    @contextmanager
    def _function(self, signature: str) -> Iterator[list[str]]:
        """Write one function; the list holds its text afterwards."""
        text: list[str] = []
        self._lines, self._used = [], {"x", "out"}
        with self.block(signature):
            yield text
        text.append("\n".join(self._lines) + "\n")

    def _functions_of_ops(self) -> str:
        self._lines = []
        for op in self.program.ops:
            start = len(self._lines)
            self._used = {"x", "leaf", "sum", "first", "pair", "n", "k"}
            op.declare(self)
            if len(self._lines) > start:
                self._lines.append("")
        return "\n".join(self._lines)

    def _scores(self, signature: str) -> str:
        with self._function(signature) as text:
            scores = self.program.scores
            self.compute([(scores, self._store("out", scores))], {self.program.input: "x"})
        return text[0]

    def _predict(self, signature: str) -> str:
        with self._function(signature) as text:
            self._decide(f"{self.prefix}_scores(x, scores);")
        return text[0]

    def _decide(self, fill: str) -> None:
        """Write what fills the scores and returns what the head makes of them."""
        head, scores = self.program.head_op, self.program.scores
        self._used.add("scores")
        self.line(f"{self.prefix}_score_t scores[{scores.type.size}];")
        self.line(fill)
        head.emit(self, Store(lambda _, value: self.line(f"return {value};")), Ref("scores"))

    # Sequences: the state is the caller's --------------------------------------------------------

    def _reset(self, signature: str) -> str:
        return f"{signature}\n{{\n    memset(s, 0, sizeof *s);\n}}\n"

    def _step(self, signature: str) -> str:
        scan = self.program.recurrence
        assert scan is not None
        assert scan.frame is not None
        with self._function(signature) as text:
            self._used.add("s")
            scan.emit_step(self, {scan.frame: "x", **self._state_arrays()})
        return text[0]

    def _state_arrays(self) -> dict[Op, str]:
        return {state: f"s->{self._field(k)}" for k, state in self._states}

    def _results(self, heads: Mapping[str, str]) -> list[str]:
        """Return what reads the last state, and the same for a whole sequence at once."""
        p, name = self.program, self.prefix
        scan = p.recurrence
        assert scan is not None
        last = self._state_arrays()[scan.states[-1]]
        with self._function(heads["result_scores"]) as scores:
            self._used.add("s")
            self.compute([(p.scores, self._store("out", p.scores))], {scan: last})
        functions = [*scores]
        if p.has_predict:
            with self._function(heads["result"]) as result:
                self._used.add("s")
                self._decide(f"{name}_result_scores(s, scores);")
            functions += result
        follow = f"static void {name}_follow(const {name}_input_t *x, {name}_state_t *s)"
        with self._function(follow) as text:
            self._used.add("s")
            self.line(f"{name}_reset(s);")
            with self.loop("t", scan.n_steps):
                if scan.missing is not None:
                    ctype = p.input.type.ctype
                    self.line(f"if ({self.ended('x', p.n_channels, scan.missing, ctype)}) return;")
                self.line(f"{name}_step(s, x);")
                self.line(f"x += {p.n_channels};")
        functions += text
        for key, answer in (
            ("scores", f"{name}_result_scores(&s, out);"),
            ("predict", f"return {name}_result(&s);"),
        ):
            if key in heads:
                with self._function(heads[key]) as whole:
                    self.line(f"{name}_state_t s;")
                    self.line(f"{name}_follow(x, &s);")
                    self.line(answer)
                functions += whole
        return functions

    def _store(self, buffer: str, op: Op) -> Store:
        ctype = op.type.ctype
        return Store(
            lambda i, value: self.line(f"{buffer}[{i}] = ({ctype}){_atom(value)};"), buffer
        )

    def ended(self, frame: str, width: int, missing: int, ctype: str) -> str:
        """Return the expression that says whether all values of a frame are missing."""
        linkage = "static " if self.program.recurrence is None else self._linkage
        fields = {"linkage": linkage, "width": str(width), "missing": c_int(missing)}
        self._fragments["ended"] = self._fragment(
            "ended", ctype, index=index_ctype(width), **fields
        )
        return f"{self.prefix}_ended({frame})"

    def compute(self, targets: Sequence[tuple[Op, Store]], arrays: Mapping[Op, str]) -> None:
        """Write what computes several ops, given the arrays that hold what they begin from."""
        outer, self._arrays = self._arrays, {**self._arrays, **arrays}
        for op in shared([op for op, _ in targets], self._arrays):
            self._arrays[op] = self._filled(op)
        for op, store in targets:
            self._produce(op, store)
        self._arrays = outer

    def _filled(self, op: Op) -> str:
        """Declare an array, fill it with an op, and return its name.

        It is declared before the block that fills it, so that what filled it has gone out of scope
        when it is read.
        """
        array = self.fresh("v")
        self.line(f"{op.type.ctype} {array}[{op.type.size}];")
        with self.block(""):
            self._produce(op, self._store(array, op))
        return array

    def _ref(self, op: Op) -> Ref:
        return Ref(self._arrays[op] if op in self._arrays else self._filled(op))

    def _produce(self, op: Op, store: Store, riders: tuple[Op, ...] = ()) -> None:
        """Write what computes `op`, element by element into `store`."""
        if op in self._arrays:
            with self.loop("i", op.type.size) as i:
                store(i, f"{self._arrays[op]}[{i}]")
        elif rides(op, self._arrays):
            assert isinstance(op, Elementwise)
            others = [self._ref(other) for other in op.inputs[1:]]

            def fused(i: str, value: str) -> None:
                values = [_atom(value), *(other(i) for other in others)]
                store(i, op.element(self, i, *values))

            self._produce(op.inputs[0], Store(fused), (op, *riders))
        else:
            refs = [self._ref(source) for source in op.inputs]
            steps = [f"{type(step).__name__} ({step.cost})" for step in (op, *riders)]
            self.line(f"/* {', '.join(steps)} */")
            op.emit(self, store, *refs)

    def _quantize(self, heads: Mapping[str, str]) -> str:
        """Multiply by a power of two, clamp so that NaN cannot pass, round half up."""
        p, name = self.program, self.prefix
        lo, hi = p.input_limits
        exponents = np.broadcast_to(127 + np.asarray(p.input.type.frac), (p.n_features,))
        exponents = exponents[: p.n_channels]
        table, scale = "", str(int(exponents[0]))
        if len(set(exponents.tolist())) > 1:
            table = self._table(f"{name}_exponents", Table(exponents, "uint8_t")) + "\n"
            scale = self._read("uint8_t", f"{name}_exponents", "k")
        with self._function(heads["quantize_feature"]) as one:
            if not table:
                self.line("(void)k;")
            self.line(f"const uint32_t bits = (uint32_t){scale} << 23; /* the float 2^frac */")
            self.line("float scale;")
            self.line("memcpy(&scale, &bits, sizeof scale);")
            self.line("value *= scale;")
            missing = p.input.missing
            nan = "value = 0.0f" if missing is None else f"return {c_int(missing)}"
            self.line(f"if (value != value) {nan}; /* NaN */")
            self.line(f"if (value < {lo}.0f) value = {lo}.0f;")
            self.line(f"if (value > {hi}.0f) value = {hi}.0f;")
            self.line("value += 0.5f;")
            self.line("int32_t whole = (int32_t)value;")
            self.line("if ((float)whole > value) whole--; /* towards minus infinity */")
            self.line(f"return ({name}_input_t)whole;")
        functions = [table + one[0]]
        first = "quantize_step" if p.recurrence is not None else "quantize"
        with self._function(heads[first]) as row:
            with self.loop("k", p.n_channels) as k:
                index = index_ctype(p.n_channels - 1)  # the loop's is wider where it counts to 256
                self.line(f"x[{k}] = {name}_quantize_feature(({index}){k}, features[{k}]);")
            if p.recurrence is not None and missing is not None:
                self.line(f"if ({name}_ended(x)) return;")
                self.line("/* only a step that is nothing but NaN is missing */")
                with self.loop("k", p.n_channels) as k:
                    self.line(f"if (x[{k}] == {c_int(missing)}) x[{k}] = 0;")
        functions += row
        if p.recurrence is not None:
            with self._function(heads["quantize"]) as rows, self.loop("t", p.recurrence.n_steps):
                self.line(f"{name}_quantize_step(features, x);")
                self.line(f"features += {p.n_channels};")
                self.line(f"x += {p.n_channels};")
            functions += rows
        return "\n".join(functions)

    def _label(self, signature: str) -> str:
        """Put the names end to end, an empty one last, and remember where each begins."""
        assert self.program.classes is not None
        names = [str(c) for c in self.program.classes]
        sizes = [len(n.encode("utf-8", "surrogatepass")) + 1 for n in names]
        starts = Table.of_indices(np.concatenate([[0], np.cumsum(sizes)]))
        strings = _strings(names) if sum(sizes) < _LONGEST_STRING else _characters(names)
        kind = f"static const char {self.prefix}_names[] {self.prefix.upper()}_TABLE"
        tables = f"{kind} =\n{strings};\n\n" + self._table(f"{self.prefix}_name_starts", starts)
        with self._function(signature) as text:
            if len(names) < ctype_range(index_ctype(len(names) - 1))[1]:
                self.line(f"if (k > {len(names)}) k = {len(names)};")
            start = self._read(starts.ctype, f"{self.prefix}_name_starts", "k")
            self.line(f"return {self.prefix}_names + {start};")
        return tables + "\n" + text[0]


def table_entry(value: int) -> str:
    """Spell a table entry: unlike in an expression, a sign needs no parentheses there."""
    return str(value) if abs(value) <= 32767 else c_int(value)


def _atom(expression: str) -> str:
    """Put parentheses around what is more than one name or number."""
    return expression if re.fullmatch(r"\w+", expression) else f"({expression})"


def _short(ctype: str) -> str:
    """Abbreviate a C type: ``uint8_t`` → ``u8``."""
    return ("u" if ctype[0] == "u" else "i") + re.sub(r"\D", "", ctype)
