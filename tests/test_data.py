"""Data options: reading files, splitting them, statistics, and the messages when that fails."""

from __future__ import annotations

import functools
import gc
import gzip
import hashlib
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mltricks.config.compose import compose, plain
from mltricks.data.base import pixel_statistics, pixel_sums
from mltricks.data.cifar10 import FILES as CIFAR_FILES
from mltricks.data.custom import load_data
from mltricks.data.mnist import FILES as MNIST_FILES
from mltricks.data.partition import stratified
from mltricks.data.source import in_order
from mltricks.data.splits import DataSplits, MemorySplit
from mltricks.data.text import tokenize
from mltricks.inputs.image import Image as ImageKind
from mltricks.inputs.image_files import decode_image

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("MLTRICKS_DATA", ROOT / "data"))


def load(*overrides: str) -> DataSplits:
    cfg = plain(compose(list(overrides)))
    return load_data(cfg["data"], cfg["allow_modules"])


def read_all(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(in_order(split, 7))
    return torch.cat([b["x"] for b in batches]), torch.cat([b["y"] for b in batches])


# Splits


def test_splits_are_disjoint_complete_and_stratified() -> None:
    whole = load("data=digits")
    part = load("data=digits", "data.fraction=0.2", "data.unlabeled_ratio=1")
    assert len(whole.train) + len(whole.val) + len(whole.test) == 1797
    assert len(part.train) == round(0.2 * len(whole.train))
    assert len(part.unlabeled) == len(whole.train), "unlabelled samples are all training samples"
    assert torch.equal(part.val.x, whole.val.x), "data.fraction does not change the validation split"
    share = torch.bincount(part.train.labels) / torch.bincount(whole.train.labels)
    assert share.sub(0.2).abs().max() < 0.01
    counts = Counter(map(bytes, torch.cat([whole.train.x, whole.val.x, whole.test.x]).numpy()))
    assert len(counts) == 1797, "every image is in exactly one part"


def test_largest_remainders() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    chosen, rest = stratified(labels, 100, 7, seed=3)
    # shares of 7: 3.5, 2.1, 1.4; the remaining sample goes to the largest remainder
    assert torch.bincount(labels[chosen]).tolist() == [4, 2, 1]
    assert torch.equal(torch.cat([chosen, rest]).sort().values, torch.arange(100))


def test_split_seed_chooses_the_splits_and_seed_does_not() -> None:
    first, same, other = load("seed=0"), load("seed=1"), load("data.split_seed=1")
    assert torch.equal(first.val.x, same.val.x)
    assert not torch.equal(first.val.x, other.val.x)


def test_statistics_are_exact_and_of_the_training_split() -> None:
    data = load("data=digits", "data.fraction=0.5")
    everything = load("data=digits").train.x.double()
    assert float(data.info.input.mean) == pytest.approx(float(everything.mean()), rel=1e-6)
    assert float(data.info.input.std) == pytest.approx(float(everything.std(correction=0)), rel=1e-6)


def test_statistics_of_colour_images_equal_numpy() -> None:
    x = torch.randint(0, 256, (300, 5, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x[..., 2] = 255
    mean, std = pixel_statistics(pixel_sums(x), 35)
    expected = x.numpy().astype(np.float64)
    np.testing.assert_allclose(mean.flatten(), expected.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std.flatten()[:2], expected.std((0, 1, 2))[:2], rtol=1e-6)
    assert std.flatten()[2] == 1.0, "a constant channel becomes 0, not NaN"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width", [8, 11])
def test_normalize_is_the_plain_formula(layout: torch.memory_format, width: int) -> None:
    mean, std = torch.tensor([120.0, 99.5, 3.0]).view(3, 1, 1), torch.tensor([60.0, 1.25, 7.0]).view(3, 1, 1)
    info = ImageKind((3, 8, 8), mean, std)
    x = torch.randint(0, 256, (4, 3, 8, width), dtype=torch.uint8).contiguous(memory_format=layout)
    before = x.clone()
    assert torch.equal(info.normalize(x), (x.float() - mean) * (1.0 / std))
    assert torch.equal(x, before)
    ready = x.float()
    assert info.normalize(ready) is ready, "float images are normalised already"


def test_a_limit_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.limit=5 .*fewer than the 10 classes"):
        load("data=digits", "data.limit=5")
    with pytest.raises(ValueError, match=r"data\.fraction=0\.001"):
        load("data=digits", "data.fraction=0.001")


# Published data sets, with small files made for the test


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the format of MNIST with 200 training and 50 test images; torchvision is given their checksums."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for kind, size in (("train", 200), ("t10k", 50)):
        images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        header = bytes(np.array([0x803, size, 28, 28], ">i4"))
        (folder / f"{kind}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        labels = bytes(np.array([0x801, size], ">i4")) + bytes(np.arange(size, dtype=np.uint8) % 10)
        (folder / f"{kind}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "resources", [(f, checksum(folder / f)) for f in MNIST_FILES])
    return tmp_path


def checksum(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_mnist_equals_torchvision(mnist: Path) -> None:
    from torchvision.datasets import MNIST

    data = load("data=mnist", f"data.root={mnist}", "data.download=false", "data.split_seed=4")
    theirs = MNIST(mnist, train=False, download=True)  # unpacks the files in the folder
    assert torch.equal(data.test.x.squeeze(-1), theirs.data)
    assert torch.equal(data.test.y, theirs.targets)
    train = MNIST(mnist, train=True)
    found = {bytes(x.numpy()): int(y) for x, y in zip(train.data, train.targets, strict=True)}
    for split in (data.train, data.val):
        assert all(found.pop(bytes(x.numpy())) == int(y) for x, y in zip(split.x, split.y, strict=True))
    assert not found, "every training image is in the training or the validation split"


def test_the_second_start_reads_the_cache_without_torchvision(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["data=mnist", f"data.root={mnist}", "data.fraction=0.5"]
    first = load(*overrides)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing torchvision raises an error
    second = load(*overrides)
    assert torch.equal(first.train.x, second.train.x)
    assert torch.equal(first.info.input.mean, second.info.input.mean)
    other = load(*overrides, "data.val_frac=0.3")
    kept = torch.cat([other.train.x, load(*overrides, "data.val_frac=0.3", "data.unlabeled_ratio=1").unlabeled.x])
    assert float(other.info.input.mean) == pytest.approx(float(kept[len(other.train) :].double().mean()), rel=1e-6)


def test_missing_files_without_download(mnist: Path) -> None:
    (mnist / "MNIST/raw" / MNIST_FILES[2]).unlink()
    with pytest.raises(ValueError, match=r"data\.root=.*t10k-images.*data\.download=true"):
        load("data=mnist", f"data.root={mnist}", "data.download=false")


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_file_is_named_and_nothing_is_written(mnist: Path, damage: str) -> None:
    path = mnist / "MNIST/raw" / MNIST_FILES[0]
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged.*data\.download=true"):
        load("data=mnist", f"data.root={mnist}")
    assert not list(mnist.glob(".mltricks/*"))


def test_a_damaged_cache_is_written_again(mnist: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overrides = ["data=mnist", f"data.root={mnist}"]
    first = load(*overrides)
    cache = mnist / ".mltricks" / "mnist.safetensors"
    whole = cache.read_bytes()
    for broken in (whole[:1000], b"", b"nonsense" * 100):
        cache.write_bytes(broken)
        capfd.readouterr()
        assert torch.equal(load(*overrides).train.x, first.train.x)
        assert capfd.readouterr().err.count("is damaged") == 1
        assert cache.read_bytes()[:8] == whole[:8], "and kept again"


def test_changed_sources_are_decoded_again(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("data=mnist", f"data.root={mnist}")
    path = mnist / "MNIST/raw" / MNIST_FILES[3]
    labels = bytes(np.array([0x801, 50], ">i4")) + bytes([7] * 50)
    path.write_bytes(gzip.compress(labels))
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "resources", [(f, checksum(path.parent / f)) for f in MNIST_FILES])
    second = load("data=mnist", f"data.root={mnist}")
    assert first.test.y.unique().numel() == 10
    assert second.test.y.tolist() == [7] * 50


def test_a_read_only_root_only_prevents_the_cache(mnist: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (mnist / ".mltricks").write_text("a file where the folder would be")
    data = load("data=mnist", f"data.root={mnist}")
    assert len(data.test) == 50
    assert "cannot be written" in capfd.readouterr().err


@pytest.fixture
def mirror(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A web server on this machine with the files of ``mnist``; torchvision downloads from it."""
    from torchvision.datasets import MNIST

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    folder = mnist / "MNIST" / "raw"
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield folder
        server.shutdown()
    gc.collect()  # torchvision leaves the socket of a failed request to the garbage collector


def test_missing_files_are_fetched_verified_and_moved_into_place(mirror: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    assert len(load("data=mnist", f"data.root={fresh}").test) == 50
    assert {p.name for p in fresh.iterdir()} == {"MNIST", ".mltricks"}
    kept = fresh / "MNIST/raw" / MNIST_FILES[1]
    before = kept.stat().st_mtime_ns
    (fresh / "MNIST/raw" / MNIST_FILES[0]).unlink()
    load("data=mnist", f"data.root={fresh}")
    assert kept.stat().st_mtime_ns == before, "only missing files are downloaded"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["gone", "other content"])
def test_a_failed_download_leaves_nothing(mirror: Path, tmp_path: Path, fault: str) -> None:
    last = mirror / MNIST_FILES[3]
    last.unlink() if fault == "gone" else last.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"MNIST cannot be fetched into data\.root="):
        load("data=mnist", f"data.root={tmp_path / 'other'}")
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize("option", ["cifar10", "cifar100"])
def test_cifar_equals_what_was_written(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    rng = np.random.default_rng(0)
    fine = option == "cifar100"
    folder = tmp_path / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir()
    names = ["train", "test"] if fine else list(CIFAR_FILES[:-1])
    num_classes = 100 if fine else 10
    written = {}
    for name in names:
        pixels = rng.integers(0, 256, (num_classes * 3, 3072), dtype=np.uint8)
        labels = [i % num_classes for i in range(len(pixels))]
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "fine_labels" if fine else "labels": labels}))
        written[name] = pixels
    meta, key = ("meta", "fine_label_names") if fine else ("batches.meta", "label_names")
    (folder / meta).write_bytes(pickle.dumps({key: [f"class {i}" for i in range(num_classes)]}))
    table = [[name, checksum(folder / name)] for name in names]
    dataset = getattr(datasets, option.upper())
    monkeypatch.setattr(dataset, "train_list", table[:-1])
    monkeypatch.setattr(dataset, "test_list", table[-1:])
    monkeypatch.setattr(dataset, "meta", {"filename": meta, "key": key, "md5": checksum(folder / meta)})

    data = load(f"data={option}", f"data.root={tmp_path}", "data.download=false")
    assert data.info.in_shape == (3, 32, 32)
    assert data.info.classes[-1] == f"class {num_classes - 1}"
    x = next(data.test.batches([torch.arange(4)]))["x"]
    assert torch.equal(x, torch.from_numpy(written[names[-1]][:4]).view(4, 3, 32, 32))
    assert x.is_contiguous(memory_format=torch.channels_last)


REAL = {
    "mnist": ("MNIST/raw", 5923),
    "fashion_mnist": ("FashionMNIST/raw", 6000),
    "cifar10": ("cifar-10-batches-py", 5000),
}


@pytest.mark.real_data
@pytest.mark.parametrize("option", sorted(REAL))
def test_the_real_files_pass_their_checksums(option: str, tmp_path: Path) -> None:
    folder, zeros = REAL[option]
    if not (DATA / folder).is_dir():
        pytest.skip(f"{DATA / folder} is not there")
    (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / folder).symlink_to((DATA / folder).resolve(), target_is_directory=True)
    data = load(f"data={option}", f"data.root={tmp_path}", "data.download=false")
    labels = torch.cat([data.train.labels, data.val.labels])
    assert int((labels == 0).sum()) == zeros
    assert len(data.test) == 10_000
    if option == "mnist":  # the constants everybody normalises MNIST with
        assert float(data.info.input.mean) / 255 == pytest.approx(0.1307, abs=5e-4)
        assert float(data.info.input.std) / 255 == pytest.approx(0.3081, abs=5e-4)


# Folders of images


def make_images(folder: Path, classes: str = "ab", count: int = 12, suffix: str = ".png") -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            height, width = rng.integers(9, 40, 2)
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
                folder / name / f"{i}{suffix}"
            )
    return folder


def folder_overrides(folder: Path, root: Path, workers: int = 0) -> list[str]:
    return [
        "data=image_folder",
        f"data.path={folder}",
        f"data.root={root}",
        "data.size=12",
        f"data.num_workers={workers}",
    ]


def test_decoding_equals_torchvision(tmp_path: Path) -> None:
    from torchvision.transforms import v2

    transform = v2.Compose([v2.Resize(12), v2.CenterCrop(12), v2.PILToTensor()])
    for path in make_images(tmp_path / "images").rglob("*.png"):
        with Image.open(path) as image:
            expected = transform(image.convert("RGB"))
        assert torch.equal(decode_image(str(path), 12).permute(2, 0, 1), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    values = np.linspace(0, 255, 16 * 16).reshape(16, 16)
    if mode == "I;16":
        image = Image.fromarray((values * 257).astype(np.uint16))
    else:
        image = Image.fromarray(values.astype(np.uint8)).convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "I;16") else "x.png")
    image.save(path)
    found = decode_image(str(path), 16)
    assert found.shape == (16, 16, 3)
    if mode in ("L", "I;16", "RGBA"):
        assert (found[..., 0].double() - torch.from_numpy(values)).abs().max() <= 1


def test_rotated_photographs_are_put_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # a photograph taken upside down
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    assert decode_image(str(tmp_path / "x.png"), 16)[12:].float().mean() == 255


def test_large_photographs_are_decoded_at_reduced_size(tmp_path: Path) -> None:
    gradient = np.tile(np.linspace(0, 255, 512).astype(np.uint8)[None, :, None], (512, 1, 3))
    Image.fromarray(gradient).save(tmp_path / "x.jpg", quality=95)
    expected = torch.linspace(0, 255, 512).view(32, 16).mean(1)
    assert (decode_image(str(tmp_path / "x.jpg"), 32).float().mean((0, 2)) - expected).abs().max() < 3


def test_workers_read_what_this_process_reads(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images")
    here, there = (load(*folder_overrides(folder, tmp_path, n)) for n in (0, 2))
    for part in ("train", "val", "test"):
        ours, theirs = read_all(getattr(here, part)), read_all(getattr(there, part))
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[1], getattr(here, part).labels)
    assert sum(len(getattr(here, p)) for p in ("train", "val", "test")) == 24
    interleaved = there.train.batches(torch.arange(12).split(3))
    first = next(interleaved)["y"]
    assert torch.equal(read_all(there.val)[1], there.val.labels), "a validation in mid-epoch"
    rest = [batch["y"] for batch in interleaved]
    assert torch.equal(torch.cat([first, *rest]), there.train.labels[:12])


def test_statistics_of_a_folder(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images")
    data = load(*folder_overrides(folder, tmp_path))
    x = read_all(data.train)[0].double()
    torch.testing.assert_close(data.info.input.mean.flatten().double(), x.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        data.info.input.std.flatten().double(), x.std((0, 2, 3), correction=0), rtol=1e-6, atol=0
    )
    path = Path(data.train.workers.reader.paths[int(data.train.positions[0])])
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(content)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = load(*folder_overrides(folder, tmp_path))
    assert torch.equal(again.info.input.mean, data.info.input.mean), (
        "read from the cache: the image would not decode any more"
    )


def test_folders_train_val_test(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for part, count in (("train", 10), ("val", 3), ("test", 4)):
        make_images(folder / part, count=count)
    data = load(*folder_overrides(folder, tmp_path))
    assert [len(s) for s in (data.train, data.val, data.test)] == [20, 6, 8]
    names = {Path(data.val.workers.reader.paths[int(i)]).parts[-3] for i in data.val.positions}
    assert names == {"val"}
    make_images(folder / "validation", count=1)
    with pytest.raises(ValueError, match=r"validation/ beside train/"):
        load(*folder_overrides(folder, tmp_path))


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images")
    with pytest.raises(ValueError, match=r"data\.path=.*does not exist"):
        load(*folder_overrides(tmp_path / "missing", tmp_path))
    with pytest.raises(ValueError, match=r"data\.path=.*0\.png is a file"):
        load(*folder_overrides(folder / "a" / "0.png", tmp_path))
    with pytest.raises(ValueError, match=r"holds 0 class folders"):
        load(*folder_overrides(folder / "a", tmp_path))
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"images/empty holds no image"):
        load(*folder_overrides(folder, tmp_path))


def test_an_image_that_cannot_be_decoded_ends_the_run_with_its_name(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", suffix=".jpg")
    data = load(*folder_overrides(folder, tmp_path, workers=1))
    path = Path(data.test.workers.reader.paths[int(data.test.positions[0])])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"^{path} cannot be decoded") as caught:
        read_all(data.test)
    assert "Traceback" not in str(caught.value)
    assert caught.value.__cause__ is None


# Text


def text_overrides(path: Path, *more: str) -> list[str]:
    return ["data=text", f"data.path={path}", "data.length=8", *more]


def test_text_windows_are_pieces_of_the_text(tmp_path: Path) -> None:
    text = "".join(chr(97 + (7 * i * i + i) % 23) for i in range(1000)) + "Zürich\r\n"
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode())
    data = load(*text_overrides(path))
    assert data.info.classes == tuple(sorted(set(text)))
    assert data.info.num_outputs == len(set(text))
    spell = lambda tokens: "".join(data.info.classes[i] for i in tokens)  # noqa: E731
    x, y = read_all(data.train)
    for i in range(len(x)):
        assert spell(x[i]) == text[8 * i : 8 * i + 8]
        assert spell(y[i]) == text[8 * i + 1 : 8 * i + 9]
    assert x.dtype == y.dtype == torch.int64
    assert x.is_contiguous()
    assert y.is_contiguous()
    size = len(text)
    val, test = (read_all(s)[0] for s in (data.val, data.test))
    assert spell(val[0]) == text[size - 2 * round(0.1 * size) :][:8]
    assert spell(test[0]) == text[size - round(0.1 * size) :][:8]
    last = 8 * len(x)
    assert last <= size - 2 * round(0.1 * size) - 1, (
        "the last training target is not a character of the validation split"
    )


def test_text_stride_fraction_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("abcdefghij" * 100)
    whole = load(*text_overrides(path, "data.stride=3"))
    assert len(whole.train) == len(range(0, 800 - 8, 3))
    assert len(whole.val) == len(range(0, 100 - 8, 8)), "validation windows do not overlap"
    assert len(load(*text_overrides(path, "data.stride=3", "data.limit=5")).train) == 5
    assert len(load(*text_overrides(path, "data.stride=3", "data.fraction=0.5")).train) == round(0.5 * len(whole.train))


def test_text_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    with pytest.raises(ValueError, match=r"data\.path=.*does not exist"):
        load(*text_overrides(path))
    with pytest.raises(ValueError, match=r"is a folder"):
        load(*text_overrides(tmp_path))
    path.write_text("too short")
    with pytest.raises(ValueError, match=r"too short.*data\.length=8"):
        load(*text_overrides(path))
    path.write_bytes(b"abc\xff" * 100)
    with pytest.raises(ValueError, match=r"not UTF-8: byte 0xff at position 3"):
        load(*text_overrides(path))
    path.write_text("")
    with pytest.raises(ValueError, match="is empty"):
        load(*text_overrides(path))


def test_tokens_spell_the_text() -> None:
    text = "naïve 🦜\x00 text"
    tokens, vocabulary = tokenize(text)
    assert "".join(vocabulary[i] for i in tokens) == text
    assert list(vocabulary) == sorted(set(text))


# A user's own data


class Pairs:
    """A map-style dataset of the given samples."""

    def __init__(self, xs: Any, ys: Any, classes: tuple[str, ...] = ()):
        self.xs, self.ys = xs, ys
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.ys)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.xs[i], self.ys[i]


def custom(given: Any, **settings: Any) -> DataSplits:
    from mltricks.data.custom import adapt

    node = plain(compose(["data=custom", "data._target_=x.y", "allow_modules=[x]"]))["data"]
    node.pop("_target_")
    return adapt(given, {**node, **settings})


LABELS = [i % 3 for i in range(60)]
VECTORS = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50, 0, 3, 1e-3]) + 1000
IMAGES = torch.randint(0, 256, (60, 6, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_vectors_are_standardised_by_feature() -> None:
    data = custom(Pairs(VECTORS, LABELS), unlabeled_ratio=1)
    assert (data.info.input.kind, data.info.target, data.info.num_outputs, data.info.in_shape) == (
        "vector",
        "classes",
        3,
        (5,),
    )
    z = data.info.normalize(data.unlabeled.x)
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=5e-2, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.tensor([1.0, 1, 0, 1, 1]), atol=5e-2, rtol=0)
    assert len(data.train) + len(data.val) + len(data.test) == 60
    assert len(data.test) == 12, "test_frac of the samples"


@pytest.mark.parametrize("form", ["HWC", "CHW", "PIL", "float CHW", "numpy"])
def test_images_in_every_form(form: str) -> None:
    forms = {
        "HWC": lambda x: x,
        "CHW": lambda x: x.permute(2, 0, 1),
        "PIL": lambda x: Image.fromarray(x.numpy()),
        "float CHW": lambda x: x.permute(2, 0, 1) / 255,
        "numpy": lambda x: x.numpy(),
    }
    dataset = Pairs([forms[form](x) for x in IMAGES], LABELS, ("red", "green", "blue"))
    data = custom((dataset, dataset))
    assert data.info.in_shape == (3, 6, 9)
    assert data.info.classes == ("red", "green", "blue")
    assert torch.equal(data.test.x, IMAGES)
    assert len(data.train) + len(data.val) == 60


def test_values_are_taken_as_they_are() -> None:
    ys = [float(i) * 1e3 for i in range(60)]
    data = custom((Pairs(VECTORS, ys), Pairs(VECTORS, ys)))
    assert (data.info.target, data.info.num_outputs) == ("values", 1)
    assert data.test.y.tolist() == ys
    two = custom((Pairs(IMAGES, torch.rand(60, 2)), Pairs(IMAGES, torch.rand(60, 2))))
    assert (two.info.input.kind, two.info.num_outputs) == ("image", 2)
    x = two.train.x.double()
    assert two.info.input.mean.flatten()[0] == pytest.approx(float(x[..., 0].mean()), rel=1e-5)


def test_splits_and_loaders_pass() -> None:
    digits = load("data=digits")
    assert custom(digits) is digits

    class Loader:
        def load(self) -> DataSplits:
            return digits

    assert custom(Loader()) is digits
    with pytest.raises(ValueError, match=r"data\.limit=10 has no effect"):
        custom(digits, limit=10)


NAN = VECTORS.clone()
NAN[7, 2] = float("nan")
REFUSED = {
    "an empty set": (lambda: Pairs([], []), "training data are empty"),
    "no dataset": (lambda: 3, "gives a int as training data"),
    "four parts": (lambda: (Pairs(VECTORS, LABELS),) * 4, "gives 4 parts"),
    "no pairs": (lambda: list(VECTORS), "not a pair"),
    "NaN in x": (lambda: Pairs(NAN, LABELS), "sample 7 of the training data holds NaN"),
    "NaN in y": (lambda: Pairs(VECTORS, [float("nan")] * 60), "NaN or infinite"),
    "a negative label": (lambda: Pairs(VECTORS, [-1, *LABELS[1:]]), "label -1 of training sample"),
    "a label too large": (lambda: Pairs(VECTORS, [5, *LABELS[1:]], tuple("abc")), "label 5 of training sample"),
    "a gap": (lambda: Pairs(VECTORS, [2 * y for y in LABELS]), "class 1 has no training sample"),
    "an empty class": (lambda: Pairs(VECTORS, LABELS, tuple("abcd")), "class 3 has no training sample"),
    "one class": (lambda: Pairs(VECTORS, [0] * 60), "all training samples are of one class"),
    "unlike shapes": (lambda: Pairs([*VECTORS[:59], torch.zeros(4)], LABELS), "sample 59 of the training data is"),
    "integer vectors": (lambda: Pairs(VECTORS.long(), LABELS), "float vectors"),
    "normalised images": (lambda: Pairs(IMAGES / 100 - 1, LABELS), "must be uint8"),
    "ambiguous sides": (
        lambda: Pairs(IMAGES.permute(0, 1, 3, 2)[:, :3].expand(60, 3, 3, 9)[..., :3], LABELS),
        "channels",
    ),
    "another test set": (lambda: (Pairs(VECTORS, LABELS), Pairs(IMAGES, LABELS)), "not like the training data"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_data_are_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        custom(make())


def test_custom_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my_package.py").write_text(
        "import torch\n"
        "class Blobs:\n"
        "    def __init__(self, root, spread):\n"
        "        assert root == 'somewhere'\n"
        "        self.y = [i % 2 for i in range(200)]\n"
        "        noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))\n"
        "        self.x = torch.tensor(self.y)[:, None] * 5.0 + spread * noise\n"
        "    def __len__(self):\n"
        "        return 200\n"
        "    def __getitem__(self, i):\n"
        "        return self.x[i], self.y[i]\n"
    )
    command = [
        sys.executable,
        "-m",
        "mltricks",
        "data=custom",
        "data._target_=my_package.Blobs",
        "model=mlp",
        "epochs=8",
    ]
    command += [
        "allow_modules=[my_package]",
        "+data.spread=0.1",
        "data.root=somewhere",
        "data.val_frac=0.25",
        "plots=false",
    ]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "hydra.run.dir=out"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import json

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["test"]["accuracy"] == 1.0


def test_a_typing_error_in_the_users_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slip_package.py").write_text("def make(spread):\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"data\.spraed is no setting.*spread"):
        load("data=custom", "data._target_=slip_package.make", "allow_modules=[slip_package]", "+data.spraed=1")


def test_memory_splits_select_and_move() -> None:
    split = MemorySplit(IMAGES, torch.tensor(LABELS), image=True)
    part = split.select(torch.tensor([5, 2]))
    batch = next(part.batches([torch.tensor([1, 0, 1])]))
    assert torch.equal(batch["x"], IMAGES[[2, 5, 2]].permute(0, 3, 1, 2))
    assert batch["y"].tolist() == [LABELS[2], LABELS[5], LABELS[2]]


def test_text_chooses_its_model_and_objective_and_the_command_wins() -> None:
    alone, named = compose(["data=text"]), compose(["data=text", "model=mlp"])
    assert alone.objective._target_.endswith("NextToken")
    assert alone.model._target_.endswith("Transformer")
    assert named.model._target_.endswith("MLP")
