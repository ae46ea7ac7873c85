"""The way of `torch.compile`, but not compiled: Python can read no position and no offset."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from discrete_grad.nn.soften._codes import Codes
from tests.nn.test_soften import CODES, NUMBERS, StackedTooFar, softened
from tests.nn.test_soften_moves import FORMS, LOOKUPS, OFFSETS, ROWS, SPACES, Model, Move
from tests.nn.zoo import SPACE, WORKING, Style, linear
from tests.nn.zoo.lookups import Later, RenumberedLast
from tests.nn.zoo.offsets import Checked, ClampedWithoutEffect


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


# the first three ask for a value, as they may where values can be read; codes are no tensor here
READING = (RenumberedLast, Later, ClampedWithoutEffect, Checked)
FOLLOWED = [style for style in WORKING if style.model not in READING]


@pytest.mark.parametrize("style", FOLLOWED, ids=str)
def test_values_are_those_of_a_version_by_hand(style: Style) -> None:
    model, soft = softened(style)
    expected = style.on_codes(model, CODES, NUMBERS)
    assert_close(style.call(soft, SPACE.one_hot(CODES), NUMBERS), expected)
    rows = torch.rand(24, SPACE.width, generator=torch.Generator().manual_seed(3))
    assert_close(style.call(soft, rows, NUMBERS), model.hand(rows, NUMBERS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: str(space.sizes))
@pytest.mark.parametrize("look_up", LOOKUPS.values(), ids=LOOKUPS.keys())
def test_offsets(space: CategoricalSpace, look_up: Move) -> None:
    codes = (torch.rand(ROWS, 4) * torch.tensor(space.sizes)).long()
    row = space.one_hot(codes, dtype=torch.float64)
    for offsets in OFFSETS:
        for form in FORMS.values():
            model = Model([lambda x, o=offsets: x + torch.tensor(o), form], look_up)
            assert_close(soften(model, space)(row)[0], model(codes)[0])


def test_a_table_that_is_too_small_is_refused_as_the_model_runs() -> None:
    with pytest.raises(RuntimeError, match="soften: the table has too few rows for a feature"):
        soften(StackedTooFar(linear()), SPACE)(SPACE.one_hot(CODES))


class Keeps(nn.Module):
    """Keeps its codes, which are put away outside a program."""

    def forward(self, codes: Tensor) -> Tensor:
        self.kept = codes
        return F.one_hot(codes, 4).double().sum(1)


def test_modules_are_not_searched_for_codes_that_are_kept() -> None:
    """Each look would bind a program to the attribute: it would be compiled anew for another."""
    model = Keeps()
    soften(model, SPACE)(SPACE.one_hot(CODES))
    assert isinstance(model.kept, Codes)


def test_a_refusal_names_the_operation_and_no_line() -> None:
    calls = {"gt": lambda x: x > 1, "exp": torch.exp, "argsort": lambda x: x.argsort()}
    for name, call in calls.items():
        start = rf"^soften: '{name}' \(feature 'cut', 'colour', 'shape'\) needs the value of a code"
        with pytest.raises(TypeError, match=start):
            soften(Model([call], lambda x: x), SPACE)(SPACE.one_hot(CODES))
