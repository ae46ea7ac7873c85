"""Table of the zoo: which models work, which are refused and why, and which are wrong.

python -m tests.nn.zoo
"""

from __future__ import annotations

import re

import torch

from tests.nn.zoo import SPACE, STYLES, Style, batch_norm


def outcome(style: Style) -> str:
    """`works`, `refused: ...` or `wrong: ...`, in float64 on soft rows."""
    torch.manual_seed(0)
    model = style.model(batch_norm()).double().eval()
    soft = style.soften(model)
    row = torch.rand(24, SPACE.width, dtype=torch.float64, requires_grad=True)
    numbers = torch.randn(24, 10, dtype=torch.float64)
    try:
        value = style.call(soft, row, numbers)
    except (TypeError, ValueError) as error:
        message = re.sub(r"\. Codes may be .*", "", str(error).removeprefix("soften: "))
        return f"refused: {message}" if style.refused else f"wrong: {message}"
    if style.refused is not None:
        return "wrong: not refused"
    expected = model.hand(row, numbers)
    pairs = [(value, expected)]
    pairs += [tuple(torch.autograd.grad(v.sum(), row)[0] for v in (value, expected))]
    off = max((a - b).abs().max().item() for a, b in pairs)
    return "works" if off < 1e-11 else f"wrong: value or gradient off by {off:.1e}"


def table() -> str:
    """A line for each model, and the counts."""
    found = [(f"{s.model.__module__.split('.')[-1]}.{s}", outcome(s)) for s in STYLES]
    kinds = ("works", "refused", "wrong")
    counts = [f"{sum(text.startswith(kind) for _, text in found)} {kind}" for kind in kinds]
    lines = [f"| `{name}` | {text} |" for name, text in found]
    head = [f"{len(STYLES)} styles: {', '.join(counts)}", "", "| model | |", "| --- | --- |"]
    return "\n".join([*head, *lines])


if __name__ == "__main__":
    print(table())
