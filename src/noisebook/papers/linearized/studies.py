"""The chapter's long runs: Monte Carlo beside linearized analysis, net by net, and the shape of covariances at edges.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from noisebook import datasets, simulated
from noisebook._checks import error
from noisebook.studies import Study
from noisebook.training import epoch_seed

from .data import Pixels, Region, find_pixels, regions
from .experiment import NETWORKS
from .measures import (
    BLOCK,
    CHUNK,
    REACH,
    REFERENCE,
    SUBSETS,
    block_sums,
    covariance_psnr,
    elongations,
    linear,
    median_ratio,
    moments,
    realise,
    recovery,
)
from .model import FBPConvNet

PLUG_INS = 5
"""Noisy scans of each region that are linearized at."""


def study_montecarlo(
    folder: Path, device: str, *, net: str, exposure: str, reference: int, subsets: list[int], pairs: int, seed: int
) -> dict[str, np.ndarray]:
    """Monte Carlo and linearized analysis of four regions.

    Args:
        folder: Keeps every block of realisations, so that an interrupted study resumes.
        device: Not used: the targets are small.
        net: Registry id of the network.
        exposure: Of `EXPOSURES`.
        reference: Realisations of the reference, a multiple of 250.
        subsets: Numbers of realisations of the estimates that are compared with it; they are drawn independently of it,
            and twice the largest number is drawn.
        pairs: Pairs of realisations for the local impulse response.
        seed: Of everything random.

    Returns:
        Arrays whose first axis is the region: ``mc_sd``, ``mc_covariance``, ``linear_covariance``, ``mc_response``,
        ``linear_response`` (64, 64); ``linear_sd`` (16, 16); ``psnr`` of the subsets' covariance images, averaged over
        disjoint ones, and ``linear_psnr``, dB; ``ratio`` and ``ratio_error``, the median ratio of the standard
        deviations; ``recovery``, ``recovery_error``, ``advantage`` of Monte Carlo contrast recovery; ``plug_sd`` and
        ``plug_recovery`` (5,); ``place`` (patient, row, column); ``evaluations`` of the linear covariance image; and
        ``first`` (1, 64, 64), the mean of the first realisations of the first region.
    """
    model = NETWORKS.load(net)
    found: dict[str, list[object]] = {}
    for index, region in enumerate(regions(simulated.embedded_ct(simulated.TEST), exposure)):
        row_seed = epoch_seed(seed, index)
        blocks = _blocks(model, region, reference + 2 * max(subsets, default=0), row_seed, folder / f"{index}")
        row = analyse(model, region, blocks, reference // BLOCK, subsets) | _response(model, region, pairs, row_seed)
        row |= _plug_ins(model, region, row_seed)
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    first = first_realisations(model, regions(simulated.embedded_ct(simulated.TEST), exposure, 1)[0], seed)
    return {name: np.array(values, np.float32) for name, values in (found | {"first": [first]}).items()}


def first_realisations(model: FBPConvNet, region: Region, seed: int) -> np.ndarray:
    """Mean output of a study's first realisations in its first region, (64, 64), HU."""
    generator = torch.Generator().manual_seed(epoch_seed(epoch_seed(seed, 0), 0))
    return realise(model, region, CHUNK, generator).mean(0).numpy()


