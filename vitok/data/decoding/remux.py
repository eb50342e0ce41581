"""Process the packets of a video without its pixels: cut out a span without encoding again, count what can be decoded."""

import io

import av
from av.error import FFmpegError

from vitok.data.decoding.video import CONTAINERS
from vitok.errors import RejectedError

SAFE = {"format_whitelist": CONTAINERS}  # a playlist would make FFmpeg open other files


def cut(data: bytes, span: tuple[float, float]) -> bytes:
    """Cut a span (start, end in seconds) out of a video and return it as Matroska, without encoding again.

    The result begins at the key frame before the start, so it may hold up to one group of pictures more. The same bytes give the same
    bytes. Raise `RejectedError` ("corrupt").
    """
    target = io.BytesIO()
    try:
        with (
            av.open(io.BytesIO(data), "r", container_options=SAFE) as source,
            av.open(target, "w", format="matroska", options={"fflags": "+bitexact"}) as out,
        ):
            stream = source.streams.video[0]
            assert stream.time_base is not None
            copy = out.add_stream_from_template(stream)
            origin = (stream.start_time or 0) * stream.time_base
            source.seek(int((span[0] + float(origin)) / stream.time_base), stream=stream)
            first: int | None = None
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                if packet.is_keyframe and packet.pts * stream.time_base - origin >= span[1]:
                    break
                first = packet.dts if first is None else first
                packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copy
                out.mux(packet)
    except (FFmpegError, IndexError, ValueError) as error:
        raise RejectedError("corrupt", f"no span of it can be cut out: {type(error).__name__}") from None
    return target.getvalue()


def walk(data: bytes) -> tuple[int, float]:
    """Decode a video to its end and return (frames, seconds) of what can be decoded. Raise `RejectedError` ("corrupt") where that is
    nothing."""
    frames, last, step = 0, 0.0, 0.0
    try:
        with av.open(io.BytesIO(data), "r", container_options=SAFE) as source:
            stream = source.streams.video[0]
            stream.codec_context.thread_count = 1
            origin: float | None = None
            for packet in source.demux(stream):
                try:
                    pictures = packet.decode()
                except FFmpegError:
                    continue  # one bad packet; what follows may be whole
                for picture in pictures:
                    frames += 1
                    if picture.time is not None:
                        origin = picture.time if origin is None else origin
                        step = max(picture.time - origin - last, 0.0) or step
                        last = max(last, picture.time - origin)
    except (FFmpegError, IndexError) as error:
        if not frames:
            raise RejectedError("corrupt", type(error).__name__) from None
    if not frames:
        raise RejectedError("corrupt", "no picture can be decoded")
    return frames, last + step
