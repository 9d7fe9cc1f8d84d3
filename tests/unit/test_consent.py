from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.rules.exposure import ORDER, Exposure, exposure_allowed

exposures = st.sampled_from(ORDER)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | exposures,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("record", "deployment", "allowed"),
    [
        ({}, "any", "any"),
        ({"grant": None}, "eu", "eu"),
        ({"grant": {}}, "eu", "eu"),
        ({"grant": {"exposure": None}}, "any", "any"),
        ({"grant": {"exposure": "local"}}, "any", "local"),
        ({"grant": {"exposure": "any"}}, "eu", "eu"),
        ({"grant": {"exposure": "eu"}}, "local", "local"),
        ({"grant": {"exposure": "EU"}}, "any", "local"),
        ({"grant": {"exposure": ["any"]}}, "any", "local"),
        ({"grant": "yes"}, "any", "local"),
    ],
)
def test_a_grant_lowers_what_the_deployment_allows(
    record: dict[str, Any], deployment: Exposure, allowed: Exposure
):
    assert exposure_allowed(record, deployment) == allowed


@given(st.fixed_dictionaries({"grant": anything}), exposures)
def test_no_grant_goes_beyond_the_deployment(record: dict[str, Any], deployment: Exposure):
    assert ORDER.index(exposure_allowed(record, deployment)) <= ORDER.index(deployment)
