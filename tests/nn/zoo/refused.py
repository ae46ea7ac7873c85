"""Models that need the value of a code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nn.zoo.bags import Bag
from tests.nn.zoo.base import SPACE, OneTable, refused
from tests.nn.zoo.columns import Columns

VALUE = "needs the value of a code"


def reads(operation: str, line: str, features: str = ".*") -> str:
    """Pattern of the message for an operation in a line."""
    return rf"soften: '{operation}' in '.*{line}.*' \(feature {features}\) {VALUE}.*on_codes.*"


@refused(reads("bool", r"if \(codes\[:, 0\]", ".*") + "|" + reads("gt", "codes", "'cut'"))
class BranchOnValues(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        if (codes[:, 0] > 1).any():
            codes = codes.flip(0)
        return super().forward(codes)


@refused(reads("gt", "codes"))
class NestedBranch(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.inner = BranchOnValues(body)

    def forward(self, codes: Tensor) -> Tensor:
        return self.inner(codes)


@refused(reads("mul", r"codes \* 2"))
class Product(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes * 2)


@refused(reads("add", r"codes\[:, 0\] \+ codes\[:, 2\]"))
class SumOfCodes(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + self.tables[1](codes[:, 0] + codes[:, 2]).sum(-1)


@refused(reads("eq", "== 1", "'shape'"))
class Comparison(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * (codes[:, 2] == 1)


@refused(reads("eq", "arange"))
class OneHotByComparison(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        flags = codes[:, 1].unsqueeze(-1) == torch.arange(4)
        return super().forward(codes) + flags.float().sum(-1)


@refused(reads("sum", "float"))
class RawValues(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + codes.float().sum(-1)


@refused(reads("truediv", "/ 4"))
class Standardised(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + (codes[:, 1] / 4)


@refused(reads("linear", "linear"))
class ValuesToLinear(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return F.linear(codes.float(), torch.ones(1, 3)).squeeze(-1)


@refused("'return' .* hands on the codes")
class Returned(Columns):
    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(codes), codes


@refused(reads("mod", "% 5"))
class Hashed(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table((codes + self.offsets) % 5))


@refused(reads("floordiv", "// 2"))
class Halved(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes // 2))


@refused(reads("neg", "-codes"))
class Negated(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(-codes + 8))


@refused(reads("and", "& 1"))
class Bits(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes & 1))


@refused(reads("item", "item"))
class Item(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * codes[0, 0].item()


@refused(reads("tolist", "tolist"))
class Listed(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return torch.stack([self.tables[0].weight[k].sum() for k in codes[:, 0].tolist()])


@refused(reads("int", "int"))
class Numbered(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * int(codes[0, 0])


@refused(reads("hash", "seen"))
class AskedOfASet(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        seen = {codes}
        return super().forward(codes) * len(seen)


@refused(reads("numpy", "numpy"))
class ToNumpy(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(torch.from_numpy(codes.numpy()))


@refused(reads("max", "max"))
class CheckedByMaximum(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        assert codes.max() < 4
        return super().forward(codes)


@refused(reads("sort", "sort"))
class Sorted(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes.sort(1).values))


@refused(reads("unique", "unique"))
class Unique(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * len(torch.unique(codes))


@refused(reads("bucketize", "bucketize"))
class Bucketed(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + torch.bucketize(codes[:, 1], torch.tensor([1, 3]))


@refused(reads("scatter", "scatter"))
class Scattered(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        flags = torch.zeros(len(codes), 4).scatter(1, codes[:, 1:2], 1.0)
        return super().forward(codes) + flags.sum(-1)


@refused(reads("equal", "equal"))
class Compared(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * float(torch.equal(codes, codes.flip(0)))


@refused(reads("pow", r"\*\* 2"))
class Powered(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + codes[:, 0] ** 2


@refused(reads("bool", "bool"))
class Flags(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * codes[:, 2].bool()


@refused(r"'clamp' in '.*' \(feature 'colour'\) has bounds that codes can pass: .* 0 to 3")
class Clamped(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + self.tables[1](codes[:, 1].clamp(max=2)).sum(-1)


@refused("'one_hot' .* counts the categories in the batch; give num_classes")
class OneHotOfAnySize(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + F.one_hot(codes[:, 1]).sum(-1)


@refused(reads("bool", "one_hot", "'colour'"))
class OneHotFlags(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * F.one_hot(codes[:, 1], 4).bool().any(-1)


@refused(reads("to", "torch.bool", "'colour'"))
class OneHotToFlags(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * F.one_hot(codes[:, 1], 4).to(torch.bool).any(-1)


@refused(reads("argmax", "one_hot", "'colour'"))
class OneHotBack(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + F.one_hot(codes[:, 1], 4).argmax(-1)


@refused(reads("gt", "one_hot"))
class OneHotCompared(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) * (F.one_hot(codes[:, 1], 4) > 0).any(-1)


@refused("'getitem' .* looks up bool values")
class LooksUpFlags(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        flags = torch.tensor([True, False, True, False])
        return super().forward(codes) * flags[codes[:, 1]]


@refused(reads("getitem", "range"))
class IndexedByTwo(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + torch.arange(24)[codes[:, 0], None, codes[:, 1]]


@refused("'embedding' .* has sparse=True")
class Sparse(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.tables[1].sparse = True


@refused("'embedding' .* has scale_grad_by_freq=True")
class ScaledByFrequency(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.tables[1].scale_grad_by_freq = True


@refused(r"'embedding_bag' .* leaves out a code \(padding_idx=3\) in the mode 'mean'")
class BagMeanPadded(Bag):
    mode, padding = "mean", 3


@refused("'add_' .* changes codes in place that share memory")
class InPlaceOnAView(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        codes[:, 1].add_(3)
        return self.score(self.table(codes))


@refused("'setitem' .* changes codes in place that share memory")
class AssignedOnAView(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        last = codes[:, 2]
        codes[:, 1] = last
        return self.score(self.table(codes))


@refused(r"'embedding' .* has 3 rows; feature 'colour' needs rows 0 to 3")
class SmallTable(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.tables[1] = nn.Embedding(3, 2)


@refused(r"'embedding' .* has 9 rows; feature 'shape' needs rows 8 to 9")
class OffsetTooLarge(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + torch.tensor([0, 3, 8])))


@refused(r"'one_hot' .* has 3 rows; feature 'colour' needs rows 0 to 3")
class OneHotTooSmall(Columns):
    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + F.one_hot(codes[:, 1], 3).sum(-1)


@refused(r"codes\['cut'\].* takes a column by its name; soften\(..., columns='dict'\)")
class DictWithoutColumns(Columns):
    def forward(self, row: dict[str, Tensor]) -> Tensor:
        return super().forward(torch.stack([row[name] for name in SPACE.names], 1))
