"""The clients against the real server, over a real socket."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.client import Client
from ccm_runtime.config import ServerConfig
from ccm_runtime.drive import drive, drive_async
from ccm_runtime.errors import (
    ConfigError,
    ContextMismatchError,
    SessionLimitError,
    SpecError,
    TrialOrderError,
    UnauthenticatedError,
)
from ccm_runtime.messages import Context, EncodedTransition, Intervention, SafeReason
from ccm_runtime.testing import ScriptedPolicy, box, serve, serving
from ccm_runtime.trial import Phase


class Line:
    """Steps along a line; observations are `[1, 2]`, actions `[2, 1]`: a client must mend both."""

    action_space = SimpleNamespace(shape=(2, 1))

    def __init__(self, length=3):
        self.length = length
        self.resets = []

    def reset(self, *, seed=None, options=None):
        self.resets.append((seed, options))
        self.steps = 0
        return np.zeros((1, 2)), {}

    def step(self, action):
        assert action.shape == (2, 1)
        self.steps += 1
        return np.full((1, 2), self.steps), np.float64(1.0), False, np.bool_(self.steps == self.length), {}


@pytest.fixture(scope="module")
def address():
    with serve(ScriptedPolicy()) as address:
        yield address


def test_a_trial_explores_k_episodes_then_executes(address):
    with Client(address) as client, client.open_session(seed=7) as session:
        phases = []
        for _ in range(session.agent.episodes):
            phases.append(session.phase)
            drive(Line(), session, episodes=1)
        assert phases == [Phase.EXPLORE, Phase.EXPLORE, Phase.EXECUTE, Phase.EXECUTE]
        assert session.returns == (3.0,) * 4
        assert 0.0 < session.certainty <= 1.0
        assert session.close().returns == (3.0,) * 4


def test_driving_runs_a_whole_trial_and_seeds_its_first_reset(address):
    env = Line()
    with Client(address) as client, client.open_session() as session:
        assert drive(env, session, seed=5, options={"task": 1}) == [3.0] * 4
    assert env.resets == [(5, {"task": 1}), (None, {"task": 1}), (None, {"task": 1}), (None, {"task": 1})]


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        (
            {"action_space": SimpleNamespace(shape=(3,))},
            r"action_space: expected a Box of 2 numbers \(action_0, action_1",
        ),
        ({"action_space": SimpleNamespace(shape=(2,), n=2)}, "action_space: expected a Box of 2 numbers"),
        ({"action_space": None}, "action_space: expected .*, as the agent's actions are, got None"),
        ({"reset": lambda *_, **__: np.zeros(2)}, r"the environment's reset\(\) gave ndarray; expected a tuple of 2"),
        ({"reset": lambda *_, **__: ({"x": 1.0}, {})}, "observation: expected a vector of numbers, got dict"),
        ({"reset": lambda *_, **__: ([[1.0], [1.0, 2.0]], {})}, "observation: expected a vector of numbers, got list"),
        (
            {"step": lambda *_: (np.zeros(2), 0.0, True, {})},
            r".*step\(\) gave a tuple of 4; expected a tuple of 5",
        ),
        (
            {"step": lambda *_: None},
            r"the environment's step\(\) gave NoneType; expected a tuple of 5, observation",
        ),
    ],
)
def test_what_is_no_environment_of_gymnasiums_is_refused(address, flaw, message):
    with Client(address) as client, client.open_session() as session, pytest.raises(SpecError, match=f"^{message}"):
        drive(type("Flawed", (Line,), flaw)(), session)


async def test_driving_says_what_it_drives(address):
    with Client(address) as client, client.open_session() as session:
        with pytest.raises(ConfigError, match=r"^session: expected a Session or a Pilot, got Client$"):
            drive(Line(), client)
        with pytest.raises(ConfigError, match=r"^session: expected an AsyncSession, got Session$"):
            await drive_async(Line(), session)
        with pytest.raises(ConfigError, match=r"^episodes: expected a whole number from 0 up, or None; got -1"):
            drive(Line(), session, episodes=-1)
        assert [3.0] == drive(Line(), session, episodes=np.int64(1))


class Fragile(Line):
    """Fails in the middle of its second episode, once."""

    def step(self, action):
        if len(self.resets) == 2 and self.steps == 1:
            raise RuntimeError("the cable is out")
        return super().step(action)


async def test_after_an_error_of_the_environment_the_episode_begins_anew_and_counts_once(address):
    with Client(address) as client, client.open_session() as session:
        env = Fragile()
        with pytest.raises(RuntimeError, match="cable"):
            drive(env, session)
        with pytest.raises(TrialOrderError, match="abandon"):
            drive(env, session, episodes=1)
        assert drive(env, session, episodes=3, abandon=True) == [3.0] * 3
        assert session.close().returns == (3.0,) * 4
    async with AsyncClient(address) as client, client.open_session() as session:
        env = Fragile()
        with pytest.raises(RuntimeError, match="cable"):
            await drive_async(env, session)
        assert await drive_async(env, session, episodes=3, abandon=True) == [3.0] * 3
        assert (await session.close()).returns == (3.0,) * 4


def test_the_server_ends_an_episode_at_the_horizon(address):
    with Client(address) as client, client.open_session() as session:
        assert drive(Line(length=100), session, episodes=1) == [float(session.agent.horizon)]


async def test_the_asyncio_client_gets_the_same_trial(address):
    with Client(address) as client, client.open_session(seed=7, stochastic=True) as session:
        drive(Line(), session)
        expected = session.close()
    async with AsyncClient(address) as client, client.open_session(seed=7, stochastic=True) as session:
        assert await drive_async(Line(), session) == [3.0] * 4
        closed = await session.close()
    assert np.array_equal(closed.context.belief, expected.context.belief)


def test_a_context_goes_on_where_a_trial_ended(address):
    with Client(address) as client:
        with client.open_session() as session:
            drive(Line(), session)
            context = session.close().context
        with client.open_session(context=context, explore_episodes=0) as session:
            assert session.phase is Phase.EXECUTE
            action = session.begin_episode((0.5, 0.5))
        assert np.allclose(action, client.act(context, (0.5, 0.5)).action)


def test_a_session_and_its_transitions_encoded_at_once_give_one_context(address):
    with Client(address) as client:
        transitions = []
        with client.open_session() as session:
            before = np.zeros(2, np.float32)
            action = session.begin_episode(before)
            while action is not None:
                after = np.full(2, len(transitions) + 1.0, np.float32)
                transitions.append(EncodedTransition(before, action, 1.0, after))
                action, before = session.act(after, 1.0), after
            context = session.close().context
        assert np.allclose(client.encode(transitions).context.belief, context.belief, atol=1e-5)


def test_refusals_arrive_as_errors_of_the_tree(address):
    with Client(address) as client:
        with client.open_session() as session:
            with pytest.raises(TrialOrderError):
                session.act((0.0, 0.0), 0.0)
            with pytest.raises(SpecError, match="expected 2 values"):
                session.begin_episode((0.0, 0.0, 0.0))
            assert session.begin_episode((0.0, 0.0)).shape == (2,)
        with pytest.raises(SpecError):
            client.act(None, (0.0, 0.0, 0.0))
        with pytest.raises(ContextMismatchError, match="another-family"):
            client.open_session(expected_family="another-family")
        with pytest.raises(ContextMismatchError):
            client.act(Context("ff" * 32, np.zeros(4, np.float32)), (0.0, 0.0))


def test_a_full_server_says_so():
    with (
        serve(ScriptedPolicy(), ServerConfig(port=0, max_sessions=1, log_level="error")) as address,
        Client(address) as client,
        client.open_session(),
        pytest.raises(SessionLimitError, match="1 session"),
    ):
        client.open_session()


def test_a_token_opens_the_door(tmp_path):
    token = "a token of 24 characters"  # noqa: S105
    (tmp_path / "token").write_text(token, encoding="utf-8")
    config = ServerConfig(port=0, token_file=tmp_path / "token", log_level="error")
    with serve(ScriptedPolicy(), config) as address:
        with Client(address, token=token) as client:
            assert client.describe().family == "scripted"
        with Client(address) as client, pytest.raises(UnauthenticatedError, match="authorization"):
            client.open_session()


def test_threads_may_share_a_client(address):
    returns = {}

    def trial(index):
        with client.open_session(seed=index) as session:
            returns[index] = drive(Line(), session)

    with Client(address) as client:
        threads = [threading.Thread(target=trial, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert returns == {index: [3.0] * 4 for index in range(8)}


async def test_a_client_and_a_server_share_one_event_loop():
    async with serving(ScriptedPolicy()) as address, AsyncClient(address) as client, client.open_session() as session:
        assert await drive_async(Line(), session) == [3.0] * 4


WIDE = box("action", 2, bound=1.0)


@pytest.mark.parametrize(
    ("expected", "word"),
    [
        ({"expected_family": "walker-sparse"}, "task family walker-sparse"),
        ({"expected_bundle_digest": "ab" * 32}, "bundle abab"),
        ({"expected_observation": box("observation", 3)}, "labels"),
        ({"expected_action": WIDE.model_copy(update={"labels": ("action_1", "action_0")})}, "labels"),
        ({"expected_action": WIDE.model_copy(update={"units": ("N", "N")})}, "units"),
        ({"expected_action": box("action", 2, bound=2.0)}, "low"),
    ],
)
def test_a_wrong_contract_is_refused_when_the_session_opens_and_leaves_none_behind(expected, word):
    config = ServerConfig(port=0, log_level="error", max_sessions=1)
    with serve(ScriptedPolicy(), config) as address, Client(address) as client:
        with pytest.raises(ContextMismatchError, match=word):
            client.open_session(**expected)
        with client.open_session(expected_action=WIDE, expected_observation=box("observation", 2)) as session:
            assert session.answer is None


class Broken(ScriptedPolicy):
    """Has no number for an answer, until it is mended."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "mended", threading.Event())

    def explore(self, observation, belief, noise):
        action = super().explore(observation, belief, noise)
        return action if self.mended.is_set() else np.full_like(action, np.nan)


def test_a_safe_session_is_given_the_fallback_until_an_episode_begins_that_leaves_safe():
    config, policy = ServerConfig(port=0, log_level="error", max_misses=3), Broken()
    with serve(policy, config) as address, Client(address) as client, client.open_session() as session:
        assert () == session.interventions
        session.begin_episode(np.zeros(2))
        assert session.safe is None
        session.act(np.zeros(2), 0.0)
        assert (Intervention.NOT_FINITE,) == session.interventions
        session.act(np.zeros(2), 0.0)
        assert SafeReason.MISSES is session.safe
        policy.mended.set()
        np.testing.assert_array_equal(np.zeros(2), session.act(np.ones(2), 0.0))
        assert SafeReason.MISSES is session.safe
        session.act(np.ones(2), 0.0, truncated=True)
        assert session.begin_episode(np.ones(2), leave_safe=True).any()
        assert session.safe is None
