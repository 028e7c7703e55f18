"""Microcontrollers and their cores: sizes from data sheets, cycles from published latencies.

The cycles of the Cortex-M7 with X-CUBE-AI's kernels are fitted to 14 published latencies whose clocks are known
(``python benchmarks/boards.py`` prints them, and says where each figure comes from); the other cores take so many times
as many. A network left out of its own fit is met within 9.4% on average (without the only one of dense layers, from
which their cycles are); MCUNet's five, which are in no fit, are off by +1.4% to -21%, the smallest worst. The RP2040 is
not here: no latency of a network that can be built again was found.

Sources: STMicroelectronics/stm32ai-modelzoo; mlcommons/tiny_results_v1.0; mit-han-lab/tinyengine; for what floats cost
ST's UM2526, section 6: about 9 cycles a multiply-accumulate on a Cortex-M4. MCUNet: arXiv 2007.10319; CMSIS-NN: arXiv
1801.06601; MLPerf Tiny: arXiv 2106.07597.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1024, 1024**2

MAC_CYCLES = {"convolution": 0.82, "pointwise": 0.82, "depthwise": 3.70, "dense": 1.81}
"""Cycles of an int8 multiply-accumulate on a Cortex-M7, by kind of operator."""
WRITTEN_CYCLES = 22.3
"""Beside them, of each value that a convolution or a product writes: gathering its inputs, requantising it."""
MOVED_CYCLES = 10.0
"""Of each value that anything else reads or writes. The fit's upper bound: published totals hold too few of them."""
FLOAT_MAC_CYCLES = 9.0 / 1.97
"""Of a float multiply-accumulate on a Cortex-M7: UM2526's 9 of the M4, over how much longer the M4 takes."""

CORES = {"cortex-m7": 1.0, "cortex-m4": 1.97, "xtensa-lx7": 0.97}
"""Times the cycles of a Cortex-M7: of the M4 the geometric mean of MLPerf Tiny's four networks (1.77 to 2.08), of the
LX7 with ESP-NN by one network, person detection."""

RUNTIMES = {"cubeai": 1.0, "tinyengine": 0.86, "cmsis-nn": 1.72}
"""Times X-CUBE-AI's time: geometric means over the networks of TinyEngine's table, all on one STM32H743."""

WHOLE_OUTPUTS = frozenset({"cmsis-nn"})
"""Runtimes whose depthwise convolutions never write over their input; TinyEngine's do, and X-CUBE-AI's are taken to."""

RUNTIME_RAM = 30 * KIB
RUNTIME_FLASH = 110 * KIB
"""What the runtime takes of SRAM and flash itself: of X-CUBE-AI on MobileNetV2, ST's model zoo; smaller for fewer kinds
of layers."""


@dataclass(frozen=True)
class Board:
    """A chip: its core, its highest clock, the SRAM that one network can use as a whole, its flash."""

    core: str
    clock_hz: float
    sram_bytes: int
    flash_bytes: int


BOARDS = {
    "stm32f412": Board("cortex-m4", 100e6, 256 * KIB, 1 * MIB),
    "stm32f746": Board("cortex-m7", 216e6, 320 * KIB, 1 * MIB),
    "stm32f765": Board("cortex-m7", 216e6, 512 * KIB, 2 * MIB),
    "stm32h743": Board("cortex-m7", 480e6, 512 * KIB, 2 * MIB),
    "stm32h7a3": Board("cortex-m7", 280e6, 1 * MIB, 2 * MIB),
    "stm32l4r5": Board("cortex-m4", 120e6, 640 * KIB, 2 * MIB),
    "esp32s3": Board("xtensa-lx7", 240e6, 512 * KIB, 8 * MIB),
}
"""SRAM, flash and clock: the chips' data sheets; of F746, F765, H743 and F412 also MCUNet, section 4.1. Of several
SRAMs the largest that is one piece; ESP32-S3: a module with 8 MB of flash."""
