"""What a viewer should know of a moment of a trial, drawn above and below its picture."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ccm_runtime.trial import Phase
from ccm_training.envs.family import Picture
from ccm_training.filming import Moment

WIDTH = 640
"""Of every frame, in pixels; video coders ask for even sizes."""
MAX_PICTURE_HEIGHT = 480
_HEADER, _FOOTER, _MARGIN = 90, 80, 16
_BAR_TOP, _BAR_BOTTOM = 20, _FOOTER - 24
_PAPER, _INK, _GREY, _LINE, _CEILING = "#fafaf7", "#1f2937", "#6b7280", "#e5e7eb", "#047857"
_COLOURS = {Phase.EXPLORE: "#d97706", Phase.EXECUTE: "#2563eb"}
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Captions:
    """What does not change in the course of a trial.

    Attributes:
        title: Family and method.
        task: The task in words.
        episodes: N.
        explore_episodes: K.
        ceiling: Return of the best policy that knows the task; `None`: unknown.
    """

    title: str
    task: str
    episodes: int
    explore_episodes: int
    ceiling: float | None = None

    def draw(self, picture: Picture, moment: Moment) -> Picture:
        """The picture, fitted to `WIDTH`, with what the moment says; even height and width, `[h, w, 3]`."""
        middle = _fitted(picture)
        image = Image.new("RGB", (WIDTH, _HEADER + middle.height + _FOOTER), _PAPER)
        image.paste(middle, ((WIDTH - middle.width) // 2, _HEADER))
        draw = ImageDraw.Draw(image)
        self._header(draw, moment)
        self._bars(draw, moment, top=_HEADER + middle.height)
        return np.asarray(image)

    def _header(self, draw: ImageDraw.ImageDraw, moment: Moment) -> None:
        right = WIDTH - _MARGIN
        colour = _COLOURS[moment.phase]
        draw.text((_MARGIN, 10), moment.phase.value, colour, _font(22))
        number = f"episode {moment.episode + 1} of {self.episodes} · step {moment.step}"
        draw.text((_MARGIN + 96, 14), number, _INK, _font(17))
        draw.text((right, 10), f"return {moment.returns[-1]:.1f}", colour, _font(22), anchor="ra")
        certainty = f"certainty {moment.certainty:.2f}"
        left = right - 100
        draw.text((left - 8, 42), certainty, _INK, _font(15), anchor="ra")
        draw.rectangle((left, 45, right, 55), fill=_LINE)
        draw.rectangle((left, 45, left + 100 * min(max(moment.certainty, 0.0), 1.0), 55), fill=_INK)
        room = left - 24 - draw.textlength(certainty, _font(15)) - _MARGIN
        draw.text((_MARGIN, 42), _shortened(draw, self.title, room), _GREY, _font(15))
        draw.text((_MARGIN, 63), _shortened(draw, self.task, right - _MARGIN), _INK, _font(15))

    def _bars(self, draw: ImageDraw.ImageDraw, moment: Moment, *, top: int) -> None:
        """One bar of return for each episode, above or below zero."""
        ends = (0.0, *moment.returns) if self.ceiling is None else (0.0, *moment.returns, self.ceiling)
        low, high = min(ends), max(ends)
        scale = (_BAR_BOTTOM - _BAR_TOP) / max(high - low, 1e-9)

        def level(value: float) -> float:
            return top + _BAR_TOP + (high - value) * scale

        slot = (WIDTH - 2 * _MARGIN) / self.episodes
        if self.ceiling is not None:
            _dashes(draw, level(self.ceiling))
            words = f"ceiling {self.ceiling:.1f}"
            draw.text((WIDTH - _MARGIN, level(self.ceiling) - 3), words, _CEILING, _font(11), anchor="rs")
        for episode in range(self.episodes):
            left = _MARGIN + episode * slot
            box = (left + 0.1 * slot, level(0.0), left + 0.9 * slot, level(0.0))
            if episode < len(moment.returns):
                phase = moment.phase if episode == moment.episode else self._phase(episode)
                box = _upright(box, level(moment.returns[episode]))
                draw.rectangle(box, fill=_COLOURS[phase])
                number = f"{moment.returns[episode]:.1f}"
            else:
                number = str(episode + 1)
                draw.rectangle(_upright(box, box[1] + 1), fill=_LINE)
            if draw.textlength(number, _font(13)) < slot:
                draw.text((left + slot / 2, top + _FOOTER - 20), number, _GREY, _font(13), anchor="ma")

    def _phase(self, episode: int) -> Phase:
        return Phase.EXPLORE if episode < self.explore_episodes else Phase.EXECUTE


def _upright(box: _Box, other: float) -> _Box:
    return (box[0], min(box[1], other), box[2], max(box[1], other))


def _dashes(draw: ImageDraw.ImageDraw, y: float) -> None:
    for x in range(_MARGIN, WIDTH - _MARGIN, 10):
        draw.line((x, y, x + 5, y), fill=_CEILING)


def _fitted(picture: Picture) -> Image.Image:
    """The picture, as large as there is room, its sides even."""
    height, width = picture.shape[:2]
    scale = min(WIDTH / width, MAX_PICTURE_HEIGHT / height)
    sides = [max(2, 2 * round(side * scale / 2)) for side in (width, height)]
    return Image.fromarray(picture).resize((sides[0], sides[1]), Image.Resampling.LANCZOS)


def _shortened(draw: ImageDraw.ImageDraw, text: str, room: float) -> str:
    font = _font(15)
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, which is there on every machine."""
    return ImageFont.load_default(size)
