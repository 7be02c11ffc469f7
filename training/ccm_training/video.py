"""Pictures as a video, .mp4 or .gif: there whole or not at all."""

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from ccm_runtime.errors import ConfigError, RenderingError
from ccm_training.envs.family import Picture

SUFFIXES = (".mp4", ".gif")
MAX_GIF_FRAMES = 2_000
"""A GIF is held in memory until it is written."""
_END_S = 60.0  # for ffmpeg to write what it holds


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that would not be written in the end (ConfigError)."""
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: expected a name that ends in .mp4 or .gif")
    if out.is_dir():
        raise ConfigError(f"--out {out}: that is a folder; name a file in it")
    if out.exists() and not overwrite:
        raise ConfigError(f"--out {out}: exists already; choose another name, or overwrite it with --force")


def write_video(pictures: Iterable[Picture], out: Path, *, fps: int) -> None:
    """Write pictures of one size, which must be even, as they come; in the end `out` is replaced.

    Args:
        pictures: `[height, width, 3]` of bytes each; at least one.
        out: A name that `check_target` accepts; its folder is made.
        fps: Pictures a second, 1 to 50: viewers of a GIF respect no time shorter than 2/100 s.

    Raises:
        ConfigError: More pictures than a GIF may have.
        RenderingError: ffmpeg is not there or failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write = _write_gif if out.suffix.lower() == ".gif" else _write_mp4
    with _whole(out) as partial:
        write(pictures, partial, fps)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A file beside `out` that takes its place, unless something goes wrong."""
    partial = out.with_name(f".partial-{out.name}")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _write_mp4(pictures: Iterable[Picture], path: Path, fps: int) -> None:
    each = iter(pictures)
    first = next(each)
    with tempfile.TemporaryFile() as last_words:
        process = subprocess.Popen(  # noqa: S603  (our own arguments)
            [*_ffmpeg(first.shape[1], first.shape[0], fps), f"file:{path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=last_words,
        )
        try:
            code = _feed(process, itertools.chain((first,), each))
        finally:
            process.kill()
            process.wait()
            _close(process)
        if code != 0:
            last_words.seek(0)
            said = " ".join(last_words.read().decode(errors="replace").split())
            raise RenderingError(f"ffmpeg ended with code {code} and no video: {said[:300] or 'it says nothing'}")


def _ffmpeg(width: int, height: int, fps: int) -> list[str]:
    """The coder that takes raw pictures; H.264 with halved colours, which every player knows."""
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise RenderingError(
            "there is no ffmpeg for this machine; install it and let IMAGEIO_FFMPEG_EXE name it, or take a name that "
            "ends in .gif"
        ) from error
    given = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i -"
    wanted = "-an -c:v libx264 -crf 18 -pix_fmt yuv420p -movflags +faststart -f mp4"
    return [program, "-y", "-v", "error", *given.split(), *wanted.split()]


def _feed(process: "subprocess.Popen[bytes]", pictures: Iterable[Picture]) -> int:
    assert process.stdin is not None  # noqa: S101  (it was asked for)
    with contextlib.suppress(BrokenPipeError):  # its exit code says why
        for picture in pictures:
            process.stdin.write(np.ascontiguousarray(picture).data)
    _close(process)
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        raise RenderingError(f"ffmpeg did not come to an end within {_END_S:g} s; a .gif needs none") from None


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _write_gif(pictures: Iterable[Picture], path: Path, fps: int) -> None:
    frames: list[Image.Image] = []
    for picture in pictures:
        if len(frames) == MAX_GIF_FRAMES:
            raise ConfigError(f"a .gif holds at most {MAX_GIF_FRAMES} frames; take .mp4 for so long a trial")
        frames.append(
            Image.fromarray(picture).quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        )
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
