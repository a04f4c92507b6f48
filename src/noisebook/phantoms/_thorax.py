"""Simulated objects whose line integrals are known exactly.

`Thorax` is a seeded random chest made of ellipsoids: body wall, lungs with vessel trees, heart with contrast-filled
chambers, aorta, trachea, liver, vertebrae, ribs, lung nodules and low-contrast lesions. An axial CT slice and a frontal
radiograph are taken of the SAME anatomy. It is simulated, and like no patient in particular.

Coordinates are DICOM's, in mm: x to the patient's left, y to the back, z to the head. The object is a sum of terms,
each a density (HU) on the intersection of some ellipsoids. On a line, an intersection of convex bodies is one interval,
so every line integral is a sum of chord lengths: exact, no sampling (Kak & Slaney 1988, section 3.1, for one ellipse).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from noisebook._checks import check_finite, check_positive, check_shape, error

_VESSEL_LEVELS = 6


@dataclass
class _Anatomy:
    """Ellipsoids ``|to_ball (p - centre)| <= 1`` and the terms built of them, collected while a thorax is drawn."""

    centres: list[np.ndarray] = field(default_factory=list)
    to_ball: list[np.ndarray] = field(default_factory=list)
    terms: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def body(self, centre: object, axes: object, rotation: np.ndarray | None = None) -> int:
        """Add an ellipsoid of semi-axes ``axes`` (mm), without density; returns its index."""
        turn = np.eye(3) if rotation is None else rotation
        self.centres.append(np.asarray(centre, float))
        self.to_ball.append(np.diag(1 / np.asarray(axes, float)) @ turn.T)
        return len(self.centres) - 1

    def add(self, density_hu: float, centre: object, axes: object, rotation: np.ndarray | None = None) -> int:
        """Add an ellipsoid that raises the density by ``density_hu``; returns its index."""
        index = self.body(centre, axes, rotation)
        self.terms.append((density_hu, (index,)))
        return index

    def holds(self, index: int, point: np.ndarray, margin: float = 0.0) -> bool:
        """Whether ``point`` lies in ellipsoid ``index`` grown by ``margin`` (a share of its axes)."""
        return float(np.linalg.norm(self.to_ball[index] @ (point - self.centres[index]))) <= 1 + margin


def _turn(axis: np.ndarray) -> np.ndarray:
    """A rotation whose third column is the unit vector along ``axis``."""
    third = axis / np.linalg.norm(axis)
    helper = np.eye(3)[int(np.argmin(np.abs(third)))]
    first = np.cross(helper, third)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(third, first), third], 1)


def _tilt(angle_z: float, angle_y: float) -> np.ndarray:
    """A rotation about y by ``angle_y`` rad, then about z by ``angle_z`` rad."""
    cz, sz, cy, sy = math.cos(angle_z), math.sin(angle_z), math.cos(angle_y), math.sin(angle_y)
    return np.array([[cz * cy, -sz, cz * sy], [sz * cy, cz, sz * sy], [-sy, 0, cy]])


class _Draw:
    """Draws one thorax; the steps are methods in the order in which they depend on each other."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 0x7407AC])
        self.a = _Anatomy()
        self.size = self.random.uniform(0.92, 1.08)
        self.wall()
        self.organs()
        self.lungs()
        self.skeleton()
        self.lesions()

    def jitter(self, values: tuple[float, ...], share: float = 0.05, shift: float = 0.0) -> np.ndarray:
        v = np.asarray(values) * self.size
        return v * (1 + share * self.random.uniform(-1, 1, v.shape)) + shift * self.random.uniform(-1, 1, v.shape)

    def wall(self) -> None:
        fat = self.random.uniform(8, 20)
        axes = self.jitter((154, 104, 560), 0.03)
        self.a.add(900, (0, 2, 0), axes + fat)
        self.muscle = self.a.add(155, (0, 0, 0), axes)
        self.cavity = self.a.body((0, -4 * self.size, 0), self.jitter((129, 80, 165), 0.02))

    def organs(self) -> None:
        """The bodies that displace lung, with what lies in them. Muscle, blood and liver: 55, 45 and 65 HU."""
        a, r = self.a, self.random
        tilt = _tilt(r.uniform(0.3, 0.7), r.uniform(-0.4, -0.1))
        centre = self.jitter((26, -26, -42), shift=4)
        self.mediastinum = a.body((0, 22 * self.size, 0), self.jitter((38, 74, 400)))
        self.heart = a.body(centre, self.jitter((60, 46, 58)), tilt)
        self.liver = a.add(12, self.jitter((-62, 0, -158), shift=6), self.jitter((76, 82, 84)))
        self.spleen = a.body(self.jitter((74, 12, -172), shift=6), self.jitter((58, 60, 74)))
        blood = r.uniform(70, 140)  # iodine in the blood, above muscle
        a.add(blood, centre + tilt @ self.jitter((-22, 4, 8)), self.jitter((17, 26, 32)), tilt)
        a.add(blood * 0.85, centre + tilt @ self.jitter((22, 0, -4)), self.jitter((19, 27, 34)), tilt)
        a.add(blood, self.jitter((24, 44, 0), shift=2), self.jitter((12, 12, 330)))
        a.add(blood, self.jitter((-8, -14, 62), shift=2), self.jitter((15, 15, 58)))
        a.add(-1050, self.jitter((0, 12, 120), shift=2), self.jitter((9, 10, 92)))
        a.add(-130, self.jitter((4, -66, 20)), self.jitter((15, 7, 90)))  # fat before the heart

    def lungs(self) -> None:
        """Lung = ellipsoid and cavity, less what displaces it (inclusion and exclusion over the displacers)."""
        displacers = (self.mediastinum, self.heart, self.liver, self.spleen)
        self.lung_bodies = []
        density = self.random.uniform(-915, -885)
        for side in (-1, 1):
            lung = self.a.body(self.jitter((68 * side, -3, 6), 0.03), self.jitter((64, 92, 158), 0.03))
            self.lung_bodies.append(lung)
            self.less(density, (lung, self.cavity), displacers)
            for x, y, z, width in ((46, 18, 40, 5.0), (46, 40, 5, 6.0), (52, -2, 25, 5.0), (50, 44, -35, 5.5)):
                root = np.array([side * x, y, z]) * self.size
                self.vessels(lung, root, np.array([side * 1.0, 0.02 * (y - 20), 0.02 * (z - 10)]), 26.0, width, 0)

    def less(self, density: float, within: tuple[int, ...], displacers: tuple[int, ...]) -> None:
        """Add a density where all bodies ``within`` meet, less what displaces it."""
        for count in range(len(displacers) + 1):
            for group in itertools.combinations(displacers, count):
                self.a.terms.append((density * (-1) ** count, (*within, *group)))

    def in_lung(self, lung: int, point: np.ndarray, margin: float) -> bool:
        inside = all(self.a.holds(b, point, -margin) for b in (lung, self.cavity))
        return inside and not any(
            self.a.holds(b, point, margin) for b in (self.mediastinum, self.heart, self.liver, self.spleen)
        )

    def vessels(self, lung: int, start: np.ndarray, way: np.ndarray, length: float, width: float, level: int) -> None:
        """A vessel and, from its end, two thinner ones; where one would leave the lung, other ways are tried."""
        for attempt in range(8):
            turned = way / np.linalg.norm(way) + 0.12 * attempt * self.random.normal(size=3)
            turned /= np.linalg.norm(turned)
            end, middle = start + turned * length, start + turned * length / 2
            if self.in_lung(lung, end, 0.05) and self.in_lung(lung, middle, 0.03):
                break
            length *= 0.85
        else:
            return
        self.a.add(915, middle, (width * 0.7, width * 0.7, length / 2), _turn(turned))
        if level + 1 < _VESSEL_LEVELS:
            frame = _turn(turned)
            angle = self.random.uniform(0, math.pi)
            aside = frame[:, 0] * math.cos(angle) + frame[:, 1] * math.sin(angle)
            for sign in (-1, 1):
                spread = sign * self.random.uniform(0.3, 0.75)
                shorter = length * self.random.uniform(0.75, 0.95)
                self.vessels(lung, end, turned + spread * aside, shorter, width * 0.78, level + 1)

    def skeleton(self) -> None:
        size = self.size
        for level in range(-8, 9):
            z = 25.0 * size * level
            self.a.add(480, (0, 62 * size, z), np.array((20, 16, 11.5)) * size)
            self.a.add(-300, (0, 62 * size, z), np.array((17.5, 13.5, 10)) * size)
            self.a.add(430, (0, 103 * size, z - 6), np.array((3.5, 12, 8)) * size)
            for side in (-1, 1):
                self.a.add(400, (17 * side * size, 84 * size, z), np.array((5, 8, 7)) * size)
        cavity = np.diag(1 / self.a.to_ball[self.cavity].diagonal())
        across, deep = cavity[0, 0] + 8 * size, cavity[1, 1] + 8 * size
        for rib in range(11):
            for side in (-1, 1):
                self.rib(across, deep, side, (130 - 24.0 * rib) * size)
        self.a.add(380, (0, -deep - 8 * size, 30 * size), np.array((17, 5, 90)) * size)

    def rib(self, across: float, deep: float, side: int, z: float) -> None:
        """A rib: overlapping ellipsoids along an arc round the cavity that falls towards the front."""
        turn = np.linspace(0.16, 0.80, 15) * math.pi
        path = np.stack([side * across * np.sin(turn), deep * np.cos(turn) - 4 * self.size, z - 62 * (turn / 2.5)], 1)
        for before, after in itertools.pairwise(path):
            along = after - before
            self.a.add(260, (before + after) / 2, (3.4, 5.4, float(np.linalg.norm(along))), _turn(along))

    def lesions(self) -> None:
        """Lung nodules, spheres of +-15 to +-40 HU in liver, spleen and heart, and fat between the muscles."""
        r = self.random
        for lung in self.lung_bodies:
            for _ in range(int(r.integers(2, 5))):
                point = self.a.centres[lung] + np.array([30, 50, 80]) * r.uniform(-1, 1, 3)
                if self.in_lung(lung, point, 0.1):
                    self.a.add(r.uniform(500, 860), point, np.full(3, r.uniform(3, 8)))
        hosts = ((self.liver, 0.85, 16), (self.spleen, 0.7, 6), (self.heart, 0.75, 6))
        for host, reach, count in hosts:
            for _ in range(count):
                ball = r.normal(size=3)
                ball *= reach * r.uniform(0.2, 1) ** (1 / 3) / np.linalg.norm(ball)
                point = self.a.centres[host] + np.linalg.solve(self.a.to_ball[host], ball)
                self.a.add(r.choice([-1, 1]) * r.uniform(15, 40), point, np.full(3, r.uniform(3, 9)))
        for _ in range(60):  # strands of fat between the muscles
            angle, height = r.uniform(0, 2 * math.pi), r.uniform(-150, 150)
            point = np.array([142 * math.sin(angle), 92 * math.cos(angle), height]) * self.size
            around = np.array([math.cos(angle), -0.65 * math.sin(angle), r.normal(0, 0.5)])
            self.a.add(-110, point, (r.uniform(1, 2.5), r.uniform(3, 8), r.uniform(8, 30)), _turn(around))

    def opacities(self, count: int, seed: int) -> None:
        """Consolidations of the lung: ellipsoids of 15 to 40 mm, cut to the lung, which raise it by 250 to 550 HU.

        They are drawn last and from a generator of their own, so that the anatomy is the same with and without them.
        """
        r = np.random.default_rng([seed, 0x09AC17])
        displacers = (self.mediastinum, self.heart, self.liver, self.spleen)
        for _ in range(count):
            lung = self.lung_bodies[int(r.integers(2))]
            point = self.a.centres[lung]
            while not self.in_lung(lung, point, 0.05):
                point = self.a.centres[lung] + np.array([45, 55, 110]) * r.uniform(-1, 1, 3)
            body = self.a.body(point, r.uniform(15, 40, 3), _tilt(r.uniform(0, math.pi), r.uniform(-0.6, 0.6)))
            self.less(r.uniform(250, 550), (body, lung, self.cavity), displacers)


