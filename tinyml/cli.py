"""The command line: `tinyml demo | compile | measure | boards`.

Exit codes: 0 done, 1 the input or the machine does not allow it (one sentence on stderr), 2 the
command line itself is wrong, 130 interrupted. Everything heavy is imported inside the commands, so
that `tinyml --help` answers at once.
"""

import contextlib
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

__all__ = ["main"]

BITS = {"auto": "auto", "8": 8, "16": 16}
KINDS = ("header", "arduino")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Parameters
    ----------
    arguments : sequence of str, default=None
        What follows the program's name; by default what the process was started with.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        return commands.main(arguments, prog_name="tinyml", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader left; Python would complain once more at exit
        return 1
    except Exception as error:
        if not isinstance(error, _user_errors()) or "--traceback" in arguments:
            raise
        click.echo(f"Error: {error}", err=True)
        return 1


def _user_errors() -> tuple[type[Exception], ...]:
    """Return what the library raises to tell the user something, all of it one sentence."""
    from .device.toolchain import BuildError, ToolNotFound

    return (ValueError, TypeError, OSError, BuildError, ToolNotFound)


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    if not issubclass(category, (DeprecationWarning, FutureWarning)):
        click.echo(f"Warning: {message}", err=True)


# ------------------------------------------------------------------------------ commands


