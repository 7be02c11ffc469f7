"""A run's family while it trains: its simulations end when the run is to stop, and hang in one clear way."""

from contextlib import AbstractContextManager

from ccm_training.call_watch import CallWatch
from ccm_training.envs.called import called
from ccm_training.envs.family import Family
from ccm_training.stopping import Stop


def watched(family: Family, stop: Stop, watch: CallWatch) -> Family:
    """The same family, watched: its simulations look at `stop` before every call, and at `watch` during it."""

    def context(name: str) -> AbstractContextManager[None]:
        stop.check()
        return watch.call(name)

    return called(family, family.name, context)
