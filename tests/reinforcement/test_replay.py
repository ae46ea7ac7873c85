"""The memory of rows: what it keeps, and that its weights are unbiased."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.reinforcement import RowMemory, memory_weights
from discrete_grad.sampling import normal, random_codes, seeded

SPACE = CategoricalSpace.from_sizes((2, 3))


def test_it_keeps_the_best_different_rows_of_each_context() -> None:
    memory, table = RowMemory(SPACE, 3, contexts=4), normal((6, 4), generator=seeded(0)).float()
    seen: dict[int, set[int]] = {c: set() for c in range(4)}
    for batch in range(5):
        index = torch.tensor([batch % 4, (batch + 2) % 4])
        codes = random_codes(SPACE, 8, generator=seeded(batch)).reshape(4, 2, 2)
        numbers = codes[..., 0] * 3 + codes[..., 1]
        memory.keep(index, codes, table[numbers, index])
        for place, c in enumerate(index.tolist()):
            seen[c] |= set(numbers[:, place].tolist())
            best = sorted(seen[c], key=lambda n, c=c: -table[n, c].item())[:3]
            known, rewards = memory.recall(torch.tensor([c]))
            found = (known[:, 0, 0] * 3 + known[:, 0, 1]).tolist()[: len(best)]
            assert found == best
            assert rewards[: len(best), 0].tolist() == table[best, c].tolist()
            assert (rewards[len(best) :] == -torch.inf).all()


@pytest.mark.parametrize("filling", [0, 1])
def test_weights_make_drawn_and_known_rows_one_unbiased_mean(filling: int) -> None:
    """Of any function, over all pairs of rows drawn; whatever row fills an empty place."""
    law, f = (normal((6,), generator=seeded(i)) for i in (1, 2))
    law = law.softmax(0)
    places = [4, 1, filling]
    rows, known = SPACE.enumerate(), SPACE.enumerate()[places]
    alive = torch.tensor([True, True, False])  # the third place is empty
    known_f, total = f[places], torch.zeros(())
    for pair in itertools.product(range(6), repeat=2):
        index = list(pair)
        weights = memory_weights(rows[index], known, law[places].log(), alive)
        mean = (weights * torch.cat([f[index], known_f])).mean()
        total = total + law[index].prod() * mean
    assert_close(total, law @ f)
