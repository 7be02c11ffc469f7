"""The operator's page in a real browser, of a real server with the shipped agent and real sessions."""

import os
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Context
from pathlib import Path

import pytest
from browser import Tab, browsing, needs_chromium

from ccm_runtime.client import Client
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.drive import drive
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

PICTURE = Path(__file__).parents[2] / "docs" / "how-to" / "page.png"
TOKEN = "a-token-of-this-server"  # noqa: S105 (of a test)
FOUR_DIGITS = Context(prec=4, rounding=ROUND_HALF_UP)
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@contextmanager
def page_of(port, *flags):
    """Serve the shipped agent with a page; yield the server's address and the page's."""
    flags = ("--port", "0", "--page-port", str(port), "--log-level", "warning", *flags)
    with listening_process("ccm_runtime", "serve", *flags) as server:
        yield server.address, f"http://127.0.0.1:{port}/"


def task(number):
    family = get_family("hard-point-robot-aligned")
    return SimulatedTask(family, family.sample_tasks("test", 20, 3)[number], number)


def run(client, number, episodes):
    """Return a session that has gone through so many episodes of a task, and their returns."""
    session = client.open_session(seed=number)
    return session, drive(task(number), session, episodes=episodes)


def test_the_page_shows_sessions_as_they_come_and_go_and_that_the_server_is_gone(browser, unused_tcp_port):
    with page_of(unused_tcp_port) as (address, url), Client(address) as client:
        tab = Tab(browser, url)
        tab.wait("document.querySelector('#status').textContent === 'serving'")
        assert f"ccm adapt --server {address}" in tab.text("#empty")
        assert 128 == tab.value("document.querySelectorAll('#map circle.task').length")

        explorer, explored = run(client, 0, 2)
        executor, executed = run(client, 1, 5)
        tab.wait("document.querySelectorAll('#rows tr').length === 2")
        tab.wait("document.querySelectorAll('#curve polyline.thin').length === 2")
        assert "" == tab.text("#empty")
        for returns in (executed, explored):
            # Five digits come to the page, which shows four, and rounds halves up.
            told = f"{float(FOUR_DIGITS.create_decimal_from_float(float(f'{returns[-1]:.5g}'))):g}"
            tab.wait(f"document.querySelector('#rows').innerText.includes('{told}')")
        phases = "[...document.querySelectorAll('#rows .phase')].map((phase) => phase.innerText)"
        tab.wait(f"{phases}.join() === 'execute,explore'")
        tab.wait("document.querySelector('.tile .more').innerText === '1 explore · 1 execute'")
        assert [2, 1] == tab.value(
            "['.spot', '.spot.execute'].map((s) => document.querySelectorAll(`#map ${s}`).length)"
        )
        assert executor.session_id not in tab.value("document.documentElement.outerHTML")

        explorer.close()
        tab.wait("document.querySelectorAll('#rows tr.ended').length === 1")
        assert "1" == tab.text(".tile .big").split()[0]
        executor.close()
        assert not tab.value("document.body.classList.contains('stale')")
    tab.wait("document.body.classList.contains('stale')")
    assert "The server does not answer; this is how it was at " in tab.text("#notice")
    assert 2 == tab.value("document.querySelectorAll('#rows tr').length")


def test_a_guarded_server_shows_itself_to_who_knows_its_token(browser, unused_tcp_port, tmp_path):
    tokens = tmp_path / "token"
    tokens.write_text(TOKEN)
    with page_of(unused_tcp_port, "--token-file", str(tokens)) as (address, url):
        tab = Tab(browser, url)
        tab.wait("!document.querySelector('#entry').hidden")
        assert "" == tab.text("#main")
        for given, status in (("wrong", "wrong token"), (TOKEN, "serving")):
            tab.value(f"document.querySelector('#token').value = '{given}'")
            tab.value("document.querySelector('#entry button').click()")
            tab.wait(f"document.querySelector('#status').textContent === '{status}'")
        assert f"ccm adapt --server {address}" in tab.text("#empty")
        assert TOKEN not in tab.value("document.documentElement.outerHTML")

        linked = Tab(browser, f"{url}#token={TOKEN}")
        linked.wait("document.querySelector('#status').textContent === 'serving'")
        assert url == linked.value("location.href")


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_screen(browser, unused_tcp_port, width, tmp_path):
    """With CCM_UPDATE_PICTURES=1 this also writes the picture of the documentation; look at it."""
    drawn = width == 1280 and os.environ.get("CCM_UPDATE_PICTURES")
    with page_of(unused_tcp_port) as (address, url), Client(address) as client:
        tab = Tab(browser, url, width)
        numbers = range(9 if drawn else 2)
        sessions = [run(client, number, 2 + number % 5)[0] for number in numbers]
        tab.wait(f"document.querySelectorAll('#rows tr').length === {len(numbers)}")
        assert width >= tab.value("document.documentElement.scrollWidth")
        if drawn:
            draw(tab, sessions, tmp_path / "page.png")
        for session in sessions:
            session.close()


def draw(tab, sessions, path):
    """Let every session begin another episode, one with a broken sensor, and write a small picture."""
    from PIL import Image  # noqa: PLC0415 (only who renews the picture needs it)

    for number, session in enumerate(sessions):
        env = task(number)
        action = session.begin_episode(env.reset()[0])
        for _ in range(3 + 2 * number):
            observation, reward, *_ = env.step(action)
            action = session.act(observation * (3.0 if number == 4 else 1.0), reward)
    tab.wait("document.querySelectorAll('#map .halo').length > 0")
    tab.picture(path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(PICTURE, optimize=True)
    assert PICTURE.stat().st_size < 150_000
