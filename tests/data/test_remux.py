"""Cutting without decoding, and walking to the end."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from vitok.data.decoding.remux import cut, walk
from vitok.data.decoding.video import Video
from vitok.data.ingest.quality import check
from vitok.data.sample import Sample
from vitok.errors import RejectedError


@pytest.fixture(scope="module")
def long() -> bytes:
    """Ten seconds at 10 frames a second, a key frame every second; frame k is grey of 2 k."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=10, options={"g": "10", "crf": "10", "bf": "2", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(100):
            out.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), (2 * k,) * 3))))
        out.mux(stream.encode())
    return target.getvalue()


def test_a_span_is_cut_at_the_key_frame_before_it(long: bytes) -> None:
    part = cut(long, (3.4, 6.2))
    assert part == cut(long, (3.4, 6.2)) and len(part) < len(long)
    with Video(part) as video:
        first, last = (video.clip(at, 1, 10, (64, 48))[0].mean() for at in (0.0, 3.5))
    assert first == pytest.approx(60, abs=2)  # the frame at 3.0 s, where the group of pictures begins
    assert last == pytest.approx(130, abs=2)
    frames, seconds = walk(part)
    assert frames == 40 and seconds == pytest.approx(4.0, abs=0.01)  # 3.0 to 7.0 s: whole groups


def test_walk_counts_what_can_be_decoded(long: bytes) -> None:
    assert walk(long) == (100, pytest.approx(10.0, abs=0.01))
    with pytest.raises(RejectedError):
        cut(b"no video", (0, 1))
    with pytest.raises(RejectedError):
        walk(b"no video")


def test_videos_are_filtered_by_what_they_are(long: bytes) -> None:
    kept = check(Sample("long", 0, long), True, 48, 0, 2.0, 60.0)
    assert (kept.width, kept.height, kept.frames, kept.data) == (64, 48, 100, long)
    for limits, reason in (((49, 0, 0, 0), "filtered: small"), ((0, 0, 11, 0), "filtered: short"), ((0, 0, 0, 9), "filtered: long")):
        with pytest.raises(RejectedError) as found:
            check(Sample("long", 0, long), True, *limits)
        assert found.value.reason == reason
    assert np.isclose(check(Sample("part", 0, long, span=(3.4, 6.2)), True, 0, 0, 0, 0).seconds or 0, 4.0, atol=0.01)
