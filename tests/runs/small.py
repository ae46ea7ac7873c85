"""A small table and settings under which a whole fit takes a second or two."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from discrete_grad.data import Table, read_table
from discrete_grad.runs import FitConfig, Run

_SHOPS = ("east", "north", "west")


def small_table(rows: int = 240, *, context: bool = True, seed: int = 0) -> Table:
    """Scores with main effects, one interaction and an effect of the context."""
    generator = torch.Generator().manual_seed(seed)
    cut, shade, size, shop = (
        torch.randint(k, (rows,), generator=generator) for k in (3, 4, 2, len(_SHOPS))
    )
    group = ((cut * 4 + shade) * 2 + size) * 3 + shop
    before = (group == group[:, None]).tril(-1).sum(1)
    # few different ones, for a report looks at each context, but no row twice
    price = ((before + 7 * group) % 16 + 0.5) / 16
    score = cut + 2 * ((shade + shop) % 4 == 1) - 1.5 * ((size == 1) & (cut == 2)) + 0.3 * price
    noise = 0.05 * torch.randn(rows, generator=generator)
    columns = {
        "cut": [("fair", "good", "ideal")[i] for i in cut.tolist()],
        "shade": shade,
        "size": [bool(i) for i in size.tolist()],
        "score": score + noise,
    }
    if not context:
        return read_table(columns, score="score")
    columns |= {"shop": [_SHOPS[i] for i in shop.tolist()], "price": price}
    return read_table(columns, score="score", context=["shop", "price"])


def small_config(**changes: object) -> FitConfig:
    """Few members, few steps, many checkpoints."""
    config = FitConfig()
    loop = {"steps": 30, "batch_size": 32, "checkpoint_every": 5, "patience": 100}
    loop["validate_every"] = 20  # once within each stage, and at its end
    families = ("networks", "anova")  # the others take a quarter of a fit this small
    ensemble = replace(
        config.estimator, members=3, hidden=(16, 16), dim=4, families=families, **loop
    )
    parts = {
        "estimator": ensemble,
        "judge": ensemble,
        "aligner": replace(config.aligner, **loop),
        "reproduction": replace(config.reproduction, **loop),
        "generator": replace(config.generator, hidden=(16,), **loop),
    }
    return replace(config, **(parts | changes))


def weights_of(folder: Path) -> dict[str, bytes]:
    """Every file of final weights, to be compared bitwise."""
    return {path.name: path.read_bytes() for path in sorted((folder / "weights").iterdir())}


def likely_rows(run: Run) -> Tensor:
    """The most likely row in each of the run's contexts."""
    context = run.rows.context
    shown = None if context is None else context.unique(dim=0)
    return run.table.schema.space.argmax(run.generator(shown))
