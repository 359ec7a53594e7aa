"""Spoilt inputs are taken or refused, never more; `nox -s fuzz` tries a hundred thousand of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.readers import Reader, readers
from tests.fuzz.run import run


@pytest.fixture(scope="module")
def known() -> Iterator[dict[str, Reader]]:
    with readers() as found:
        yield found


@pytest.mark.parametrize("name", ["importer", "annotations", "overrides", "saved"])
def test_what_is_spoilt_is_taken_or_refused(known: dict[str, Reader], name: str) -> None:
    outcome = run(name, known[name], 1000)

    assert [(failure.index, failure.what, failure.trace) for failure in outcome.failures] == []
    assert outcome.taken > 30
    assert outcome.refused > 300


def test_a_reader_that_breaks_is_found() -> None:
    """As is one that hangs, or says nothing."""
    outcome = run("broken", lambda draw: 1 // draw.choice((0, 1)), 20)

    assert 0 < len(outcome.failures) < 20
    assert {"ZeroDivisionError"} == {what for what, _ in outcome.distinct()}
