"""CT loading: patients, the split, and pairs by position."""

from pathlib import Path

import numpy as np
import pytest

from noisebook import datasets, dicom

LAYOUT = {
    "full": ("1.000000-Full Dose Images-00001", "Full Dose Images (simulated)", 0.0),
    "low": ("2.000000-Low Dose Images-00002", "Low Dose Images (simulated)", 1000.0),
    "noise free": ("3.000000-Noise Free Images-00003", "Noise Free Images (simulated)", 2000.0),
}


def archive(root: Path, patient: str = "SIM001", **positions: list[float]) -> Path:
    """A patient whose images hold their own position in HU (plus 1000 for low dose, 2000 for noise free)."""
    for kind, z_mm in positions.items():
        folder, description, offset = LAYOUT[kind.replace("_", " ")]
        hu = np.ones((len(z_mm), 4, 5)) * np.reshape(z_mm, (-1, 1, 1)) + offset
        place = root / datasets.ARCHIVE / patient / "study" / folder
        dicom.write_series(place, hu, (3, 0.7, 0.7), z_mm, patient=patient, description=description)
    return root


def test_patients_are_the_sorted_first_level_folders(tmp_path: Path) -> None:
    """Patients are found from the archive's folder or the one above it, sorted; files and hidden folders are not."""
    for name in ("L10", "C02", "L09", ".hidden"):
        (tmp_path / datasets.ARCHIVE / name).mkdir(parents=True)
    (tmp_path / datasets.ARCHIVE / "LICENSE").write_text("text")
    assert datasets.ct_patients(tmp_path) == datasets.ct_patients(tmp_path / datasets.ARCHIVE) == ["C02", "L09", "L10"]
    assert datasets.ct_patients(tmp_path, prefix="L") == ["L09", "L10"]
    with pytest.raises(ValueError, match="expected a folder a patient named N…, got none"):
        datasets.ct_patients(tmp_path, prefix="N")
    with pytest.raises(ValueError, match="expected the folder of LDCT-and-Projection-data, got nothing there"):
        datasets.ct_patients(tmp_path / "gone")


def test_fifty_patients_split_into_45_and_the_last_five() -> None:
    """Sorted by id, the last five of fifty are the test, whatever the order given."""
    names = [f"SIM{k:03d}" for k in range(1, 51)]
    train, test = datasets.split(names[::-1])
    assert (train, test) == (names[:45], names[45:])


@pytest.mark.parametrize("n", range(1, 12))
def test_split_keeps_everyone_once_and_always_tests(n: int) -> None:
    """Training and test are disjoint, together everyone; five are tested of six or more, else one."""
    names = [f"P{k:02d}" for k in range(n)]
    train, test = datasets.split(names)
    assert train + test == names
    assert len(test) == (5 if n >= 6 else 1)


def test_split_refuses_nobody_and_doubles() -> None:
    """An empty list and an id given twice are errors."""
    with pytest.raises(ValueError, match="patients: expected at least one id, each once, got 0"):
        datasets.split([])
    with pytest.raises(ValueError, match="got 3 of which 2 differ"):
        datasets.split(["a", "b", "a"])


def test_pairs_are_made_by_position(tmp_path: Path) -> None:
    """Slices written in opposite orders, so that equal names lie at other positions, are paired by their positions."""
    archive(tmp_path, full=[0, 3, 6], low=[6.05, 3, 0.02], noise_free=[3, 0, 6])
    pairs = datasets.ct_pairs(tmp_path, "SIM001")
    np.testing.assert_array_equal(pairs.label[:, 0, 0], [0, 3, 6])
    np.testing.assert_array_equal(pairs.low[:, 0, 0], [1000, 1003, 1006])
    np.testing.assert_allclose(pairs.positions_mm, [0.02, 3, 6.05])
    assert pairs.spacing_mm == (pytest.approx(3.015), 0.7, 0.7)
    assert pairs.patient == "SIM001"
    assert "SIM001" not in repr(pairs)
    free = datasets.ct_pairs(tmp_path, "SIM001", label="noise free")
    np.testing.assert_array_equal(free.label[:, 0, 0], [2000, 2003, 2006])


def test_slices_without_a_partner_are_counted(tmp_path: Path) -> None:
    """Slices further than 0.1 mm from any other are left out, and the warning holds both numbers."""
    archive(tmp_path, full=[0, 3, 6, 9], low=[3, 6.11, 9.1])
    with pytest.warns(UserWarning, match="1 of 3 low-dose and 2 of 4 full slices have no partner within 0.1 mm"):
        pairs = datasets.ct_pairs(tmp_path, "SIM001")
    np.testing.assert_array_equal(pairs.label[:, 0, 0], [3, 9])


def test_pair_agrees_with_the_plain_search() -> None:
    """Mutual nearest neighbours within the tolerance are those found by looking at all couples."""
    rng = np.random.default_rng(0)
    first, second = rng.permutation(20) + rng.uniform(-0.2, 0.2, 20), rng.permutation(25) + rng.uniform(-0.2, 0.2, 25)
    expected = [(i, j) for i, a in enumerate(first) for j, b in enumerate(second) if abs(a - b) <= 0.1]
    i, j = datasets.pair(first, second)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == expected
    assert 3 < len(expected) < 20
    assert [len(part) for part in datasets.pair(np.zeros(0), second)] == [0, 0]
    close = datasets.pair(np.array([0.0, 0.05]), np.array([0.04]))
    assert [part.tolist() for part in close] == [[1], [0]]


