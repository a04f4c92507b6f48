"""What a file or folder holds, what is left out, and which chapter can use it: only where its own loader succeeds."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_datasets import challenge
from test_dicom import edited, write

from noisebook import _findings, chapters, datasets, dicom, validation


def described(path: Path, usable: bool = True) -> str:
    """What the command says of a path that is usable, or not."""
    found = validation.validate(path)
    assert found.usable is usable
    return "\n".join(_findings.lines(found))


def archive(root: Path, patients: tuple[str, ...] = ("L001", "L002"), side: int = 70) -> Path:
    """Patients in the layout of the TCIA collection, two slices a dose."""
    for patient in patients:
        for number, dose in enumerate(("Full", "Low"), 1):
            place = root / datasets.ARCHIVE / patient / "study" / f"{number}.000000-{dose} Dose Images-0000{number}"
            hu = np.random.default_rng(number).normal(0, 20, (2, side, side))
            dicom.write_series(place, hu, (3, 0.7, 0.7), [0, 3], patient=patient, description=f"{dose} Dose Images")
    return root


def command(text: str) -> dict[str, object]:
    """The parameters of the command that is recommended, as the runner takes them."""
    line = next(line for line in text.splitlines() if "noisebook run " in line)
    words = shlex.split(line)
    assert words[:3] == ["noisebook", "run", "linearized"]
    return chapters.values("linearized", "book", [words[k + 1] for k, word in enumerate(words) if word == "-p"])


def in_python(text: str) -> dicom.Series:
    """What the line of Python that is given reads."""
    line = next(line for line in text.splitlines() if line.startswith("In Python: "))
    assert line.startswith("In Python: from noisebook.dicom import read_series, scan; series = ")
    return eval(line.partition("series = ")[2], {"read_series": dicom.read_series, "scan": dicom.scan})


def test_an_archive_gets_a_command_that_the_chapter_takes(tmp_path: Path) -> None:
    """Series, sizes and values are listed, and the command names the folder, the label and a probe inside."""
    text = described(archive(tmp_path))
    assert "Full Dose Images, 2 files in " in text
    assert "CT: 2 x 70 x 70 pixels (z, y, x) of 3 x 0.7 x 0.7 mm" in text
    assert command(text) == {"data_root": str(tmp_path), "label": "full", "probe": [1, 35, 35]}


def test_what_is_found_is_an_object(tmp_path: Path) -> None:
    """Its kind, whether it is usable, counts, and chapters with their parameters are values, not words."""
    found = validation.validate(archive(tmp_path / "ct"))
    assert (found.kind, found.usable, len(found.series)) == (validation.Kind.CT, True, 4)
    assert {series.shape for series in found.series} == {(2, 70, 70)}
    first, second = found.uses
    chosen = {"data_root": tmp_path / "ct", "label": "full", "prefix": "", "probe": [1, 35, 35]}
    assert (first.chapter, first.parameters, first.refused) == ("linearized", chosen, "")
    assert (second.chapter, second.parameters, bool(second.refused)) == ("cyclegan", {}, True)
    np.save(tmp_path / "a.npy", COUNTS)
    found = validation.validate(tmp_path / "a.npy")
    assert (found.kind, found.usable) == (validation.Kind.COUNTS, True)
    assert found.uses == (validation.Use("gap", {"counts_path": tmp_path / "a.npy"}),)
    found = validation.validate(radiographs(tmp_path / "x", {"train": 3, "val": 1, "test": 2}))
    assert (found.kind, found.usable) == (validation.Kind.RADIOGRAPHS, True)
    assert found.radiographs
    assert found.radiographs.images["train", "NORMAL"] == 3
    assert found.uses == (validation.Use("xray", {"data_root": tmp_path / "x", "by": "folder"}),)


def commands(text: str, chapter: str) -> list[dict[str, object]]:
    """The parameters of the commands for a chapter, as the runner takes them."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True) if f"noisebook run {chapter} " in line else []
        if words:
            preset = words[words.index("--preset") + 1] if "--preset" in words else "book"
            given = [words[k + 1] for k, word in enumerate(words) if word == "-p"]
            found.append(chapters.values(chapter, preset, given))
    return found


def test_an_archive_is_offered_to_the_chapter_without_pairs(tmp_path: Path) -> None:
    """After linearized, with the slices that it would measure; where they are too small, it says so."""
    text = described(archive(tmp_path / "large", side=130))
    assert "The chapter cyclegan can use it, 4 slices to measure:" in text
    assert commands(text, "cyclegan") == [{"data_root": str(tmp_path / "large")}]
    text = described(archive(tmp_path / "small"))
    assert "The chapter cyclegan cannot use it: quarter: expected square slices from 128 x 128 pixels on" in text
    assert commands(text, "cyclegan") == []


