"""Whole fits on a pretended CUDA device: nothing of them is left on the CPU."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from discrete_grad import CategoricalSpace
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import (
    AlignerConfig,
    EstimatorConfig,
    ReproductionConfig,
    fit_aligner,
    fit_estimator,
    fit_reproduction,
    learn_teacher,
    new_ensemble,
)
from discrete_grad.fitting.anova import anova_groups, fit_anova
from discrete_grad.fitting.trees import fit_trees, has_trees
from discrete_grad.models import Aligner, AnovaEnsemble
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    fit_dpo,
    fit_preference_model,
    new_preference_model,
)
from discrete_grad.reinforcement import DistillConfig, ReinforceConfig, distill, reinforce
from discrete_grad.runs import FitConfig, fit, generate, load_run, prefer, write_report
from discrete_grad.sampling import isolated_seed, random_codes, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.training import RunError
from discrete_grad.weighting import RewardWeighted
from tests.pretended_card import CARD, pretended_card
from tests.runs.small import small_config, small_table

SPACE = CategoricalSpace.from_sizes((3, 2, 4))
SPEC = ContextSpec({"shop": 2}, ["price"])
CODES = random_codes(SPACE, 60, generator=seeded(0))
CONTEXT = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, -0.5]]).repeat(30, 1)
ROWS = ScoredRows(CODES, CODES.sum(-1) - 3.0 + CONTEXT[:, 2], CONTEXT)
SHORT = {"steps": 4, "batch_size": 8, "validate_every": 2, "checkpoint_every": 1}


def on_card(module: nn.Module) -> bool:
    return {t.device for t in module.state_dict().values()} == {CARD}


def config_of(**changes: object) -> FitConfig:
    """Every kind of term that the generator's loss can have."""
    config = small_config()
    terms = {"reference_kl": 0.1, "alignment": 0.1, "trust": 0.1, "diversity": 0.1}
    ensemble = replace(config.estimator, **SHORT)
    parts = {
        "estimator": replace(ensemble, architectures=("mlp", "multilinear"), conservative=0.1),
        "judge": replace(ensemble, families=("networks", "kernel", "anova")),
        "preference": replace(config.preference, members=2, hidden=(8,), **SHORT),
        "aligner": replace(config.aligner, **SHORT),
        "reproduction": replace(config.reproduction, **SHORT),
        "generator": replace(config.generator, coverage=0.5, **terms, **SHORT),
    }
    return replace(config, polish=True, **(parts | changes))


def answers() -> Preferences:
    codes, context = small_table().codes.long()[:60], small_table().context[:30]
    return Preferences(codes[:30], codes[30:], torch.arange(30) % 3, context)


@pytest.mark.slow
def test_a_run_is_fitted_and_asked_there_and_read_here(tmp_path: Path) -> None:
    table, folder = small_table(), tmp_path / "run"
    columns = {"shop": ["east", "west"], "price": [0.1, 0.5]}

    def asked(device: str) -> dict[str, list[object]]:
        return generate(load_run(folder, device=device), columns, table.context[:2], rows=3)

    with pretended_card():
        run = fit(table, folder, config_of(), preferences=answers(), device="cuda")
        models = (run.estimator, run.judge, run.reference, run.naive, run.generator)
        assert all(map(on_card, (*models, run.aligner, run.preference)))
        assert run.device == run.rows.codes.device == run.judge_rows.codes.device == CARD
        assert table.codes.device == run.table.codes.device == torch.device("cpu")
        there = asked("cuda")
        with pytest.raises(RunError, match=r"must be on the CPU, .* got cuda:0"):
            prefer(run, folder / "preferences.parquet", ask=input, show=print)
    here = asked("cpu")
    assert load_run(folder).device == torch.device("cpu")
    assert here.keys() == there.keys()
    assert here["cut"] == there["cut"]
    torch.testing.assert_close(here["estimated_score"], there["estimated_score"])


@pytest.mark.slow
def test_a_report_is_written_there(tmp_path: Path) -> None:
    config = small_config()
    parts = ("estimator", "judge", "reproduction", "generator")
    short = {name: replace(getattr(config, name), **SHORT) for name in parts}
    with pretended_card():
        table = small_table(60, context=False)
        run = fit(table, tmp_path / "run", replace(config, polish=True, **short), device="cuda")
        there = write_report(run)["average"]
    here = write_report(load_run(tmp_path / "run"))["average"]
    assert [entry["name"] for entry in there] == [entry["name"] for entry in here]
    for one, other in zip(there, here, strict=True):
        assert one["judged"] == pytest.approx(other["judged"], rel=1e-4)


class _Stop(Exception):
    pass


@pytest.mark.slow
def test_a_fit_begun_there_is_resumed_here_and_the_other_way_round(tmp_path: Path) -> None:
    config, calls = config_of(), 0

    def stop(metrics: dict[str, float], step: int) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise _Stop

    table = small_table()
    with pretended_card(), pytest.raises(_Stop):
        fit(table, tmp_path / "run", config, log=stop, device="cuda")
    with pytest.raises(_Stop):
        fit(table, tmp_path / "run", config, log=stop, resume=True)
    with pretended_card():
        assert fit(table, tmp_path / "run", config, resume=True, device="cuda").device == CARD


