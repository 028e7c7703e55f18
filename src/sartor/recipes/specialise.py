"""Fine-tune the chosen members, each on its own weights, all with the largest subnet as teacher, in one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from sartor.models import Supernet
from sartor.recipes.voice import Tick
from sartor.recipes.workshop import Workshop
from sartor.records import Arch, Record
from sartor.train.device import place
from sartor.train.loop import Training, train
from sartor.train.recalibrate import recalibrate
from sartor.train.steps import distil_step

PEAK_LR_SHARE = 0.5
"""Of the recipe's peak learning rate: the weights are not fresh."""


@dataclass(frozen=True)
class Made:
    """One network that is ready to export. ``record`` is what the search knew of its arch."""

    name: str
    arch: Arch
    network: nn.Module
    accuracy_val: float
    record: Record | None
    tuned: bool


def specialise(
    shop: Workshop, supernet: Supernet, chosen: Sequence[Record], seconds: float, flip: bool, tick: Tick, on_step: Any
) -> tuple[list[Made], list[dict[str, Any]]]:
    """The members of ``chosen``, fine-tuned where that measured better on validation, and what was tried.

    The largest arch comes first in the list as the teacher it is, as trained: "doing nothing". Students start from
    their slices of the supernet.
    """
    largest = supernet.space.largest()
    teacher = place(supernet.extract(largest), shop.device)
    recalibrate(teacher, shop.calibration(int(largest["resolution"])))
    teacher.eval()
    teacher_right = float(
        shop.journal.once("specialise.largest", lambda: shop.validate(teacher, int(largest["resolution"])))
    )
    made = [Made("largest", largest, teacher, teacher_right, None, tuned=False)]
    students = [r for r in chosen if r.arch != largest]
    if not students:
        return made, []
    networks = nn.ModuleList(place(supernet.extract(r.arch), shop.device) for r in students)
    before = [recalibrate(n, shop.calibration(_side(r))) for n, r in zip(networks, students, strict=True)]
    untouched = [{k: v.clone() for k, v in network.state_dict().items()} for network in before]
    recipe = replace(shop.recipe, peak_lr=shop.recipe.peak_lr * PEAK_LR_SHARE)
    if shop.saved("specialised"):
        networks.load_state_dict(shop.load("specialised"))
    else:
        step = distil_step(
            list(networks),
            [_side(r) for r in students],
            teacher,
            int(largest["resolution"]),
            shop.inputs("specialise", flip=flip),
            recipe,
        )

        def progress(state: Training, loss: float, lr: float) -> None:
            tick(state.progress, f"loss {loss:.3f}")
            on_step(state, loss, lr)

        train(
            networks,
            step,
            shop.batches,
            recipe,
            seconds=seconds,
            name="specialise",
            decide=shop.journal.once,
            checkpoint=shop.checkpoints / "specialise.safetensors",
            on_progress=progress,
        )
        shop.save("specialised", networks.state_dict())
    tried = []
    for index, (network, record) in enumerate(zip(networks, students, strict=True)):
        name, side = f"m{index + 1}", _side(record)
        was = record.metrics["accuracy_val"]
        now = float(shop.journal.once(f"specialise.{name}", partial(shop.validate, network, side)))
        recalibrate(network, shop.calibration(side))
        if now < was:
            network.load_state_dict(untouched[index])
        tried.append(
            {
                "what": f"fine-tuning {name} with the largest subnet as teacher",
                "kept": now >= was,
                "why": f"validation accuracy {100 * was:.2f}% → {100 * now:.2f}%",
            }
        )
        made.append(Made(name, record.arch, network.eval(), max(was, now), record, tuned=now >= was))
    return made, tried


def _side(record: Record) -> int:
    return int(record.arch["resolution"])
