from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.data.films import KINDS, NINETY, numbered, numbers, write
from vitok.data.corpora import sample_photos
from vitok.data.decoding.video import Video
from vitok.errors import RejectedError

STARTS = (0.0, 2.5, 0.983, 1.0, 0.251, 1.999, 1.4, 0.02)


def on_show(path: Path, times: Sequence[float]) -> list[int]:
    """The numbers on show at `times`, after decoding everything from zero; half a tick of the container's clock is forgiven."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        tick = float(container.streams.video[0].time_base or 0)
    begin = [frame.time - frames[0].time for frame in frames]
    last = [max(i for i, b in enumerate(begin) if b <= time + min(tick / 2, 5e-4) + 1e-6) for time in times]
    return numbers(np.stack([frames[i].to_ndarray(format="rgb24") for i in last]))


@pytest.mark.parametrize("name", KINDS)
def test_clips_in_any_order_are_what_decoding_from_zero_shows(videos: Path, name: str) -> None:
    with Video(str(videos / name)) as video:
        assert (video.width, video.height, round(video.fps)) == (64, 48, 30)
        assert video.seconds == pytest.approx(3, abs=0.01)
        for start in STARTS:
            for fps in (8, 12.5, 30):
                times = [start + k / fps for k in range(4)]
                assert numbers(video.clip(start, 4, fps, (64, 48))) == on_show(videos / name, times), (start, fps)


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "h264.mp4"])
def test_milliseconds_rounded_up_do_not_double_a_picture(videos: Path, name: str) -> None:
    with Video(str(videos / name)) as video:  # the third picture is stamped 0.067 s, and wanted at 0.06667 s
        assert numbers(video.clip(1.0, 12, 30, (64, 48))) == list(range(30, 42))


def test_the_timestamps_of_avi_are_out_of_order(tmp_path: Path) -> None:
    write(tmp_path / "a.avi", NINETY)
    with Video(str(tmp_path / "a.avi")) as video:
        for start in STARTS:
            assert numbers(video.clip(start, 8, 15, (64, 48))) == [min(int((start + k / 15) * 30 + 0.01), 89) for k in range(8)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of all pictures that are decoded."""
    times: list[float] = []
    original = Video._decoded

    def counting(self: Video, seeked: bool) -> Iterator[tuple[float, av.VideoFrame]]:
        for time, frame in original(self, seeked):
            times.append(time)
            yield time, frame

    monkeypatch.setattr(Video, "_decoded", counting)
    return times


def test_it_seeks_to_what_is_far_and_goes_on_to_what_is_near(videos: Path, decoded: list[float]) -> None:
    with Video(str(videos / "h264.mp4")) as video:
        video.clip(2.1, 2, 30, (64, 48))
        assert max(time for time in decoded if time < 2) < 0.1  # the key frame at 2 s was jumped to
        decoded.clear()
        video.clip(2.4, 2, 30, (64, 48))
        assert min(decoded) > 2.1  # nothing was decoded for a second time


def test_a_container_without_an_index_is_not_decoded_from_zero(videos: Path, decoded: list[float]) -> None:
    with Video(str(videos / "h264.ts")) as video:
        decoded.clear()
        video.clip(2.3, 2, 30, (64, 48))
        assert min(decoded) > 0.9


def test_wrong_key_frames_in_the_index_are_noticed(videos: Path, tmp_path: Path) -> None:
    data = (videos / "h264.mp4").read_bytes()
    assert data.count(b"stss") == 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"stss", b"free"))  # without this list every picture counts as a key frame
    with Video(str(tmp_path / "a.mp4")) as video:
        for start in STARTS:
            assert numbers(video.clip(start, 4, 15, (64, 48))) == on_show(videos / "h264.mp4", [start + k / 15 for k in range(4)])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_picture_stays_on_show_until_the_next(tmp_path: Path, name: str) -> None:
    stamps = [0, 1, 2, 12, 13, 40, 41, 42, 75, 76, 90, 91]
    write(tmp_path / name, NINETY[:12], stamps=stamps)
    with Video(str(tmp_path / name)) as video:
        for start in (0.0, 1.4, 0.39, 2.49, 0.1):
            expected = [max(i for i, stamp in enumerate(stamps) if stamp / 30 <= start + k / 10 + 1e-3) for k in range(6)]
            assert numbers(video.clip(start, 6, 10, (64, 48))) == expected


@pytest.mark.parametrize("start", [0.0, 1.7])
def test_paths_bytes_and_files_are_alike(videos: Path, start: float) -> None:
    path = videos / "h264.mp4"
    with path.open("rb") as file, Video(str(path)) as a, Video(path.read_bytes()) as b:
        with Video(file) as c:
            clips = [video.clip(start, 4, 10, (32, 24)) for video in (a, b, c)]
        assert not file.closed
    assert all(clip.shape == (4, 24, 32, 3) and clip.dtype == np.uint8 and np.array_equal(clip, clips[0]) for clip in clips)


