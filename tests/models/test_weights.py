"""Weights come from safetensors, all of them, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sartor.errors import InputError
from sartor.models.weights import load_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    one, other = net(), net()
    save_file(one.state_dict(), tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_pickles_are_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    torch.save(net().state_dict(), file)
    with pytest.raises(InputError, match=r"is a pickle.*save_file"):
        load_weights(net(), file)
    file.rename(tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="cannot be read as a safetensors file"):
        load_weights(net(), tmp_path / "w.safetensors")


def test_what_does_not_fit_is_named_and_nothing_changes(tmp_path: Path) -> None:
    good = net().state_dict()
    wrong = {
        r"0\.weight is missing": {k: v for k, v in good.items() if k != "0.weight"},
        "head is not in the model": {**good, "head": torch.zeros(1)},
        r"2\.weight is 3x6 there and 2x6 here": {**good, "2.weight": torch.zeros(3, 6)},
        "not finite": {**good, "0.bias": torch.full((6,), torch.nan)},
    }
    for says, state in wrong.items():
        save_file(state, tmp_path / "w.safetensors")
        module = net()
        before = {k: v.clone() for k, v in module.state_dict().items()}
        with pytest.raises(InputError, match=says):
            load_weights(module, tmp_path / "w.safetensors")
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        load_weights(net(), tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(InputError):
        load_weights(net(), tmp_path / "w.safetensors")
