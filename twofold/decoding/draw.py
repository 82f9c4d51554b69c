"""Drawing the next tokens of many branches at once: the vectorised way of plain sampling.

A decoder asks for it by yielding `Draw`; the engine answers the draws of all requests together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from twofold.decoding.branch import Branch
from twofold.decoding.distribution import Row, check, choose, log_probabilities, update_mirostat
from twofold.decoding.task import Task
from twofold.errors import TwofoldError


@dataclass(slots=True)
class Draw:
    """Draw tokens after each of these branches, as the request's settings say, until it is finished.

    The answer: the finished branches, in order; the same branch may be given several times. Branch i uses the
    i-th stream of the request's randomness. `tell`: as they come.
    """

    branches: Sequence[Branch]
    tell: bool = True


@dataclass(slots=True)
class Drawing:
    """One branch to go on with, which nobody else holds: whose it is, and which randomness it uses."""

    task: Task
    branch: Branch
    stream: int
    tell: bool


def draw(scores_BV: Tensor, drawings: Sequence[Drawing]) -> list[tuple[Drawing, TwofoldError]]:
    """One more token for each, in place, from its row of scores [B, V]; what went wrong with which."""
    rows = [drawing.task.row(drawing.branch) for drawing in drawings]
    tokens, logs = _choose(scores_BV, rows, drawings)
    allowed = allowed_mass(scores_BV, rows)
    best = _alternatives(scores_BV, drawings)
    wrong = []
    for i, (drawing, token, log) in enumerate(zip(drawings, tokens, logs, strict=True)):
        task, branch = drawing.task, drawing.branch
        try:
            if token < 0:
                check(token)
            if task.settings.mirostat is not None:
                branch.mirostat = update_mirostat(task.settings, branch.mirostat, log)
            task.push(branch, token, log, allowed.get(i, 0.0), best.get(i, ()))
            if branch.mask is not None:
                _force(task, branch)
            if drawing.tell:
                task.tell(drawing.stream, branch)
        except TwofoldError as error:
            wrong.append((drawing, error))
    return wrong


def _choose(
    scores_BV: Tensor, rows: Sequence[Row], drawings: Sequence[Drawing]
) -> tuple[list[int], list[float]]:
    """A token for each row, or what `check` refuses, and the model's own log-probability of each."""
    if all(not (row.settings.temperature or row.settings.stages) and row.allowed is None for row in rows):
        return _best(scores_BV)
    tokens_B = choose(scores_BV, rows, [_uniforms(drawing) for drawing in drawings])
    logs_B = log_probabilities(scores_BV, tokens_B.clamp_min(0))
    tokens, logs = torch.stack((tokens_B.double(), logs_B.double())).tolist()  # one transfer
    return [int(token) for token in tokens], logs


def _best(scores_BV: Tensor) -> tuple[list[int], list[float]]:
    """Plain greedy choice, in as few calls as it takes; NumPy's argmax is several times as fast as torch's."""
    logs_BV = scores_BV.log_softmax(-1)
    if scores_BV.is_cuda:
        logs_B, tokens_B = logs_BV.max(-1)
        tokens, logs = torch.stack((tokens_B.double(), logs_B.double())).cpu().numpy()
    else:
        tokens = scores_BV.numpy().argmax(-1)
        logs = logs_BV.numpy()[np.arange(len(tokens)), tokens]
    return np.where(np.isnan(logs), -1, tokens).astype(np.int64).tolist(), logs.tolist()


def learn_forced(scores_RV: Tensor, branch: Branch, alternatives: int) -> None:
    """Fill in the log-probabilities of the tokens that a mask forced, from the scores before each."""
    nodes = branch.nodes(branch.count - branch.forced)
    tokens = torch.tensor([node.token for node in nodes], device=scores_RV.device)
    logs = log_probabilities(scores_RV, tokens).tolist()
    best = best_tokens(scores_RV, alternatives) if alternatives else [()] * len(nodes)
    for node, log, others in zip(nodes, logs, best, strict=True):
        node.log_probability = node.allowed = log
        node.alternatives = others
    branch.forced = 0


def _force(task: Task, branch: Branch) -> None:
    """Go on with the tokens that the mask forces, which cost no forward pass each."""
    if branch.finish is None:
        for forced, token in enumerate(branch.mask.forced(), 1):
            if branch.finish is not None or branch.length >= task.tree.model.context_length:
                break
            task.push(branch, token, 0.0, forced=forced)
    if branch.finish is None and branch.mask.over:
        branch.finish = "stop"


def _uniforms(drawing: Drawing) -> float | tuple[float, float]:
    settings = drawing.task.settings
    if not settings.temperature:
        return 0.0
    random = drawing.task.random(drawing.stream)
    return random.random()


def allowed_mass(scores_BV: Tensor, rows: Sequence[Row]) -> dict[int, float]:
    """The log of the mass that each row's mask allows, for rows with a mask."""
    masked = [i for i, row in enumerate(rows) if row.allowed is not None]
    if not masked:
        return {}
    scores = scores_BV[masked] if len(masked) < len(rows) else scores_BV
    masks = torch.from_numpy(np.stack([rows[i].allowed for i in masked]))[:, : scores.shape[1]]
    kept = scores.masked_fill(~masks.to(scores.device), float("-inf")).logsumexp(-1)
    return dict(zip(masked, (kept - scores.logsumexp(-1)).tolist(), strict=True))


def _alternatives(scores_BV: Tensor, drawings: Sequence[Drawing]) -> dict[int, tuple]:
    """The model's best tokens for the rows that want to see them."""
    wanted = [i for i, drawing in enumerate(drawings) if drawing.task.alternatives]
    if not wanted:
        return {}
    most = max(drawings[i].task.alternatives for i in wanted)
    best = best_tokens(scores_BV[wanted], most)
    return {i: found[: drawings[i].task.alternatives] for i, found in zip(wanted, best, strict=True)}


def best_tokens(scores_BV: Tensor, count: int) -> list[tuple[tuple[int, float], ...]]:
    """The `count` most probable tokens of each row, with their log-probabilities."""
    logs, tokens = scores_BV.log_softmax(-1).topk(min(count, scores_BV.shape[1]), dim=-1)
    return [tuple(zip(t, p, strict=True)) for t, p in zip(tokens.tolist(), logs.tolist(), strict=True)]
