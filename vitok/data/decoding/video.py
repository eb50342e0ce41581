"""Decode clips out of videos: seek to a key frame, decode only what is needed, scale while converting to RGB.

FFmpeg's log is off, PyAV's default: errors are raised as exceptions, and files with flipped bits would fill the terminal.
"""

import io
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from vitok.errors import RejectedError

# Containers that hold what they show. Playlists, which make FFmpeg open other files, and text are not among them.
CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,flv,asf,ogg,nut,mxf,rm,wtv,dv,vc1,h263,gif,yuv4mpegpipe,"
    "mp3,aac,flac,wav,ac3,eac3,aiff,amr,au"
)
# As close to Pillow's bicubic as FFmpeg comes (50 dB); without the last flag it drops every second column of colour (36 dB).
SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
AHEAD = 1.0  # seconds that are decoded rather than jumped over: most videos have a key frame every 1 to 10 s
FAILURES = 100  # of reading, not of decoding, after which a file counts as ended
BUFFER = 1 << 20  # bytes asked of a file object at once; each time may be a request to a store


class Video:
    """An opened video, a context manager. Times are seconds since its first decodable picture, or since the start of the span.

    Raise `RejectedError`: "empty", "not a video", "no video stream", "bomb", "corrupt" (no picture can be decoded), "too short",
    "vanished", "unreadable". Errors in the middle are stepped over: a damaged file yields the pictures that it has.
    """

    width: int  # pixels, as shown: after the rotation and the mirroring that the file asks for
    height: int
    fps: float  # on average
    seconds: float  # that can be sampled: as the file states, or as its packets tell; less once a clip has met an earlier end

    def __init__(self, source: str | bytes | BinaryIO, span: tuple[float, float] | None = None) -> None:
        """Open a video. `source` is a local path, a file's bytes, or a seekable file, which the caller closes. `span` is (start, end) in
        seconds of the part to use."""
        self._source = source
        self._opened = ExitStack()
        self._scaler = VideoReformatter()
        self._zero: int | None = None  # timestamp of the first picture, ticks
        self._seekable = False  # whether its pictures have timestamps
        self._from, self._until = span or (0.0, math.inf)
        _refuse_empty(source)
        try:
            with _rejecting("corrupt"):
                self._rewind()
                if self._shown is None:
                    raise RejectedError("corrupt", "no picture can be decoded")
                frame = self._shown[1]
                _refuse_bomb(frame.width, frame.height)
                self._transposed, self._flips = _orientation(frame)
                self.width, self.height = (frame.height, frame.width) if self._transposed else (frame.width, frame.height)
                length = self._stated() or self._measured()
            self.seconds = min(self._until, length) - self._from
            if self.seconds <= 0:
                raise RejectedError("too short", f"{length:.2f} s, and the span starts at {self._from:.2f} s")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the container and free the decoder."""
        self._frames, self._shown, self._coming = iter(()), None, None
        self._opened.close()

    def clip(self, start: float, frames: int, fps: float, size: tuple[int, int]) -> np.ndarray:
        """Return (frames, H, W, 3) uint8 RGB: the pictures on show at `start` + k / `fps` seconds, scaled to `size`, which is (W, H).

        Where the video or the span ends first, its last picture is repeated. Raise `RejectedError` ("too short") where it has ended at
        `start`.
        """
        pictures = np.empty((frames, size[1], size[0], 3), np.uint8)
        begin, last, drawn = self._from + start, self._until - 2 * self._slack, None
        if begin >= self._until:
            raise RejectedError("too short", f"the span ends before {start:.2f} s")
        with _rejecting("corrupt"):
            self._find(min(begin, last))
            for k in range(frames):
                self._advance(min(begin + k / fps, last))
                if self._shown is None or (k == 0 and self._ended(begin)):
                    raise RejectedError("too short", f"the video ends before {start:.2f} s")
                frame = self._shown[1]
                pictures[k] = pictures[k - 1] if frame is drawn else self._draw(frame, size)
                drawn = frame
        return pictures

    def _find(self, time: float) -> None:
        """Make the picture shown one that is not later than `time`; seek unless it is at most `AHEAD` earlier already."""
        if self._shown and -self._slack <= time - self._shown[0] <= AHEAD:
            return
        early = 0.0
        while self._seekable:
            target = max(time - early, 0.0)
            try:
                self._container.seek((self._zero or 0) + math.floor(target / self._tick), stream=self._stream)
            except (FFmpegError, OverflowError):
                break
            self._read(seeked=True)
            if self._shown and self._shown[0] <= time + self._slack:
                return
            if not target:
                break
            early = 4 * early or 1.0  # the index is wrong, or nothing is left at `time`: try ever further back
        self._rewind()

    def _advance(self, time: float) -> None:
        while self._coming and self._coming[0] <= time + self._slack:
            shown, self._shown, self._coming = self._coming, None, None  # so that a reading that fails is not gone on with
            self._shown, self._coming = shown, next(self._frames, None)

    def _ended(self, time: float) -> bool:
        """Return True where the picture shown is the last and its time has passed; then correct `seconds`."""
        if self._coming or not self._shown:
            return False
        shown, frame = self._shown
        end = shown + max((frame.duration or 0) * self._tick, 1 / self.fps)
        if time > end:
            self.seconds = min(self.seconds, end - self._from)
        return time > end

    def _draw(self, frame: VideoFrame, size: tuple[int, int]) -> np.ndarray:
        _refuse_bomb(frame.width, frame.height)
        width, height = size[::-1] if self._transposed else size
        pixels = self._scaler.reformat(frame, width, height, "rgb24", interpolation=SCALING, threads=1).to_ndarray()
        turned = pixels.swapaxes(0, 1) if self._transposed else pixels
        return turned[self._flips]

    def _stated(self) -> float | None:
        """Return the length in seconds that the file states; 0 or None where it states none."""
        if self._stream.duration:
            return max(self._stream.duration * self._tick, 0.0)
        return max(self._container.duration or 0, 0) / av.time_base

    def _measured(self) -> float:
        self._open()
        packets = [(packet.pts, packet.duration or 0) for packet in self._packets() if packet.size]
        ends = [pts + duration - (self._zero or 0) for pts, duration in packets if pts is not None]
        self._rewind()
        return max(ends) * self._tick if ends else len(packets) / self.fps

    def _rewind(self) -> None:
        """Open the file again and decode from its start, which works for files that cannot be sought in."""
        self._open()
        self._read(seeked=False)

    def _open(self) -> None:
        source = self._source
        with _rejecting("not a video"):
            if isinstance(source, str):
                file = f"file:{source}"  # else a name with a colon would be an address
            else:
                file = io.BytesIO(source) if isinstance(source, bytes) else source
                file.seek(0)
            self.close()
            options = {"format_whitelist": CONTAINERS}
            container = av.open(file, "r", container_options=options, metadata_errors="replace", buffer_size=BUFFER)
            self._container = self._opened.enter_context(container)
        self._stream = stream = self._choose()
        self._tick = float(stream.time_base or 1)
        self._slack = min(max(self._tick / 2, 5e-7), 5e-4)  # timestamps are rounded to ticks, up or down
        rates = (stream.guessed_rate, stream.average_rate) if stream.start_time is None else (stream.average_rate, stream.guessed_rate)
        self.fps = float(next((rate for rate in rates if rate and 0 < rate <= 1000), 25))

    def _choose(self) -> VideoStream:
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]  # no album covers
        if not streams:
            raise RejectedError("no video stream")
        stream = next((s for s in streams if s.codec_context is not None), None)
        if stream is None:
            raise RejectedError("corrupt", "no decoder for it")
        _refuse_bomb(stream.codec_context.width, stream.codec_context.height)
        for other in self._container.streams:
            if other is not stream:
                other.discard = Discard.all
        stream.codec_context.thread_count = 1  # many processes decode side by side
        if Image.MAX_IMAGE_PIXELS:
            stream.codec_context.options = {"max_pixels": str(Image.MAX_IMAGE_PIXELS)}  # the size may change on the way
        return stream

    def _read(self, seeked: bool) -> None:
        self._frames = self._decoded(seeked)
        self._shown = next(self._frames, None)
        self._coming = next(self._frames, None)

    def _decoded(self, seeked: bool) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (seconds, picture) from the container's position; after a seek, from the first key frame there."""
        by_decoding = self._container.format.name == "avi"  # which states no other times, and PyAV's pts are out of order there
        time = math.inf if seeked else -1 / self.fps
        for packet in self._packets():
            if seeked and packet.size and not packet.is_keyframe:
                continue  # MPEG-TS has no index: a seek lands anywhere, and what precedes a key frame would be decoded in vain
            seeked = False
            try:
                frames = self._stream.decode(packet)
            except FFmpegError:
                continue
            for frame in frames:
                stamp = frame.dts if by_decoding else frame.pts
                if self._zero is None:
                    self._seekable, self._zero = stamp is not None, stamp or 0
                time = time + 1 / self.fps if stamp is None else (stamp - self._zero) * self._tick
                yield time, frame

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        """Yield packets from the container's position. The last one is empty, which makes the decoder flush."""
        for _ in range(FAILURES):
            try:
                yield from self._container.demux(self._stream)
                return
            except FFmpegError:
                continue


