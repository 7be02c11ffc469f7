"""Safety limits as an operator names them: read from a text, checked against an action, laid over a bundle's."""

import numpy as np

from ccm_runtime.errors import ConfigError
from ccm_runtime.manifest import Fallback, SafetyLimits
from ccm_runtime.specs import BoxSpec, counted

_ROUNDING = float(np.finfo(np.float32).eps)  # bounds are float32, and rates are not
# The guard computes in float32: below, a rate would be zero, and above, none.
_LEAST, _MOST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def parse_rates(text: str) -> tuple[float, ...]:
    """Return the numbers of a text such as `0.5,0.5`, `[act]`.

    Raises:
        ConfigError: It holds something else than positive, finite numbers.
    """
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(_LEAST <= rate <= _MOST for rate in rates):
        raise ConfigError(
            f"max_rate: expected a positive number for each entry of an action, such as 0.5,0.5; got {text!r}"
        )
    return rates


def check_rates(rates: tuple[float, ...] | None, action: BoxSpec) -> None:
    """Refuse rates that are not one for each entry of an action, or that limit nothing.

    Raises:
        ConfigError: They are more, or fewer, or one is more than its entry can change at all.
    """
    if rates is None:
        return
    if len(rates) != action.size:
        raise ConfigError(
            f"max_rate: expected {counted(action.size, 'number')}, one for each entry of the action "
            f"({', '.join(action.labels)}), got {len(rates)}"
        )
    ranges = (action.high_array.astype(np.float64) - action.low_array).tolist()
    for rate, most, entry in zip(rates, ranges, action.entries, strict=True):
        if rate > most * (1 + _ROUNDING):
            raise ConfigError(
                f"max_rate: {rate:g} for {entry} limits nothing, as that entry changes by at most {most:g}, its whole "
                f"range; name a smaller rate, or {most:g} to leave that entry free"
            )


def laid_over(
    safety: SafetyLimits, action: BoxSpec, max_rate: tuple[float, ...] | None, fallback: Fallback | None
) -> SafetyLimits:
    """Return a bundle's limits under an operator's: the smaller rate of every entry, and the operator's fallback.

    Raises:
        ConfigError: `max_rate` is not of this action.
    """
    check_rates(max_rate, action)
    if max_rate is not None and safety.max_rate is not None:
        max_rate = tuple(map(min, max_rate, safety.max_rate))
    return SafetyLimits(max_rate=max_rate or safety.max_rate, fallback=fallback or safety.fallback)
