from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sartor.data import in_order, open_data


def by_id(data) -> dict[str, tuple[np.ndarray, int]]:
    """Every image and label by its id, from all splits."""
    found = {}
    for split in ("train", "val", "test"):
        images = getattr(data, split)
        pixels = images.take(np.arange(len(images))).numpy()
        found.update(zip(data.members(split), zip(pixels, images.labels.tolist(), strict=True), strict=True))
    return found


def test_all_forms_of_one_set_open_to_the_same_images(write, images):
    x, y = images
    forms = {
        "arrays": ((x, y), lambda i: str(i)),
        "npz": (write.npz(x=x, y=y), lambda i: str(i)),
        "parquet": (write.parquet(x, y), lambda i: f"set:{i}"),
        "parquet folder": (write.parquet(x, y, "many/part.parquet").parent, lambda i: f"train:{i}"),
        "folder": (write.folder(x, y), lambda i: f"{('ant', 'bee', 'cat')[y[i]]}/{i:04d}.png"),
    }
    opened = {}
    for form, (source, name) in forms.items():
        data = open_data(source)
        assert (data.channels, data.resolution, data.train.in_memory) == (3, 12, True), form
        found = by_id(data)
        assert len(found) == len(x), form
        for i in range(len(x)):
            pixels, label = found[name(i)]
            assert label == y[i], form
            assert (pixels == x[i].transpose(2, 0, 1)).all(), form
        opened[form] = data
    # All list in the same order, so that the same seed makes the same splits of them.
    for data in opened.values():
        assert torch.equal(next(in_order(data.val, 9))[0], next(in_order(opened["arrays"].val, 9))[0])
    assert opened["folder"].classes == opened["parquet"].classes == ("ant", "bee", "cat")


def test_mean_and_deviation_are_those_of_train(images):
    data = open_data(images)
    pixels = data.train.take(np.arange(len(data.train))).numpy() / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3)), rtol=1e-9)


def test_flat_images_keep_a_deviation_above_zero():
    assert open_data((np.full((30, 4, 4), 7, np.uint8), np.arange(30) % 2)).std == (1 / 255,)


def test_given_splits_are_kept_and_only_the_missing_are_made(write, images):
    x, y = images
    order = np.arange(60) % 3
    for name, part in (("train", order == 0), ("validation", order == 1), ("test", order == 2)):
        write.folder(x[part], y[part], f"three/{name}")
    data = open_data(write.root / "three")
    assert [data.splits[s]["made"] for s in ("train", "val", "test")] == [False] * 3
    assert all(name.startswith(f"validation{'/'}") for name in data.members("val"))
    assert (len(data.train), len(data.val), len(data.test)) == (20, 20, 20)
    for name, part in (("Train", order < 2), ("test", order == 2)):
        write.folder(x[part], y[part], f"two/{name}")
    data = open_data(write.root / "two")
    assert [data.splits[s]["made"] for s in ("train", "val", "test")] == [True, True, False]
    assert (len(data.val), len(data.test)) == (3, 20)  # a tenth of each class of 13 or 14
    assert all(name.startswith("Train/") for name in data.members("val"))


def test_parquet_files_are_splits_by_name(write, images):
    x, y = images
    for name, part in (("train-00000-of-00002", slice(0, 60, 3)), ("train-00001-of-00002", slice(1, 60, 3))):
        write.parquet(x[part], y[part], f"hub/data/{name}.parquet")
    write.parquet(x[2::3], y[2::3], "hub/data/valid.parquet")
    data = open_data(write.root / "hub")
    assert (len(data.val), data.splits["val"]["made"], data.splits["test"]["made"]) == (20, False, True)
    pixels, _ = by_id(data)["train:20"]
    assert (pixels == x[1].transpose(2, 0, 1)).all()  # the second file goes on where the first ends
    for name in ("train", "test"):
        write.parquet(x, y, f"converted/default/{name}/0000.parquet")
    assert open_data(write.root / "converted").splits["test"]["made"] is False


def test_splits_repeat_by_seed_and_are_written(write, images, tmp_path):
    folder = write.folder(*images)
    first, again, other = open_data(folder), open_data(folder), open_data(folder, seed=1)
    assert first.splits == again.splits
    assert first.members("val") == again.members("val")
    assert first.splits["val"]["sha256"] != other.splits["val"]["sha256"]
    assert first.fingerprint == other.fingerprint
    first.write_splits(tmp_path / "splits.json")
    written = json.loads((tmp_path / "splits.json").read_text())
    assert written["fingerprint"] == first.fingerprint
    members = [name for split in written["splits"].values() for name in split["members"]]
    assert sorted(members) == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    for split, about in written["splits"].items():
        assert about["members"] == sorted(first.members(split))
        assert about["n"] == sum(about["per_class"]) == len(getattr(first, split))


