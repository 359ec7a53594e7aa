"""`python -m detcfg` is `detcfg`."""

from __future__ import annotations

from detcfg.cli.main import run

if __name__ == "__main__":
    run()
