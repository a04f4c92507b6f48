"""The chapter's tables and claims, computed from what was measured, beside the paper's numbers.

J. Xu, F. Noo, "Linearized analysis of noise and resolution for DL-based image generation", IEEE Transactions on Medical
Imaging 2022, doi 10.1109/TMI.2022.3214475.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from noisebook import _numbers, weights
from noisebook.claims import Claim, against
from noisebook.studies import Study, named, precomputed

from .long import STUDIES
from .montecarlo import ROI

Results = Mapping[str, Mapping[str, np.ndarray]]
SOURCE = "Xu & Noo 2022"
CHECK = f"{SOURCE}, check of the code"
PAPER = {
    "CRC, Monte Carlo": (0.0867, 0.0660, 0.0981, 0.0794),
    "CRC, linear": (0.0953, 0.0657, 0.119, 0.0736),
    "sd / HU, Monte Carlo": (2.67, 1.84, 3.26, 2.21),
    "sd / HU, linear": (2.97, 1.81, 3.61, 2.28),
}
"""The paper's four regions at I0."""
PAPER_SWEEP = {
    "sd": {"I0": (1.84, 1.81), "I0/10": (2.9, 4.92), "I0/100": (4.1, 12.8)},
    "CRC": {"I0": (0.066, 0.0657), "I0/10": (0.0288, 0.0534), "I0/100": (0.00435, 0.0362)},
}
"""The paper's (Monte Carlo, linear) values at its three exposures."""
PAPER_PSNR_GAIN = {500: 7.62, 1000: 4.39, 2000: 0.97}
"""dB by which the paper's linear covariance image is nearer to MC-10000 than MC-N is."""
SWEEP = {"I0": "i0", "I0/10": "i0-10", "I0/100": "i0-100"}
"""The study of each exposure."""
REGIONS = 4
_J = ROI // 2


