"""The estimator of sequences: which features are places, and what moving letters changes."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ReinMax
from discrete_grad.data import read_table
from discrete_grad.models import EstimatorEnsemble, SequenceEstimator, sequence
from discrete_grad.models.sequence import is_biological, letters_of
from discrete_grad.sampling import isolated_seed, random_codes, seeded
from discrete_grad.space import ContextSpec
from tests.pretended_card import CARD, pretended_card
from tests.strategies import random_logits

DNA = ["A", "C", "G", "T"]
# the second place has no C, and another order
SPACE = CategoricalSpace({f"p{i}": ["T", "A", "G"] if i == 1 else DNA for i in range(12)})
SPEC = ContextSpec({"shop": 2}, ["price"])
CODES = random_codes(SPACE, 6, generator=seeded(0))
CONTEXT = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, -0.5]]).repeat(3, 1)


def made(spec: ContextSpec | None = None, seed: int = 0) -> SequenceEstimator:
    with isolated_seed(seed):
        return SequenceEstimator(SPACE, context=spec, dim=3, channels=5).eval()


def places(count: int, categories: list[str] | int = 4) -> dict[str, list[str] | int]:
    return {f"p{i}": categories for i in range(count)}


def test_equal_categories_are_one_letter_wherever_they_stand() -> None:
    letters = letters_of(SPACE)
    assert letters is not None
    assert letters[:11] == (0, 1, 2, 3, 3, 0, 2, 0, 1, 2, 3)
    assert len(letters) == SPACE.width


@pytest.mark.parametrize(
    ("features", "ordered", "expected"),
    [
        (places(8, DNA), (), True),
        (places(7, DNA), (), False),
        (places(256, DNA), (), True),
        (places(257, DNA), (), False),
        (places(8), (), False),
        (places(7, DNA) | {"p7": 4}, (), False),
        (places(8, DNA), ("p3",), False),
        # 8 places and 16 letters: each is in a quarter of them, and then no longer
        ({f"p{i}": [str((4 * i + k) % 16) for k in range(4)] for i in range(8)}, (), True),
        ({f"p{i}": [str((4 * i + k) % 17) for k in range(4)] for i in range(8)}, (), False),
    ],
)
def test_which_features_are_places(
    features: dict[str, list[str] | int], ordered: tuple[str, ...], expected: bool
) -> None:
    space = CategoricalSpace(features, ordered=ordered)
    assert (letters_of(space) is not None) is expected
    if not expected:
        with pytest.raises(ValueError, match="are not the places of one sequence"):
            SequenceEstimator(space)


def test_letters_that_move_together_keep_their_score() -> None:
    with isolated_seed(0):
        model = SequenceEstimator(CategoricalSpace(places(24, DNA))).eval()

    def of(motif: list[int], start: int) -> Tensor:
        codes = torch.zeros(24, dtype=torch.long)
        codes[start : start + len(motif)] = torch.tensor(motif)
        score: Tensor = model(codes)
        return score

    # two convolutions see 4 places to either side: here never the motif and an end together
    assert_close(of([1, 2, 3], 8), of([1, 2, 3], 13))
    assert not of([1, 2, 3], 8).allclose(of([3, 2, 1], 8))
    assert not of([1, 2, 3], 8).allclose(of([1, 2, 3], 0))


@pytest.mark.parametrize("spec", [None, SPEC], ids=["bare", "context"])
def test_either_form_of_a_row_and_any_leading_dimensions(spec: ContextSpec | None) -> None:
    model, context = made(spec), None if spec is None else CONTEXT
    scores, latent = model(CODES, context), model.to_latent(CODES, context)
    assert scores.shape == (6,)
    assert latent.shape == (6, 5)
    assert scores.unique().numel() == 6
    assert_close(model(SPACE.one_hot(CODES), context), scores)
    grid = CODES.expand(3, 6, 12)
    assert_close(model(grid, context), scores.expand(3, 6))
    first = None if context is None else context[0]
    assert_close(model(CODES[0], first), scores[0])
    assert model(grid[:0], context).shape == (0, 6)


def test_rows_in_parts_are_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made()(CODES)
    monkeypatch.setattr(sequence, "_PLACES_AT_ONCE", 30)
    assert_close(made()(CODES), whole)


def test_gradients_reach_row_context_and_parameters() -> None:
    model = made(SPEC).double()
    rows = SPACE.softmax(random_logits(SPACE, (2,))).requires_grad_()
    context = CONTEXT[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(model, (rows, context))
    model(rows, context).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_errors_of_rows_and_contexts() -> None:
    with pytest.raises(ValueError, match="feature 'p1' has code 3"):
        made()(torch.full((12,), 3))
    with pytest.raises(ValueError, match=r"takes a context \(..., 3\), got none"):
        made(SPEC)(CODES)
    with pytest.raises(ValueError, match=r"takes no context, got \(6, 3\)"):
        made()(CODES, CONTEXT)


def test_an_ensemble_is_its_members() -> None:
    models = [made(SPEC, seed) for seed in range(3)]
    ensemble = EstimatorEnsemble(models).eval()
    scores = torch.stack([model(CODES, CONTEXT) for model in models])
    assert_close(ensemble.predictions(CODES, CONTEXT), scores)
    own = ensemble.predictions(CODES.view(3, 2, 12), CONTEXT[:2].expand(3, 2, 3), own_rows=True)
    expected = [m(c, CONTEXT[:2]) for m, c in zip(models, CODES.view(3, 2, 12), strict=True)]
    assert_close(own, torch.stack(expected))
    logits = random_logits(SPACE, (6,)).float().requires_grad_()
    drawn = ensemble.sample_predictions(logits, ReinMax(SPACE), CONTEXT, generator=seeded(0))
    drawn.sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(-1).all()


def test_dropout_in_training_alone() -> None:
    model = SequenceEstimator(SPACE, dropout=0.5)
    assert not torch.equal(model.train()(CODES), model(CODES))
    assert torch.equal(model.eval()(CODES), model(CODES))


def test_on_a_card() -> None:
    with pretended_card():
        model = EstimatorEnsemble([made(SPEC)] * 2).to(CARD)
        row = SPACE.one_hot(CODES.to(CARD)).requires_grad_()
        there = model(row, CONTEXT.to(CARD))
        (slope,) = torch.autograd.grad(there.sum(), row)
        assert slope.device == there.device == CARD
        codes = model(CODES.to(CARD), CONTEXT.to(CARD)).cpu()
    assert_close(codes, made(SPEC)(CODES, CONTEXT))


@pytest.mark.slow
def test_compiled() -> None:
    torch._dynamo.reset()
    model = made(SPEC)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for rows in (CODES, SPACE.one_hot(CODES)):
        assert_close(compiled(rows, CONTEXT), model(rows, CONTEXT))


@pytest.mark.parametrize(
    ("letters", "places", "known"),
    [
        ("ACGT", 8, True),
        ("acgu", 8, True),
        ("ACGTN-", 8, True),
        ("ACGT", 7, False),  # no sequence
        ("ACG", 8, False),
        ("ABCD", 8, False),
        ("ACGTB", 8, False),
        ("ACDEFGHIKLMNPQRSTVWY", 8, True),
        ("ACDEFGHIKLMPQX*", 8, True),  # 12 amino acids, N is one as well as any nucleotide
        ("ACDEFGHIKLMP", 8, True),
        ("ACDEFGHIKLM", 8, False),
        ("ACDEFGHIKLMPQB", 8, False),
    ],
)
def test_letters_of_life_are_known(letters: str, places: int, known: bool) -> None:
    space = CategoricalSpace({f"p{i}": list(letters) for i in range(places)})
    assert is_biological(space) == known


def test_missing_cells_are_places_of_any_letter() -> None:
    columns = {f"p{i}": [*"ACGT"] * 3 for i in range(8)} | {"p3": [*"ACG", None] * 3}
    table = read_table(columns | {"y": range(12)}, score="y", missing="category")
    assert is_biological(table.schema.space)


def test_words_and_numbers_are_no_letters_of_life() -> None:
    assert not is_biological(CategoricalSpace({f"p{i}": ["AC", "GT", "A", "C"] for i in range(8)}))
    assert not is_biological(CategoricalSpace.from_sizes((4,) * 8))