def first_again(study: Study, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draw a study's first realisations again: the guard against everything that it rests on.

    Another processor rounds the photons' rates otherwise, and from the first draw on that it decides otherwise all that
    follow are others. So the two means are compared as those of independent draws.

    Args:
        study: The study.
        found: Its result.

    Returns:
        (64, 64), the difference of the means in standard errors.
    """
    config = study.config
    there = regions(simulated.embedded_ct(simulated.TEST), config["exposure"], 1)[0]
    again = first_realisations(NETWORKS.load(config["net"]), there, config["seed"])
    return np.asarray((again - found["first"][0]) / (found["mc_sd"][0] * np.sqrt(2 / CHUNK)))


def _blocks(model: FBPConvNet, region: Region, count: int, seed: int, stem: Path) -> np.ndarray:
    """Sums of all blocks, (blocks, 3, 64, 64), each from its file if it is there."""
    parts = []
    for block in tqdm(range(count // BLOCK), desc=f"region {stem.name}: realisations by {BLOCK}"):
        kept = stem.with_name(f"{stem.name}-{block}.npy")
        if not kept.is_file():
            half_written = kept.with_suffix(".partial.npy")
            np.save(half_written, block_sums(model, region, block, seed))
            half_written.replace(kept)
        parts.append(np.load(kept))
    return np.stack(parts)


def analyse(
    model: FBPConvNet, region: Region, blocks: np.ndarray, reference: int, subsets: list[int]
) -> dict[str, object]:
    """Compare the linearized analysis with Monte Carlo.

    Args:
        model: The network.
        region: The region.
        blocks: (blocks, 3, 64, 64), sums of `block_sums`.
        reference: The first so many blocks are the reference; the subsets are taken from the others.
        subsets: Sizes of the subsets, realisations.

    Returns:
        Covariance images, standard deviations, their median ratio and the PSNRs, as named in `study_montecarlo`.
    """
    truth, computed = moments(blocks[:reference]), linear(model, region)
    ratio, ratio_error = median_ratio(computed.sd, blocks[:reference])
    psnr = []
    for count in subsets:
        groups = np.split(blocks[reference:], (len(blocks) - reference) * BLOCK // count)
        psnr.append(np.mean([covariance_psnr(moments(group).covariance, truth.covariance) for group in groups]))
    return {
        "mc_sd": truth.sd,
        "mc_covariance": truth.covariance,
        "linear_covariance": computed.covariance,
        "linear_response": computed.response,
        "linear_sd": computed.sd,
        "psnr": psnr,
        "linear_psnr": covariance_psnr(computed.covariance, truth.covariance),
        "ratio": ratio,
        "ratio_error": ratio_error,
        "evaluations": computed.evaluations,
        "place": region.place,
    }


def _response(model: FBPConvNet, region: Region, pairs: int, seed: int) -> dict[str, object]:
    found = recovery(model, region, pairs, seed)
    return {
        "mc_response": found.response,
        "recovery": found.contrast_recovery,
        "recovery_error": found.standard_error,
        "advantage": found.advantage,
    }


def _plug_ins(model: FBPConvNet, region: Region, seed: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(epoch_seed(seed, -1))
    scans = [region.scan.measure(1, generator) for _ in range(PLUG_INS)]
    found = [linear(model, region, measured=scan, lattice=False) for scan in scans]
    return {"plug_sd": [one.centre_sd for one in found], "plug_recovery": [one.contrast_recovery for one in found]}


def study_elongation(folder: Path, device: str, *, count: int, seed: int, net: str) -> dict[str, np.ndarray]:
    """Elongations at ``count`` edges and ``count`` flat pixels of the first slice of every test patient.

    Args:
        folder: Keeps each patient's values, so that an interrupted study resumes.
        device: Not used: the crops are small.
        count: Pixels of each kind a patient.
        seed: Chooses the pixels.
        net: Registry id of the network.

    Returns:
        Columns ``patient`` (from 0), ``edge`` (1 or 0), ``row``, ``column``, ``elongation``.
    """
    model, root = NETWORKS.load(net), simulated.embedded_ct(simulated.TEST)
    rows = []
    for index, patient in enumerate(datasets.ct_patients(root)):
        kept = folder / f"{index}.npy"
        if not kept.is_file():
            half_written = kept.with_suffix(".partial.npy")
            np.save(half_written, _patient_elongations(model, root, patient, count, seed))
            half_written.replace(kept)
        rows.append(np.column_stack([np.full(2 * count, index), np.load(kept)]))
    columns = np.concatenate(rows).T
    return dict(zip(("patient", "edge", "row", "column", "elongation"), columns, strict=True))


def _patient_elongations(model: FBPConvNet, root: Path, patient: str, count: int, seed: int) -> np.ndarray:
    pair = datasets.ct_pairs(root, patient, label="noise free")
    parts = []
    for edge in (1, 0):
        pixels = _study_pixels(model, pair, count, seed, flat=not edge)
        values = elongations(model, pair.low[0], pixels)
        parts.append(np.column_stack([np.full(count, edge), pixels.places, np.round(values, 5)]))
    return np.concatenate(parts)


def _study_pixels(model: FBPConvNet, pair: datasets.CtPairs, count: int, seed: int, *, flat: bool) -> Pixels:
    """The study's pixels of a patient's first slice: far enough from its sides for every crop to fit."""
    margin = model.halo + REACH + model.stride
    return find_pixels(pair.label[0], count, margin=margin, seed=seed, flat=flat)


def first_elongations(study: Study, rows: int) -> np.ndarray:
    """Compute the study's first ``rows`` elongations again, (rows,): the guard against everything that it rests on."""
    if not 0 <= rows <= study.config["count"]:
        raise error("rows", f"0 to {study.config['count']}", rows)
    if not rows:
        return np.empty(0)
    model, root = NETWORKS.load(study.config["net"]), simulated.embedded_ct(simulated.TEST)
    pair = datasets.ct_pairs(root, datasets.ct_patients(root)[0], label="noise free")
    pixels = _study_pixels(model, pair, study.config["count"], study.config["seed"], flat=False)
    return elongations(model, pair.low[0], Pixels(pixels.places[:rows], pixels.along[:rows]))


def _study(name: str, exposure: str, reference: int, subsets: list[int]) -> Study:
    net = f"linearized-{name}"
    config = {"net": net, "exposure": exposure, "reference": reference, "subsets": subsets, "pairs": 200, "seed": 1}
    return Study("linearized", name, study_montecarlo, config, (net,), simulated.TEST.id)


STUDIES = (
    Study(
        chapter="linearized",
        name="elongation",
        run=study_elongation,
        config={"count": 16, "seed": 0, "net": "linearized-quarter"},
        weights=("linearized-quarter",),
        data=simulated.TEST.id,
    ),
    _study("i0", "I0", REFERENCE, list(SUBSETS)),
    _study("i0-l1", "I0", 6_000, list(SUBSETS[:-1])),
    _study("i0-10", "I0/10", 2_000, []),
    _study("i0-100", "I0/100", 2_000, []),
    _study("i0-seed1", "I0", 2_000, []),
    _study("i0-seed2", "I0", 2_000, []),
)
"""Every long run of the chapter, by the net that it looks at."""
