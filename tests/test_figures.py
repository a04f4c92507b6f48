"""Figures: labels and units are drawn, numbers are kept, equal runs write equal bytes."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from noisebook import figures
from noisebook.papers.linearized.model import FBPConvNet


def texts(figure: Figure) -> list[str]:
    """Every text in a figure."""
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def panel(**changes: object) -> figures.Panel:
    """A ramp of 40 x 40 pixels of 1 mm."""
    settings = {"image": np.linspace(-50, 50, 1600).reshape(40, 40), "title": "ramp", "spacing_mm": 1.0} | changes
    return figures.Panel(**settings)  # type: ignore[arg-type]


def test_images_show_title_unit_window_and_scale() -> None:
    """A panel's title, unit, window and scale bar are drawn; the colours span the window."""
    figure = figures.images([panel(window=(-20, 30))], columns=1, title="above")
    assert {"ramp", "HU", "10 mm", "above"} <= set(texts(figure))
    assert figure.axes[0].images[0].get_clim() == (-20, 30)


def test_images_alike_share_window_and_unit() -> None:
    """Every image has the one window and unit, and its name or its caption above it."""
    shown = {"a": np.zeros((3, 4)), "b": np.ones((3, 4))}
    figure = figures.alike(shown, columns=2, window=(0, 2), unit="photons", captions=["first", "second"])
    assert [axis.images[0].get_clim() for axis in figure.axes if axis.images] == [(0, 2), (0, 2)]
    assert {"first", "second", "photons"} <= set(texts(figure))
    assert {"a", "b"} <= set(texts(figures.alike(shown, columns=1, window=(0, 2), unit="")))
    with pytest.raises(ValueError, match="captions: expected 2, one an image, got 1"):
        figures.alike(shown, columns=2, window=(0, 1), unit="", captions=["first"])


def test_signed_panels_are_symmetric_about_zero() -> None:
    """Without a window, limits are equal and opposite, so that white is zero."""
    low, high = figures.images([panel(signed=True)], columns=1).axes[0].images[0].get_clim()
    assert low == -high
    assert high == pytest.approx(50, rel=0.01)


def test_zoom_keeps_centre_colours_and_mark() -> None:
    """A zoom shows the central pixels in the colours of the whole, and its mark stays on its pixel."""
    whole = panel(signed=True, mark=(21, 20))
    inner = figures.zoom(whole, 3)
    np.testing.assert_array_equal(inner.image, whole.image[17:24, 17:24])
    assert inner.mark == (4, 3)
    limits = [figures.images([p], columns=1).axes[0].images[0].get_clim() for p in (whole, inner)]
    assert limits[0] == limits[1]
    with pytest.raises(ValueError, match="zoom of ramp: expected a half side of at most 20 pixels, got 21"):
        figures.zoom(whole, 21)


def test_profile_and_dots_name_what_they_draw() -> None:
    """Curves have their names and axes their labels; every value of a group is a dot, its median a bar."""
    curve = figures.profile([figures.Line(np.arange(3), np.arange(3), "one")], x="distance / mm", y="value / HU")
    assert {"one", "distance / mm", "value / HU"} <= set(texts(curve))
    groups = {"a": np.array([1.0, 2.0, 4.0]), "b": np.array([3.0])}
    axis = figures.dots(groups, y="ratio", reference=1.0, log=True).axes[0]
    assert sorted(y for line in axis.lines[:2] for y in line.get_ydata()) == [1, 2, 3, 4]
    assert [bar.get_segments()[0][0, 1] for bar in axis.collections] == [2, 3]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b"]


def test_a_line_like_another_has_its_colour() -> None:
    """Two lines of one seed share a colour, the second dotted; likeness to no line, raises."""
    x = np.arange(3)
    first, other = figures.Line(x, x, "test"), figures.Line(x, x, "other")
    drawn = figures.profile([first, other, figures.Line(x, x, "validation", like="test")], x="", y="").axes[0].lines
    assert drawn[0].get_color() == drawn[2].get_color() != drawn[1].get_color()
    assert (drawn[0].get_linestyle(), drawn[2].get_linestyle()) == ("-", ":")
    with pytest.raises(ValueError, match="lines: expected likeness to one of test, got nobody"):
        figures.profile([first, figures.Line(x, x, "a", like="nobody")], x="", y="")


def test_ticks_of_a_logarithmic_axis_can_be_read() -> None:
    """One decade has ticks at 1, 2 and 5; five decades have them at powers of ten."""
    for top, ticks in ((9.0, {"1", "2", "5"}), (1e5, {"1", "10", "100", "1000"})):
        lines = [figures.Line(np.arange(2), np.array([0.9, top]), "a")]
        axis = figures.profile(lines, x="", y="", log_y=True).axes[0]
        assert ticks <= {axis.yaxis.get_major_formatter()(value) for value in axis.get_yticks()}
        assert (5 in axis.get_yticks()) == (top < 100)