def test_series_are_found_by_description_or_folder(tmp_path: Path) -> None:
    """Case does not matter; without a description the folder's name tells; folders named otherwise are looked into."""
    place = tmp_path / "L001"
    shape = np.zeros((1, 4, 5))
    dicom.write_series(place / "x", shape, (3, 1, 1), [0], patient="L001", description="FULL DOSE IMAGES")
    dicom.write_series(place / "LOW DOSE images", shape + 7, (3, 1, 1), [0], patient="L001", description="")
    pairs = datasets.ct_pairs(tmp_path, "L001")
    assert (pairs.low == 7).all()
    assert (pairs.label == 0).all()


def challenge(root: Path, layout: str, patients: tuple[str, ...] = ("L067", "L096")) -> Path:
    """A small AAPM Grand Challenge: three slices a dose as .IMA files whose descriptions do not tell the dose."""
    for patient in patients:
        for dose, code, offset in (("full", "FD", 0), ("quarter", "QD", 1000)):
            folder = root / layout.format(dose=dose, code=code, patient=patient)
            hu = np.ones((3, 4, 5)) * np.reshape([0, 3, 6], (-1, 1, 1)) + offset
            described = {"patient": patient, "description": "Abdomen  1.0  B30f", "entropy": dose + layout}
            for k, path in enumerate(dicom.write_series(folder, hu, (3, 1, 1), [0, 3, 6], **described)):
                path.rename(folder / f"{patient}_{code}_1_1.CT.0001.{k:04d}.2015.12.22.18.09.40.840353.35{k}.IMA")
    return root


LAYOUTS = (
    *("{dose}_1mm/{patient}", "{dose}_1mm/{patient}/{dose}_1mm", "{code}_1mm/{patient}"),
    *("{patient}/{dose}_1mm", "{patient}/{dose}_3mm", "{patient}/{code}"),
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_grand_challenge_is_read_in_its_layouts(tmp_path: Path, layout: str) -> None:
    """Doses above patients or patients above doses: the same patients and pairs, told apart by path or file name."""
    challenge(tmp_path, layout)
    assert datasets.ct_patients(tmp_path) == ["L067", "L096"]
    pairs = datasets.ct_pairs(tmp_path, "L096")
    np.testing.assert_array_equal(pairs.label[:, 0, 0], [0, 3, 6])
    np.testing.assert_array_equal(pairs.low[:, 0, 0], [1000, 1003, 1006])


def test_two_thicknesses_of_one_dose_are_refused(tmp_path: Path) -> None:
    """Where slices of 1 mm and of 3 mm lie under one root, the error counts them."""
    for thickness in (1, 3):
        challenge(tmp_path, f"{{dose}}_{thickness}mm/{{patient}}")
    with pytest.raises(ValueError, match="expected one series of low images, got 2 among: Abdomen"):
        datasets.ct_pairs(tmp_path, "L067")


def test_doses_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """No common position, another image size, another pixel spacing: errors that name the patient's folder."""
    archive(tmp_path, full=[0, 3], low=[100, 103])
    with pytest.raises(
        ValueError, match=r"SIM001: expected doses with slices within 0\.1 mm of each other, got low 100"
    ):
        datasets.ct_pairs(tmp_path, "SIM001")
    for patient, shape, spacing, text in (
        ("A", (2, 4, 6), (3, 0.7, 0.7), "images of one size in both doses"),
        ("B", (2, 4, 5), (3, 0.7, 0.8), "one pixel spacing in both doses"),
    ):
        archive(tmp_path, patient, full=[0, 3])
        place = tmp_path / datasets.ARCHIVE / patient / "low"
        dicom.write_series(place, np.zeros(shape), spacing, [0, 3], patient=patient, description="low dose images")
        with pytest.raises(ValueError, match=text):
            datasets.ct_pairs(tmp_path, patient)


def test_missing_double_and_unknown_are_refused(tmp_path: Path) -> None:
    """A patient without a low dose, one with two, an unknown patient and an unknown label are errors with a remedy."""
    archive(tmp_path, full=[0, 3])
    with pytest.raises(ValueError, match=r"expected one series of low images, got 0 among: Full Dose Images \(simul"):
        datasets.ct_pairs(tmp_path, "SIM001")
    archive(tmp_path, low=[0, 3])
    second = tmp_path / datasets.ARCHIVE / "SIM001" / "low dose images"
    dicom.write_series(second, np.zeros((1, 4, 5)), (3, 1, 1), [0], patient="p", description="low dose images")
    with pytest.raises(ValueError, match="expected one series of low images, got 2 among"):
        datasets.ct_pairs(tmp_path, "SIM001")
    with pytest.raises(ValueError, match="Did you mean 'SIM001'"):
        datasets.ct_pairs(tmp_path, "SIM010")
    with pytest.raises(ValueError, match="label: expected one of full, noise free, got 'ful'"):
        datasets.ct_pairs(tmp_path, "SIM001", label="ful")
