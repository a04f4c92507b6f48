"""Slices of the CycleGAN chapter: units, files, pairings, and bad input."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import test_dicom_outside as outside
import torch

from noisebook import _findings, datasets, dicom, validation
from noisebook.papers import cyclegan

SIDE = 128


def slices(count: int = 4, seed: int = 0) -> np.ndarray:
    """Soft tissue with noise in air, (count, 128, 128) float32, HU."""
    hu = np.random.default_rng(seed).normal(40, 30, (count, SIDE, SIDE))
    hu[:, :, :20] = -1000
    return hu.astype(np.float32)


def to_mu(hu: np.ndarray, unit: str = "1/mm") -> np.ndarray:
    """Attenuation of HU, float32, with water at 0.0192/mm."""
    return ((hu.astype(float) / 1000 + 1) * {"1/mm": 0.0192, "1/cm": 0.192}[unit]).astype(np.float32)


def scans(patients: tuple[str, ...] = ("a", "a", "b", "c"), seed: int = 0) -> cyclegan.data.Scans:
    """One slice an entry of ``patients``; the full dose is the quarter dose plus its slice's number."""
    quarter = slices(len(patients), seed)
    steps = np.arange(len(patients), dtype=np.float32)[:, None, None]
    return cyclegan.data.Scans(quarter, quarter + steps, patients)


def test_water_is_zero_hu() -> None:
    """Water is a mu of 0.0192 1/mm = 0.192 1/cm, air one of 0."""
    mu = np.array([[0.0, 0.0192, 0.0384]])
    np.testing.assert_allclose(cyclegan.data.from_mu(mu), [[-1000, 0, 1000]], atol=1e-3)
    np.testing.assert_allclose(cyclegan.data.from_mu(mu * 10, "1/cm"), [[-1000, 0, 1000]], atol=1e-3)
    for unit in ("1/mm", "1/cm"):
        hu = slices(1)
        back = cyclegan.data.from_mu(to_mu(hu, unit), unit)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, hu, atol=1e-3)


def test_units_that_are_mistaken_are_refused() -> None:
    """HU as mu, 1/cm as 1/mm and the reverse, and unknown units are named with the remedy."""
    hu = slices(1)
    with pytest.raises(ValueError, match=r"mu: expected linear attenuation in 1/mm.*looks like HU already"):
        cyclegan.data.from_mu(hu)
    with pytest.raises(ValueError, match=r"in 1/mm, got .* in dense pixels. This looks like 1/cm"):
        cyclegan.data.from_mu(to_mu(hu, "1/cm"))
    with pytest.raises(ValueError, match=r"in 1/cm, got .* in dense pixels. This looks like 1/mm"):
        cyclegan.data.from_mu(to_mu(hu), "1/cm")
    with pytest.raises(ValueError, match="unit: expected one of 1/cm, 1/mm"):
        cyclegan.data.from_mu(to_mu(hu), "1/m")


BAD = {
    "mu": (lambda hu: to_mu(hu), "expected HU, got .* This looks like mu"),
    "small": (lambda hu: hu[:, :127, :127], "expected square slices from 128 x 128 pixels on, got 127 x 127"),
    "oblong": (lambda hu: np.concatenate([hu, hu], 1), "expected square slices .* got 256 x 128"),
    "double": (lambda hu: hu.astype(np.float64), "expected float32, got float64"),
    "air": (lambda hu: np.concatenate([hu, hu * 0 - 1000]), "all air in 4 slices, the first number 4"),
    "nan": (lambda hu: hu * np.nan, "expected finite values"),
    "none": (lambda hu: hu[:0], "expected at least one slice, got none. Both domains are needed"),
    "flat": (lambda hu: hu[0], r"expected 3 axes \(Z, Y, X\)"),
}


@pytest.mark.parametrize("fault", BAD)
def test_slices_that_the_networks_cannot_take_are_refused(fault: str) -> None:
    """Each fault is named at each door: arrays of HU, and scans of both doses."""
    change, message = BAD[fault]
    wrong, right = change(slices()), slices()
    with pytest.raises(ValueError, match=f"image: .*{message}"):
        cyclegan.data.check_hu("image", wrong)
    with pytest.raises(ValueError, match=f"full: .*{message}"):
        cyclegan.data.Scans(right, wrong)
    with pytest.raises(ValueError, match=f"quarter: .*{message}"):
        cyclegan.data.Scans(wrong, right)


