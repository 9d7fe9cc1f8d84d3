"""Statements whose files name their values: numbered for Postgres, given by name."""

import re

import pytest

from state.store.sql import Statements, statements_of


def test_values_travel_by_name_and_arrive_by_number():
    sql = Statements({"f": "SELECT f(:user, :data::jsonb, :user) -- at 10:30, a::text"})
    assert sql["f"] == "SELECT f($1, $2::jsonb, $1) -- at 10:30, a::text"
    assert sql.given("f", data="{}", user="u1") == (sql["f"], "u1", "{}")


@pytest.mark.parametrize("values", [{"user": 1}, {"user": 1, "data": 2, "more": 3}, {}])
def test_a_value_too_few_or_too_many_is_refused(values: dict[str, int]):
    with pytest.raises(TypeError):
        Statements({"f": "SELECT f(:user, :data)"}).given("f", **values)


def test_a_statement_that_numbers_its_values_stays_as_it_is():
    text = "SELECT $1::jsonb ->> 'a:b'"
    assert Statements({"f": text})["f"] == text


@pytest.mark.parametrize("file", ["agent.sql", "gateway.sql", "issuer.sql", "supervisor.sql"])
def test_no_statement_names_some_values_and_numbers_others(file: str):
    for name, text in statements_of(file).items():
        values = set(re.findall(r"\$[0-9]+", text))
        assert values == {f"${n}" for n in range(1, len(values) + 1)}, name