def test_fingerprint_is_of_content(write, images):
    x, y = images
    first = open_data(write.folder(x, y, "one")).fingerprint
    assert open_data(write.folder(x, y, "two")).fingerprint == first
    changed = x.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert open_data(write.folder(changed, y, "three")).fingerprint != first
    assert open_data((changed, y)).fingerprint != open_data((x, y)).fingerprint
    assert open_data((x, np.roll(y, 1))).fingerprint != open_data((x, y)).fingerprint
    assert open_data(write.npz("a.npz", x=x, y=y)).fingerprint == open_data(write.npz("b.npz", x=x, y=y)).fingerprint


def test_grey_only_when_all_are(write, images):
    x, y = images
    folder = write.folder(x[..., 0], y, "grey")
    assert open_data(folder).channels == 1
    Image.fromarray(x[0]).save(folder / "ant" / "colour.png")
    assert open_data(folder).channels == 3


def test_mixed_sizes_use_the_median_shorter_side(write, images):
    x, y = images
    folder = write.folder(x, y)
    for i, size in enumerate([(40, 30)] * 40 + [(50, 90)] * 41):
        Image.new("RGB", size).save(folder / "bee" / f"more{i}.png")
    assert open_data(folder).resolution == int(np.median([12] * 60 + [30] * 40 + [50] * 41))
    assert open_data(folder, resolution=20).train.shape == (3, 20, 20)


def test_common_sizes_crop_and_large_ones_are_capped():
    y = np.arange(30) % 2
    assert open_data((np.zeros((30, 10, 16), np.uint8), y)).resolution == 10
    assert open_data((np.zeros((30, 300, 260), np.uint8), y)).resolution == 224
    assert open_data((np.zeros((30, 300, 260), np.uint8), y), resolution=250).resolution == 250


def test_resized_arrays_equal_resized_files(write, images):
    x, y = images
    from_files, from_arrays = (open_data(source, resolution=7) for source in (write.folder(x, y), images))
    every = np.arange(len(from_files.train))
    assert torch.equal(from_files.train.take(every), from_arrays.train.take(every))


def test_classes_in_order_of_number_or_name(write, images):
    x, _ = images
    y = np.repeat(np.arange(12), 5)
    numbered = write.folder(x, y, "numbers", names=[str(i) for i in range(12)])
    assert open_data(numbered).classes == tuple(str(i) for i in range(12))
    texts = np.asarray(["pear", "fig", "kiwi"])[np.arange(60) % 3]
    data = open_data((x, texts))
    assert data.classes == ("fig", "kiwi", "pear")
    assert by_id(data)["0"][1] == 2
    assert open_data(write.parquet(x, texts.tolist(), "text.parquet", names=None)).classes == ("fig", "kiwi", "pear")


def test_hidden_and_foreign_files_are_passed_over(write, images):
    folder = write.folder(*images)
    for name in (".DS_Store", "notes.txt", "._0000.png"):
        (folder / "ant" / name).write_bytes(b"not an image")
    (folder / ".cache").mkdir()
    (folder / "readme.md").write_text("about")
    deeper = folder / "ant" / "deeper"
    deeper.mkdir()
    (folder / "ant" / "0000.png").rename(deeper / "0000.PNG")
    data = open_data(folder)
    assert data.skipped == ()
    assert sum(s["n"] for s in data.splits.values()) == 60
    assert "ant/deeper/0000.PNG" in by_id(data)


def test_a_class_may_have_the_name_of_a_split(write, images):
    data = open_data(write.folder(*images, names=("train", "bus", "test")))
    assert data.classes == ("bus", "test", "train")


def test_digits_are_scikit_learns():
    data, digits = open_data("digits"), load_digits()
    assert (data.name, data.channels, data.resolution, data.classes) == ("digits", 1, 8, tuple("0123456789"))
    for name, (pixels, label) in by_id(data).items():
        assert label == digits.target[int(name)]
        assert np.abs(pixels[0] / 255 * 16 - digits.images[int(name)]).max() <= 16 / 255 / 2


def test_progress_is_told(write, images):
    told: list[tuple[int, int]] = []
    open_data(write.folder(*images), on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)


def test_an_open_set_is_given_back(images):
    data = open_data(images)
    assert open_data(data) is data
