"""Plain SQL, checked and put in the driver's form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.store._statements import Statements, check_statement, percent_form


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT :a", "SELECT %(a)s"),
        ("SELECT :a, :a_2", "SELECT %(a)s, %(a_2)s"),
        ("SELECT ':a'", "SELECT ':a'"),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', %(b)s"),
        ('SELECT ":a" FROM t', 'SELECT ":a" FROM t'),
        ("SELECT 1::int, :a::text", "SELECT 1::int, %(a)s::text"),
        ("SELECT 5 % 2", "SELECT 5 %% 2"),
        ("SELECT x LIKE '%:a%'", "SELECT x LIKE '%%:a%%'"),
        ("SELECT 1 -- :a", "SELECT 1 -- :a"),
        ("SELECT /* :a\n :b */ :c", "SELECT /* :a\n :b */ %(c)s"),
        ("SELECT a[1:2]", "SELECT a[1:2]"),
    ],
)
def test_percent_form(sql: str, expected: str) -> None:
    """Parameters become the driver's; strings, names, comments and casts are left alone."""
    assert expected == percent_form(sql)


@given(st.lists(st.sampled_from(["':a'", '":b"', "-- :c\n", "/*:d*/", "::e", " x ", "%", ":f"])))
def test_percent_form_of_any_sequence(parts: list[str]) -> None:
    """Whatever stands beside it, a part is changed in its own way."""
    changed = {"%": "%%", ":f": "%(f)s"}
    spaced = [f" {part} " for part in parts]
    expected = "".join(f" {changed.get(part, part)} " for part in parts)
    assert expected == percent_form("".join(spaced))


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "commit;",
        "  Rollback",
        "BEGIN IMMEDIATE",
        "START TRANSACTION",
        "END",
        "SAVEPOINT x",
        "RELEASE x",
        "-- hidden\nCOMMIT",
        "/* hidden */COMMIT",
        ";;COMMIT",
        "ATTACH 'x' AS y",
    ],
)
def test_control_is_refused(sql: str) -> None:
    """What would end or split the transaction is refused, however it is hidden."""
    with pytest.raises(UsageError, match="not for a transaction"):
        check_statement(sql)


@pytest.mark.parametrize("sql", ["SELECT 1", "UPDATE commits SET a = 1", "ENDING", "", "-- x"])
def test_other_statements_pass(sql: str) -> None:
    """A word that only begins like one is no such statement."""
    check_statement(sql)


def test_kept_statements_are_bounded() -> None:
    """A programme that builds its SQL does not fill the memory."""
    statements = Statements(percent=False)
    for number in range(2000):
        statements.form(f"SELECT {number}")
    assert "Statements(kept=512)" == repr(statements)


def test_rows_with_odd_names() -> None:
    """A column whose name is no identifier is read by its index."""
    make = Statements(percent=False).row_maker(("count(*)", "id", "id", "class"))
    row = make((1, 2, 3, 4))
    assert (1, 2, 3, 4) == tuple(row)
    assert 2 == row.id
