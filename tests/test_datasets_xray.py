"""Chest radiographs: simulated in the archive's layout, read by one loader, divided by patient."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from noisebook import datasets, simulated

NAMES = {"NORMAL": "IM-{:04d}-0001.jpeg", "PNEUMONIA": "person{}_virus_3.jpeg"}


def archive(root: Path, patients: dict[str, list[int]], side: int = 24) -> Path:
    """An archive of constant images, each of its own grey; each patient has one image in each class."""
    for k, (part, numbers) in enumerate(patients.items()):
        for j, (label, name) in enumerate(NAMES.items()):
            folder = root / "chest_xray" / part / label
            folder.mkdir(parents=True)
            for number in numbers:
                Image.new("L", (side, side), 80 * k + 40 * j + number).save(folder / name.format(number))
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two patients of each class for training, one to choose and one to test."""
    return archive(tmp_path / "data", {"train": [1, 2], "val": [3], "test": [4]})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own."""
    monkeypatch.setenv("NOISEBOOK_CACHE", str(tmp_path))
    return tmp_path


def test_the_embedded_radiographs_are_an_archive(cache: Path) -> None:
    """The simulated images are found in all parts and both classes, and read back as they were simulated."""
    recipe = replace(simulated.XRAY_SMOKE, views=2, val=(8, 1001))
    files = datasets.xray_files(simulated.embedded_xray(recipe, progress=False))
    parts = datasets.xray_split(files)
    assert {part: len(its) for part, its in parts.items()} == {"train": 4, "val": 4, "test": 4}
    assert {file.patient for file in parts["test"]} == {"person2001", "IM-2002"}
    images = datasets.xray_images(parts["val"], 64)
    for image, (patient, view) in zip(images[:, 0], ((8, 0), (8, 1), (1001, 0), (1001, 1)), strict=True):
        difference = image.astype(float) - simulated.radiograph(recipe, patient, view)
        assert np.abs(difference).mean() < 3  # what the JPEG costs
    with Image.open(parts["val"][0].path) as colour:
        assert colour.mode == "RGB"


def test_simulating_twice_gives_the_same_files_and_once_is_enough(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call writes nothing; another cache gets the same bytes; the noise-free reference has its own id."""
    first = simulated.embedded_xray(simulated.XRAY_SMOKE, progress=False)
    times = {file: file.stat().st_mtime_ns for file in first.rglob("*")}
    assert simulated.embedded_xray(simulated.XRAY_SMOKE, progress=False) == first
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*")} == times
    monkeypatch.setenv("NOISEBOOK_CACHE", str(cache / "other"))
    second = simulated.embedded_xray(simulated.XRAY_SMOKE, progress=False)
    files = sorted(file.relative_to(first) for file in first.rglob("*") if file.is_file())
    assert len(files) == 7
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    assert replace(simulated.XRAY_SMOKE, noise_free=True).id != simulated.XRAY_SMOKE.id == first.name


def test_an_image_is_anatomy_and_quanta() -> None:
    """Views of a patient differ; without quanta the image stays the same but for noise that falls with exposure."""
    recipe = replace(simulated.XRAY_SMOKE, photons=1e3)
    free = simulated.radiograph(replace(recipe, noise_free=True), 2, 0).astype(float)
    noise = [(simulated.radiograph(replace(recipe, photons=n), 2, 0) - free).std() for n in (1e3, 1e4)]
    assert noise[0] / noise[1] == pytest.approx(10**0.5, rel=0.3)
    assert np.abs(simulated.radiograph(recipe, 2, 1) - free).mean() > 3


def test_a_radiograph_means_these_pixels() -> None:
    """Mean and spread of one image are the known ones: when they change, `simulated.XRAY_VERSION` must rise."""
    image = simulated.radiograph(replace(simulated.XRAY_SMOKE, noise_free=True), 3, 1)
    assert simulated.XRAY_VERSION == 1
    assert (float(image.mean()), float(image.std())) == (
        pytest.approx(131.75, abs=0.05),
        pytest.approx(60.09, abs=0.05),
    )


def test_recipes_keep_patients_apart() -> None:
    """No patient is trained on and tested; one in two parts and impossible numbers are refused."""
    trained = {*simulated.XRAY_TRAIN.train, *simulated.XRAY_TEST.train}
    assert not trained & {*simulated.XRAY_TEST.val, *simulated.XRAY_TEST.test}
    assert len(simulated.XRAY_TRAIN.train) * simulated.XRAY_TRAIN.views == 1344
    with pytest.raises(ValueError, match="patients: expected each in one part, once, got 1 twice"):
        simulated.XrayRecipe(train=(1001,))
    with pytest.raises(ValueError, match="views: expected a number above zero"):
        simulated.XrayRecipe(views=0)