def _orientation(frame: VideoFrame) -> tuple[bool, tuple[slice, slice]]:
    """Return (transposed, flips of the rows and columns) from the display matrix of a frame, nine int32."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, (slice(None), slice(None))
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    transposed = abs(b) > abs(a)
    across, down = (c, b) if transposed else (a, d)
    return transposed, (slice(None, None, -1 if down < 0 else 1), slice(None, None, -1 if across < 0 else 1))


def _refuse_bomb(width: int, height: int) -> None:
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        raise RejectedError("bomb", f"{width}x{height} pixels")


def _refuse_empty(source: str | bytes | BinaryIO) -> None:
    with _rejecting("unreadable"):
        if isinstance(source, str):
            size = Path(source).stat().st_size
        else:
            size = len(source) if isinstance(source, bytes) else source.seek(0, io.SEEK_END)
    if not size:
        raise RejectedError("empty", "zero bytes")


@contextmanager
def _rejecting(reason: str) -> Iterator[None]:
    """Turn whatever FFmpeg, PyAV or the file raises into a `RejectedError`, without paths in its text."""
    try:
        yield
    except RejectedError:
        raise
    except FFmpegError as error:
        raise RejectedError(reason, error.strerror or type(error).__name__) from None
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        raise RejectedError("vanished" if gone else "unreadable", error.strerror or type(error).__name__) from None
    except Exception as error:  # UnicodeDecodeError, OverflowError, ... on bad bytes
        raise RejectedError(reason, type(error).__name__) from None