def at_pixel(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The paper's table from one study: contrast recovery and standard deviation at j, one value a region."""
    return {
        "CRC, Monte Carlo": found["recovery"],
        "CRC, linear": found["linear_response"][:, _J, _J],
        "CRC, plug-in": found["plug_recovery"].mean(1),
        "sd / HU, Monte Carlo": found["mc_sd"][:, _J, _J],
        "sd / HU, linear": np.sqrt(found["linear_covariance"][:, _J, _J]),
        "sd / HU, plug-in": found["plug_sd"].mean(1),
    }


def beside_the_paper(found: Mapping[str, np.ndarray]) -> dict[str, list[object]]:
    """The columns of a table: a row for each of our four regions and of the paper's four, which are other places."""
    ours = at_pixel(found)
    places = range(1, 1 + len(found["recovery"]))
    names: list[object] = [*(f"ours {k}" for k in places), *(f"paper {k}" for k in (1, 2, 3, 4))]
    columns: dict[str, list[object]] = {"region": names}
    for name, values in ours.items():
        columns[name] = [*map(float, values), *PAPER.get(name, ("",) * 4)]
    return columns


def ratios(results: Results) -> dict[str, dict[str, np.ndarray]]:
    """Linear over Monte Carlo at each exposure, one value a region: ``sd`` (median over the region) and ``CRC``."""
    found = {}
    for exposure, name in SWEEP.items():
        table = at_pixel(results[name])
        found[exposure] = {
            "sd": np.asarray(results[name]["ratio"]),
            "CRC": table["CRC, linear"] / table["CRC, Monte Carlo"],
        }
    return found


def paper_ratios(quantity: str) -> np.ndarray:
    """The paper's linear over Monte Carlo at its three exposures, ``sd`` or ``CRC``."""
    return np.array([linear / carlo for carlo, linear in PAPER_SWEEP[quantity].values()])


def equivalent_realisations(found: Mapping[str, np.ndarray], study: Study) -> np.ndarray:
    """Realisations that Monte Carlo needs at least for the linear covariance image's accuracy, one number a region.

    The accuracy of Monte Carlo grows by 10 dB per tenfold; it is taken from the PSNR at the largest subset. Both PSNRs
    hold the reference's own noise: what is above the largest subset is too low.
    """
    largest = study.config["subsets"][-1]
    return np.asarray(largest * 10 ** ((found["linear_psnr"] - found["psnr"][:, -1]) / 10))


def cost_table(results: Results) -> dict[str, list[object]]:
    """The columns of a table, a row a region and net: accuracy of the linear covariance image, and what it costs."""
    columns: dict[str, list[object]] = {}
    for name, trained in (("i0", "MSE"), ("i0-l1", "L1")):
        found, study = results[name], study_of(name)
        thousand = study.config["subsets"].index(1000)
        for k, worth in enumerate(equivalent_realisations(found, study)):
            row = {
                "net": trained,
                "region": k + 1,
                "median sd ratio": _numbers.with_spread(found["ratio"][k], found["ratio_error"][k], 1),
                "PSNR / dB, linear": float(found["linear_psnr"][k]),
                "PSNR / dB, 1000 scans": float(found["psnr"][k, thousand]),
                "scans of equal accuracy, at least": round(worth),
                "network evaluations": int(found["evaluations"][k]),
            }
            for column, cell in row.items():
                columns.setdefault(column, []).append(cell)
    return columns


def covariance_rows(found: Mapping[str, np.ndarray], half: int) -> dict[str, list[np.ndarray]]:
    """Covariance images about j, ``half`` pixels to each side: linear, Monte Carlo and their difference, by region."""
    near = (slice(None), *(slice(_J - half, _J + half + 1),) * 2)
    linear, carlo = found["linear_covariance"][near], found["mc_covariance"][near]
    return {"linear": list(linear), "Monte Carlo": list(carlo), "linear − Monte Carlo": list(linear - carlo)}


def study_of(name: str) -> Study:
    """The study of a name."""
    return named(STUDIES, name)


def claims(
    derivatives: dict[str, np.ndarray], adjoints: dict[str, np.ndarray], results: Results, data: str, schedule: str
) -> list[Claim]:
    """The chapter's claims L1 to L10.

    Args:
        derivatives: Of `derivative_errors`.
        adjoints: Of `adjoint_errors`.
        results: The committed result of every study in `STUDIES`, by name.
        data: Id of the data of the Jacobian's checks, L1 and the first of L2.
        schedule: Width and schedule of its net.
    """
    net = data, schedule
    exact = [
        (f"L1{'ab'[k]}", f"forward mode equals {name} (relative difference, float64)", values, (1e-8, 1e-5)[k], net)
        for k, (name, values) in enumerate(derivatives.items())
    ]
    for k, (name, values) in enumerate(adjoints.items()):
        on = ("random images and sinograms", "") if k else net  # only the Jacobian is a network's
        exact.append((f"L2{'abcd'[k]}", f"the adjoint of the {name} is exact (dot test, float64)", values, 1e-10, on))
    found = [
        Claim(
            id,
            f"{statement}, for {len(values)} random directions",
            CHECK,
            tuple(values),
            -np.inf,
            bound,
            data=on[0],
            schedule=on[1],
        )
        for id, statement, values, bound, on in exact
    ]
    return found + _noise(results) + _accuracy(results) + _response(results) + _sweep(results) + _edges(results)


def _claim(study: str, id: str, statement: str, values: np.ndarray, *others: str, **rest: object) -> Claim:
    """A claim on the values of a study, and of the others that it is compared with, with what they were measured on."""
    known = [study_of(name) for name in (study, *others)]
    counts = [f"{one.config['reference']:,}" for one in known if "reference" in one.config]
    each = f"one value a region, {REGIONS} regions" if len(values) == REGIONS else f"{REGIONS} regions"
    what = f"{' and '.join(dict.fromkeys(counts))} realisations, {each}" if counts else "white noise"
    on = f"{known[0].data} (simulated), {precomputed(study, *others)}, {what}"
    schedule = against(*map(_net, known))
    return Claim(id, statement, SOURCE, tuple(np.asarray(values, float)), data=on, schedule=schedule, **rest)  # type: ignore[arg-type]


def _net(study: Study) -> str:
    """The network of a study, in words."""
    card, exposure = weights.metadata(study.config["net"]), study.config.get("exposure")
    return f"{card.architecture}; {card.schedule}" + (f"; exposure {exposure}" if exposure else "")


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _noise(results: Results) -> list[Claim]:
    """L3 at the reference exposure, L8 and the second half of L9: standard deviations."""
    within = {"low": 0.9, "high": 1.11}
    table = at_pixel(results["i0"])
    first, *others = ("i0", "i0-seed1", "i0-seed2")
    seeds = np.array([np.mean(results[name]["ratio"]) for name in (first, *others)])
    published = _listed(np.divide(PAPER["sd / HU, linear"], PAPER["sd / HU, Monte Carlo"]))
    linear = "linear over Monte Carlo standard deviation is within the paper's own 11 % of 1"
    plug = "linearizing at one noisy scan"
    return [
        _claim("i0", "L3a", f"{linear} (median over a region)", results["i0"]["ratio"], published=published, **within),
        _claim(first, "L3b", f"{linear} (mean of L3a, one value a training)", seeds, *others, **within),
        _claim(
            "i0",
            "L8a",
            f"{plug} gives the Monte Carlo standard deviation within 11 %",
            table["sd / HU, plug-in"] / table["sd / HU, Monte Carlo"],
            published=_listed(np.array([4.02 / 4.13])),
            **within,
        ),
        _claim(
            "i0",
            "L8b",
            f"{plug} gives the contrast recovery of the mean scan within 21 %",
            table["CRC, plug-in"] / table["CRC, linear"],
            low=0.83,
            high=1.21,
            published=_listed(np.divide((0.0736, 0.0461, 0.0539), (0.0647, 0.047, 0.0503))),
        ),
        _claim("i0-l1", "L9b", f"L1-trained: {linear}", results["i0-l1"]["ratio"], **within),
    ]


def _accuracy(results: Results) -> list[Claim]:
    """L4, L7 and L9: the linear covariance image against Monte Carlo of few realisations."""
    found, study = results["i0"], study_of("i0")
    subsets = study.config["subsets"]
    of = {count: k for k, count in enumerate(subsets)}
    claims = [
        _claim(
            "i0",
            f"L4{letter}",
            f"the linear covariance image is nearer to an independent reference than {count} realisations are (PSNR)",
            found["linear_psnr"] - found["psnr"][:, of[count]],
            low=0.0,
            unit="dB",
            published=f"{PAPER_PSNR_GAIN[count]:+.2f} dB",
        )
        for letter, count in zip("abc", PAPER_PSNR_GAIN, strict=True)
    ]
    own = 10 * np.log10(1 + np.asarray(subsets) / study.config["reference"])  # what the reference's noise takes, dB
    doubling = (found["psnr"] + own)[:, [of[250], of[1000]]] @ [-0.5, 0.5]
    gain = "Monte Carlo covariance images gain 3 dB when realisations double, the reference's own noise taken off"
    claims.append(_claim("i0", "L4d", gain, doubling, low=2.5, high=3.5, unit="dB"))
    cost = np.log2(equivalent_realisations(found, study) / found["evaluations"])
    claims.append(
        _claim(
            "i0",
            "L7",
            "log2 of the evaluations that Monte Carlo takes at least for equal accuracy, over the linear image's",
            cost,
            low=0.0,
            published="Monte Carlo of equal cost: 10 realisations",
        )
    )
    other = results["i0-l1"]
    apart = other["linear_psnr"] - other["psnr"][:, of[1000]]
    statement = "L1-trained: the linear covariance image is nearer to the reference than 1000 realisations are"
    claims.append(_claim("i0-l1", "L9a", statement, apart, low=0.0, unit="dB", published="+1.91 dB"))
    return claims


def _response(results: Results) -> list[Claim]:
    """L5: contrast recovery."""
    table = at_pixel(results["i0"])
    values = table["CRC, linear"] / table["CRC, Monte Carlo"]
    published = _listed(np.divide(PAPER["CRC, linear"], PAPER["CRC, Monte Carlo"]))
    statement = "linear over Monte Carlo contrast recovery is within the paper's own 21 % of 1"
    noisy = "log10 of the realisations that independent noise needs over those that common random numbers need"
    return [
        _claim("i0", "L5a", statement, values, low=0.83, high=1.21, published=published),
        _claim("i0", "L5b", noisy, np.log10(results["i0"]["advantage"]), low=2.0),
    ]


def _sweep(results: Results) -> list[Claim]:
    """L6: the linearization overestimates more and more as the exposure falls."""
    found = ratios(results)
    claims = []
    for letter, quantity, noun in (("a", "sd", "standard deviation"), ("c", "CRC", "contrast recovery")):
        published = paper_ratios(quantity)
        for k, (above, below) in enumerate((("I0", "I0/10"), ("I0/10", "I0/100"))):
            claims.append(
                _claim(
                    SWEEP[below],
                    f"L6{chr(ord(letter) + k)}",
                    f"linear over Monte Carlo {noun} is larger at {below} than at {above}: log2 of the quotient",
                    np.log2(found[below][quantity] / found[above][quantity]),
                    SWEEP[above],
                    low=0.0,
                    published=f"{np.log2(published[k + 1] / published[k]):+.2f}",
                )
            )
    return claims


def _edges(results: Results) -> list[Claim]:
    """L10, from the mean log elongation at the edges of each patient."""
    found = results["elongation"]
    edge = found["edge"] == 1
    logs = [np.log2(found["elongation"][edge & (found["patient"] == p)]).mean() for p in np.unique(found["patient"])]
    statement = (
        "the covariance is elongated along an edge: log2 of its second moments along over across is positive "
        "(central part of one slice a patient, mean over its edges)"
    )
    return [_claim("elongation", "L10", statement, np.array(logs), low=0.0)]
