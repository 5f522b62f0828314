"""From C to measured figures: boards, compilers, the simulator."""

from tinyml.device.boards import BOARDS, Board, get_board
from tinyml.device.build import check_header
from tinyml.device.exactness import quantize_avr, quantize_host, run_avr_many, run_host
from tinyml.device.measure import Figures, Report, measure
from tinyml.device.simulate import SimulationError, run_sketch
from tinyml.device.sketch import build_arduino_sketch
from tinyml.device.toolchain import BuildError, ToolNotFound

__all__ = [
    "BOARDS",
    "Board",
    "BuildError",
    "Figures",
    "Report",
    "SimulationError",
    "ToolNotFound",
    "build_arduino_sketch",
    "check_header",
    "get_board",
    "measure",
    "quantize_avr",
    "quantize_host",
    "run_avr_many",
    "run_host",
    "run_sketch",
]
