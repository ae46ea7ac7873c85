"""`python -m discrete_grad`, and the command `discrete-grad`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line, or say what to install for it."""
    try:
        from discrete_grad.cli import main as run
    except ImportError as error:
        print(f"discrete-grad: error: {error}", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
