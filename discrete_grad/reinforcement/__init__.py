"""Policy gradients, replay, rewards and distillation."""

from discrete_grad.fitting.descent import DistillConfig
from discrete_grad.reinforcement.algorithms import ALGORITHMS, Algorithm
from discrete_grad.reinforcement.distill import Sampler, distill
from discrete_grad.reinforcement.distill_teacher import distill_guidance, distill_rows
from discrete_grad.reinforcement.policy_objective import Potential
from discrete_grad.reinforcement.reinforce import PolicyCallback, Progress, reinforce
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig
from discrete_grad.reinforcement.replay import RowMemory, memory_weights
from discrete_grad.reinforcement.rewards import (
    RunningScale,
    adversarial_reward,
    aligner_reward,
    nearest_distance,
    table_reward,
    weighted_reward,
)
from discrete_grad.reinforcement.value import ContextValue, StepValue

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "ContextValue",
    "DistillConfig",
    "PolicyCallback",
    "Potential",
    "Progress",
    "ReinforceConfig",
    "RowMemory",
    "RunningScale",
    "Sampler",
    "StepValue",
    "adversarial_reward",
    "aligner_reward",
    "distill",
    "distill_guidance",
    "distill_rows",
    "memory_weights",
    "nearest_distance",
    "reinforce",
    "table_reward",
    "weighted_reward",
]
