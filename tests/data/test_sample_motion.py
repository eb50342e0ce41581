import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitok.data.corpora import sample_motion, sample_photos
from vitok.data.decoding.video import Video
from vitok.errors import UsageError

CAT = "skimage/data/chelsea"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def there(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def pictures(name: str) -> np.ndarray:
    """(FRAMES, SIDE, SIDE) float: the luminance of every picture."""
    with Video(str(sample_motion.locate(name))) as video:
        assert (video.width, video.height, video.fps, video.seconds) == (
            sample_motion.SIDE,
            sample_motion.SIDE,
            sample_motion.FPS,
            sample_motion.FRAMES / sample_motion.FPS,
        )
        clip = video.clip(0, sample_motion.FRAMES, sample_motion.FPS, (sample_motion.SIDE, sample_motion.SIDE))
    return clip.mean(3)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean())


def shift(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """By how many pixels (down, right) what `a` shows has moved in `b`: the peak of the phase correlation."""
    window = np.outer(np.hanning(len(a)), np.hanning(len(a)))
    spectrum = np.conj(np.fft.fft2((a - a.mean()) * window)) * np.fft.fft2((b - b.mean()) * window)
    peak = np.argmax(np.fft.ifft2(spectrum / (np.abs(spectrum) + 1e-9)).real)
    down, right = ((int(i) + len(a) // 2) % len(a) - len(a) // 2 for i in np.unravel_index(peak, a.shape))
    return down, right


def nearest(image: np.ndarray, angle: float, scale: float) -> np.ndarray:
    """`image` turned clockwise by `angle` (degrees) and enlarged by `scale` about its middle, pixel by pixel."""
    place = np.arange(len(image)) - (len(image) - 1) / 2
    y, x = np.meshgrid(place, place, indexing="ij")
    cos, sin = np.cos(np.radians(angle)) / scale, np.sin(np.radians(angle)) / scale
    row, column = np.rint(np.stack([y * cos - x * sin, x * cos + y * sin]) - place[0]).astype(int).clip(0, len(image) - 1)
    return image[row, column]


def test_names_are_unique_and_carry_their_label() -> None:
    train, validation = sample_motion.names(sample_photos.TRAIN), sample_motion.names(sample_photos.VALIDATION)
    assert validation[0] == f"{CAT}/pan-left.mp4"
    assert len({*train, *validation}) == len(train) + len(validation) == 8 * (len(sample_photos.TRAIN) + len(sample_photos.VALIDATION))
    assert [sample_motion.label(name) for name in train] == list(range(8)) * len(sample_photos.TRAIN)


@pytest.mark.parametrize(("name", "way"), [("pan-left", (0, 1)), ("pan-right", (0, -1)), ("pan-up", (1, 0)), ("pan-down", (-1, 0))])
@pytest.mark.parametrize("photograph", [CAT, "skimage/data/gravel"])
def test_while_the_view_pans_what_it_shows_moves_the_other_way(photograph: str, name: str, way: tuple[int, int]) -> None:
    clip = pictures(f"{photograph}/{name}.mp4")
    for k in (0, 13, 27):  # the same speed all the way
        down, right = shift(clip[k], clip[k + 4])
        along, aside = down * way[0] + right * way[1], down * way[1] + right * way[0]
        assert along == pytest.approx(128 * 0.6 * 4 / 31, abs=1.1)  # 60 % of the view in 31 steps
        assert abs(aside) <= 1


@pytest.mark.parametrize("name", sample_motion.CLASSES[4:])
@pytest.mark.parametrize("photograph", [CAT, "skimage/data/astronaut"])
def test_zooms_and_turns_go_the_way_that_they_are_called(photograph: str, name: str) -> None:
    clip = pictures(f"{photograph}/{name}.mp4")
    middle = slice(32, 96)
    steps = {  # what is shown turns (degrees) and grows in four steps; a turn of the view to the left turns it clockwise
        "zoom-in": (0, 2 ** (4 / 31)), "zoom-out": (0, 2 ** (-4 / 31)), "turn-left": (60 * 4 / 31, 1), "turn-right": (-60 * 4 / 31, 1),
    }  # fmt: skip
    for k in (0, 13, 27):
        left = {motion: error(nearest(clip[k], *step)[middle, middle], clip[k + 4][middle, middle]) for motion, step in steps.items()}
        assert min(left, key=left.__getitem__) == name
        assert left[name] < 0.3 * sorted(left.values())[1]


def test_no_border_comes_into_view(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (300, 200), (200, 200, 200)).save(tmp_path / "white.png")
    for name in sample_motion.CLASSES:
        views = sample_motion._turned if name.startswith("turn") else sample_motion._moved
        assert all(np.asarray(view).min() == 200 for view in views(tmp_path / "white.png", name))


def test_a_video_is_rendered_once_and_always_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"{CAT}/turn-left.mp4"
    path = sample_motion.locate(name)
    assert path.is_relative_to(cache)
    before = path.stat().st_mtime_ns
    assert sample_motion.locate(name) == path and path.stat().st_mtime_ns == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    again = sample_motion.locate(name)
    assert again != path and again.read_bytes() == path.read_bytes()


def test_two_processes_may_ask_at_once(tmp_path: Path) -> None:
    code = f"from vitok.data.corpora import sample_motion; print(len(sample_motion.locate('{CAT}/zoom-in.mp4').read_bytes()))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sizes = [process.communicate(timeout=60)[0] for process in both]
    assert sizes[0] == sizes[1] and int(sizes[0]) > 1000
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["zoom-in.mp4"]


@pytest.mark.parametrize("name", ["skimage/data/cat/pan-left.mp4", f"{CAT}/pan-left.avi"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="sample-motion has no video"):
        sample_motion.locate(name)
