"""`python -m tests.fuzz --inputs 100000`: spoilt inputs for every reader; exit code 1 if one of them fails."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.readers import readers
from tests.fuzz.run import limit_memory, run


def main() -> int:
    """Read the command line, run, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, shared out evenly")
    parser.add_argument("--reader", action="append", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the first input's number, to do one again")
    given = parser.parse_args()
    limit_memory()
    failed = 0
    with readers() as known:
        names = given.reader or list(known)
        for name in names:
            began = time.monotonic()
            outcome = run(
                name, known[name], -(-given.inputs // len(names)), seed=given.seed, start=given.start
            )
            print(  # noqa: T201
                f"{name}: {outcome.taken} taken, {outcome.refused} refused, {len(outcome.failures)} failed, "
                f"slowest {outcome.slowest:.2f} s, {time.monotonic() - began:.0f} s in all",
                flush=True,
            )
            for (what, place), failures in outcome.distinct().items():
                first = failures[0]
                print(f"\n{what} at {place}, {len(failures)} times; --reader {name} --start {first.index}")  # noqa: T201
                print(first.what, first.trace, sep="\n", flush=True)  # noqa: T201
            failed += len(outcome.failures)
    return min(1, failed)


if __name__ == "__main__":
    sys.exit(main())