def test_copies_and_hidden_files_count_once(small: Path) -> None:
    """The copy of the archive in itself, ``__MACOSX`` and ``.DS_Store`` add nothing, wherever the root is."""
    plain = datasets.xray_files(small)
    inner = small / "chest_xray"
    shutil.copytree(inner, small / "other")
    (small / "other").rename(inner / "chest_xray")
    shutil.copytree(inner / "train", small / "chest_xray" / "__MACOSX" / "train")
    for place in (inner, inner / "train" / "NORMAL"):
        (place / ".DS_Store").write_bytes(b"mac")
    (inner / "train" / "NORMAL" / "._IM-0001-0001.jpeg").write_bytes(b"mac")
    assert datasets.xray_files(small) == plain == datasets.xray_files(inner)
    assert len(plain) == 8
    assert [file.patient for file in plain[:2]] == ["IM-0004", "person4"]
    assert "person4" not in repr(plain[1]).replace(str(plain[1].path), "")


def test_what_is_no_picture_is_no_patient(small: Path) -> None:
    """Files that Windows and macOS leave behind add nothing; a damaged picture stays, to be told."""
    plain = datasets.xray_files(small)
    folder = small / "chest_xray" / "train" / "NORMAL"
    for name, content in (("Thumbs.db", b"\xd0\xcf\x11\xe0"), ("desktop.ini", b"[.ShellClassInfo]"), ("notes", b"")):
        (folder / name).write_bytes(content)
    assert datasets.xray_files(small) == plain
    (folder / "IM-0009-0001.jpeg").write_bytes(b"cut off")
    assert [file.patient for file in datasets.xray_files(small) if file not in plain] == ["IM-0009"]


def test_the_same_picture_under_two_names_counts_once(small: Path) -> None:
    """Decoded pixels are compared, not names or bytes: a PNG of a JPEG is a copy, and its patient is the same one."""
    plain = datasets.xray_files(small)
    first = small / "chest_xray" / "train" / "PNEUMONIA" / "person1_virus_3.jpeg"
    test = small / "chest_xray" / "test" / "PNEUMONIA"
    Image.open(first).save(test / "person900_virus_1.png")
    files = datasets.xray_files(small)
    assert len(files) == len(plain)
    assert len({datasets.xray_images([file], 24).tobytes() for file in files}) == len(plain)
    for parts in (datasets.xray_split(files), datasets.xray_split(files, "patient")):
        assert sum(map(len, parts.values())) == len(plain)
    Image.new("L", (24, 24), 240).save(first.with_name("person1_virus_4.jpeg"))
    Image.new("L", (24, 24), 250).save(test / "person900_virus_2.jpeg")
    with pytest.raises(ValueError, match=r"expected each patient in one part.*Divide anew"):
        datasets.xray_split(datasets.xray_files(small))
    named = {file.path.name: file.patient for file in datasets.xray_files(small)}
    assert named["person1_virus_4.jpeg"] == named["person900_virus_2.jpeg"]
    shutil.copy(first, small / "chest_xray" / "train" / "NORMAL" / "IM-0700-0001.jpeg")
    with pytest.raises(ValueError, match=r"expected one class for a picture, got the pixels of .*Remove one\."):
        datasets.xray_files(small)


def test_linked_folders_are_read_once(small: Path, tmp_path: Path) -> None:
    """Links to classes, to the archive itself and back up give the files that are there, and end."""
    plain = [file.path.name for file in datasets.xray_files(small)]
    linked = tmp_path / "linked" / "chest_xray"
    for folder in (small / "chest_xray").glob("*/*"):
        (linked / folder.parent.name).mkdir(parents=True, exist_ok=True)
        (linked / folder.parent.name / folder.name).symlink_to(folder)
    (linked / "again").symlink_to(linked)
    (linked / "up").symlink_to(tmp_path)
    assert [file.path.name for file in datasets.xray_files(tmp_path / "linked")] == plain


def test_two_images_of_one_name_are_refused(small: Path) -> None:
    """A copy of another size is no copy."""
    other = small / "chest_xray" / "chest_xray" / "train" / "NORMAL"
    other.mkdir(parents=True)
    (other / "IM-0001-0001.jpeg").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"expected a copy of .*got another file of that name"):
        datasets.xray_files(small)


def test_patients_are_never_divided(small: Path, tmp_path: Path) -> None:
    """By folder a patient in two parts is refused; by patient everyone is in one part, all three are filled."""
    big = archive(tmp_path / "big", {"train": list(range(1, 25)), "test": list(range(20, 30))})
    with pytest.raises(ValueError, match=r"expected each patient in one part.*Divide anew: by=\"patient\""):
        datasets.xray_split(datasets.xray_files(big))
    parts = datasets.xray_split(datasets.xray_files(big), "patient")
    patients = [{file.patient for file in its} for its in parts.values()]
    assert not patients[0] & patients[1] | patients[0] & patients[2] | patients[1] & patients[2]
    assert [len(its) for its in patients] == [52, 2, 4]
    assert sum(map(len, parts.values())) == len(datasets.xray_files(big)) == 68
    with pytest.raises(ValueError, match="NORMAL: expected at least three patients, got 2"):
        datasets.xray_split([f for f in datasets.xray_files(small) if f.part == "train"], "patient")
    with pytest.raises(ValueError, match="by: expected one of folder, patient"):
        datasets.xray_split([], "image")


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person17_bacteria_54.jpeg", "person17"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1427"),
        ("BACTERIA-1008087-0001.jpeg", "BACTERIA-1008087"),
        ("other.jpeg", "other"),
    ],
)
def test_a_name_tells_the_patient(name: str, patient: str) -> None:
    """The archive's ways to write a patient's number, and a name that has none."""
    assert datasets._xray._patient(name) == patient


