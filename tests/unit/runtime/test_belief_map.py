"""A belief lies on the map where its coordinates say, and within the known region where it is not novel."""

import numpy as np
import pytest
from pydantic import ValidationError

from ccm_runtime.belief import NoveltyStats, novelty
from ccm_runtime.belief_map import BeliefMap, known_region, plane_of, principal_axes

COVARIANCE = np.array([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.25]])
STATS = NoveltyStats(mean=(1.0, 2.0, 3.0), precision=tuple(map(tuple, np.linalg.inv(COVARIANCE))), threshold=2.0)


def test_the_plane_is_that_of_the_largest_variance():
    first, second = principal_axes(COVARIANCE)
    assert (1.0, 0.0, 0.0) == pytest.approx(first)
    assert (0.0, 1.0, 0.0) == pytest.approx(second)
    assert ((1.0,), (0.0,)) == principal_axes(np.array([[4.0]]))


def test_the_known_region_is_where_novelty_is_below_one():
    plane = plane_of(STATS)
    outline = np.array(known_region(plane, STATS))
    assert (6.0, 2.0) == pytest.approx(tuple(np.abs(outline).max(0)), rel=1e-2)
    for corner in outline:  # each corner is the shadow of one latent at the threshold, and of none within it
        latent = np.asarray(plane.centre) + corner @ np.asarray(plane.axes)
        assert 1.0 == pytest.approx(float(novelty(latent[None].astype(np.float32), STATS)[0]), rel=1e-5)


def test_a_latent_lies_where_its_coordinates_say():
    plane = plane_of(STATS)
    np.testing.assert_allclose(plane.place([[3.0, 1.0, 99.0]]), [[2.0, -1.0]])
    assert (0, 2) == plane.place([]).shape


@pytest.mark.parametrize(
    "wrong", [{"axes": ((1.0,), (0.0, 1.0))}, {"tasks": ((1.0,),)}, {"points": ((0.0, 0.0),)}, {"centre": (np.nan,)}]
)
def test_a_map_whose_parts_do_not_fit_is_refused(wrong):
    parts = {"centre": (0.0, 0.0), "axes": ((1.0, 0.0), (0.0, 1.0)), "points": (), "tasks": (), "labels": ()}
    BeliefMap.model_validate(parts)
    with pytest.raises(ValidationError):
        BeliefMap.model_validate(parts | wrong)
