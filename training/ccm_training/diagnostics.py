"""How good contexts are, apart from what the executor makes of them: do beliefs about one task lie together and apart?

In numpy, save for scikit-learn's silhouette, which is imported when it is asked for.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

SETTLED = 0.9


class ContextQuality(BaseModel):
    """What beliefs say of held-out tasks, `tasks` of them with `trials` noisy trials each.

    Attributes:
        tasks: M.
        trials: Of each task.
        accuracy: Share of whole trials whose own task's key scores best; `None` where no contrast was trained.
        information: log M less InfoNCE, in nats: what the beliefs are known to tell of the task. At most `bound`.
        chance: Of accuracy and retrieval, 1 / M.
        bound: log M, in nats.
        retrieval: Share of trials whose latent is nearest to the centroid of their own task's other trials.
        silhouette: -1 to 1; above 0: trials of one task lie nearer to each other than to the next task.
        effective_rank: In how many directions the latents of trials vary.
        certainty: Mean after each episode.
        certain_after: Episodes until the certainty reaches 90 % of its last value.
    """

    tasks: int
    trials: int
    accuracy: float | None
    information: float | None
    chance: float
    bound: float
    retrieval: float
    silhouette: float
    effective_rank: float
    certainty: list[float]
    certain_after: int


def retrieval(latents: ArrayLike) -> float:
    """Share of trials that are nearest to their own task: to the centroid of its other trials.

    Args:
        latents: One a trial, `[tasks, trials, latent]`, two trials a task at least.
    """
    table = np.asarray(latents, np.float64)
    tasks, trials, _ = table.shape
    centroids = table.mean(1)
    others = (trials * centroids[:, None] - table) / (trials - 1)  # without the trial itself
    distance = np.linalg.norm(table[:, :, None] - centroids, axis=-1)
    own = np.arange(tasks)
    distance[own, :, own] = np.linalg.norm(table - others, axis=-1)
    nearest = distance.min(-1)
    # A tie is a guess: where all beliefs are equal, retrieval is chance.
    found = (distance[own, :, own] == nearest) / (distance == nearest[..., None]).sum(-1)
    return float(found.mean())


def silhouette(latents: ArrayLike) -> float:
    """Mean silhouette of trials by task (Rousseeuw, 1987); `latents` is `[tasks, trials, latent]`."""
    from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]  # noqa: PLC0415

    table = np.asarray(latents, np.float64)
    labels = np.repeat(np.arange(len(table)), table.shape[1])
    return float(silhouette_score(table.reshape(len(labels), -1), labels))


def effective_rank(latents: ArrayLike) -> float:
    """Exponential of the entropy of the singular values' shares (Roy and Vetterli, 2007); 0 where nothing varies.

    Args:
        latents: `[..., latent]`.
    """
    table = np.asarray(latents, np.float64)
    flat = table.reshape(-1, table.shape[-1])
    spread: NDArray[np.float64] = np.linalg.svd(flat - flat.mean(0), compute_uv=False)
    if spread.max() < 1e-9:
        return 0.0
    shares = spread[spread > 0.0] / spread.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def certain_after(certainty: ArrayLike) -> int:
    """Episodes until the mean certainty, `[episodes]`, first reaches 90 % of its last value."""
    course = np.asarray(certainty, np.float64)
    return int((course >= SETTLED * course[-1]).argmax()) + 1
