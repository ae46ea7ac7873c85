"""Hard pairs against brute force, and an aligner that learns from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.data import ScoredRows
from discrete_grad.fitting import AlignerConfig, fit_aligner, mine_hard_pairs, with_swaps
from discrete_grad.fitting.hard_pairs import _deciles
from discrete_grad.models import Aligner, Estimator
from discrete_grad.objectives.contrastive_losses import CONTRASTIVE_LOSSES, RowLoss
from discrete_grad.runs.fit_config import FitConfig
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import CategoricalSpace, ContextSpec
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.logs import JsonLinesLog

SPACE = CategoricalSpace.from_sizes((3, 2, 3, 1, 2))
ZERO = torch.zeros(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_rows(count: int, seed: int, *, several: int = 0, contexts: int = 1) -> ScoredRows:
    random = seeded(seed)
    codes = SPACE.enumerate()[torch.randint(SPACE.num_rows, (count,), generator=random)]
    behaviour = torch.randn(count, max(1, several), generator=random)
    context = torch.randint(contexts, (count, 1), generator=random).float()
    return ScoredRows(
        codes,
        behaviour[:, 0],
        context if contexts > 1 else None,
        behaviour if several else None,
    )


def gap(rows: ScoredRows, i: int, j: int) -> float:
    values = rows.scores.unsqueeze(-1) if rows.behaviour is None else rows.behaviour
    return float((values[i] - values[j]).square().mean().sqrt())


def hard_rows(
    rows: ScoredRows, anchor: int, small: float, large: float
) -> tuple[list[int], list[int]]:
    """All hard positives, the least different first, and all hard negatives in their order."""
    near, far = [], []
    for j in range(len(rows)):
        if rows.context is not None and not torch.equal(rows.context[j], rows.context[anchor]):
            continue
        steps = int((rows.codes[j] != rows.codes[anchor]).sum())
        if steps in (1, 2) and gap(rows, anchor, j) >= large:
            near.append((steps, -gap(rows, anchor, j), j))
        if 2 * steps >= rows.codes.shape[1] and gap(rows, anchor, j) <= small and j != anchor:
            far.append((gap(rows, anchor, j), j))
    return [j for _, j in sorted(far)], [j for *_, j in sorted(near)]


def repeated(found: list[int], count: int) -> list[int]:
    return [found[i % len(found)] for i in range(count)] if len(found) < count else found[:count]


@given(
    st.integers(2, 60),
    st.integers(0, 99),
    st.sampled_from([0, 2]),
    st.sampled_from([1, 3]),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_mined_pairs_by_loops(
    count: int, seed: int, several: int, contexts: int, positives: int, negatives: int
) -> None:
    rows = random_rows(count, seed, several=several, contexts=contexts)
    mined = mine_hard_pairs(
        rows, positives=positives, negatives=negatives, small=0.4, large=0.6, generator=seeded(seed)
    )
    expected = {i: hard_rows(rows, i, 0.4, 0.6) for i in range(count)}
    assert set(mined.anchors.tolist()) == {i for i, (p, n) in expected.items() if p and n}
    for anchor, p, n in zip(mined.anchors.tolist(), mined.positives, mined.negatives, strict=True):
        far, near = expected[anchor]
        assert p.tolist() == repeated(far, positives)
        assert n.tolist() == repeated(near, negatives)
    assert not mined.pseudo.any()


def test_a_pseudo_label_has_no_decile() -> None:
    scores, pseudo = torch.arange(20.0), torch.arange(20) % 2 == 1
    expected = [i // 2 if i % 2 == 0 else -1 for i in range(20)]
    assert _deciles(scores, pseudo).tolist() == expected


def test_deciles_come_up_equally_often() -> None:
    rows = random_rows(300, 0)
    # half of the rows have low scores and are many, and the lowest decile has few hard pairs
    rows = replace(rows, scores=torch.where(rows.scores < -1.2, rows.scores - 9, rows.scores))
    mined = mine_hard_pairs(rows, generator=seeded())
    rank = rows.scores.argsort().argsort()
    counts = (rank[mined.anchors] // 30).bincount(minlength=10)
    assert len(counts[counts > 0].unique()) == 1
    assert len(mined.anchors.unique()) < len(mined)


def test_few_anchors_are_of_all_deciles() -> None:
    rows = random_rows(300, 0)
    mined = mine_hard_pairs(rows, most=20, generator=seeded())
    assert len(mined.anchors.unique()) <= 20
    rank = rows.scores.argsort().argsort()
    assert len((rank[mined.anchors] // 30).unique()) >= 8


def test_nothing_to_mine() -> None:
    alike = replace(random_rows(40, 0), scores=torch.zeros(40))
    assert len(mine_hard_pairs(alike)) == 0
    assert mine_hard_pairs(alike).negatives.shape == (0, 4)
    assert len(mine_hard_pairs(random_rows(1, 0))) == 0


@pytest.mark.parametrize(
    "wrong", [{"positives": 0}, {"negatives": 0}, {"most": 0}, {"small": -1.0}, {"large": 0.2}]
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 <= small < large, got"):
        mine_hard_pairs(random_rows(9, 0), **wrong)


# --- pseudo-labels ------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 99), st.sampled_from([0, 2]), st.sampled_from([1, 3]))
def test_swaps(count: int, seed: int, several: int, contexts: int) -> None:
    rows = random_rows(count, seed, several=several, contexts=contexts)

    def scorer(codes: Tensor, context: Tensor | None) -> Tensor:
        assert (context is None) == (rows.context is None)
        score = codes.sum(-1).float() + 100
        return score if not several else torch.stack([score, -score], -1)

    more, pseudo = with_swaps(rows, SPACE, scorer, 60, generator=seeded(seed))
    assert torch.equal(pseudo, torch.arange(len(more)) >= count)
    assert torch.equal(more.codes[:count], rows.codes)
    assert torch.equal(more.scores[:count], rows.scores)
    SPACE.check_codes(more.codes)
    context = torch.zeros(len(more), 1) if more.context is None else more.context
    keys = [(*c, *x) for c, x in zip(more.codes.tolist(), context.tolist(), strict=True)]
    added = keys[count:]
    assert len(set(added)) == len(added)
    assert not set(added) & set(keys[:count])
    for i in range(count, len(more)):
        same = (context[:count] == context[i]).all(1)
        assert ((more.codes[:count] != more.codes[i]).sum(1)[same] == 1).any()
        assert more.scores[i] == more.codes[i].sum() + 100
        if several:
            assert more.behaviour[i].tolist() == [more.scores[i], -more.scores[i]]


def test_every_swap_is_drawn() -> None:
    rows = ScoredRows(torch.tensor([[0, 1, 2, 0, 1]]), torch.zeros(1))
    more, _ = with_swaps(rows, SPACE, lambda c, _: c[:, 0].float(), 400, generator=seeded())
    assert len(more) == 1 + 2 + 1 + 2 + 0 + 1


def test_what_another_context_holds_is_left_to_be_drawn() -> None:
    codes = torch.tensor([[0, 1, 2, 0, 1], [1, 1, 2, 0, 1]])  # each is a swap of the other
    rows = ScoredRows(codes, torch.zeros(2), torch.tensor([[0.0], [1.0]]))
    more, _ = with_swaps(rows, SPACE, lambda c, _: c[:, 0].float(), 800, generator=seeded())
    assert len(more) == 2 + 2 * (2 + 1 + 2 + 0 + 1)


def test_pseudo_rows_are_partners_and_never_anchors() -> None:
    rows = random_rows(30, 0)
    more, pseudo = with_swaps(
        rows, SPACE, lambda codes, _: codes[:, 0] - 1.0, 60, generator=seeded()
    )
    mined = mine_hard_pairs(more, pseudo=pseudo, generator=seeded())
    assert torch.equal(mined.pseudo, pseudo)
    assert not pseudo[mined.anchors].any()
    assert pseudo[mined.negatives].any()
    assert pseudo[mined.positives].any()
    assert not mine_hard_pairs(rows, generator=seeded()).pseudo.any()


def test_pseudo_labels_need_as_many_scores() -> None:
    with pytest.raises(ValueError, match=r"have scores \(9, 2\), the scorer gave \(\d+,\)"):
        with_swaps(random_rows(9, 0, several=2), SPACE, lambda codes, _: codes[:, 0].float(), 50)


# --- the aligner that learns from them ----------------------------------------------------------


def interacting(count: int, *, context: bool = False) -> ScoredRows:
    """A second feature turns the effect of the first around: one swap changes everything."""
    rows = random_rows(count, 1, contexts=2 if context else 1)
    score = torch.where(rows.codes[:, 1] == 1, 1.0, -1.0) * (rows.codes[:, 0] - 1.0)
    second = (rows.codes[:, 2] - 1.0) * 1.2
    return replace(rows, scores=score, behaviour=torch.stack([score, second], -1))


def aligner_of(context: bool = False) -> Aligner:
    with isolated_seed(0):
        spec = ContextSpec(numeric=["shop"]) if context else None
        return Aligner(Estimator(SPACE, context=spec, hidden=(32,)), 8)


LOSSES = [*CONTRASTIVE_LOSSES, "MultiSimilarityLoss", "TripletMarginLoss"]


def test_a_swap_is_never_to_the_own_category() -> None:
    space, row = CategoricalSpace.from_sizes((1, 2)), ScoredRows(torch.zeros(1, 2).long(), ZERO)
    for seed in range(8):
        joined, _ = with_swaps(row, space, lambda *_: ZERO, 1, generator=seeded(seed))
        assert joined.codes.tolist() == [[0, 0], [0, 1]]


def alike_first(aligner: Aligner, rows: ScoredRows) -> float:
    """How often a pair that behaves alike has a higher cosine than one that does not."""
    a, b = torch.cartesian_prod(torch.arange(100), torch.arange(100, 200)).unbind(1)
    with torch.no_grad():
        cosine = aligner(rows.codes[a], rows.codes[b])
    distance = (rows.behaviour[a] - rows.behaviour[b]).norm(dim=-1)
    alike, apart = cosine[distance == 0], cosine[distance > 0]
    return float((alike.unsqueeze(1) > apart).float().mean())


def fitted(
    rows: ScoredRows, config: AlignerConfig, *, seed: int = 0, context: bool = False, **more: Any
) -> Aligner:
    aligner = aligner_of(context)
    fit_aligner(aligner, rows, config=config, seed=seed, **more)
    return aligner


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss: str) -> None:
    rows = interacting(200)
    config = AlignerConfig(
        loss=loss, steps=80, batch_size=48, mined_share=0.5, learning_rate=1e-2, patience=0
    )
    untrained = alike_first(aligner_of(), rows)
    learnt = alike_first(fitted(rows, config), rows)
    mixed = torch.randperm(200, generator=seeded())
    nonsense = replace(rows, scores=rows.scores[mixed], behaviour=rows.behaviour[mixed])
    by_nonsense = alike_first(fitted(nonsense, config), rows)
    assert learnt > max(untrained, by_nonsense) + 0.02


@pytest.mark.parametrize("loss", ["sup_con", "mined"])
@pytest.mark.parametrize("context", [False, True])
def test_a_resumed_fit_ends_bitwise_alike(tmp_path: Path, loss: str, context: bool) -> None:
    rows = replace(interacting(90, context=context), behaviour=None)
    config = AlignerConfig(
        loss=loss, steps=30, batch_size=32, mined_share=0.5, pseudo_labels=1.0,
        validate_every=5, checkpoint_every=10,
    )  # fmt: skip
    whole = fitted(rows, config, seed=3, context=context)
    log = JsonLinesLog(tmp_path / "metrics.jsonl")
    state = Checkpoint(tmp_path / "state.safetensors", log)

    def killed(metrics: dict[str, float], step: int) -> None:
        log(metrics, step)
        if step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(rows, config, seed=3, context=context, log=killed, checkpoint=state)
    again = fitted(rows, config, seed=3, context=context, checkpoint=state)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    other = fitted(rows, config, seed=4, context=context)
    assert not torch.equal(other.head.weight, whole.head.weight)


def test_the_loss_of_a_name_is_that_function_of_the_rows() -> None:
    rows = interacting(40)
    aligner, seen = aligner_of(), []

    def recorded(*inputs: Tensor, **options: float) -> Tensor:
        seen.append(options)
        return CONTRASTIVE_LOSSES["acc_con"].function(*inputs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONTRASTIVE_LOSSES, "mine", RowLoss(recorded))
        config = AlignerConfig(loss="mine", steps=20, temperature=0.3, near=0.2)
        fit_aligner(aligner, rows, config=config, seed=0)
    assert seen[0] == {"temperature": 0.3, "near": 0.2}
    theirs = fitted(rows, replace(config, loss="acc_con"))
    assert torch.equal(aligner.head.weight, theirs.head.weight)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("rank_n_contrst", "loss must be one of rank_n_contrast, acc_con, .* got 'rank_n_contrst'"),
        ("NoSuchLoss", "NoSuchLoss cannot be used .* no 'NoSuchLoss' in its losses"),
        ("ProxyAnchorLoss", "ProxyAnchorLoss cannot be used by its name alone: .*num_classes"),
        ("VICRegLoss", "VICRegLoss cannot be used by its name alone: indices_tuple"),
    ],
)
def test_a_loss_that_cannot_be_is_told_before_the_fit(loss: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^aligner\.loss {message}|^aligner\.{message}"):
        replace(FitConfig(), aligner=AlignerConfig(loss=loss)).check()
    with pytest.raises(ValueError, match=message):
        fit_aligner(aligner_of(), interacting(40), config=AlignerConfig(loss=loss), seed=0)


def test_behaviour_is_more_than_its_first_score() -> None:
    rows, config = interacting(90), AlignerConfig(steps=10)
    several = fitted(rows, config)
    one = fitted(replace(rows, behaviour=None), config)
    assert not torch.equal(one.head.weight, several.head.weight)


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (random_rows(40, 0, several=2), {"pseudo_labels": 1.0, "mined_share": 0.5}, "as many sco"),
        (
            ScoredRows(torch.zeros(40, 5).long(), torch.zeros(40)),
            {"loss": "mined"},
            "none has both",
        ),
        (random_rows(40, 0), {"near": 1.0}, r"near in \[0, 1\)"),
        (random_rows(40, 0), {"mined_share": 1.5}, r"mined_share in \[0, 1\]"),
        (random_rows(40, 0), {"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_settings_that_do_not_fit(
    rows: ScoredRows, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit_aligner(aligner_of(), rows, config=AlignerConfig(steps=3, **changes), seed=0)
    if "near" in changes or changes.get("mined_share") == 1.5:
        with pytest.raises(ValueError, match=rf"aligner\..*{message}"):
            replace(FitConfig(), aligner=AlignerConfig(**changes)).check()


def test_without_mined_rows_the_batch_is_random() -> None:
    """A share of mined rows where there are none is no error: one cannot know it in advance."""
    rows = ScoredRows(SPACE.enumerate(), torch.zeros(SPACE.num_rows))
    fit_aligner(aligner_of(), rows, config=AlignerConfig(steps=3, mined_share=0.5), seed=0)