def _chords(matrix: Tensor, centre: Tensor, size: float, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit parameters of lines ``origins + t directions``, (..., n), in ``|matrix (p - centre)| <= size``."""
    q, r = (origins - centre) @ matrix.T, directions @ matrix.T
    a = r.square().sum(-1)
    middle = -(q * r).sum(-1) / a
    nearest = q + middle[..., None] * r  # from here, not from a far source: no cancellation
    half = ((size**2 - nearest.square().sum(-1)).clamp(min=0) / a).sqrt()
    return middle - half, middle + half


def _check_plane(z_mm: float) -> None:
    if not math.isfinite(z_mm):
        raise error("z_mm", "a finite number", z_mm)


class Thorax:
    """A seeded random thorax (simulated).

    Args:
        seed: Chooses the patient; the same seed gives the same anatomy on every machine.
        opacities: Pneumonic consolidations in the lungs, of the same anatomy; none by default.

    Raises:
        ValueError: If the number of opacities is negative.
    """

    def __init__(self, seed: int, opacities: int = 0) -> None:
        if opacities < 0:
            raise error("opacities", "0 or more", opacities)
        draw = _Draw(seed)
        draw.opacities(opacities, seed)
        drawn = draw.a
        self._centres = torch.from_numpy(np.stack(drawn.centres))
        self._to_ball = torch.from_numpy(np.stack(drawn.to_ball))
        self._terms = drawn.terms

    def image(self, z_mm: float, *, pixels: int = 512, spacing_mm: float = 0.75, oversampling: int = 2) -> Tensor:
        """The axial slice at ``z_mm``: (Y, X) float32, HU; pixels are means of ``oversampling`` squared samples."""
        for name, value in (("pixels", pixels), ("spacing_mm", spacing_mm), ("oversampling", oversampling)):
            check_positive(name, value)
        _check_plane(z_mm)
        fine = pixels * oversampling
        axis = (torch.arange(fine, dtype=torch.float64) - (fine - 1) / 2) * (spacing_mm / oversampling)
        image = torch.full((fine, fine), -1000.0, dtype=torch.float64)
        cuts = self._cuts(z_mm)
        for density, members in self._terms:
            if all(m in cuts for m in members):
                rows, columns = self._frame(cuts[members[0]], axis)
                masks = [self._disc(cuts[m], axis[columns], axis[rows]) for m in members]
                image[rows, columns] += density * torch.stack(masks).all(0)
        return image.reshape(pixels, oversampling, pixels, oversampling).mean((1, 3)).float()

    def slice_path(self, z_mm: float, origins: Tensor, directions: Tensor) -> Tensor:
        """Exact line integrals in the axial plane ``z_mm``, in mm of water.

        Args:
            z_mm: The plane.
            origins: (..., 2), a point (x, y) in mm on each line.
            directions: (..., 2), unit vectors.

        Returns:
            (...): the integral of 1 + HU/1000 along each whole line. Times the attenuation of water, a line integral.
        """
        check_shape("directions", directions, tuple(origins.shape))
        check_finite("origins", origins)
        _check_plane(z_mm)
        if not bool(((directions.norm(dim=-1) - 1).abs() < 1e-4).all()):
            raise error("directions", "unit vectors", f"a length of {float(directions.norm(dim=-1).max()):g}")
        return self._path(self._cuts(z_mm), origins, directions)

    def radiograph(self, *, pixels: int = 256, spacing_mm: float = 1.6, source_mm: float = 1800.0) -> Tensor:
        """A frontal (postero-anterior) radiograph of the same anatomy: (pixels, pixels) float64, mm of water.

        Rows run from head to feet and columns from the patient's right to left (x rising), as a viewer hangs it.
        ``spacing_mm`` holds in the plane of the detector, 250 mm before the axis; ``source_mm`` away is the source.
        """
        check_positive("spacing_mm", spacing_mm)
        axis = (torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2) * spacing_mm
        z, x = torch.meshgrid(-axis, axis, indexing="ij")
        target = torch.stack([x, torch.full_like(x, -250.0), z], -1)
        source = torch.tensor([0.0, source_mm - 250.0, 0.0], dtype=torch.float64)
        heading = target - source
        heading = heading / heading.norm(dim=-1, keepdim=True)
        bodies = {i: (m, c, 1.0) for i, (m, c) in enumerate(zip(self._to_ball, self._centres, strict=True))}
        joined = [term for term in self._terms if len(term[1]) > 1]
        path = self._path(bodies, source.expand_as(heading), heading, joined)
        for density, members in self._terms:
            if len(members) == 1:  # most of them are small: only the rays that can meet one are followed
                shadow = self._shadow(bodies[members[0]], source, axis)
                rays = heading[shadow]
                start, end = _chords(*bodies[members[0]], source.expand_as(rays), rays)
                path[shadow] += (density / 1000) * (end - start)
        return path

    @staticmethod
    def _shadow(body: tuple[Tensor, Tensor, float], source: Tensor, axis: Tensor) -> tuple[slice, slice]:
        """Rows and columns of the radiograph that hold the shadow of the ball around an ellipsoid."""
        matrix, centre, size = body
        reach = float(torch.linalg.inv(matrix).norm(dim=0).max()) * size  # the columns are the semi-axes
        before, depth = float(source[1]) + 250.0, float(source[1] - centre[1])
        if depth <= 1.1 * reach:
            return slice(None), slice(None)
        edges = []
        for middle in (-float(centre[2]), float(centre[0])):
            angle, half = math.atan2(middle, depth), math.asin(min(1.0, reach / math.hypot(middle, depth)))
            ends = [before * math.tan(max(-1.5, min(1.5, angle + sign * half))) for sign in (-1, 1)]
            edges.append(torch.searchsorted(axis, torch.tensor(ends, dtype=axis.dtype)).tolist())
        return slice(*edges[0]), slice(*edges[1])

    @staticmethod
    def _frame(cut: tuple[Tensor, Tensor, float], axis: Tensor) -> tuple[slice, slice]:
        """The rows and columns of the smallest box that holds an ellipse."""
        matrix, centre, size = cut
        reach = torch.linalg.inv(matrix).norm(dim=1) * size
        edges = torch.searchsorted(axis, torch.stack([centre - reach, centre + reach])).tolist()
        return slice(edges[0][1], edges[1][1]), slice(edges[0][0], edges[1][0])

    @staticmethod
    def _disc(cut: tuple[Tensor, Tensor, float], x: Tensor, y: Tensor) -> Tensor:
        """Which points of the grid y by x lie in an ellipse, (Y, X) bool."""
        matrix, centre, size = cut
        u, v = x[None, :] - centre[0], y[:, None] - centre[1]
        p, q = matrix[0, 0] * u + matrix[0, 1] * v, matrix[1, 0] * u + matrix[1, 1] * v
        return p.square() + q.square() <= size**2

    def _cuts(self, z_mm: float) -> dict[int, tuple[Tensor, Tensor, float]]:
        """The ellipses |matrix (p - centre)| <= size in which the plane cuts the ellipsoids, by ellipsoid."""
        cuts = {}
        for index, (m, c) in enumerate(zip(self._to_ball, self._centres, strict=True)):
            flat, rise = m[:, :2], m[:, 2] * (z_mm - c[2])
            offset = torch.linalg.lstsq(flat, rise[:, None]).solution[:, 0]
            rest = 1 - float((rise - flat @ offset).square().sum())
            if rest > 1e-12:
                cuts[index] = (torch.linalg.qr(flat).R, c[:2] - offset, math.sqrt(rest))
        return cuts

    def _path(
        self,
        bodies: dict[int, tuple[Tensor, Tensor, float]],
        origins: Tensor,
        directions: Tensor,
        terms: list[tuple[float, tuple[int, ...]]] | None = None,
    ) -> Tensor:
        """The integral along each line of ``terms``, all if None, in mm of water."""
        total = torch.zeros_like(origins[..., 0])
        wanted = self._terms if terms is None else terms
        spans = {m for _, members in wanted if len(members) > 1 for m in members}
        alone: dict[int, list[float]] = {}
        for density, members in wanted:
            if len(members) == 1:
                alone.setdefault(members[0], []).append(density)
        kept = {}
        for index, (matrix, centre, size) in bodies.items():
            if index not in spans and index not in alone:
                continue
            chord = _chords(matrix.to(origins), centre.to(origins), size, origins, directions)
            if index in spans:
                kept[index] = chord
            for density in alone.get(index, ()):
                total += (density / 1000) * (chord[1] - chord[0])
        for density, members in wanted:
            if len(members) > 1 and all(m in kept for m in members):
                start, end = kept[members[0]]
                for m in members[1:]:
                    start, end = torch.maximum(start, kept[m][0]), torch.minimum(end, kept[m][1])
                total += (density / 1000) * (end - start).clamp(min=0)
        return total
