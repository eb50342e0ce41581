import io
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from tests.data.films import NINETY, numbered, numbers, write
from vitok.data.decoding.video import Video
from vitok.errors import RejectedError


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
    monkeypatch.setattr("vitok.data.decoding.video.BUFFER", 4096)
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