def test_files_of_attenuation_get_a_command(tmp_path: Path) -> None:
    """The authors' folders are counted; HU in them, and a dose alone, are told."""
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for dose in ("full_dose", "quarter_dose"):
            (tmp_path / part / dose).mkdir(parents=True)
            np.save(tmp_path / part / dose / "1.npy", random.normal(0.02, 0.001, (128, 128)))
    text = described(tmp_path)
    assert "train: 1 slices of mu at quarter dose, 1 at full dose" in text
    assert commands(text, "cyclegan") == [{"data_root": str(tmp_path)}]
    np.save(tmp_path / "test" / "full_dose" / "1.npy", random.normal(40, 20, (128, 128)))
    assert "cannot use it: mu: expected linear attenuation in 1/mm" in described(tmp_path, usable=False)
    (tmp_path / "test" / "full_dose" / "1.npy").unlink()
    assert "N.npy files, got none" in described(tmp_path, usable=False)


def test_the_folder_of_one_patient_gets_a_command_for_this_patient(tmp_path: Path) -> None:
    """In the TCIA layout the patient's own folder is the root; where doses lie in it, the one above, with a prefix."""
    archive(tmp_path)
    place = tmp_path / datasets.ARCHIVE / "L002"
    assert command(described(place)) == {"data_root": str(place), "label": "full", "probe": [1, 35, 35]}
    assert len(datasets.ct_pairs(place, "study").low) == 2
    for dose in ("Full", "Low"):
        next(place.glob(f"study/*{dose}*")).rename(place / f"{dose} Dose Images")
    (place / "study").rmdir()
    chosen = command(described(place))
    assert (chosen["data_root"], chosen["prefix"]) == (str(tmp_path / datasets.ARCHIVE), "L002")


def test_no_chapter_without_pairs(tmp_path: Path) -> None:
    """A patient without a low dose, doses of other places, and a patient below the last of which one has no pair."""
    root = archive(tmp_path / "a")
    low = next(root.rglob("*Low Dose*"))
    for z, path in enumerate(sorted(low.iterdir())):
        edited(path, ImagePositionPatient=[0, 0, 500 + 3 * z])
    text = described(root)
    assert "No chapter can use it. linearized needs low and full dose of the same slices" in text
    assert "expected doses with slices within 0.1 mm of each other" in text
    shutil.rmtree(low)
    text = described(root)
    assert "noisebook run" not in text
    assert "expected one series of low images, got 0 among: Full Dose Images" in text


def test_slices_without_a_partner_are_described(tmp_path: Path) -> None:
    """Where only some slices pair, the chapter is recommended, with the warning that it will give."""
    root = archive(tmp_path)
    last = sorted(root.rglob("L001/*/*Low Dose*/*.dcm"))[-1]
    edited(last, ImagePositionPatient=[0, 0, 50])
    text = described(root)
    assert command(text)["label"] == "full"
    assert "it will warn: 1 of 2 low-dose and 1 of 2 full slices have no partner" in text


def test_images_too_small_for_the_probe_get_no_command(tmp_path: Path) -> None:
    """Pairs of 60 x 60 pixels, in which nothing can be probed, are no use to the chapter, and it is said why."""
    text = described(archive(tmp_path, side=60))
    assert "noisebook run" not in text
    assert "probe: expected a pixel 32 pixels inside (60, 60)" in text


def test_a_single_image_gets_no_chapter_but_a_line_of_python() -> None:
    """A single slice is described, not recommended to a chapter that needs pairs; the line in Python reads it."""
    path = dicom.shipped_example()
    text = described(path)
    assert "CT: 1 x 512 x 512 pixels" in text
    assert "noisebook run" not in text
    padded = (dicom.read_slice(path).hu == dicom.PADDING_HU).mean()
    assert f"{padded:.1%} of the pixels are padding, or as low: -1024 HU" in text
    assert in_python(text).hu.shape == (1, 512, 512)


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    """Localizers, other modalities, texts and damaged files are told; faults of the stack with their numbers."""
    paths = write(tmp_path / "a")
    edited(paths[2], ImagePositionPatient=[-3.2, -1.75, 9])
    edited(write(tmp_path / "b")[0], Modality="MR")
    for path in sorted((tmp_path / "b").iterdir())[1:]:
        edited(path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "README").write_text("text")
    (tmp_path / "cut.dcm").write_bytes(paths[0].read_bytes()[:200])
    text = described(tmp_path)
    assert "skipped: 2 localizer, 1 modality MR, 1 not DICOM" in text
    assert f"damaged: {tmp_path / 'cut.dcm'}: expected" in text
    assert "no volume: slices are unevenly spaced: 2.50 to 9.50 mm" in text
    with pytest.warns(UserWarning, match="unevenly spaced"):
        assert in_python(text).hu.shape == (3, 6, 9)


