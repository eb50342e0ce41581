import io
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from vitok.data import photos
from vitok.data.sample import RejectedError
from vitok.data.video import Video

FAST = {"preset": "ultrafast", "crf": "10", "bf": "3"}
STARTS = (0.0, 2.5, 0.983, 1.0, 0.251, 1.999, 1.4, 0.02)


def numbered(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that carries its number: units in the grey of the left half, tens in that of the right."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[:, width // 2 :] = 8 + 24 * (i % 10), 8 + 24 * (i // 10)
    return picture


def numbers(pictures: np.ndarray) -> list[int]:
    half, margin = pictures.shape[2] // 2, max(pictures.shape[2] // 8, 1)
    units, tens = pictures[:, :, margin : half - margin], pictures[:, :, half + margin : -margin]
    return [round((float(u.mean()) - 8) / 24) + 10 * round((float(t.mean()) - 8) / 24) for u, t in zip(units, tens, strict=True)]


def write(
    file: Path | io.BytesIO,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
    format: str | None = None,  # noqa: A002
    muxing: dict[str, str] | None = None,
) -> None:
    """A video at 30 pictures a second, or with `stamps` in thirtieths; a key frame each second."""
    with av.open(file, "w", format=format, container_options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=30, options=(FAST if codec == "libx264" else {}) | (options or {}))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.gop_size, stream.thread_count = pix_fmt, 30, 1
        if matrix:
            stream.set_display_matrix(matrix)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = stamps[i] if stamps else i, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def on_show(path: Path, times: Sequence[float]) -> list[int]:
    """The numbers on show at `times`, after decoding everything from zero; half a tick of the container's clock is forgiven."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        tick = float(container.streams.video[0].time_base or 0)
    begin = [frame.time - frames[0].time for frame in frames]
    last = [max(i for i, b in enumerate(begin) if b <= time + min(tick / 2, 5e-4) + 1e-6) for time in times]
    return numbers(np.stack([frames[i].to_ndarray(format="rgb24") for i in last]))


NINETY = [numbered(i) for i in range(90)]
KINDS = {
    "h264.mp4": {},
    "open.mp4": {"options": {"x264-params": "open-gop=1"}},
    "h264.mkv": {},
    "h264.ts": {},
    "mpeg4.ts": {"codec": "mpeg4", "options": {"bf": "2", "qmin": "1", "qmax": "1"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "qmin": "1", "qmax": "1"}},
    "mpeg4.mov": {"codec": "mpeg4", "options": {"bf": "2", "qmin": "1", "qmax": "1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos of three seconds each, the pictures numbered from 0 to 89."""
    folder = tmp_path_factory.mktemp("videos")
    for name, how in KINDS.items():
        write(folder / name, NINETY, **how)
    return folder


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


@pytest.mark.parametrize("name", ["h264.mkv", "h264.ts", "fast.mp4"])
def test_a_file_that_is_cut_gives_what_it_has(videos: Path, name: str) -> None:
    if name == "fast.mp4":
        write(videos / name, NINETY, muxing={"movflags": "faststart"})
    data = (videos / name).read_bytes()
    with Video(data[: len(data) * 2 // 3]) as video:
        assert numbers(video.clip(0.5, 4, 10, (64, 48))) == [15, 18, 21, 24]
        if video.seconds > 2.5:  # stated before the cut
            with pytest.raises(RejectedError, match="too short"):
                video.clip(2.9, 4, 10, (64, 48))
        assert 1 < video.seconds < 2.5
        video.clip(video.seconds - 0.01, 2, 10, (64, 48))


def audio(path: Path) -> bytes:
    """A quarter of a second of silence; an .m4a has an album cover too, which FFmpeg gives as a stream of video."""
    pcm = path.suffix == ".wav"
    with av.open(str(path), "w", format="wav" if pcm else "mp4") as container:
        stream = container.add_stream("pcm_s16le" if pcm else "aac", rate=16000)
        if not pcm:
            cover = container.add_stream("png", rate=1)
            assert isinstance(cover, VideoStream)
            cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 48, "rgb24", Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(numbered(7))
            picture.pts, picture.time_base = 0, Fraction(1)
            container.mux([*cover.encode(picture), *cover.encode()])
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")  # the encoder converts it
        frame.rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path.read_bytes()


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tone.m4a", "no video stream"), ("tone.wav", "no video stream"), ("notes.txt", "not a video"), ("notes.mp4", "not a video"),
        ("list.m3u8", "not a video"), ("none.mp4", "empty"), ("headless.mp4", "not a video"), ("picture.png", "not a video"),
        ("noise.mkv", "corrupt"),
    ],
)  # fmt: skip
def test_bad_files_are_reasons(videos: Path, tmp_path: Path, name: str, reason: str, as_bytes: bool) -> None:
    path = tmp_path / name
    if name.startswith("tone"):
        data = audio(path)
    elif name.startswith("notes"):
        data = b"not a film\n" * 500
    elif name == "list.m3u8":
        data = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{videos}/h264.ts\n#EXT-X-ENDLIST\n".encode()
    elif name == "headless.mp4":
        data = (videos / "h264.mp4").read_bytes()[:1500]  # its index is at its end
    elif name == "picture.png":
        Image.new("RGB", (64, 48)).save(path)
        data = path.read_bytes()
    elif name == "noise.mkv":
        data = (videos / "h264.mkv").read_bytes()
        data = data[:700] + np.random.default_rng(0).bytes(len(data) - 700)
    else:
        data = b""
    path.write_bytes(data)
    with pytest.raises(RejectedError) as error:
        Video(data if as_bytes else str(path))
    assert error.value.reason == reason
    assert str(tmp_path) not in str(error.value)


def test_a_bomb_is_refused(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(RejectedError, match="bomb"):
        Video(str(videos / "h264.mp4"))


class Flaky(io.BytesIO):
    broken = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.broken:
            raise OSError(5, "the store is away")
        return super().read(size)


def test_a_file_that_cannot_be_read_is_a_reason(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RejectedError, match="vanished"):
        Video(str(tmp_path / "gone.mp4"))
    source = Flaky((videos / "h264.mp4").read_bytes())
    source.broken = True
    with pytest.raises(RejectedError, match="unreadable: the store is away"):
        Video(source)
    monkeypatch.setattr("vitok.data.video.BUFFER", 4096)
    source.broken = False
    with Video(source) as video:
        source.broken = True
        with pytest.raises(RejectedError, match="unreadable: the store is away"):
            video.clip(1.0, 40, 20, (64, 48))
        source.broken = False
        assert numbers(video.clip(1.0, 3, 10, (64, 48))) == [30, 33, 36]


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv"])
def test_flipped_bits_give_a_clip_or_a_reason(videos: Path, name: str) -> None:
    original, clips = (videos / name).read_bytes(), 0
    for seed in range(30):
        rng, data = random.Random(seed), bytearray(original)
        for _ in range(rng.choice((1, 5, 50))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            with Video(bytes(data)) as video:
                for start in (0.0, video.seconds * 0.6, video.seconds * 0.2):
                    assert video.clip(start, 4, 8, (32, 24)).shape == (4, 24, 32, 3)
                    clips += 1
        except RejectedError as error:
            assert error.reason in {"not a video", "no video stream", "corrupt", "too short", "bomb"}
    assert clips > 20


@pytest.mark.parametrize("size", [(128, 128), (97, 65), (320, 213), (32, 20)])
def test_scaling_is_near_to_pillows(tmp_path: Path, size: tuple[int, int]) -> None:
    """50 dB is an error of 0.8 of 255: rounding, and colours that are scaled before they are converted rather than after. A
    filter that does not average where it shrinks, or drops columns of colour, is at 30 to 38 dB."""
    with Image.open(photos.locate("sklearn/datasets/images/china.jpg")) as image:
        picture = np.asarray(image.convert("RGB"))
    write(tmp_path / "a.mp4", [picture[:426]] * 2)
    with Video(str(tmp_path / "a.mp4")) as video:
        full = video.clip(0, 1, 30, (video.width, video.height))[0]
        scaled = video.clip(0, 1, 30, size)[0]
    expected = np.asarray(Image.fromarray(full).resize(size, Image.Resampling.BICUBIC))
    assert 10 * np.log10(255**2 / np.square(scaled.astype(float) - expected).mean()) > 45