def test_titles_of_many_lines_have_room() -> None:
    """A grid whose titles have three lines is higher than one with titles of one line."""
    panels = [figures.Panel(np.zeros((3, 3)), title) for title in ("one", "one\ntwo\nthree")]
    low, high = (figures.images([panel], columns=1).get_size_inches()[1] for panel in panels)
    assert high - low == pytest.approx(0.3)


def test_whole_numbers_have_whole_ticks() -> None:
    """An axis of epochs is not divided into halves."""
    figure = figures.profile([figures.Line(np.arange(1, 6), np.zeros(5), "a")], x="epoch", y="")
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())


def test_many_names_are_broken() -> None:
    """Up to six groups keep their names on a line; of more, names of two words take two."""
    for count, name in ((6, "two words"), (7, "two\nwords")):
        groups = {"two words": np.ones(2)} | {str(k): np.ones(2) for k in range(1, count)}
        assert name in texts(figures.dots(groups, y="", reference=1.0))


def test_architecture_shows_every_convolution_with_its_channels() -> None:
    """The picture of a three-level net of width 3 has its 13 convolutions: 11 in blocks and two transposed."""
    figure = figures.architecture(FBPConvNet(3, 3).eval(), torch.zeros(1, 1, 16, 16))
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(int(text) for text in drawn if text.isdecimal()) == [1, 3, 3, 3, 3, 3, 6, 6, 6, 6, 6, 12, 12]
    assert {"16²", "8²", "4²"} <= set(drawn)
    with pytest.raises(ValueError, match="model: expected a network with two-dimensional convolutions"):
        figures.architecture(nn.Linear(2, 2), torch.zeros(1, 2))


def test_keep_writes_equal_bytes_and_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kept twice, PNG and SVG are equal to the byte; columns become a CSV and images an npz that hold the numbers."""
    for run in ("one", "two"):
        figures.keep(figures.images([panel()], columns=1), tmp_path / run, "chapter", "ramp", {"ramp": panel().image})
        line = figures.profile([figures.Line(np.arange(3), np.arange(3), "a")], x="x", y="y")
        figures.keep(line, tmp_path / run, "chapter", "line", {"x": np.arange(3), "y": np.array([0.5, 1, 2])})
    folders = [tmp_path / run / "chapter" / "figures" for run in ("one", "two")]
    names = ["line.csv", "line.json", "line.png", "line.svg", "ramp.json", "ramp.npz", "ramp.png", "ramp.svg"]
    assert [sorted(f.name for f in folder.iterdir()) for folder in folders] == [names, names]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert (folders[0] / "line.csv").read_text() == "x,y\n0,0.5\n1,1.0\n2,2.0\n"
    np.testing.assert_array_equal(np.load(folders[0] / "ramp.npz")["ramp"], panel().image)


def test_pictures_are_small_and_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kept PNG of noise in grey and in colour has a palette, and no colour is further off than 4 % of the range."""
    noise = np.random.default_rng(0).normal(0, 20, (120, 120))
    panels = [panel(image=noise), panel(image=noise, signed=True)]
    whole = io.BytesIO()
    with figures._images.style():
        figures.images(panels, columns=2).savefig(whole, format="png")
    figures.keep(figures.images(panels, columns=2), tmp_path, "chapter", "noise", {"noise": noise})
    kept = Image.open(tmp_path / "chapter/figures/noise.png")
    off = np.asarray(kept.convert("RGB"), float) - np.asarray(Image.open(whole).convert("RGB"), float)
    assert kept.mode == "P"
    assert np.abs(off).max() <= 0.04 * 255
    assert (tmp_path / "chapter/figures/noise.png").stat().st_size < len(whole.getvalue()) / 2


def test_table_rounds_numbers_and_keeps_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """Unequal columns raise; equal ones are shown."""
    figures.table({"name": ["a", "b"], "value": [1.23456, 2.0]})
    assert "Markdown" in capsys.readouterr().out
    with pytest.raises(ValueError, match="columns: expected one length"):
        figures.table({"a": [1], "b": [1, 2]})


