"""The batched rollout is the pure trial of every simulation, and a function of its seed."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccm_runtime.adapt import Adapter
from ccm_runtime.guard import Guard
from ccm_runtime.manifest import Adaptation, SafetyLimits
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.testing import ScriptedPolicy
from ccm_training.batch_guard import BatchGuard
from ccm_training.belief import Latent
from ccm_training.envs.bridge import TorchEnv
from ccm_training.envs.family import Step
from ccm_training.policy import NumpyPolicy, RandomPolicy
from ccm_training.rollout import Episode, Noise, Wanderer, run_trials, wander

LOW, HIGH = torch.tensor([-0.1, -0.2]), torch.tensor([0.1, 0.4])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fenced:
    """A plane on which each simulation pays for nearness to its own point and ends beyond its own distance."""

    def __init__(self, points: torch.Tensor, fences: torch.Tensor) -> None:
        self.num_envs = len(points)
        self._points, self._fences = points, fences

    def reset(self) -> torch.Tensor:
        self._position = torch.zeros_like(self._points)
        return self._position

    def step(self, action: torch.Tensor) -> Step:
        self._position = self._position + action
        distance = (self._position - self._points).norm(dim=-1)
        return Step(self._position, 1.0 - distance, self._position.norm(dim=-1) > self._fences)


def fenced(seed: int, num: int) -> Fenced:
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.normal(size=(num, 2)).astype(np.float32))
    return Fenced(points, torch.from_numpy(rng.uniform(0.5, 6.0, num).astype(np.float32)))


@dataclass
class Recorder:
    """Stands still; keeps who acted and on which latent. Its belief counts transitions."""

    adaptation: Adaptation
    action_size: int = 2

    def __post_init__(self) -> None:
        self.explored: list[torch.Tensor] = []
        self.executed: list[torch.Tensor] = []

    def initial_belief(self, num):
        return torch.zeros(num, 2)

    def explore(self, observation, belief, noise):
        self.explored.append(belief[:, 0].clone())
        return torch.zeros(len(observation), 2)

    def execute(self, observation, latent, noise):
        self.executed.append(latent[:, 0].clone())
        return torch.zeros(len(observation), 2)

    def fold(self, belief, rows):
        return belief + torch.cat([rows.valid, rows.valid], -1)

    def read(self, belief):
        return Latent(belief[:, :1], 1.0 / (1.0 + belief[:, 1:]).sqrt())


def plan(**changes) -> Adaptation:
    return Adaptation(**({"explore_episodes": 2, "episodes": 4, "horizon": 5} | changes))


# -- the batched rollout and the pure trial


class NoNumber(ScriptedPolicy):
    """Begins some episodes with what is no number, and executes so when it is far off: then the guard falls back."""

    def explore(self, observation, belief, noise):
        folded = 2 * (belief[:, :1] - 1.0)
        return self._fails(
            (observation[:, :2] == 0.0) & (folded % 2 == 0.0), super().explore(observation, belief, noise)
        )

    def execute(self, observation, latent, noise):
        return self._fails(np.abs(observation[:, :1]) > 0.7, super().execute(observation, latent, noise))

    def _fails(self, where, action):
        return np.where(where, np.float32(np.nan), action)


def serve_trials(policy, env, episodes, safety=None):
    """The trials of `env`, each by the pure core that the server steps: actions, returns and beliefs after episodes."""
    adapter = Adapter.of(policy, safety)
    memories = [adapter.start() for _ in range(env.num_envs)]
    actions = [[] for _ in memories]
    beliefs = []
    for _ in range(episodes):
        began = adapter.step(memories, [BeginEpisode(row.numpy()) for row in env.reset()])
        memories, reactions = [memory for memory, _ in began], [reaction for _, reaction in began]
        while any(reaction.action is not None for reaction in reactions):
            wanted = [np.zeros(2, np.float32) if r.action is None else r.action for r in reactions]
            step = env.step(torch.from_numpy(np.stack(wanted)))
            for index, reaction in enumerate(reactions):
                if reaction.action is None:
                    continue
                actions[index].append(reaction.action)
                event = Transition(
                    step.observation[index].numpy(), float(step.reward[index]), bool(step.terminated[index])
                )
                [(memories[index], reactions[index])] = adapter.step([memories[index]], [event])
        beliefs.append(np.stack([memory.belief for memory in memories]))
    return actions, [memory.returns for memory in memories], np.stack(beliefs, 1)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    explore=st.integers(0, 3),
    while_executing=st.booleans(),
    observe_reward=st.booleans(),
    explore_with=st.sampled_from(["belief", "latent"]),
    certain_at=st.sampled_from([None, 0.5, 0.8]),
    limits=st.none() | st.tuples(st.none() | st.floats(0.1, 1.0), st.sampled_from(["hold", "zero", "last-safe"])),
)
def test_the_batched_rollout_is_the_pure_trial_of_every_simulation(seed, certain_at, explore, limits, **choices):
    policy, safety, guard = (ScriptedPolicy if limits is None else NoNumber), None, None
    policy = policy(plan(explore_episodes=explore, certain_at=certain_at, **choices))
    if limits is not None:
        rate, fallback = limits
        safety = SafetyLimits(max_rate=None if rate is None else (rate, 2 * rate), fallback=fallback)
        guard = BatchGuard(Guard.of(policy.action, safety), 4)
    trials = run_trials(
        fenced(seed, 4), NumpyPolicy(policy), episodes=4, noise=None, generator=generator(), guard=guard
    )
    actions, returns, beliefs = serve_trials(policy, fenced(seed, 4), episodes=4, safety=safety)
    np.testing.assert_allclose(beliefs, trials.beliefs.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.array(returns), trials.returns.numpy(), rtol=1e-4, atol=1e-4)
    for index, expected in enumerate(actions):
        taken = trials.rows.valid[index, ..., 0] > 0.0
        np.testing.assert_allclose(np.stack(expected), trials.rows.action[index][taken].numpy(), rtol=1e-4, atol=1e-4)


@given(st.integers(0, 4), st.integers(1, 5), st.integers(1, 4))
def test_a_batch_of_trials_explores_exactly_k_episodes(explore, episodes, horizon):
    policy = Recorder(plan(explore_episodes=explore, episodes=episodes, horizon=horizon))
    run_trials(fenced(0, 3), policy, episodes=episodes, noise=None, generator=generator())
    assert len(policy.explored) == min(explore, episodes) * horizon
    assert len(policy.executed) == max(episodes - explore, 0) * horizon


def test_the_belief_is_carried_across_episodes():
    policy = Recorder(plan())
    trials = run_trials(fenced(0, 3), policy, episodes=4, noise=None, generator=generator())
    assert [5.0, 10.0, 15.0, 20.0] == trials.beliefs[0, :, 0].tolist()
    assert [float(step) for step in range(10)] == [float(seen[0]) for seen in policy.explored]


def test_a_fixed_latent_is_what_was_known_when_the_episode_began():
    for follows, expected in ((False, [10.0] * 5 + [15.0] * 5), (True, [float(step) for step in range(10, 20)])):
        policy = Recorder(plan(while_executing=follows))
        run_trials(fenced(0, 3), policy, episodes=4, noise=None, generator=generator())
        assert expected == [float(latent[0]) for latent in policy.executed]


def test_a_sampled_latent_is_held_for_an_episode_and_drawn_anew_for_the_next():
    policy = Recorder(plan(latent="sample"))
    run_trials(fenced(0, 3), policy, episodes=4, noise=None, generator=generator())
    first, second = torch.stack(policy.executed[:5]), torch.stack(policy.executed[5:])
    assert (first == first[0]).all()
    assert (second == second[0]).all()
    assert (first[0] != second[0]).all()
    assert len(first[0].unique()) == 3


def test_each_simulation_stops_exploring_once_it_is_certain():
    # A fence at zero ends an episode after one transition; certainty after i transitions is 1 - 1 / (1 + i).
    class Walk(Recorder):
        def explore(self, observation, belief, noise):
            super().explore(observation, belief, noise)
            return torch.ones(len(observation), 2)

    policy = Walk(plan(explore_episodes=3, certain_at=0.7))
    env = Fenced(torch.zeros(2, 2), torch.tensor([0.0, 100.0]))
    trials = run_trials(env, policy, episodes=4, noise=None, generator=generator())
    moving = (trials.rows.action[..., 0] > 0.0) & (trials.rows.valid[..., 0] > 0.0)
    assert [True, True, True, False] == moving[0].any(-1).tolist()
    assert [True, False, False, False] == moving[1].any(-1).tolist()


# -- rows


def test_rows_follow_each_other_and_end_where_the_episode_does():
    low, high = torch.full((2,), -1.0), torch.full((2,), 1.0)
    policy = RandomPolicy(low, high, plan(horizon=30), generator(1))
    trials = run_trials(fenced(2, 6), policy, episodes=2, noise=None, generator=generator())
    rows = trials.rows
    assert torch.equal(rows.observation[:, :, 1:], rows.next_observation[:, :, :-1])
    assert torch.equal(torch.zeros(6, 2, 2), rows.observation[:, :, 0])
    valid, ended = rows.valid[..., 0], rows.terminated[..., 0]
    assert (valid[:, :, 0] == 1.0).all()
    assert (valid[:, :, 1:] == valid[:, :, :-1] * (1.0 - ended[:, :, :-1])).all()
    assert 0.0 < valid.mean() < 1.0
    assert (rows.reward[rows.valid == 0.0] == 0.0).all()
    torch.testing.assert_close(rows.reward.sum((2, 3)), trials.returns)


def test_the_previous_reward_is_observed_where_it_is_asked_for():
    policy = Recorder(plan(observe_reward=True))
    rows = run_trials(fenced(0, 3), policy, episodes=2, noise=None, generator=generator()).rows
    assert rows.observation.shape[-1] == 3
    assert (rows.observation[:, :, 0, 2] == 0.0).all()
    assert torch.equal(rows.reward[:, :, :-1, 0], rows.observation[:, :, 1:, 2])
    assert torch.equal(rows.reward[..., 0], rows.next_observation[..., 2])


# -- warm-up and noise


def wanderer(turn_probability: float, seed: int = 0) -> Wanderer:
    return Wanderer(LOW, HIGH, turn_probability=turn_probability, generator=generator(seed))


def test_wandering_stays_within_bounds_and_holds_its_action():
    for probability in (0.0, 0.1, 1.0):
        env = Fenced(torch.zeros(200, 2), torch.full((200,), 1e9))
        rows = wander(env, wanderer(probability), episodes=2, horizon=20, observe_reward=False)
        assert (rows.action >= LOW - 1e-6).all()
        assert (rows.action <= HIGH + 1e-6).all()
        turned = (rows.action[:, :, 1:] != rows.action[:, :, :-1]).any(-1).float().mean()
        assert turned.item() == pytest.approx(probability, abs=0.02)


def test_half_of_the_wanderers_actions_are_on_the_boundary():
    scaled = (wanderer(1.0).turn(4000) - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    at_edge = (scaled.abs().amax(-1) > 1.0 - 1e-5).float().mean()
    assert at_edge.item() == pytest.approx(0.5, abs=0.03)


def noise(correlation: float, stroll: float = 0.0, num: int = 2000) -> Noise:
    return Noise(num, wanderer(0.1), size=2, correlation=correlation, stroll_probability=stroll, generator=generator(1))


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_noise_is_standard_normal_and_correlated_as_asked(correlation):
    source = noise(correlation)
    draws = torch.stack([source.draw() for _ in range(10)])
    assert draws.mean().item() == pytest.approx(0.0, abs=0.03)
    assert draws.std().item() == pytest.approx(1.0, abs=0.03)
    assert (draws[1:] * draws[:-1]).mean().item() == pytest.approx(correlation, abs=0.03)


def test_a_restart_forgets_the_noise():
    source = noise(1.0)
    before = source.draw()
    source.restart()
    assert abs((before * source.draw()).mean().item()) < 0.05


def test_strolls_replace_the_policys_action_and_stay_within_bounds():
    action = torch.full((2000, 2), 9.0)
    assert torch.equal(action, noise(0.5).disturb(action))
    source = noise(0.5, stroll=0.3)
    for _ in range(20):
        disturbed = source.disturb(action)
    strolling = (disturbed != 9.0).all(-1)
    assert 0.4 < strolling.float().mean() < 0.8
    assert (disturbed[strolling] >= LOW - 1e-6).all()
    assert (disturbed[strolling] <= HIGH + 1e-6).all()


def test_collecting_is_a_function_of_the_seed_and_touches_no_global_random_state():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (what is checked)
    found = []
    for seed in (1, 1, 2):
        policy = NumpyPolicy(ScriptedPolicy(plan(latent="sample")))
        drawn = generator(seed)
        held = Wanderer(LOW, HIGH, turn_probability=0.3, generator=drawn)
        disturbance = Noise(4, held, size=2, correlation=0.5, stroll_probability=0.2, generator=drawn)
        trials = run_trials(fenced(0, 4), policy, episodes=4, noise=disturbance, generator=drawn)
        warm = wander(fenced(0, 4), held, episodes=1, horizon=5, observe_reward=True)
        found.append((trials.rows.action, warm.action))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert all(torch.equal(one, other) for one, other in zip(found[0], found[1], strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(found[0], found[2], strict=True))


class Lost:
    """Simulations that end after as many steps as they have numbers; what they show afterwards is no number."""

    num_envs = 2

    def reset(self):
        self._steps = 0
        return torch.zeros(2, 1)

    def step(self, action):
        self._steps += 1
        over = torch.tensor([1, 2]) < self._steps
        seen = torch.where(over, torch.nan, float(self._steps))
        return Step(seen[:, None], torch.where(over, torch.inf, 1.0), torch.tensor([1, 2]) <= self._steps)


@pytest.mark.parametrize("observe_reward", [False, True])
def test_what_is_no_number_after_the_end_does_not_enter_the_padding(observe_reward):
    episode = Episode(Lost(), observe_reward=observe_reward)
    rows = [episode.step(torch.zeros(2, 1)) for _ in range(4)]
    assert [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]] == [row.valid[:, 0].tolist() for row in rows]
    assert [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]] == [row.reward[:, 0].tolist() for row in rows]
    assert [[1.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]] == [row.next_observation[:, 0].tolist() for row in rows]
    assert all(row.observation.isfinite().all() for row in rows)


class Overwriting:
    """Simulations that write every observation to the same place."""

    num_envs = 2

    def __init__(self):
        self._seen = np.zeros((2, 2), np.float32)

    def reset(self, mask=None):
        self._seen[:] = 0.0
        return self._seen

    def step(self, action):
        self._seen += action
        return Step(self._seen, self._seen.sum(1), np.zeros(2, bool))


@pytest.mark.parametrize("observe_reward", [True, False])
def test_what_was_seen_stays_when_a_simulation_overwrites_it(observe_reward):
    episode = Episode(TorchEnv(Overwriting(), torch.device("cpu")), observe_reward=observe_reward)
    steps = [episode.step(torch.ones(2, 2)) for _ in range(2)]
    assert [0.0, 1.0] == [rows.observation[0, 0].item() for rows in steps]
    assert [1.0, 2.0] == [rows.next_observation[0, 0].item() for rows in steps]
