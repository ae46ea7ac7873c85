"""Goodness of fit: does a sample follow a law?"""

from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.testing._goodness import g_test, joint_counts, joint_law

__all__ = ["FALSE_ALARM", "assert_law", "g_test"]

# chance that a correct law is rejected, by one test, over the choice of its seed; the seeds are
# fixed, so a test that passes once passes for ever
FALSE_ALARM = 1e-9


def assert_law(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> None:
    """Fail unless codes `(n, F)` follow `softmax(logits)`, jointly over the features."""
    p_value = g_test(joint_counts(space, codes), joint_law(space, logits))
    assert p_value > FALSE_ALARM, f"the rows do not follow softmax(logits): p = {p_value:.1e}"
