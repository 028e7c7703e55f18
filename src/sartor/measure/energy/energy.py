"""``energy(file, target)``: which of the two ways there is, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.measure.energy.analytic import ON_CHIP, Chip, spent
from sartor.measure.energy.rapl import ROOT, measured, zones
from sartor.measure.targets.local import Local
from sartor.measure.targets.mcu.target import Mcu
from sartor.measure.targets.simulated import Simulated
from sartor.measure.targets.systolic import Systolic
from sartor.measure.targets.target import Target
from sartor.measure.targets.work import work_of
from sartor.measure.timing import pinned


def energy(file: Path, target: Target, *, run: bool = True, root: Path = ROOT) -> dict[str, Any]:
    """Of one inference of ``file`` (batch 1) on ``target``; JSON-able.

    ``mj`` and ``source``: ``rapl`` where the target runs in this process and the counters in ``root`` may be read
    (see :class:`sartor.measure.energy.rapl.Measured` for the rest), else ``analytic``, with ``compute_mj`` and
    ``memory_mj``, whose energies are of ``chip``, and ``because``, why it was not measured. ``run=False``: nothing is
    run.
    """
    work = target.work(file) if isinstance(target, Simulated) else work_of(file)
    calculated = spent(work, chip := chip_of(target))
    found = {"compute_mj": calculated.compute_mj, "memory_mj": calculated.memory_mj, "chip": chip.name}
    if not isinstance(target, Local):
        return {"mj": calculated.mj, "source": "analytic", **found, "because": f"{target.name} is not this machine"}
    if not target.on_cpu:
        because = f"the processor's counters know nothing of what {target.name} runs on"
        return {"mj": calculated.mj, "source": "analytic", **found, "because": because}
    if not run:
        return {"mj": calculated.mj, "source": "analytic", **found, "because": "nothing was run"}
    try:
        counters = zones(root)
    except InputError as error:
        return {"mj": calculated.mj, "source": "analytic", **found, "because": str(error)}
    with pinned(target.threads), target.running():
        said = measured(target.call(file, 1), counters)
    told = {**vars(said), "zones": list(said.zones)}
    return {"mj": said.mj, "source": "rapl", **{key: value for key, value in told.items() if key != "mj"}}


def chip_of(target: Target) -> Chip:
    """Energies are the same everywhere; what differs is the memory beside the arithmetic."""
    if isinstance(target, Systolic):
        return Chip(f"45 nm (Horowitz 2014), {target.sram_bytes:,} bytes of SRAM", target.sram_bytes)
    if isinstance(target, Mcu):
        return Chip("45 nm (Horowitz 2014), all memory on the chip", ON_CHIP)
    return Chip("45 nm (Horowitz 2014), 1 MiB of cache")
