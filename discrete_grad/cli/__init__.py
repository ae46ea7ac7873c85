"""The command line: `discrete-grad fit | generate | score | propose | tell | report | ...`."""

try:
    import tyro as _tyro  # noqa: F401
except ImportError as error:
    raise ImportError("the command line needs tyro: pip install 'discrete_grad[cli]'") from error

from discrete_grad.cli.entry import main

__all__ = ["main"]