def test_series_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    """A series without slopes is no use: the error is told, and nothing is recommended."""
    for path in write(tmp_path):
        edited(path, RescaleSlope=0)
    text = described(tmp_path, usable=False)
    assert "cannot be used: " in text
    assert "expected RescaleSlope other than zero" in text
    assert "No CT series here can be used." in text


def test_the_grand_challenge_is_described(tmp_path: Path) -> None:
    """Folders of .IMA files are told by dose; their images are not square here, which the chapter needs."""
    text = described(challenge(tmp_path, "{dose}_1mm/{patient}"))
    assert text.count("CT: 3 x 4 x 5 pixels") == 4
    assert "expected square, of square pixels" in text


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    """A missing path and a folder without DICOM are errors of ours."""
    with pytest.raises(ValueError, match="expected a folder, got nothing there"):
        described(tmp_path / "gone")
    with pytest.raises(ValueError, match="expected DICOM files, got a folder without any"):
        described(tmp_path)


COUNTS = np.random.default_rng(0).poisson(3.0, (4, 20, 30)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".npy", ".npz"])
def test_photon_counts_get_a_command_that_the_chapter_takes(suffix: str, tmp_path: Path) -> None:
    """Whole numbers as noisy as Poisson's law has them: shape, mean, verdict and a command are told."""
    path = tmp_path / f"my counts{suffix}"
    if suffix == ".npy":
        np.save(path, COUNTS)
    elif suffix == ".npz":
        np.savez(path, COUNTS)
    else:
        tifffile.imwrite(path, COUNTS, photometric="minisblack")
    text = described(path)
    assert "4 x 20 x 30 values of uint16, mean 3" in text
    assert "looks like photon counts: whole numbers, variance to mean" in text
    words = shlex.split(next(line for line in text.splitlines() if "noisebook run " in line))
    assert words[:4] == ["noisebook", "run", "gap", "-p"]
    assert chapters.values("gap", "book", [words[4]]) == {"counts_path": str(path)}


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (COUNTS * 0.37, r"no photon counts: .* values are no counts"),
        (COUNTS + 100, r"found gain 1, offset 100 .* convert to \(x - 100\) / 1, rounded"),
        (np.tile(np.arange(30) + 40, (20, 1)), "too little noise"),
        (COUNTS[None, :2].repeat(2, 0), r"gap needs an image \(Y, X\) or a stack"),
    ],
)
def test_what_is_no_counts_gets_no_command(array: np.ndarray, reason: str, tmp_path: Path) -> None:
    """Scaled, offset and smooth images, and arrays of four axes, are told apart, and no chapter is named."""
    np.save(tmp_path / "a.npy", array)
    text = described(tmp_path / "a.npy", usable=False)
    assert re.search(reason, text)
    assert "No chapter can use it." in text
    assert "noisebook run" not in text


def radiographs(root: Path, patients: dict[str, int], *, shared: bool = False) -> Path:
    """An archive of random radiographs: by part, so many patients of each class; shared: one of them in two parts."""
    random = np.random.default_rng(0)
    number = 0
    for part, count in patients.items():
        for _ in range(count):
            number += 1
            names = {"NORMAL": f"IM-{number:04d}-0001", "PNEUMONIA": f"person{number}_virus_1"}
            for label, name in names.items():
                place = root / "chest_xray" / part / label / f"{name}.jpeg"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (20, 24)).astype(np.uint8)).save(place)
    if shared:
        other = Image.fromarray(random.integers(0, 256, (20, 24)).astype(np.uint8))
        other.save(root / "chest_xray" / "test" / "PNEUMONIA" / "person1_virus_2.jpeg")
    return root


def test_an_archive_of_radiographs_is_counted_and_gets_commands(tmp_path: Path) -> None:
    """Counts by part and class; its own folders are taken where no patient is in two."""
    text = described(radiographs(tmp_path, {"train": 3, "val": 1, "test": 2}))
    assert "Chest radiographs: 12 images" in text
    assert "train: 3 NORMAL, 3 PNEUMONIA" in text
    assert "val: 1 NORMAL, 1 PNEUMONIA" in text
    assert "12 patients by file name, 0 of them with images in two folders" in text
    assert "copies" not in text
    assert "Only identical pixels count as the same picture" in text
    book, paper = commands(text, "xray")
    assert book == {"data_root": str(tmp_path), "by": "folder"}
    assert (paper["data_root"], paper["by"], paper["nets"]) == (str(tmp_path), "folder", "train")


