"""Models of other libraries, softened as they are; each needs its library (extra `zoo`)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften
from tests.strategies import random_logits

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend

SPACE = CategoricalSpace({"cut": 3, "colour": 4, "shape": 2, "size": 5})
TOKENS = CategoricalSpace.from_sizes((11,) * 6)


class Around(nn.Module):
    """A model and how it is called with codes."""

    def __init__(self, model: nn.Module, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, codes: Tensor) -> Tensor:
        return self.call(self.model, codes)


def check(
    model: nn.Module, space: CategoricalSpace = SPACE, step: float = 1e-6, rtol: float = 1e-5
) -> None:
    """Values on one-hot rows; and the derivative along a direction, by differences in float64."""
    torch.manual_seed(0)
    model = model.double().eval()
    soft = soften(model, space)
    sizes = torch.tensor(space.sizes)
    codes = (torch.rand(5, len(sizes), generator=torch.Generator().manual_seed(1)) * sizes).long()
    with torch.no_grad():
        expected = model(codes)
        assert torch.equal(soft(codes), expected)
        assert_close(soft(space.one_hot(codes, dtype=torch.float64)), expected)
    row = space.softmax(random_logits(space, (5,))).requires_grad_()
    other = space.softmax(random_logits(space, (5,), generator=2))
    value = soft(row).square().sum()
    (gradient,) = torch.autograd.grad(value, row)
    assert gradient.any()
    towards = (other - row).detach()
    with torch.no_grad():
        ahead, behind = (soft(row + sign * step * towards).square().sum() for sign in (1, -1))
    assert_close((gradient * towards).sum(), (ahead - behind) / (2 * step), rtol=rtol, atol=1e-7)


# --- torchfm --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "options"),
    [
        ("lr", "LogisticRegressionModel", ()),
        ("fm", "FactorizationMachineModel", (4,)),
        ("dfm", "DeepFactorizationMachineModel", (4, (8,), 0.1)),
        ("ffm", "FieldAwareFactorizationMachineModel", (4,)),
        ("wd", "WideAndDeepModel", (4, (8,), 0.1)),
        ("dcn", "DeepCrossNetworkModel", (4, 2, (8,), 0.1)),
        ("xdfm", "ExtremeDeepFactorizationMachineModel", (4, (8,), 0.1, (4, 4))),
        ("nfm", "NeuralFactorizationMachineModel", (4, (8,), (0.1, 0.1))),
        ("afi", "AutomaticFeatureInteractionModel", (4, 4, 2, 1, (8,), (0.1, 0.1, 0.1))),
    ],
)
def test_torchfm(module: str, name: str, options: tuple[Any, ...]) -> None:
    models = pytest.importorskip(f"torchfm.model.{module}")
    check(getattr(models, name)(list(SPACE.sizes), *options))


# --- Hugging Face ---------------------------------------------------------------------------------


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    return transformers.BertModel(config)


def gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=11,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_positions=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    return transformers.GPT2Model(config)


CALLS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "tokens": lambda m, ids: m(ids, attention_mask=torch.ones_like(ids)).last_hidden_state,
    "embeddings": lambda m, ids: m(inputs_embeds=m.get_input_embeddings()(ids)).last_hidden_state,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("model", [bert, gpt2])
def test_hugging_face(
    model: Callable[[], nn.Module], call: Callable[[Any, Tensor], Tensor]
) -> None:
    check(Around(model(), call), TOKENS)


def test_a_padding_token_needs_the_value_of_a_code() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=11, n_embd=8, n_layer=1, n_head=2, n_positions=8, pad_token_id=0
    )
    model = transformers.GPT2ForSequenceClassification(config)
    with pytest.raises(TypeError, match=r"'(contains|ne)' in '.*pad_token_id.*' .*inputs_embeds"):
        soften(model, TOKENS)(torch.rand(2, TOKENS.width))


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [0, 2])
def test_tab_transformer_pytorch(numbers: int) -> None:
    library = pytest.importorskip("tab_transformer_pytorch")
    model = library.FTTransformer(
        categories=SPACE.sizes, num_continuous=numbers, dim=8, dim_out=1, depth=1, heads=2
    )
    x_num = torch.rand(5, numbers, dtype=torch.float64)
    # parts of it compute in float32
    check(Around(model, lambda m, codes: m(codes, x_num)), step=1e-2, rtol=1e-2)


def test_deepctr_torch() -> None:
    inputs = pytest.importorskip("deepctr_torch.inputs")
    models = pytest.importorskip("deepctr_torch.models")
    pairs = zip(SPACE.names, SPACE.sizes, strict=True)
    columns = [inputs.SparseFeat(name, size, embedding_dim=4) for name, size in pairs]
    model = models.DeepFM(columns, columns, dnn_hidden_units=(8,))
    check(Around(model, lambda m, codes: m(codes.double())))


@pytest.mark.parametrize("name", ["FTTransformer", "ResNet"])
def test_pytorch_frame(name: str) -> None:
    frame = pytest.importorskip("torch_frame")
    count = pytest.importorskip("torch_frame.data.stats").StatType.COUNT
    encoder = pytest.importorskip("torch_frame.nn.encoder").EmbeddingEncoder
    pairs = zip(SPACE.names, SPACE.sizes, strict=True)
    statistics = {n: {count: (list(range(k)), list(range(k, 0, -1)))} for n, k in pairs}
    kind, names = frame.stype.categorical, {frame.stype.categorical: list(SPACE.names)}
    model = getattr(frame.nn, name)(
        channels=8,
        out_channels=1,
        num_layers=1,
        col_stats=statistics,
        col_names_dict=names,
        stype_encoder_dict={kind: encoder()},
    )
    check(Around(model, lambda m, codes: m(frame.TensorFrame({kind: codes}, names))))


def test_einops() -> None:
    einops = pytest.importorskip("einops")
    layers = pytest.importorskip("einops.layers.torch")

    class Rearranged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.turn = nn.Embedding(5, 3), layers.Rearrange("n f -> f n")

        def forward(self, codes: Tensor) -> Tensor:
            line = self.table(einops.rearrange(codes, "n f -> (n f) 1"))
            twice = self.table(einops.repeat(codes, "n f -> n f two", two=2))
            turned = self.table(self.turn(codes))
            both = einops.rearrange(line, "(n f) 1 e -> n f e", f=4) * twice.sum(2)
            return einops.reduce(both + turned.transpose(0, 1), "n f e -> n", "sum")

    check(Rearranged())