def test_doses_of_other_shapes_are_refused() -> None:
    """Registered doses have as many slices, and patients one a slice."""
    with pytest.raises(ValueError, match="full: expected shape"):
        cyclegan.data.Scans(slices(4), slices(3))
    with pytest.raises(ValueError, match="patients: expected 4, one a slice, or none, got 1"):
        cyclegan.data.Scans(slices(4), slices(4), ("a",))


def test_patients_are_divided_between_the_doses() -> None:
    """No patient is in both domains; registered pairs of every second patient are those of the quarter dose."""
    data = scans(("a", "b", "a", "c", "d"))
    quarter, full = cyclegan.data.domains(data, "patients")
    torch.testing.assert_close(quarter, torch.from_numpy(data.quarter[[0, 2, 3]]), rtol=0, atol=0)
    torch.testing.assert_close(full, torch.from_numpy(data.full[[1, 4]]), rtol=0, atol=0)
    first, second = cyclegan.data.domains(data, "registered", every=2)
    torch.testing.assert_close(first, quarter, rtol=0, atol=0)
    torch.testing.assert_close(second, torch.from_numpy(data.full[[0, 2, 3]]), rtol=0, atol=0)


def test_all_slices_are_in_both_domains_if_shuffled() -> None:
    """Shuffled and registered domains hold everything."""
    for pairing in ("shuffled", "registered"):
        assert [len(dose) for dose in cyclegan.data.domains(scans(), pairing)] == [4, 4]


def test_pairings_that_cannot_be_are_refused() -> None:
    """Unknown pairings, and patients that are unknown or alone."""
    with pytest.raises(ValueError, match="pairing: expected one of patients, registered, shuffled"):
        cyclegan.data.domains(scans(), "random")
    with pytest.raises(ValueError, match="patients: expected at least two, known by their ids, got 1"):
        cyclegan.data.domains(scans(("a", "a")), "patients")
    with pytest.raises(ValueError, match="patients: expected at least two, known by their ids, got 0"):
        cyclegan.data.domains(cyclegan.data.Scans(slices(), slices()), "registered", every=2)


@pytest.mark.parametrize("window_hu", [(-1024, 3071), (-1000, 1000), (-160, 240)])
@pytest.mark.parametrize("unit", ["1/mm", "1/cm"])
def test_scaled_grey_values_are_no_attenuation(window_hu: tuple[float, float], unit: str) -> None:
    """A body that a window has scaled to 0…1 is in no unit, and the message names neither as its own."""
    hu = np.full((100, 100), -1000.0)
    hu[10:90, 10:90], hu[40:60, 40:60] = 40, 1500
    low, high = window_hu
    grey = (hu - low) / (high - low)
    grey = grey.clip(0, 1) if unit == "1/mm" else (grey - grey.min()) / np.ptp(grey)  # by all slices, or by this one
    with pytest.raises(ValueError, match=r"in dense pixels\. Was it scaled, to 0…1 for instance\? Water has 0\.0"):
        cyclegan.data.from_mu(grey, unit)


SCALED = {
    "by the largest": lambda mu: mu / mu.max(),
    "to 0…0.999": lambda mu: 0.999 * mu / mu.max(),
    "to 0.05…0.9": lambda mu: 0.05 + 0.85 * mu / mu.max(),
    "by a window": lambda mu: ((mu / 0.0192 - 1) * 1000 + 1024) / 4096,
    "1/mm": lambda mu: mu,
    "per inch": lambda mu: mu * 25.4,
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_attenuation_is_refused_as_1_per_cm(kind: str, tmp_path: Path) -> None:
    """A body with bone in air, scaled in any way, is not read as 1/cm, from an array or from files; in 1/cm it is."""
    hu = slices(3)
    hu[:, 60:70, 60:70] = 1200
    mu = to_mu(hu).clip(0)
    scaled = SCALED[kind](mu).astype(np.float32)
    files = {str(k): one for k, one in enumerate(scaled)}
    right = {str(k): 10 * one for k, one in enumerate(mu)}
    for read in (
        lambda: cyclegan.data.from_mu(scaled, "1/cm"),
        lambda: cyclegan.data.read_mu(written(tmp_path / "a", files, files), "train", unit="1/cm"),
        lambda: cyclegan.data.read_mu(written(tmp_path / "b", right, files), "train", unit="1/cm"),
    ):
        with pytest.raises(ValueError, match=r"mu: expected linear attenuation in 1/cm, got .* in dense pixels"):
            read()
    found = cyclegan.data.read_mu(written(tmp_path / "c", right, right), "train", unit="1/cm")
    np.testing.assert_allclose(found.full, hu.clip(-1000), atol=1e-3)


def test_a_slice_of_bone_among_others_is_no_mistaken_unit(tmp_path: Path) -> None:
    """The top of a skull, nearly all of it bone, is read among slices of soft tissue."""
    hu = slices(5)
    hu[4, :, 20:] = 900
    files = {str(k): one for k, one in enumerate(to_mu(hu))}
    found = cyclegan.data.read_mu(written(tmp_path, files, files), "train")
    np.testing.assert_allclose(found.full, hu, atol=1e-3)


def test_training_and_test_are_kept_apart() -> None:
    """A shared patient, and a shared slice of patients unknown, are found; patients are not named."""
    data = scans(("secret", "b"))
    cyclegan.data.check_apart(data, {"test": scans(("c",), seed=1), "validation": scans(("d",), seed=2)})
    with pytest.raises(ValueError, match=r"test: expected patients that are not trained on, got 1 in both") as caught:
        cyclegan.data.Split(data, {"test": scans(("secret",), seed=1)})
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="test: expected slices that are not trained on, got 1 in both"):
        cyclegan.data.check_apart(data, {"test": cyclegan.data.Scans(slices(1, seed=5), data.full[1:])})