def _known_board(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    from .device.boards import BOARDS

    if name is not None and name not in BOARDS:
        raise click.BadParameter(f"must be one of {', '.join(BOARDS)}. Got {name!r} instead.")
    return name


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show Python's traceback with an error.")
@click.version_option(package_name="tinyml-toolkit", prog_name="tinyml")
def commands(traceback: bool) -> None:
    """Classical models in integer C for microcontrollers, compiled and measured."""


def _model_options(command: Any) -> Any:
    """What `compile` and `measure` have in common."""
    for decorate in (
        click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
        click.option(
            "--data",
            required=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="CSV of representative rows, usually training data; a header is optional.",
        ),
        click.option(
            "--target", help="Column that is not a feature: its name, or its number from 0."
        ),
        click.option(
            "--header/--no-header", default=None, help="Whether the CSV begins with names."
        ),
        click.option("--bits", type=click.Choice(list(BITS)), default="auto", show_default=True),
        click.option(
            "--trust", is_flag=True, help="Load the model even if loading it may run code."
        ),
    ):
        command = decorate(command)
    return command


@commands.command()
@click.option(
    "--out",
    default="demo_output",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the Arduino library.",
)
@click.option("--board", default="uno", show_default=True, callback=_known_board)
def demo(out: Path, board: str) -> None:
    """Fit, compile and measure a digit classifier, and write it as an Arduino library."""
    console = _console()
    console.print("Handwritten digits: from a fitted model to a measured Arduino library\n")
    with _step(console, "Load scikit-learn's digits"):
        from . import datasets

        X_train, y_train, X_test, y_test = datasets.load("digits")
    with _step(console, f"Fit StandardScaler and ProtoNN on {len(X_train)} rows"):
        model = _demo_model().fit(X_train, y_train)
    with _step(console, "Compile to an integer program"):
        import tinyml

        program = tinyml.compile(model, X_train, board=board)
    with _step(console, f"Classify {len(X_test)} held-out rows with both"):
        accuracies = model.score(X_test, y_test), program.score(X_test, y_test)
    with _step(console, "Write the Arduino library"):
        library = program.export(out, "digits", kind="arduino")
    report = _demo_measurement(console, program, X_test, board)

    console.print(f"\nAccuracy on the {len(X_test)} held-out rows")
    for what, accuracy in zip(("float model", "integer program"), accuracies, strict=True):
        console.print(f"  {what:<18}{accuracy:7.2%}")
    if report is not None:
        click.echo(f"\n{report}")
    click.echo(f"\nThe library is {library}: copy that folder into the Arduino IDE's libraries.")


def _demo_model() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from .estimators import ProtoNNClassifier

    return make_pipeline(StandardScaler(), ProtoNNClassifier(max_bytes=2048, random_state=0))


def _demo_measurement(console: Any, program: Any, X: Any, board: str) -> Any:
    """Return the report, or None, having said so, where the toolchain is not installed."""
    import tinyml

    from .device.toolchain import ToolNotFound

    try:
        with _step(console, f"Build it, run {len(X)} rows on a simulated {board}"):
            return tinyml.measure(program, X, board=board, n_rows=None)
    except ToolNotFound as error:
        click.echo(f"\nNot measured: {error}")
        return None


@commands.command("compile")
@_model_options
@click.option(
    "--board", callback=_known_board, help="Refuse a program that does not fit this board."
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="Name of the C functions; by default that of the model's file.")
@click.option("--kind", type=click.Choice(KINDS), default="arduino", show_default=True)
def compile_command(
    model: Path, board: str | None, out: Path, name: str | None, kind: str, **options: Any
) -> None:
    """Compile MODEL (a .skops file, or with --trust a joblib or pickle file) to C."""
    name = name or _c_name(model.stem)
    program, _ = _compiled(model, board=board, **options)
    written = program.export(out, name, kind=kind)
    click.echo(program.summary())
    click.echo(f"\nWritten: {written}")


@commands.command()
@_model_options
@click.option("--board", default="uno", show_default=True, callback=_known_board)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many rows of the CSV to run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def measure(model: Path, board: str, rows: int, as_json: bool, **options: Any) -> None:
    """Compile MODEL and run it on a simulated board: flash, RAM, stack, cycles, milliseconds."""
    import tinyml

    program, X = _compiled(model, board=board, **options)
    report = tinyml.measure(program, X, board=board, n_rows=rows)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        click.echo(report)
    if not (report.fits and report.identical):
        raise click.exceptions.Exit(1)  # the report says why


@commands.command()
def boards() -> None:
    """List the boards that programs can be measured on."""
    from rich.table import Table

    from .device.boards import BOARDS

    table = Table(box=None, pad_edge=False)
    for title in ("board", "chip", "flash", "RAM", "clock"):
        table.add_column(title, justify="left" if title in ("board", "chip") else "right")
    for board in BOARDS.values():
        table.add_row(
            board.name,
            board.mcu,
            f"{board.flash} B",
            f"{board.ram} B",
            f"{board.clock_hz / 1e6:g} MHz",
        )
    _console().print(table)


# ------------------------------------------------------------------------------ progress


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def _step(console: Any, what: str) -> Iterator[None]:
    """Show what is being done while it is done, and then how long it took."""
    start = time.perf_counter()
    if not console.is_terminal:
        console.print(f"{what:<60}", end="")
        sys.stdout.flush()
    with console.status(f"{what} ..."):
        try:
            yield
        except BaseException:
            if not console.is_terminal:
                console.print()
            raise
    seconds = f"{time.perf_counter() - start:5.1f} s"
    console.print(seconds if not console.is_terminal else f"{what:<60}{seconds}")


# ------------------------------------------------------------------------------ models and data


def _compiled(
    model: Path,
    *,
    data: Path,
    target: str | None,
    header: bool | None,
    bits: str,
    trust: bool,
    board: str | None,
) -> tuple[Any, Any]:
    import tinyml

    estimator = _load_model(model, trust)
    X = _features_of(estimator, _read_csv(data, target, header), target, data)
    return tinyml.compile(estimator, X, bits=BITS[bits], board=board), X


def _load_model(path: Path, trust: bool) -> Any:
    estimator = _load_skops(path, trust) if path.suffix == ".skops" else _load_pickle(path, trust)
    if not hasattr(estimator, "predict"):
        raise click.ClickException(f"{path} holds a {type(estimator).__name__}, not a model.")
    return estimator


def _load_pickle(path: Path, trust: bool) -> Any:
    import joblib

    if not trust:
        raise click.ClickException(
            f"{path} is not a .skops file; a pickle or joblib file can run any code while it is "
            "loaded, so it is opened only with --trust."
        )
    try:
        return joblib.load(path)
    except Exception as error:  # unpickling runs foreign code, which may raise anything
        raise click.ClickException(f"{path} cannot be loaded by joblib: {error!r}.") from error


def _load_skops(path: Path, trust: bool) -> Any:
    try:
        import skops.io as sio
    except ImportError:
        raise click.ClickException(
            "Reading a .skops file needs skops: pip install 'tinyml-toolkit[cli]'."
        ) from None
    try:
        unknown = sio.get_untrusted_types(file=path)
    except Exception as error:  # a broken archive fails in many ways
        raise click.ClickException(f"{path} cannot be read as a skops file: {error!r}.") from error
    foreign = sorted(set(unknown) - _own_types())
    if foreign and not trust:
        raise click.ClickException(
            f"{path} holds types that skops does not know to be safe ({', '.join(foreign)}); "
            "if you trust where the file comes from, add --trust."
        )
    return sio.load(path, trusted=unknown)


def _own_types() -> set[str]:
    """Return the names of our estimators; nothing else that can be reached through this package."""
    from . import estimators

    classes = [getattr(estimators, name) for name in estimators.__all__]
    return {f"{cls.__module__}.{cls.__qualname__}" for cls in classes}


def _read_csv(path: Path, target: str | None, header: bool | None) -> Any:
    """Return all columns as a DataFrame, named where the file names them."""
    try:
        import pandas as pd
    except ImportError:
        raise click.ClickException(
            "Reading a CSV file needs pandas: pip install 'tinyml-toolkit[cli]'."
        ) from None
    try:
        first = pd.read_csv(path, header=None, nrows=1, dtype=str)
        named = _is_header(first.iloc[0], target) if header is None else header
        frame = pd.read_csv(path, header=0 if named else None)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path} cannot be read as a CSV file: {error}") from error
    if frame.empty:
        raise click.ClickException(f"{path} holds no rows.")
    return frame