def test_a_missing_class_or_archive_is_refused(small: Path, tmp_path: Path) -> None:
    """A part with one class, an empty folder and no folder at all are named."""
    shutil.rmtree(small / "chest_xray" / "val" / "NORMAL")
    with pytest.raises(ValueError, match="val: expected images of both classes, got only PNEUMONIA"):
        datasets.xray_files(small)
    with pytest.raises(ValueError, match=r"expected radiographs in .*, got no folder"):
        datasets.xray_files(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected radiographs in .*, got none"):
        datasets.xray_files(tmp_path / "empty")


def one(path: Path) -> np.ndarray:
    """The image of a file, 32 x 32."""
    return datasets.xray_images([datasets.XrayFile(path, "train", "NORMAL", "p")], 32)[0, 0]


def test_grey_colour_and_turned_files_are_one_image(tmp_path: Path) -> None:
    """RGB becomes grey; a picture stored on its side is turned up as its EXIF tag says; sizes and type are fixed."""
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[:, None], 48, 1)
    grey = Image.fromarray(ramp)
    grey.save(tmp_path / "grey.jpeg", quality=100)
    grey.convert("RGB").save(tmp_path / "colour.jpeg", quality=100)
    turned, tags = grey.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    tags[0x0112] = 6
    turned.save(tmp_path / "turned.jpeg", quality=100, exif=tags)
    expected = one(tmp_path / "grey.jpeg")
    assert expected.shape == (32, 32)
    assert expected.dtype == np.uint8
    assert np.abs(expected[:, 0] - np.linspace(2, 253, 32)).max() < 3
    for name in ("colour", "turned"):
        assert np.abs(one(tmp_path / f"{name}.jpeg").astype(int) - expected).max() <= 2


def write_faulty(fault: str, path: Path) -> None:
    """A file with a fault."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    image = Image.fromarray(noise)
    if fault in ("truncated", "header"):
        image.save(path, "JPEG")
        path.write_bytes(path.read_bytes()[: 1500 if fault == "truncated" else 12])
    elif fault == "empty":
        path.touch()
    elif fault == "text":
        path.write_text("no image")
    elif fault == "cmyk":
        image.convert("CMYK").save(path, "JPEG")
    elif fault == "png":
        Image.fromarray(noise.astype(np.uint16) * 256).save(path, "PNG")
    elif fault == "gif":
        image.save(path, "GIF", save_all=True, append_images=[image.rotate(90)])
    elif fault == "pixel":
        Image.new("L", (1, 1)).save(path, "JPEG")
    else:  # a header that promises more than it holds: no test needs to write so many pixels
        side = {"large": 20_000, "medium": 8_000}[fault]
        image.save(path, "JPEG")
        content = bytearray(path.read_bytes())
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = side.to_bytes(2, "big") * 2
        path.write_bytes(content)


FAULTS = {
    "truncated": "got one that is cut off or damaged",
    "header": "got something that is no image",
    "empty": "got an empty file",
    "text": "got something that is no image",
    "cmyk": "got JPEG of mode CMYK",
    "png": "got PNG of mode I;16",
    "gif": "got GIF of mode P with 2 frames",
    "pixel": "at least 16 pixels a side .* got 1 x 1",
    "large": "expected at most 50000000 pixels, got .*decompression bomb",
    "medium": "at most 50000000 in all, got 8000 x 8000",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_radiograph_is_refused(fault: str, tmp_path: Path) -> None:
    """Each fault is named with the file, what was expected and the remedy; huge ones before they are decoded."""
    path = tmp_path / "image.jpeg"
    write_faulty(fault, path)
    with pytest.raises(
        ValueError, match=f"image.jpeg: expected .*{FAULTS[fault].removeprefix('expected ')}.*Remove it"
    ):
        one(path)


def test_no_files_are_no_images() -> None:
    """An empty list gives an empty array of the right shape."""
    assert datasets.xray_images([], 64).shape == (0, 1, 64, 64)


def test_damaged_tags_and_missing_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a parser raises on EXIF tags that make no sense is the file's fault; a file that is gone is named."""
    Image.new("L", (32, 32)).save(tmp_path / "image.jpeg")
    with pytest.raises(ValueError, match=r"gone\.jpeg: expected a grey or RGB JPEG or PNG file, got nothing there"):
        one(tmp_path / "gone.jpeg")

    def failing(_: object) -> object:
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(ImageOps, "exif_transpose", failing)
    with pytest.raises(ValueError, match=r"got one that is cut off or damaged \(required argument"):
        one(tmp_path / "image.jpeg")
