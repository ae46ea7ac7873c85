"""Several rules together: which rows they allow, and their law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from discrete_grad.rules._automaton import Automaton
from discrete_grad.rules._compile import Numbered, TooLargeError, compiled
from discrete_grad.rules._masks import has_masks, masks_of
from discrete_grad.rules._order import OppositeError
from discrete_grad.rules._terms import Terms
from discrete_grad.rules._wording import listed, share, spelt
from discrete_grad.rules.law import Law
from discrete_grad.rules.rule import Rule
from discrete_grad.rules.scope import Scope
from discrete_grad.rules.steps import Steps
from discrete_grad.space import CategoricalSpace, can_inspect, is_codes

__all__ = ["Rules"]


class Rules:
    """Rules that a row must obey together, compiled to one automaton.

    The automaton reads a feature after the other and remembers what matters for the rest; states
    that allow the same rest are one. It stays small where each rule speaks of few features, or
    counts or sums over many. All that is asked of the rules is exact, whatever the number of rows.

    Args:
        space: of the rows.
        rules: from none, which allows every row, to many.
        context: space of categorical context columns that the rules speak of beside the features.
        max_states: limit to the number of states between two features.

    Raises:
        ValueError: for an unknown feature or category; rules that contradict each other, which are
            named; an automaton above the limit, with the rules that make it large.

    Example:
        >>> from discrete_grad.rules import Forbid, Imply
        >>> space = CategoricalSpace({"base": ["NaH", "KOH"], "solvent": ["water", "THF"]})
        >>> rules = Rules(space, [Forbid({"base": "NaH", "solvent": "water"})])
        >>> rules.num_rows, rules.allows(torch.tensor([[0, 0], [0, 1]]))
        (3, tensor([False,  True]))
        >>> rules.explain(torch.tensor([0, 0]))
        ('never base=NaH & solvent=water; the row has base=NaH, solvent=water',)
    """

    def __init__(
        self,
        space: CategoricalSpace,
        rules: Sequence[Rule] = (),
        *,
        context: CategoricalSpace | None = None,
        max_states: int = 10_000,
    ) -> None:
        if not isinstance(space, CategoricalSpace):
            raise TypeError(f"space must be a CategoricalSpace, got {space!r}")
        if isinstance(rules, Rule):
            raise TypeError(f"rules must be a list of rules, got {rules!r} alone")
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"rules must be Fix, Forbid, AtMost, ..., got {rule!r}")
        if context is not None and (both := set(context.names) & set(space.names)):
            raise ValueError(f"{min(both)!r} is both a context column and a feature")
        self.space, self.rules, self.context = space, tuple(rules), context
        self.max_states = max_states
        self._scope = Scope(space, context)
        self._whole = self._scope.whole
        self._numbered = [
            Numbered(number, part)
            for number, rule in enumerate(self.rules)
            for part in rule._parts(self._scope)
        ]
        automaton = self._compiled()
        self._terms = Terms(space, self._whole, automaton, self._numbered, max_states)
        self._alone: dict[int, Automaton] = {}

    @property
    def num_rows(self) -> int:
        """Number of rows allowed, an exact integer; with a context, of pairs of context and row."""
        return self._terms.automaton.num_rows

    @property
    def states(self) -> tuple[int, ...]:
        """Number of states of the automaton before each feature it reads, and behind the last."""
        return self._terms.automaton.states

    @property
    def order(self) -> tuple[str, ...]:
        """Features, context columns among them, in the order in which the automaton reads them."""
        return tuple(self._whole.names[place] for place in self._terms.automaton.order)

    def allows(self, codes: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Whether each row of codes `(..., F)` obeys, `(...)`.

        Args:
            codes: `(..., F)`.
            context: codes `(..., C)` of the context columns, where the rules have any.
        """
        return self._terms.automaton.run(self._with_context(codes, context))

    def explain(self, codes: Tensor, *, context: Tensor | None = None) -> tuple[str, ...]:
        """A sentence for each rule that a row breaks: what it says, and what the row has.

        Args:
            codes: `(F,)`.
            context: `(C,)`, where the rules have a context.

        Raises:
            ValueError: for more than one row.
        """
        if codes.dim() != 1:
            shape = tuple(codes.shape)
            raise ValueError(f"codes must be one row ({self.space.num_features},), got {shape}")
        row = self._with_context(codes, context)
        broken = [n for n in range(len(self.rules)) if not self._one(n).run(row)]
        values = row.tolist()
        return tuple(
            f"{self.rules[n].words()}; the row has {self.rules[n]._seen(self._scope, values)}"
            for n in broken
        )

    def enumerate(self, *, max_rows: int = 1_000_000) -> Tensor:
        """Codes `(num_rows, F)` of every row allowed, the last feature fastest.

        Raises:
            ValueError: for more than `max_rows` rows, or rules with a context.
        """
        if self.context is not None:
            raise ValueError("the rows allowed depend on the context: they are not one list")
        if self.num_rows > max_rows:
            count = spelt(self.num_rows)
            raise ValueError(f"the rules allow {count} rows, more than max_rows={max_rows:,}")
        return self._terms.automaton.enumerate()

    def condition(self, logits: Tensor, *, context: Tensor | None = None) -> Law:
        """The law of independent features given that the row obeys.

        Args:
            logits: `(*batch, D)`; `-inf` forbids a category.
            context: codes `(*batch, C)` of the context columns, where the rules have any.

        Raises:
            ValueError: for logits that do not fit, or whose masks leave no row that obeys: it names
                the element of the batch and the rules. Values are looked at only where that costs
                no device synchronisation; elsewhere such an element has a law of log Z = -inf.
        """
        self.space.check_logits(logits)
        if (context is None) != (self.context is None):
            raise ValueError(f"the rules' context is {self.context}, got {_shape(context)}")
        if context is not None and self.context is not None:
            self.context.check_codes(context)
            if context.shape[:-1] != logits.shape[:-1]:
                shapes = f"{_shape(context)} and {_shape(logits)}"
                raise ValueError(f"context and logits must have the same batch, got {shapes}")
        law = Law(self._terms, logits, context)
        # without masks or a context a row is possible, since the rules allow one
        doubtful = can_inspect(logits) if context is not None else has_masks(logits)
        if doubtful and not (possible := law.possible()).all():
            self._refuse(logits, context, (~possible).nonzero()[0].tolist())
        return law

    def steps(self, order: Sequence[int] | None = None) -> Steps:
        """Categories allowed at each step when a row is written feature by feature.

        Args:
            order: places of the features as they are written; None means their own order. Context
                columns are read first.

        Raises:
            ValueError: for an order that is none, that runs against a sequence of the rules, or in
                which the automaton is above the limit.
        """
        own = tuple(range(self.space.num_features)) if order is None else tuple(order)
        if sorted(own) != list(range(self.space.num_features)):
            raise ValueError(f"order must hold each of 0 to {len(self.space.sizes) - 1}, got {own}")
        hidden = self._scope.hidden
        whole = (*range(hidden), *(hidden + place for place in own))
        known = self._terms.automaton
        return Steps(self.space, known if known.order == whole else self._compiled(whole), own)

    def check_masks(self, logits: Tensor) -> None:
        """Raise as `condition` does if the masks of logits `(*batch, D)` leave no row that obeys.

        At no cost for logits without masks.
        """
        if has_masks(logits):
            self.condition(logits)

    def describe(self) -> str:
        """The rules in words, the number of rows they allow, and the size of the automaton."""
        total = self._whole.num_rows
        part = share(self.num_rows, total)
        lines = [f"{spelt(self.num_rows)} of {spelt(total)} rows allowed ({part})"]
        lines += [f"  {rule.words()}" for rule in self.rules]
        lines.append(f"automaton: {sum(self.states):,} states, at most {max(self.states):,}")
        lines.append(f"  {' '.join(map(str, self.states))}")
        if self.order != self._whole.names:
            lines.append(f"  read in the order {', '.join(self.order)}")
        return "\n".join(lines)

    def _with_context(self, codes: Tensor, context: Tensor | None) -> Tensor:
        """Codes of the row after those of the context, both checked."""
        self.space.check_codes(codes)
        if (context is None) != (self.context is None):
            raise ValueError(f"the rules' context is {self.context}, got {_shape(context)}")
        if context is None or self.context is None:
            return codes
        self.context.check_codes(context)
        shape = torch.broadcast_shapes(codes.shape[:-1], context.shape[:-1])
        return torch.cat([context.expand(*shape, -1).to(codes), codes.expand(*shape, -1)], -1)

    def _compiled(self, order: tuple[int, ...] | None = None) -> Automaton:
        try:
            found = compiled(self._whole.sizes, self._numbered, self.max_states, order=order)
        except OppositeError:
            several = {n.rule for n in self._numbered if n.part.sequences}
            named = listed([self.rules[n] for n in sorted(several)])
            raise ValueError(f"features are read in opposite directions by {named}") from None
        except TooLargeError as error:
            named = listed([self.rules[n] for n in sorted(error.rules)])
            raise ValueError(
                f"the automaton needs {error.states:,} states between two features, more than "
                f"max_states={self.max_states:,}, for {named}; raise max_states, or state fewer or "
                "coarser rules"
            ) from None
        if found is None:
            fewest = self._fewest(lambda kept: self._possible(kept, []))
            what = "this rule allows" if len(fewest) == 1 else "these rules together allow"
            raise ValueError(f"{what} no row: {listed(fewest)}")
        return found

    def _fewest(self, possible: Callable[[list[int]], bool]) -> list[Rule]:
        """Rules that leave no row, of which none can be left out."""
        kept = list(range(len(self.rules)))
        for number in range(len(self.rules)):
            fewer = [n for n in kept if n != number]
            if not possible(fewer):
                kept = fewer
        return [self.rules[n] for n in kept]

    def _possible(self, kept: Sequence[int], masks: Sequence[Numbered]) -> bool:
        """Whether some of the rules allow a row."""
        numbered = [n for n in self._numbered if n.rule in kept]
        try:
            return compiled(self._whole.sizes, [*numbered, *masks], self.max_states) is not None
        except TooLargeError:
            return True

    def _one(self, number: int) -> Automaton:
        """The automaton of one rule."""
        if number not in self._alone:
            numbered = [n for n in self._numbered if n.rule == number]
            found = compiled(self._whole.sizes, numbered, self.max_states)
            assert found is not None  # the rules together allow a row
            self._alone[number] = found
        return self._alone[number]

    def _refuse(self, logits: Tensor, context: Tensor | None, place: list[int]) -> None:
        """Say which rules leave no row of an element's logits."""
        masks = masks_of(self._scope, logits[tuple(place)], context, tuple(place))
        fewest = self._fewest(lambda kept: self._possible(kept, masks))
        where = f" of element {', '.join(map(str, place))} of the batch" if place else ""
        given = "" if context is None else " in its context"
        raise ValueError(
            f"the masks (-inf) of the logits{where}{given} leave no row that obeys {listed(fewest)}"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rules) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.space, frozenset(self.rules), self.context  # the order says nothing

    def __deepcopy__(self, memo: dict[int, Any]) -> Rules:
        return self  # nothing of it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.space, self.rules, self.context, self.max_states)

    def __repr__(self) -> str:
        of = "" if self.context is None else f", context={self.context}"
        return f"Rules({self.space}, {list(self.rules)}{of})"


def _made(
    space: CategoricalSpace,
    rules: Sequence[Rule],
    context: CategoricalSpace | None,
    max_states: int,
) -> Rules:
    return Rules(space, rules, context=context, max_states=max_states)


def _shape(tensor: Tensor | None) -> str:
    if tensor is None:
        return "none"
    return f"{'codes' if is_codes(tensor) else tensor.dtype} {tuple(tensor.shape)}"
