"""Counts against what others published: imgclsmob's and timm's tables, and PyTorch's dispatcher on every network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from programs import benchmark
from sartor.measure.counts import Counts, counts_of
from sartor.models.zoo import open_model

Rows = Callable[[str], list[dict[str, str]]]

SAME = {
    "AlexNet-b": "torchvision:alexnet",
    "DenseNet-121": "timm:densenet121",
    "DLA-X-46-C": "timm:dla46x_c",
    "EfficientNet-B0": "timm:efficientnet_b0",
    "HRNet-W18 Small V1": "timm:hrnet_w18_small",
    "InceptionV3": "timm:inception_v3",
    "InceptionV4": "timm:inception_v4",
    "MnasNet-B1": "torchvision:mnasnet1_0",
    "RegNetX-200MF": "timm:regnetx_002",
    "RegNetY-200MF": "timm:regnety_002",
    "ResNet-18": "torchvision:resnet18",
    "ResNeXt-50 (32x4d)": "torchvision:resnext50_32x4d",
    "ShuffleNetV2 x0.5": "torchvision:shufflenet_v2_x0_5",
    "ShuffleNetV2 x1.0": "torchvision:shufflenet_v2_x1_0",
    "SqueezeNet v1.1": "torchvision:squeezenet1_1",
    "VGG-16": "torchvision:vgg16",
}
"""imgclsmob's name → the same architecture elsewhere. Left out are those that it builds otherwise (MobileNetV2 without
its classifier's bias, RegNetX-400MF as the paper has it)."""


def counted(name: str) -> Counts:
    with torch.device("meta"):  # sizes without numbers
        opened = open_model(name)
    return counts_of(opened.module, opened.inputs)


@pytest.mark.parametrize("name", SAME)
def test_parameters_are_imgclsmobs(name: str, published: Rows) -> None:
    table = {row["model"]: row["params"] for row in published("imgclsmob_models.csv.gz") if row["dataset"] == IMAGENET}
    assert counted(SAME[name]).params == float(table[name])


IMAGENET = "ImageNet-1K"


def timms(published: Rows) -> dict[str, set[str]]:
    """Millions of parameters of each of timm's networks; those pretrained on other classes have other heads."""
    found: dict[str, set[str]] = {}
    for row in published("timm_results_imagenet.csv"):
        found.setdefault(row["model"].split(".")[0], set()).add(row["param_count"])
    return found


@pytest.mark.parametrize(
    "name", ["convnext_atto", "levit_128s", "swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224"]
)
def test_parameters_are_timms(name: str, published: Rows) -> None:
    assert f"{counted(f'timm:{name}').params / 1e6:.2f}" in timms(published)[name]


@pytest.mark.claim
def test_every_network_is_counted_to_the_unit(data_dir: Path, published: Rows) -> None:
    """MACs as the dispatcher counts them while the network really runs, attention included; parameters as timm says."""
    listed = data_dir.parent / "models.txt"
    if not listed.is_file():
        pytest.skip(f"no {listed}: set SARTOR_DATA to a folder beside which there is a list of networks")
    counting = benchmark("counting")
    names = [line.strip() for line in listed.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(names) > 80
    table, wrong, compared = timms(published), [], 0
    for name in names:
        opened = open_model(name)
        opened.module.eval()
        found = counts_of(opened.module, opened.inputs)
        if found.macs != (reference := counting.dispatcher(opened)):
            wrong.append(f"{name}: {found.macs} MACs, the dispatcher {reference}")
        if found.params != sum(layer.params for layer in found.layers) or found.unknown:
            wrong.append(f"{name}: {found.params} parameters, {found.unknown} unknown")
        said = table.get(name.removeprefix("timm:"))
        if said is not None and opened.module.num_classes == 1000:  # the table's; tiny_vit's default head has more
            compared += 1
            if f"{found.params / 1e6:.2f}" not in said:
                wrong.append(f"{name}: {found.params} parameters, timm's table {sorted(said)} million")
    assert not wrong, "\n".join(wrong)
    assert compared > 50