def _is_header(cells: Any, target: str | None) -> bool:
    """A first row is a header if it names the target or holds no number at all."""
    if target in set(cells) and not _is_number(target):
        return True
    return not any(_is_number(cell) for cell in cells)


def _is_number(cell: object) -> bool:
    try:
        float(str(cell))
    except ValueError:
        return False
    return True


def _without_target(frame: Any, target: str | None, path: Path) -> Any:
    if target is None:
        return frame
    if target in frame.columns:
        return frame.drop(columns=target)
    if re.fullmatch(r"-?\d+", target) and -frame.shape[1] <= int(target) < frame.shape[1]:
        return frame.drop(columns=frame.columns[int(target)])
    raise click.ClickException(
        f"{path} has no column {target!r}; --target must name one, or number it from 0."
    )


def _numeric(frame: Any, path: Path) -> Any:
    for column in frame.columns:
        if frame[column].dtype.kind not in "iufb":
            raise click.ClickException(
                f"{path} has a column that is not numeric, {column!r}; name it with --target if it "
                "is the target, and use --header or --no-header if the first row was taken wrongly."
            )
    return frame.astype("float64")


def _features_of(estimator: Any, frame: Any, target: str | None, path: Path) -> Any:
    """Return the columns that the model was fitted on, in its order."""
    frame = _without_target(frame, target, path)
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and set(names) <= set(frame.columns):
        return _numeric(frame[list(names)], path)
    frame = _numeric(frame, path)
    expected = getattr(estimator, "n_features_in_", frame.shape[1])
    if frame.shape[1] != expected:
        raise click.ClickException(
            f"{path} has {frame.shape[1]} feature columns, but the model was fitted on {expected}; "
            "a column that is not a feature is named with --target."
        )
    return frame.to_numpy()


def _c_name(stem: str) -> str:
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if name[:1].isalpha() else f"model_{name.strip('_')}"
