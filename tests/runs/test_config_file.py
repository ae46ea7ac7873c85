"""Files that configure a fit: what is written reads back, and what is wrong is named."""

import json
import math
import os
import re
import tomllib
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.fitting import EstimatorConfig
from discrete_grad.preferences.dpo import DPOConfig
from discrete_grad.reinforcement import ReinforceConfig
from discrete_grad.runs import FitConfig, config_text, read_config
from discrete_grad.runs._warm import shorter
from discrete_grad.runs.config_file import as_type
from discrete_grad.runs.settings import _texts, flatten, sections, settings, with_settings
from discrete_grad.training import RunError

# words that begin no help text: "Of the rows ...", "How far ...", "The highest."
VAGUE = {"A", "An", "For", "How", "If", "In", "It", "Its", "Of", "The", "Their", "These", "This"}
VAGUE |= {"What", "When", "Where", "Which", "Who"}


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "fit.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def message(folder: Path, text: str | bytes) -> str:
    """The error of a file, without the folder."""
    path = written(folder, text)
    with pytest.raises(RunError) as caught:
        read_config(path)
    return str(caught.value).replace(str(path), "fit.toml")


def test_all_settings_are_written_with_their_texts(tmp_path: Path) -> None:
    text = config_text(FitConfig())
    assert read_config(written(tmp_path, text)) == FitConfig()
    joined = re.sub(r"\n# ", " ", text)
    for setting in settings().values():
        assert setting.text in joined, setting.name
    for name, comment in sections().items():
        assert f"{comment}\n[{name}]" in joined
    assert '# Choices: mean, median, min.\ncombine = "mean"' in text
    assert "# tau = (not set)" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    # the commented one is the only one that is missing
    values = tomllib.loads(text)
    count = sum(len(part) if isinstance(part, dict) else 1 for part in values.values())
    assert count == len(settings()) - 1


@st.composite
def configs(draw: st.DrawFn) -> FitConfig:
    """Configurations of any values of the right types; they need not make sense."""
    values: dict[str, Any] = {}
    numbers = st.floats(allow_nan=False, allow_infinity=False)
    kinds = {bool: st.booleans(), int: st.integers(), float: numbers, str: st.text()}
    kinds[str] = st.text(st.characters(codec="utf-8"))
    for setting in settings().values():
        if setting.choices:
            one: st.SearchStrategy[Any] = st.sampled_from(setting.choices)
        else:
            one = kinds.get(
                setting.type, numbers if "float" in str(setting.type) else st.integers()
            )
        many = "tuple" in str(setting.type)
        values[setting.name] = draw(st.lists(one, max_size=3).map(tuple) if many else one)
    return with_settings(FitConfig(), values)


@hypothesis.settings(max_examples=20)  # each has a value of every setting
@given(configs())
def test_what_is_written_reads_back(config: FitConfig) -> None:
    parsed = flatten_toml(tomllib.loads(config_text(config)))
    values = {name: as_type(value, settings()[name].type) for name, value in parsed.items()}
    assert with_settings(FitConfig(), values) == config