def written(root: Path, quarter: dict[str, np.ndarray], full: dict[str, np.ndarray]) -> Path:
    """Files of mu in the authors' layout."""
    for dose, files in (("quarter_dose", quarter), ("full_dose", full)):
        folder = root / "train" / dose
        folder.mkdir(parents=True)
        for name, array in files.items():
            np.save(folder / f"{name}.npy", array)
    return root


@pytest.mark.parametrize("unit", ["1/mm", "1/cm"])
def test_files_of_mu_are_read_in_the_order_of_their_numbers(tmp_path: Path, unit: str) -> None:
    """2 comes before 10, both doses agree, and HU are those that were written."""
    hu = slices(3)
    files = {str(k): to_mu(image, unit) for k, image in zip((2, 10, 1), hu, strict=True)}
    found = cyclegan.data.read_mu(written(tmp_path, files, files), "train", unit=unit)
    np.testing.assert_allclose(found.quarter, hu[[2, 0, 1]], atol=1e-3)
    np.testing.assert_array_equal(found.quarter, found.full)
    assert found.patients == ()


def test_wrong_files_of_mu_are_refused(tmp_path: Path) -> None:
    """One domain only, other numbers, names that are no numbers, and damaged or wrong arrays are named."""
    mu = to_mu(slices(1)[0])
    cases = {
        "quarter": (({}, {"1": mu}), "quarter_dose: expected N.npy files, got none. Both doses are needed"),
        "numbers": (({"1": mu}, {"1": mu, "2": mu}), "expected each N.npy at both doses, got 1 at one only, as 2"),
        "names": (({"a": mu}, {"1": mu}), "expected names N.npy with N a number, got a.npy"),
        "axes": (({"1": mu[0]}, {"1": mu}), r"expected \(Y, X\) of floating numbers, got float32 \(128,\)"),
        "whole": (({"1": np.ones((128, 128), int)}, {"1": mu}), "of floating numbers, got int64"),
    }
    for name, ((quarter, full), message) in cases.items():
        with pytest.raises(ValueError, match=message):
            cyclegan.data.read_mu(written(tmp_path / name, quarter, full), "train")
    with pytest.raises(ValueError, match="part: expected one of test, train"):
        cyclegan.data.read_mu(tmp_path, "valid")
    broken = written(tmp_path / "broken", {"1": mu}, {"1": mu})
    (broken / "train" / "full_dose" / "1.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"1.npy: expected an array of numbers, got ValueError"):
        cyclegan.data.read_mu(broken, "train")


def test_the_archive_is_read_by_patient(tmp_path: Path) -> None:
    """Slices of all patients in their order, at both doses, each with its patient's id."""
    for patient in ("P1", "P2"):
        for dose, offset in (("Low", 20), ("Full", 0)):
            place = tmp_path / datasets.ARCHIVE / patient / "study" / f"1-{dose} Dose Images-1"
            hu = slices(2, seed=int(patient[1])).round() + offset
            dicom.write_series(place, hu, (3, 1, 1), [0, 3], patient=patient, description=f"{dose} Dose Images")
    found = cyclegan.data.read_archive(tmp_path, ["P1", "P2"])
    assert found.patients == ("P1", "P1", "P2", "P2")
    np.testing.assert_allclose(found.quarter[:, :, 30:] - found.full[:, :, 30:], 20)
    np.testing.assert_allclose(found.full[2:, :, 30:], slices(2, seed=2).round()[:, :, 30:])
    with pytest.raises(ValueError, match="patients: expected at least one, got none"):
        cyclegan.data.read_archive(tmp_path, [])


def test_what_lies_below_air_counts_as_air(tmp_path: Path) -> None:
    """Padding of -1024 HU and noise in air are -1000 HU, from either kind of files."""
    hu = slices(1)
    hu[:, :5] = -1024
    for dose, name in (("Low", "quarter_dose"), ("Full", "full_dose")):
        place = tmp_path / "archive" / datasets.ARCHIVE / "P1" / "study" / f"1-{dose} Dose Images-1"
        title = f"{dose} Dose Images"
        dicom.write_series(place, hu.round(), (3, 1, 1), [0], patient="P1", description=title)
        (tmp_path / "mu" / "test" / name).mkdir(parents=True)
        np.save(tmp_path / "mu" / "test" / name / "0.npy", to_mu(hu[0]))
    for found in (
        cyclegan.data.read_archive(tmp_path / "archive", ["P1"]),
        cyclegan.data.read_mu(tmp_path / "mu", "test"),
    ):
        for images in (found.quarter, found.full):
            assert images.dtype == np.float32
            assert images.min() == -1000
            np.testing.assert_allclose(images[:, 5:], hu[:, 5:].clip(-1000), atol=0.51)


def test_slices_are_chosen_by_number() -> None:
    """The chosen slices keep their order, doses and patients."""
    data = scans(("a", "b", "c"))
    found = data.of([2, 0])
    assert found.patients == ("c", "a")
    np.testing.assert_array_equal(found.full, data.full[[2, 0]])


def test_mixed_image_sizes_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """Patients of 160 and 192 pixels cannot be stacked, and it is said from headers; pixel sizes may differ."""
    for k in range(12):
        for dose in ("Low", "Full"):
            told = {"SeriesDescription": f"{dose} Dose Images", "SeriesInstanceUID": f"1.{k}.{dose == 'Low':d}"}
            place = tmp_path / datasets.ARCHIVE / f"L{k:03d}" / f"1-{dose} Dose Images-1" / "1.dcm"
            side = 192 if k in (3, 11) else 160
            stored = np.full((side, side), 1064 + k)
            outside.ct(place, stored, PixelSpacing=[0.7 + k / 100] * 2, **told)
    assert cyclegan.data.read_archive(tmp_path, ["L000", "L001"]).quarter.shape == (2, 160, 160)
    with pytest.raises(ValueError, match="expected images of one size, got 160 x 160, 192 x 192"):
        cyclegan.data.measured_scans(str(tmp_path))
    cyclegan.data.check_trainable("embedded", str(tmp_path))
    text = "nets=train: expected images of one size, got 160 x 160, 192 x 192"
    with pytest.raises(ValueError, match=text):
        cyclegan.data.check_trainable("train", str(tmp_path))
    with pytest.raises(ValueError, match="nets=train: expected at least 11 patients"):
        cyclegan.data.check_trainable("train", str(tmp_path), "L00")
    lines = list(_findings.lines(validation.validate(tmp_path)))
    assert any("The chapter cyclegan cannot use it: " in line and "160 x 160, 192 x 192" in line for line in lines)
    shutil.rmtree(tmp_path / datasets.ARCHIVE / "L011")  # which leaves one size to measure, two to train on
    lines = list(_findings.lines(validation.validate(tmp_path)))
    assert any("noisebook run cyclegan" in line for line in lines)
    refused = [line.partition("cannot be trained on it: ")[2] for line in lines if "cannot be trained" in line]
    assert refused[0].startswith("net=train: expected slices from 256 x 256 pixels on, the largest patch, got 160")
    assert refused[1].startswith(text)


def test_files_of_mu_of_mixed_size_are_refused(tmp_path: Path) -> None:
    """Our error names both sizes."""
    small, large = (to_mu(np.full((side, side), 40.0)) for side in (128, 160))
    with pytest.raises(ValueError, match="train: expected images of one size, got 128 x 128, 160 x 160"):
        cyclegan.data.read_mu(written(tmp_path, {"1": small, "2": large}, {"1": small, "2": large}), "train")
