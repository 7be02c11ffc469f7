"""A video has every picture at its rate, or nothing is left behind."""

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from ccm_runtime.errors import ConfigError, RenderingError
from ccm_runtime.trial import Phase
from ccm_training import video
from ccm_training.captions import WIDTH, Captions
from ccm_training.filming import Moment
from ccm_training.video import check_target, write_video

CAPTIONS = Captions("walker-sparse · ccm", "target velocity 1.5 m/s", episodes=4, explore_episodes=2, ceiling=128.0)
MOMENT = Moment(Phase.EXECUTE, 2, 12, episode_over=False, returns=(30.0, -64.0, 10.0), certainty=0.8)
PICTURE = np.full((90, 120, 3), 7, np.uint8)


def pictures(num=5):
    for number in range(num):
        yield np.full((64, 96, 3), 40 * number % 256, np.uint8)


def test_an_mp4_has_every_picture_at_its_rate(tmp_path):
    out = tmp_path / "new" / "trial.mp4"
    write_video(pictures(30), out, fps=10)
    num, seconds = imageio_ffmpeg.count_frames_and_secs(str(out))
    assert num == 30
    assert seconds == pytest.approx(3.0, abs=0.11)
    meta = next(imageio_ffmpeg.read_frames(str(out)))
    assert (meta["size"], meta["pix_fmt"].split("(")[0]) == ((96, 64), "yuv420p")


def test_a_gif_has_every_picture_and_goes_round(tmp_path):
    write_video(pictures(5), tmp_path / "trial.gif", fps=20)
    with Image.open(tmp_path / "trial.gif") as image:
        assert (image.n_frames, image.size, image.info["loop"], image.info["duration"]) == (5, (96, 64), 0, 50)


@pytest.mark.parametrize("name", ["trial.mp4", "trial.gif"])
def test_what_goes_wrong_half_way_leaves_nothing_behind_and_the_old_file_as_it_was(tmp_path, name):
    def broken():
        yield from pictures(3)
        raise RenderingError("no OpenGL")

    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(RenderingError, match="no OpenGL"):
        write_video(broken(), tmp_path / name, fps=20)
    assert {name: b"precious"} == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_coder_that_fails_is_quoted_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(RenderingError, match=r"ffmpeg ended with code \d+ and no video: .*not divisible by 2"):
        write_video([np.zeros((63, 96, 3), np.uint8)], tmp_path / "trial.mp4", fps=20)
    assert list(tmp_path.iterdir()) == []


def test_without_ffmpeg_a_gif_is_offered(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(RenderingError, match=r"install it .* or take a name that ends in \.gif"):
        write_video(pictures(), tmp_path / "trial.mp4", fps=20)


def test_a_gif_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MAX_GIF_FRAMES", 3)
    with pytest.raises(ConfigError, match=r"at most 3 frames; take \.mp4"):
        write_video(pictures(4), tmp_path / "trial.gif", fps=20)


def test_a_file_is_overwritten_only_when_asked(tmp_path):
    out = tmp_path / "trial.mp4"
    check_target(out, overwrite=False)
    out.touch()
    check_target(out, overwrite=True)
    with pytest.raises(ConfigError, match=r"exists already; .*--force"):
        check_target(out, overwrite=False)


@pytest.mark.parametrize(("name", "words"), [("trial.avi", r"\.mp4 or \.gif"), ("trial", r"\.mp4 or \.gif")])
def test_another_ending_is_refused(tmp_path, name, words):
    with pytest.raises(ConfigError, match=words):
        check_target(tmp_path / name, overwrite=True)


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "trial.gif").mkdir()
    with pytest.raises(ConfigError, match="that is a folder"):
        check_target(tmp_path / "trial.gif", overwrite=True)


@pytest.mark.parametrize("size", [(90, 120), (91, 121), (300, 31), (17, 400), (1, 1), (1081, 1921)])
def test_pictures_of_any_size_become_even_frames(size):
    frame = CAPTIONS.draw(np.zeros((*size, 3), np.uint8), MOMENT)
    assert (frame.shape[0] % 2, frame.shape[1:], frame.dtype) == (0, (WIDTH, 3), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"phase": Phase.EXPLORE},
        {"episode": 1},
        {"step": 13},
        {"returns": (30.0, -64.0, 11.0)},
        {"returns": (30.0, 64.0, 10.0)},
        {"certainty": 0.5},
    ],
)
def test_every_change_of_a_moment_can_be_seen(change):
    assert (CAPTIONS.draw(PICTURE, MOMENT) != CAPTIONS.draw(PICTURE, MOMENT._replace(**change))).any()


def test_the_picture_stands_in_its_frame():
    frame = CAPTIONS.draw(PICTURE, MOMENT)
    assert (frame[300, 320] == 7).all()


def test_a_long_task_stays_within_the_frame():
    wide = Captions("t", "a parameter with a name 1.25 kg m2/s3 · " * 9, episodes=40, explore_episodes=2)
    frame = wide.draw(PICTURE, MOMENT)
    assert (frame[:80, WIDTH - 8 :] == frame[0, 0]).all()
