"""What holds for every test: caches, seeds, and skips that are counted and named."""

import contextlib
import os
import random
import runpy
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Before numba is imported, and by hash of the sources: numba does not notice a callee that changed.
os.environ.setdefault(
    "NUMBA_CACHE_DIR", str(runpy.run_path(str(ROOT / "scripts/numba_cache.py"))["cache_dir"]())
)

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile(
    "tinyml", derandomize=True, deadline=None, max_examples=40, database=None
)
hypothesis.settings.load_profile("tinyml")

REQUIRE_DEVICE = os.environ.get("TINYML_REQUIRE_DEVICE", "") not in ("", "0")


def missing_toolchain() -> str | None:
    """Return what keeps the device tests from running, or None."""
    from tinyml.device.toolchain import ToolNotFound, find_tool

    try:
        find_tool("avr-gcc")
        compiler = find_tool("gcc")
    except ToolNotFound as error:
        return str(error)
    headers = subprocess.run(
        [compiler, "-E", "-x", "c", "-", "-o", os.devnull],
        input="#include <simavr/sim_avr.h>\n#include <libelf.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return "The headers of simavr or libelf are not installed." if headers.returncode else None


def pytest_configure(config):
    config.missing_toolchain = missing_toolchain()


@contextlib.contextmanager
def _missing_tools_are_named():
    """A test that finds a compiler missing has not failed, unless nothing may be missing."""
    from tinyml.device.toolchain import ToolNotFound

    try:
        yield
    except ToolNotFound as error:
        if REQUIRE_DEVICE:
            raise
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    missing = item.config.missing_toolchain
    if missing is not None and item.get_closest_marker("device"):
        if REQUIRE_DEVICE:
            pytest.fail(f"Device tests are required. {missing}", pytrace=False)
        pytest.skip(missing)
    with _missing_tools_are_named():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    with _missing_tools_are_named():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Where device tests are required, one that skips itself has failed."""
    report = yield
    if REQUIRE_DEVICE and report.skipped and item.get_closest_marker("device"):
        report.outcome = "failed"
        report.longrepr = f"Device tests are required, but this one was skipped: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter):
    """Name every test that did not run, by reason."""
    skipped = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            skipped[report.longrepr[2].removeprefix("Skipped: ")].append(report.nodeid)
    for reason, names in sorted(skipped.items()):
        terminalreporter.section(f"{len(names)} not run: {reason}", sep="-")
        for name in sorted(names):
            terminalreporter.line(name)


@pytest.fixture(autouse=True)
def _fixed_seeds():
    """Code that draws from a global state by mistake is at least repeatable."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture(scope="session")
def data_folder():
    """Return the folder of larger data sets, where there is one."""
    folder = os.environ.get("TINYML_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("TINYML_DATA names no folder of data sets")
    return Path(folder)