def test_bad_panels_are_refused(tmp_path: Path) -> None:
    """No panel, NaN, wrong rank, no numbers and an impossible window raise."""
    with pytest.raises(ValueError, match="panels: expected at least one"):
        figures.images([], columns=2)
    with pytest.raises(ValueError, match="ramp: expected finite values"):
        figures.images([panel(image=np.full((3, 3), np.nan))], columns=1)
    with pytest.raises(ValueError, match=r"ramp: expected 2 axes \(Y, X\)"):
        figures.images([panel(image=np.zeros((1, 3, 3)))], columns=1)
    with pytest.raises(ValueError, match="numbers of figure x: expected at least one array"):
        figures.keep(figures.images([panel()], columns=1), tmp_path, "chapter", "x", {})
    with pytest.raises(ValueError, match="width: expected a number above zero"):
        figures.hu_window(40, 0)
    assert figures.hu_window(40, 400) == (-160, 240)


def test_lines_have_bars_scales_and_a_reference() -> None:
    """Error bars reach as far as said, axes are logarithmic, the reference lies at its height; eight lines raise."""
    x, y = np.array([1.0, 10.0, 100.0]), np.array([1.0, 2.0, 4.0])
    line = figures.Line(x, y, "rising", np.full(3, 0.5), marker=True)
    figure = figures.profile([line], x="x", y="y", log_x=True, log_y=True, reference=1.5)
    axis = figure.axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    bars = axis.collections[0].get_segments()
    assert [list(bar[:, 1]) for bar in bars] == [[0.5, 1.5], [1.5, 2.5], [3.5, 4.5]]
    assert any(list(drawn.get_ydata()) == [1.5, 1.5] for drawn in axis.lines)
    with pytest.raises(ValueError, match="lines: expected 1 to 7, got 8"):
        figures.profile([line] * 8, x="x", y="y")


def test_no_column_is_refused() -> None:
    """A grid of images needs a column."""
    with pytest.raises(ValueError, match="columns: expected a number above zero"):
        figures.images([figures.Panel(np.zeros((3, 3)), "")], columns=0)


