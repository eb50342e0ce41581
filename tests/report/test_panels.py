"""Figures of studies show what there is: a mark a cell, a bar a setting, a picture an E."""

import io

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from vitok.analysis.fits.lines import log_linear
from vitok.analysis.rows import Row
from vitok.report.figures import panels


def rows() -> list[Row]:
    """Codes of three kinds at four sizes, two seeds; one cell lacks a metric."""
    found: list[Row] = []
    for variant in ("T-M/8", "T-M/8+L16", "T-M/8+M4"):
        for c in (4, 8, 16, 32):
            for seed in (0, 1):
                row = {"variant": variant, "p": 8, "c": c, "E": 16 * c, "size": 32, "frames": 1, "seed": seed}
                names = {"label": f"{variant} c={c} {seed}", "setting": f"{variant} c={c}"}
                found.append(row | names | {"rPSNR": 10 + np.log2(c) + 0.1 * seed, "LPIPS": 1 / c})
    del found[0]["LPIPS"]
    return found


def marks(axis) -> int:
    return sum(len(np.asarray(part.get_offsets())) for part in axis.collections if isinstance(part, PathCollection))


def test_cells_over_a_column() -> None:
    table = rows()
    fits = {"rPSNR": log_linear(table, "rPSNR")}
    figure = panels.over("E", panels.FLOATS, by=panels.kind, joined=True)(
        [*table, {"label": "JPEG", "setting": "JPEG"}], ("rPSNR", "LPIPS"), fits
    )
    figure.canvas.draw()
    first, second = figure.axes
    assert (marks(first), marks(second)) == (24, 23) and first.get_gid() == "E:rPSNR"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Simple, p = 8", "Latent, p = 8", "Mask Simple"]
    assert "r = " in first.get_title() and second.get_title() == ""


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        (panels.encoder, "encoder T"), (panels.decoder, "decoder M"), (panels.patch, "p = 8"), (panels.size, "32 pixels"),
        (panels.frames, "single frames"),
    ],
)  # fmt: skip
def test_series_have_names(by: panels.SeriesName, wanted: str) -> None:
    assert by(rows()[0]) == wanted
    assert panels.kind(rows()[0] | {"variant": "S-B/16+L64+M8"}) == "Mask Latent"
    assert panels.frames({"frames": 8}) == "clips of 8 frames"


def test_one_metric_against_another() -> None:
    figure = panels.against(("rPSNR", "LPIPS"), ("rPSNR", "rFID"))(rows(), ("rPSNR", "LPIPS"), {})
    figure.canvas.draw()
    (axis,) = [axis for axis in figure.axes if axis.axison]
    assert axis.get_gid() == "rPSNR:LPIPS" and marks(axis) == 12, "a mark a setting"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    looks = {(tuple(part.get_facecolor()[0]), part.get_paths()[0].vertices.tobytes()) for part in axis.collections}  # pyright: ignore
    assert len(set(names)) == 12 and len(looks) == 12, "no two look alike"


def test_a_line_a_setting_and_baselines_in_grey() -> None:
    table = [row for row in rows() if row["c"] == 4] + [{"subject": "JPEG", "label": "JPEG", "setting": "JPEG", "rPSNR": 30.0}]
    figure = panels.dots(table, ("rPSNR", "LPIPS"), {})
    figure.canvas.draw()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["T-M/8 c=4", "T-M/8+L16 c=4", "T-M/8+M4 c=4", "JPEG"]
    marks = [(*map(float, np.asarray(mark.get_offsets())[0]), tuple(mark.get_facecolor()[0])) for mark in figure.axes[0].collections]  # pyright: ignore
    assert [place for _, place, _ in marks] == [0, 1, 2, 3] and marks[3][0] == 30.0
    colours = [colour for _, _, colour in marks]
    assert len(set(colours)) == 2 and colours[0] == colours[2] != colours[3]


def test_the_gallery_goes_from_the_original_to_the_smallest_code() -> None:
    rng = np.random.default_rng(0)

    def sheet() -> bytes:
        """Three photographs above, three reconstructions below."""
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (16, 24, 3), np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    table = [row | {"picture": sheet()} for row in rows() if row["seed"] == 0 and row["variant"] == "T-M/8"]
    figure = panels.gallery([*table, rows()[1]], ("rPSNR",), {})
    assert len(figure.axes) == 3 * 5
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles[0] == "original\n" and [title.split("\n")[0] for title in titles[1:]] == ["E = 512", "E = 256", "E = 128", "E = 64"]
    original = np.asarray(Image.open(io.BytesIO(table[-1]["picture"])))[:8, :8]
    assert np.array_equal(np.asarray(figure.axes[0].images[0].get_array()), original), "of the largest E"
