"""Layers exported to ONNX draw the rows that they draw here, in law."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from discrete_grad import CategoricalSpace, GumbelSoftmax, ReinMax, Relaxation, StraightThrough
from tests.goodness import assert_law

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnx, onnxscript and onnxruntime")
pytest.importorskip("onnxscript", reason="needs onnx, onnxscript and onnxruntime")

SPACE = CategoricalSpace.from_sizes((2, 3))
LOGITS = torch.tensor([0.0, 1.0, -torch.inf, 0.5, -0.5])
# one of each kind of noise and of surrogate: an export takes seconds, and test_sampling.py sees
# that all noise is of operations that have a name in ONNX
LAYERS: list[type[Relaxation]] = [GumbelSoftmax, ReinMax, StraightThrough]


class Together(nn.Module):
    """The rows of all layers for the same logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(SPACE) for kind in LAYERS)

    def forward(self, logits: Tensor) -> list[Tensor]:
        return [layer(logits) for layer in self.layers]


@pytest.fixture(scope="module")
def rows() -> list[Tensor]:
    """20,000 rows by each layer, drawn by another runtime at another batch size."""
    together, example = Together().eval(), LOGITS.expand(3, -1).clone()
    program = torch.onnx.export(
        together, (example,), dynamo=True, dynamic_shapes=({0: Dim("batch")},), verbose=False
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (given,) = session.get_inputs()
    return [torch.from_numpy(x) for x in session.run(None, {given.name: many().numpy()})]


def many() -> Tensor:
    return LOGITS.expand(20_000, -1)


# the exporter's own
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", LAYERS)
def test_rows_of_another_runtime(kind: type[Relaxation], rows: list[Tensor]) -> None:
    row = rows[LAYERS.index(kind)]
    codes = SPACE.argmax(row)
    assert torch.equal(row, SPACE.one_hot(codes))
    assert_law(SPACE, LOGITS, codes)
