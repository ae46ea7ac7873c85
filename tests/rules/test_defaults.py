"""Defaults of the room's functions."""

from tests.defaults import assert_defaults_are_kept


def test_defaults_are_kept() -> None:
    assert_defaults_are_kept("rules")