def flatten_toml(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        nested = isinstance(value, dict)
        flat |= flatten_toml(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def test_what_is_left_out_has_its_default_and_whole_numbers_may_be_given_as_numbers(
    tmp_path: Path,
) -> None:
    text = "\ufeffjudge.steps = 5\n[generator]\ntau = 1\nhidden = []\n[estimator]\ndropout = 0\n"
    config = read_config(written(tmp_path, text.replace("hidden = []\n", "")))
    usual = FitConfig()
    assert config.judge == replace(usual.judge, steps=5)
    assert config.judge.members == 2
    assert config == with_settings(usual, {"judge.steps": 5, "generator.tau": 1.0})
    assert type(config.generator.tau) is type(config.estimator.dropout) is float
    assert message(tmp_path, text) == "fit.toml: generator.hidden must be at least 1, got ()"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("estimator.memebrs = 3", "estimator.memebrs in fit.toml: did you mean estimator.members?"),
        (
            "[estimator]\nmembrs = 3",
            "estimator.membrs in fit.toml: did you mean estimator.members?",
        ),
        ("sed = 3", "sed in fit.toml: did you mean seed?"),
        ("[generatr]\nsteps = 3", "generatr in fit.toml: did you mean generator?"),
        ("[generator]\nlearning-rate = 1", "did you mean generator.learning_rate?"),
        ("[generator]\ndropout = 0.1", "did you mean estimator.dropout or judge.dropout or"),
        ("projection_dim = 8", "projection_dim in fit.toml: did you mean aligner.projection_dim?"),
        ("zzz = 1", "zzz in fit.toml: did you mean "),
        ("'' = 1", " in fit.toml: did you mean "),
        ("estimator.members.x = 1", "estimator.members in fit.toml must be a whole number"),
        ("estimator = 3", "estimator in fit.toml must be a table [estimator], got 3"),
        ("[[estimator]]\nsteps = 3", "estimator in fit.toml must be a table [estimator], got [{"),
        ("seed = 'a'", "seed in fit.toml must be a whole number, got 'a'"),
        ("seed = 1.0", "seed in fit.toml must be a whole number, got 1.0"),
        ("seed = true", "seed in fit.toml must be a whole number, got True"),
        ("seed = 1979-05-27", "seed in fit.toml must be a whole number, got datetime.date"),
        ("polish = 1", "polish in fit.toml must be true or false, got 1"),
        ("judge_share = '0.2'", "judge_share in fit.toml must be a number, got '0.2'"),
        ("judge_share = true", "judge_share in fit.toml must be a number, got True"),
        ("generator.tau = 'a'", "generator.tau in fit.toml must be a number, got 'a'"),
        ("generator.gradient_estimator = 3", "must be a text, got 3"),
        ("estimator.hidden = 64", "estimator.hidden in fit.toml must be a list of whole numbers"),
        ("estimator.hidden = [64, 'a']", "must be a list of whole numbers, got [64, 'a']"),
        (
            "maximise = 'best'",
            "maximise in fit.toml must be one of rank, mean, median, raw, got 'best'",
        ),
        ("maximise = ['rank']", "maximise in fit.toml must be one of rank, mean, median, raw"),
        (
            "judge.families = ['tree']",
            "judge.families in fit.toml must be a list of networks, sequences, kernel, pairs, "
            "anova, trees",
        ),
        ("seed = -1", "fit.toml: seed must lie in [0, 2**63), got -1"),
        ("estimator.dropout = 1", "fit.toml: estimator.dropout must be below 1, got 1.0"),
        ("judge_share = nan", "fit.toml: judge_share must lie between 0 and 1, got nan"),
        ("generator.entropy = inf", "generator.entropy must be finite and at least 0, got inf"),
        (f"judge_share = 1{'0' * 400}", "judge_share in fit.toml must be a number"),
        ("seed = 1\nseed = 2", "fit.toml is not TOML: Cannot overwrite a value"),
        (
            '"estimator.steps" = 7',
            '"estimator.steps" in fit.toml is one quoted name: write estimator.steps without',
        ),
        (
            "estimator.batch_size = 100000000000000000000000",
            "fit.toml: estimator.batch_size must be below 2,147,483,648, got 1000",
        ),
        ("judge.hidden = [8, 2147483648]", "fit.toml: judge.hidden must be below 2,147,483,648"),
        ("generator.samples = 9999999999", "fit.toml: generator.samples must be below"),
        ("seed == 1", "fit.toml is not TOML: "),
        ('{"seed": 1}', "fit.toml is not TOML: "),
        ("a = " + "[" * 100_000, "fit.toml is not TOML: "),
        (b"seed = 1 # caf\xe9", "fit.toml is not TOML: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in message(tmp_path, text)


def test_every_unknown_key_beside_a_known_one_names_it(tmp_path: Path) -> None:
    for name in settings():
        wrong = name + "x"
        found = message(tmp_path, f"{wrong} = 1")
        assert found == f"{wrong} in fit.toml: did you mean {name}?"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent\.toml does not exist"):
        read_config(tmp_path / "absent.toml")
    with pytest.raises(RunError, match="is a directory, not a file"):
        read_config(tmp_path)


def test_json_and_settings_hold_the_same_values() -> None:
    assert flatten(FitConfig()) == {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in flatten_toml(json.loads(FitConfig().to_json())).items()
    }
    assert all(math.isfinite(v) for v in flatten(FitConfig()).values() if isinstance(v, float))


def test_runs_made_before_it_could_be_chosen_are_read() -> None:
    for before, now in (("rank", "rank"), ("standard", "mean"), ("raw", "raw")):
        values = asdict(FitConfig())
        del values["maximise"]
        read = FitConfig.from_json(json.dumps({**values, "score_scale": before}))
        assert read.maximise == now
        assert read.score_scale == before


def test_settings_that_runs_did_not_have_yet_are_as_they_were() -> None:
    values = asdict(FitConfig(seed=5))
    for name in ("merge_repeats", "tensorboard", "judge_scorer", "preference"):
        del values[name]
    for part in ("estimator", "judge"):
        for name in ("families", "scaling"):
            del values[part][name]
    del values["generator"]["policy"]
    read = FitConfig.from_json(json.dumps(values))
    assert (read.seed, read.merge_repeats, read.tensorboard) == (5, False, False)
    assert read.judge_scorer == ""
    assert read.preference == FitConfig().preference
    assert (read.estimator.families, read.judge.scaling) == (("networks",), False)
    assert read.generator.policy == "independent"
    del values["seed"]
    with pytest.raises(KeyError, match="seed"):
        FitConfig.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("name", "fine", "wrong", "told"),
    [
        ("seed", (0, 2**63 - 1), (-1, 2**63), "seed must lie in [0, 2**63), got "),
        ("judge_share", (0.001, 0.999), (0.0, 1.0), "judge_share must lie between 0 and 1, got "),
        ("calibration_share", (0.01, 0.99), (0.0, 1.0), "calibration_share must lie between 0 "),
    ],
)
def test_numbers_at_their_bounds(
    name: str, fine: tuple[Any, ...], wrong: tuple[Any, ...], told: str
) -> None:
    for value in fine:
        with_settings(FitConfig(), {name: value}).check()
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
            with_settings(FitConfig(), {name: value}).check()


def test_a_generator_that_goes_on_has_a_third_of_the_steps() -> None:
    for steps, left in ((1, 1), (2, 1), (4, 1), (5, 2), (600, 200)):
        config = with_settings(FitConfig(), {"generator.steps": steps})
        assert shorter(config) == with_settings(config, {"generator.steps": left})


def test_each_part_is_a_config_and_is_named_where_it_is_wrong() -> None:
    for name in ("estimator", "judge", "preference", "aligner", "reproduction", "generator"):
        with pytest.raises(TypeError, match=f"^{name} of a FitConfig must be of class "):
            replace(FitConfig(), **{name: {}}).check()
        with pytest.raises(ValueError, match=rf"^{name}\.steps must be at least 1, got 0$"):
            with_settings(FitConfig(), {f"{name}.steps": 0}).check()


def test_what_cannot_be_maximised_is_refused() -> None:
    FitConfig(maximise="median").check()
    wrong: Any = "mode"
    kernel = EstimatorConfig(families=("kernel", "anova"))
    for name in ("estimator", "judge"):
        told = f"maximise median is learnt by networks alone, {name}.families are {kernel.families}"
        with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
            FitConfig(maximise="median", **{name: kernel}).check()
        FitConfig(maximise="mean", **{name: kernel}).check()
    told = "maximise must be one of ['rank', 'mean', 'median', 'raw'], got 'mode'"
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        FitConfig(maximise=wrong).check()


def test_with_settings_replaces_every_setting_alone() -> None:
    usual = flatten(FitConfig())
    for name in settings():
        changed = flatten(with_settings(FitConfig(), {name: "other"}))
        assert {key for key in usual if usual[key] != changed[key]} == {name}


@pytest.mark.parametrize("cls", [FitConfig, ReinforceConfig, DPOConfig], ids=lambda c: c.__name__)
def test_every_field_has_a_text_that_begins_with_a_noun_or_a_verb(cls: Any) -> None:
    texts = dict(_texts(cls))
    for item in fields(cls):
        value = item.default_factory() if callable(item.default_factory) else None
        texts |= _texts(type(value)) if is_dataclass(value) else {}
        assert item.name in texts, item.name
    for name, text in texts.items():
        assert text.endswith("."), name
        assert re.split(r"\W", text)[0] not in VAGUE, f"{name}: {text}"
        assert text[0].isupper(), f"{name}: {text}"


def test_a_pipe_or_an_empty_device_is_a_file() -> None:
    assert read_config(Path(os.devnull)) == FitConfig()
    reading, writing = os.pipe()
    os.write(writing, b"seed = 3")
    os.close(writing)
    assert read_config(Path(f"/dev/fd/{reading}")).seed == 3
    os.close(reading)