# As QuickTime defines them: x' = a x + c y, y' = b x + d y, with y downwards. A phone held upright writes the first.
TURNS = {
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, -1, 1, 0): lambda picture: np.rot90(picture, 1),
    (1, 0, 0, 1): lambda picture: picture,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda picture: picture.swapaxes(0, 1),
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_is_applied(tmp_path: Path, turn: tuple[int, int, int, int]) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    a, b, c, d = (65536 * value for value in turn)
    write(tmp_path / "a.mp4", [picture] * 4, matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    expected = TURNS[turn](picture)
    with Video(str(tmp_path / "a.mp4")) as video:
        assert (video.height, video.width) == expected.shape[:2]
        clip = video.clip(0, 2, 30, (video.width, video.height))
    for y in (6, -6):
        for x in (6, -6):
            assert np.abs(clip[1, y, x].astype(int) - expected[y, x]).max() < 8


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "shape"),
    [
        ("libx264", "yuv444p", (49, 65)), ("libx264", "yuv422p", (49, 64)), ("libx264", "yuvj420p", (48, 64)),
        ("ffv1", "yuv420p", (49, 65)), ("ffv1", "yuv420p10le", (31, 33)), ("ffv1", "gray", (49, 65)), ("ffv1", "bgra", (48, 63)),
        ("rawvideo", "rgb24", (49, 65)), ("rawvideo", "yuv420p", (16, 700)),
    ],
)  # fmt: skip
def test_odd_formats_and_odd_sizes(tmp_path: Path, codec: str, pix_fmt: str, shape: tuple[int, int]) -> None:
    path = tmp_path / ("a.nut" if codec == "rawvideo" else "a.mkv")
    write(path, [numbered(i, shape[1], shape[0]) for i in range(40)], codec, pix_fmt)
    with Video(str(path)) as video:
        assert (video.height, video.width) == shape
        assert numbers(video.clip(0.5, 4, 10, (37, 21))) == [15, 18, 21, 24]


@pytest.mark.parametrize(("space", "code"), [("bt709", "1"), ("smpte170m", "6")])
def test_colours_follow_the_matrix_of_the_file(tmp_path: Path, space: str, code: str) -> None:
    weights = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114)}[space]
    red, blue = weights
    r, g, b = 200 / 255, 60 / 255, 30 / 255
    luma = red * r + (1 - red - blue) * g + blue * b
    planes = (16 + 219 * luma, 128 + 112 * (b - luma) / (1 - blue), 128 + 112 * (r - luma) / (1 - red))
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"x264-params": f"colormatrix={space}", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        values = np.concatenate([np.full(n, round(v), np.uint8) for n, v in zip((3072, 768, 768), planes, strict=True)])
        frame = av.VideoFrame.from_ndarray(values.reshape(72, 64), "yuv420p")
        frame.colorspace = int(code)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with Video(str(tmp_path / "a.mp4")) as video:
        assert np.abs(video.clip(0, 1, 1, (32, 24))[0].astype(int) - (200, 60, 30)).max() <= 3


@pytest.mark.parametrize(("name", "muxing"), [("a.h264", {}), ("a.m2v", {}), ("a.mkv", {"live": "1"})])
def test_a_length_that_is_not_stated_is_measured(tmp_path: Path, name: str, muxing: dict[str, str]) -> None:
    how = {"codec": "mpeg2video", "options": {"qmin": "1", "qmax": "1"}} if name == "a.m2v" else {}
    write(tmp_path / name, NINETY, muxing=muxing, **how)
    with Video(str(tmp_path / name)) as video:
        assert video.seconds == pytest.approx(3, abs=0.05)
        for start in (2.0, 0.7):
            assert numbers(video.clip(start, 3, 10, (64, 48))) == [int((start + k / 10) * 30 + 0.1) for k in range(3)]


def test_it_ends_with_its_last_picture(videos: Path) -> None:
    with Video(str(videos / "h264.mp4")) as video:
        assert numbers(video.clip(2.9, 6, 30, (64, 48))) == [87, 88, 89, 89, 89, 89]
        assert numbers(video.clip(2.99, 2, 30, (64, 48))) == [89, 89]
        with pytest.raises(RejectedError, match="too short"):
            video.clip(3.1, 4, 30, (64, 48))
        assert numbers(video.clip(0.0, 2, 30, (64, 48))) == [0, 1]


def test_a_span_is_a_video_of_its_own(videos: Path) -> None:
    with Video(str(videos / "h264.mp4"), span=(0.5, 2.0)) as video:
        assert video.seconds == pytest.approx(1.5)
        assert numbers(video.clip(0, 4, 10, (64, 48))) == [15, 18, 21, 24]
        assert numbers(video.clip(1.4, 6, 30, (64, 48))) == [57, 58, 59, 59, 59, 59]
        with pytest.raises(RejectedError, match="too short"):
            video.clip(1.5, 1, 30, (64, 48))
    with Video(str(videos / "h264.mp4"), span=(2.0, 60.0)) as video:
        assert video.seconds == pytest.approx(1.0)
    with pytest.raises(RejectedError, match="too short"):
        Video(str(videos / "h264.mp4"), span=(4.0, 5.0))


@pytest.mark.parametrize("size", [(128, 128), (97, 65), (320, 213), (32, 20)])
def test_scaling_is_near_to_pillows(tmp_path: Path, size: tuple[int, int]) -> None:
    """50 dB is an error of 0.8 of 255: rounding, and colours that are scaled before they are converted rather than after. A
    filter that does not average where it shrinks, or drops columns of colour, is at 30 to 38 dB."""
    with Image.open(sample_photos.locate("sklearn/datasets/images/china.jpg")) as image:
        picture = np.asarray(image.convert("RGB"))
    write(tmp_path / "a.mp4", [picture[:426]] * 2)
    with Video(str(tmp_path / "a.mp4")) as video:
        full = video.clip(0, 1, 30, (video.width, video.height))[0]
        scaled = video.clip(0, 1, 30, size)[0]
    expected = np.asarray(Image.fromarray(full).resize(size, Image.Resampling.BICUBIC))
    assert 10 * np.log10(255**2 / np.square(scaled.astype(float) - expected).mean()) > 45