@pytest.mark.parametrize("counts", [None, torch.arange(60) % 3 + 1])
def test_every_family_is_fitted_there(counts: Tensor | None) -> None:
    spread = None if counts is None else torch.ones(60)
    rows = replace(ROWS, counts=counts, spread=spread)
    families = ("networks", "kernel", "anova")
    config = EstimatorConfig(members=2, hidden=(8,), families=families, **SHORT)
    with pretended_card():
        ensemble = new_ensemble(SPACE, SPEC, config, seed=0, rows=len(rows)).to(CARD)
        fit_estimator(ensemble, rows.to(CARD), config=config, seed=0)
        assert on_card(ensemble)


def test_a_teacher_is_learnt_where_the_rows_are() -> None:
    config = EstimatorConfig(members=2, hidden=(8,), families=("networks", "anova"), **SHORT)

    def teacher(codes: Tensor, context: Tensor | None) -> Tensor:
        assert codes.device == torch.device("cpu")
        return codes.sum(-1)

    with pretended_card():
        student, _ = learn_teacher(
            SPACE, teacher, ROWS.to(CARD), context=SPEC, count=100, config=config
        )
        assert on_card(student)


@pytest.mark.skipif(not has_trees(), reason="needs the extra trees")
def test_trees_are_fitted_on_the_cpu_and_written_there() -> None:
    with pretended_card():
        model = AnovaEnsemble(SPACE, members=2).to(CARD)
        weights = torch.ones(2, 60, device=CARD)
        weights[:, ::5] = 0
        assert fit_trees(model, CODES.to(CARD), ROWS.scores.to(CARD), weights, seed=0)
        assert on_card(model)
        there = model(CODES.to(CARD)).cpu()
    at_home = AnovaEnsemble(SPACE, members=2)
    fit_trees(at_home, CODES, ROWS.scores, weights.clone(), seed=0)
    assert torch.equal(there, at_home(CODES))


def test_tables_of_effects_are_the_same() -> None:
    def fitted(device: torch.device) -> Tensor:
        model = AnovaEnsemble(SPACE, groups=anova_groups(SPACE.sizes, 60), members=1).to(device)
        weights = torch.ones(1, 60, device=device)
        fit_anova(model, CODES.to(device), ROWS.scores.to(device), weights)
        return model(CODES.to(device)).cpu()

    with pretended_card():
        there = fitted(CARD)
    assert torch.equal(there, fitted(torch.device("cpu")))


@pytest.mark.parametrize("loss", ["rank_n_contrast", "sup_con", "acc_con", "nt_xent", "mined"])
def test_an_aligner_is_fitted_there(loss: str) -> None:
    config = AlignerConfig(loss=loss, mined_share=0.5, pseudo_labels=0.3, **SHORT)
    with pretended_card():
        ensemble = new_ensemble(SPACE, SPEC, EstimatorConfig(members=2, hidden=(8,)), seed=0)
        aligner = Aligner(ensemble.to(CARD), 4).to(CARD)
        fit_aligner(aligner, ROWS.to(CARD), config=config, seed=0)
        assert on_card(aligner)


@pytest.mark.parametrize("kind", ["factorised", "autoregressive"])
def test_policies_learn_there_by_likelihood_preferences_rewards_and_a_law(kind: str) -> None:
    with pretended_card(), isolated_seed(0):
        rows = replace(ROWS, scores=torch.ones(60)).to(CARD)

        def policy() -> Generator | AutoregressiveGenerator:
            made = (
                Generator(SPACE, SPEC, hidden=(8,))
                if kind == "factorised"
                else AutoregressiveGenerator(SPACE, SPEC, hidden=(8,))
            )
            return made.to(CARD)

        def reward(codes: Tensor, context: Tensor | None) -> Tensor:
            return codes.sum(-1).float()

        contexts = rows.context[:2]
        reference = policy()
        fit_reproduction(reference, rows, config=ReproductionConfig(**SHORT), seed=0)
        pairs = Preferences(CODES, CODES.flip(0), torch.arange(60) % 3, CONTEXT).to(CARD)
        fit_dpo(policy(), pairs, reference, config=DPOConfig(**SHORT), seed=0)
        for algorithm in ("leave_one_out", "a2c", "ppo"):
            settings = ReinforceConfig(
                algorithm=algorithm, steps=2, group=8, batch_size=2, memory=2, kl="k2"
            )
            reinforce(policy(), reward, contexts, config=settings)
        target = RewardWeighted(reference, reward, 1.0)
        learner = policy()
        distill(learner, target, context=contexts, config=DistillConfig(steps=2, samples=8))
        assert on_card(learner)


def test_a_model_of_preferences_is_fitted_there() -> None:
    config = PreferenceConfig(members=2, hidden=(8,), **SHORT)
    pairs = Preferences(CODES, CODES.flip(0), torch.arange(60) % 3, CONTEXT)
    with pretended_card():
        model = new_preference_model(SPACE, SPEC, config, seed=0).to(CARD)
        fit_preference_model(model, pairs.to(CARD), config=config, seed=0)
        assert on_card(model)