def sample(side: int = 16, **changes: object) -> figures.Sample:
    """A step image as truth, and itself twice at one and two times the size."""
    truth = np.repeat([0.0, 2.0], side // 2)[None].repeat(side, 0)
    settings = {"images": [truth, np.kron(truth, np.ones((2, 2)))], "truth": truth, "at": 0.25} | changes
    return figures.Sample(**settings)  # type: ignore[arg-type]


def test_cuts_lie_under_their_images_at_the_red_row() -> None:
    """Two rows a sample; a cut is the image's row at the share of its height, whatever its size; the row is marked."""
    figure = figures.cuts([sample(), sample()], titles=["one", "two"], title="above")
    assert {"one", "two", "above"} <= set(texts(figure))
    assert len(figure.axes) == 8
    assert figure.axes[0].lines[0].get_ydata()[0] == 0.75
    assert figure.axes[1].images[0].get_clim() == (0, 2)
    truth, cut = figure.axes[3].lines
    np.testing.assert_array_equal(cut.get_ydata(), np.repeat([0.0, 2.0], 16))
    assert len(truth.get_ydata()) == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at": 1.0}, "cut at 1"),
        ({"images": [np.zeros((4, 4))]}, "expected 2 images"),
        ({"images": [np.zeros((4, 4)), np.full((4, 4), np.nan)]}, "sample 1, two: expected finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    """A cut outside the image, a missing image and NaN are named."""
    with pytest.raises(ValueError, match=message):
        figures.cuts([sample(**changes)], titles=["one", "two"])


def test_every_image_and_cut_is_kept_by_itself(tmp_path: Path) -> None:
    """A picture of the image's own size and a table of its cut, a sample and a title; equal runs, equal bytes."""
    for folder in ("a", "b"):
        figures.keep_parts([sample()], tmp_path / folder, "tiny", "both", ["s = 1", "decay 0.1"])
    files = sorted(path.name for path in (tmp_path / "a/tiny/figures/both").iterdir())
    assert files == ["1-decay-0.1.csv", "1-decay-0.1.png", "1-s-1.csv", "1-s-1.png"]
    for name in files:
        assert (tmp_path / "a/tiny/figures/both" / name).read_bytes() == (
            tmp_path / "b/tiny/figures/both" / name
        ).read_bytes()
    table = np.loadtxt(tmp_path / "a/tiny/figures/both/1-decay-0.1.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 1], np.repeat([0.0, 2.0], 16))


def test_convolutions_of_any_class_have_their_colours() -> None:
    """A subclass is drawn as what it is derived from: plain in blue, transposed in green."""

    class Own(nn.ConvTranspose2d):
        pass

    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), Own(2, 1, 2, 2))
    blocks = figures.architecture(model, torch.zeros(1, 1, 8, 8)).axes[0].patches
    assert len({block.get_facecolor() for block in blocks}) == 2


def test_a_matrix_shows_every_number_in_its_cell() -> None:
    """Names, axes and unit are drawn; colours are symmetric about zero; numbers stand at their places."""
    values = np.array([[1.0, -2.0, 0.5], [4.0, 0.0, -1.0]])
    figure = figures.matrix(values, rows=["a", "b"], columns=["c", "d", "e"], x="tested", y="trained", unit="dB")
    assert {"a", "b", "c", "d", "e", "tested", "trained", "dB"} <= set(texts(figure))
    axis = figure.axes[0]
    assert {text.get_position(): text.get_text() for text in axis.texts}[0, 1] == "4.0"
    assert axis.images[0].get_clim() == (-4, 4)
    with pytest.raises(ValueError, match=r"values: expected shape \(1, 3\)"):
        figures.matrix(values, rows=["a"], columns=["c", "d", "e"], x="", y="", unit="")


def test_a_slider_holds_every_frame_and_shows_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All pictures are in the page, each with its label, the last one visible; kept twice, files are equal."""
    found: list[str] = []
    for run in ("one", "two"):
        frames = [figures.images([panel(title=title)], columns=1) for title in ("first", "second", "third")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("IPython.display.display", lambda shown, raw: found.append(shown["text/html"]))
            labels, numbers = ["1 photon", "2 < 3", "9"], {"x": np.arange(3)}
            figures.keep_slider(frames, labels, tmp_path / run, "c", "grow", numbers, alt="A ramp", text="so far:")
    page = found[0]
    assert re.findall(r'alt="([^"]*)"', page) == ["A ramp: 1 photon", "A ramp: 2 &lt; 3", "A ramp: 9"]
    assert [" hidden" in picture for picture in re.findall(r"<img[^>]*>", page)] == [True, True, False]
    assert "so far: <output>9</output>" in page
    assert 'max="2" value="2"' in page
    assert 'aria-valuetext="9"' in page
    for k in (1, 2, 3):
        first, second = ((tmp_path / run / "c/figures/grow" / f"{k:02d}.png").read_bytes() for run in ("one", "two"))
        assert first == second
        assert base64.b64encode(first).decode() in page
        assert f'href="c/figures/grow/{k:02d}.svg"' in page
        assert (tmp_path / "one/c/figures/grow" / f"{k:02d}.svg").is_file()
    assert (tmp_path / "one/c/figures/grow.csv").read_text() == "x\n0\n1\n2\n"
    with pytest.raises(ValueError, match="frames of grow: expected at least two, a label each, and numbers"):
        figures.keep_slider(frames, ["1"], tmp_path, "c", "grow", numbers, alt="", text="")


HOSTILE = """image.origin: lower
image.cmap: jet
text.usetex: True
font.size: 30
backend: WebAgg
figure.facecolor: red
axes.grid: True
axes.unicode_minus: False
savefig.bbox: tight
savefig.transparent: True
savefig.format: pdf
lines.linestyle: none
"""
DRAW = """import sys
import numpy as np
from torch import nn, zeros
from noisebook import figures
ramp, out = np.linspace(-50, 50, 1600).reshape(40, 40), sys.argv[1]
line = figures.Line(np.arange(3), ramp[0, :3], "a", np.ones(3), marker=True)
cut = [figures.Sample([ramp], ramp, 0.2)]
drawn = {
    "images": figures.images([figures.Panel(ramp, "x", spacing_mm=1, mark=(3, 4))], columns=1, title="y"),
    "profile": figures.profile([line], x="x", y="y", reference=0.0),
    "dots": figures.dots({"a": ramp[0] + 60}, y="y", reference=1.0, log=True),
    "matrix": figures.matrix(ramp[:2, :2], rows=["a", "b"], columns=["c", "d"], x="x", y="y", unit="u"),
    "cuts": figures.cuts(cut, titles=["t"]),
    "architecture": figures.architecture(nn.Conv2d(1, 1, 3), zeros(1, 1, 8, 8)),
}
for name, figure in drawn.items():
    figures.keep(figure, out, "c", name, {"ramp": ramp})
figures.keep_parts(cut, out, "c", "parts", ["t"])
figures.keep_slider([drawn["cuts"], drawn["dots"]], ["1", "2"], out, "c", "slide", {"ramp": ramp}, alt="a", text="t")
"""


def test_the_readers_own_style_changes_nothing(tmp_path: Path) -> None:
    """With a matplotlibrc that turns images over, asks for TeX and changes sizes, every file has the same bytes."""
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    written = []
    for name, style in {"plain": {}, "hostile": {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}}.items():
        out, variables = tmp_path / name, {**os.environ, **style}
        subprocess.run([sys.executable, "-c", DRAW, out], env=variables, check=True, stdout=subprocess.DEVNULL)
        written.append({str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()})
    assert [name for name, content in written[0].items() if content != written[1].get(name)] == []
    assert len(written[0]) == 32
