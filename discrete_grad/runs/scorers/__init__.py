"""Scorers of one's own: what a fit takes in place of the estimators that it would train."""

from discrete_grad.runs.scorers.scorer import OwnScorer

__all__ = ["OwnScorer"]
