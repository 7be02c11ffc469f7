"""Every family of ours obeys the laws of families; and each law can be broken."""

import re

import pytest
from drifts import FLAWED, Drifts

from ccm_runtime.errors import CcmError
from ccm_training.envs.laws import LAWS, judge
from ccm_training.envs.registry import list_families


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("family", [*list_families(), Drifts()], ids=lambda family: family.name)
def test_a_family_obeys(family, law):
    law.check(family)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_flawed_family_breaks(law):
    with pytest.raises(CcmError) as broken:
        law.check(FLAWED[law.words]())
    assert str(broken.value)


def test_what_a_family_raises_speaks_against_it():
    class Broken(Drifts):
        def draw_tasks(self, rng, num, split):
            raise KeyError("winds")

    verdicts = judge(Broken())
    assert [verdict.law for verdict in verdicts] == [law.words for law in LAWS]
    assert not any(verdict.holds for verdict in verdicts)
    (found,) = {verdict.found for verdict in verdicts}
    assert re.fullmatch(r"test_family_laws\.py:\d+: KeyError: 'winds'", found)


@pytest.mark.parametrize("law", FLAWED)
def test_a_flaw_is_told_in_words(law):
    found = {verdict.law: verdict for verdict in judge(FLAWED[law]())}
    assert not found[law].holds
    assert " " in found[law].found