def test_copies_of_radiographs_are_counted_once(tmp_path: Path) -> None:
    """The archive's copy of itself and the folders of a Mac add no image, and their number is told."""
    root = radiographs(tmp_path, {"train": 3, "val": 1, "test": 2})
    shutil.copytree(root / "chest_xray", root / "chest_xray" / "chest_xray")
    hidden = root / "__MACOSX" / "train" / "NORMAL"
    hidden.mkdir(parents=True)
    (hidden / "._IM-0001-0001.jpeg").write_bytes(b"x")
    text = described(root)
    assert "Chest radiographs: 12 images" in text
    assert "13 more files are copies or hidden, or lie elsewhere: left out" in text


@pytest.mark.parametrize("suffix", [".JPG", ".png", ".jpg", ".PNG"])
def test_archives_of_any_suffix_are_counted(suffix: str, tmp_path: Path) -> None:
    """No number of copies is told where there are none, and one where the same picture has two names; junk is none."""
    root = radiographs(tmp_path, {"train": 3, "val": 1, "test": 2})
    for path in root.rglob("*.jpeg"):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    (root / "chest_xray" / "train" / "NORMAL" / "Thumbs.db").write_bytes(b"junk")
    assert "more files" not in (text := described(root))
    assert "Chest radiographs: 12 images" in text
    copied = next(root.rglob(f"train/NORMAL/*{suffix}"))
    shutil.copy(copied, root / "chest_xray" / "test" / "NORMAL" / f"IM-0900-0001{suffix}")
    assert "    1 more files are copies or hidden, or lie elsewhere: left out" in described(root)


def test_linked_folders_are_validated_as_the_loader_reads_them(tmp_path: Path) -> None:
    """Patients and series behind links are seen, and recommended to the chapter whose loader reads them."""
    archive(tmp_path / "disk")
    root = tmp_path / "here" / datasets.ARCHIVE
    for folder in (tmp_path / "disk" / datasets.ARCHIVE).iterdir():
        root.mkdir(parents=True, exist_ok=True)
        (root / folder.name).symlink_to(folder)
    (root / "L001" / "loop").symlink_to(tmp_path / "disk")
    text = described(tmp_path / "here")
    assert text.count("CT: 2 x 70 x 70 pixels") == 4
    assert command(text)["data_root"] == str(tmp_path / "here")
    for pairs in (datasets.ct_pairs(tmp_path / "here", "L002"), datasets.ct_pairs(tmp_path / "disk", "L002")):
        assert pairs.low.shape == (2, 70, 70)


def test_patients_in_two_folders_are_divided_anew(tmp_path: Path) -> None:
    """Where the folders share a patient, or one is empty, by=patient is recommended; identifiers are not told."""
    text = described(radiographs(tmp_path / "a", {"train": 3, "val": 1, "test": 2}, shared=True))
    assert "12 patients by file name, 1 of them with images in two folders" in text
    assert "divided anew: by=patient" in text
    assert [chosen["by"] for chosen in commands(text, "xray")] == ["patient", "patient"]
    assert "person1" not in text
    text = described(radiographs(tmp_path / "b", {"train": 4}) / "chest_xray" / "train")
    assert [chosen["by"] for chosen in commands(text, "xray")] == ["patient", "patient"]


def test_radiographs_that_the_chapter_cannot_use_get_no_command(tmp_path: Path) -> None:
    """Too few patients to divide, a damaged file, a part without a class: each is told, and nothing recommended."""
    text = described(radiographs(tmp_path / "a", {"train": 2}))
    assert "The chapter xray cannot use it: NORMAL: expected at least three patients, got 2" in text
    root = radiographs(tmp_path / "b", {"train": 3, "val": 1, "test": 2})
    broken = root / "chest_xray" / "val" / "NORMAL" / "IM-0004-0001.jpeg"
    broken.write_bytes(broken.read_bytes()[:100])
    text = described(root, usable=False)
    assert f"damaged: {broken}" in text
    assert "noisebook run" not in text
    shutil.rmtree(broken.parent)
    with pytest.raises(ValueError, match="val: expected images of both classes, got only PNEUMONIA"):
        described(root)
