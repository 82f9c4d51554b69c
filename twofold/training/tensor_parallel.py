"""Tensor parallelism: the matrices of each layer divided among the processes of a group, through DTensor.

Queries, keys, values, gate and up are cut by their outputs, which means by heads and channels; what they feed
into is cut by its inputs. Between them each process holds its share of every row, so that norms and the stream
are divided too. The embedding is cut along the vocabulary, and so is the loss: no process sees all scores.
Sources: Shoeybi et al. 2019 (arXiv 1909.08053); Korthikanti et al. 2022 (2205.05198).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from twofold.errors import UsageError
from twofold.models.transformer import Transformer


def divide(model: Transformer, mesh: DeviceMesh) -> None:
    """Divide the model among the processes of a one-dimensional mesh, in place. Raises UsageError where it cannot."""
    config, parts = model.config, mesh.size()
    if config.model_type != "qwen3" or config.attention_bias:
        raise UsageError(
            "--tensor divides models of the qwen3 family without biases only. Use --shards for this one."
        )
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"):
        if getattr(config, name) % parts:
            raise UsageError(
                f"--tensor {parts} does not divide this model's {name} of {getattr(config, name)}. Choose a "
                "smaller one, and --shards for the rest."
            )
    row, whole = Shard(1), Replicate()
    gather = PrepareModuleInput(
        input_layouts=(row, None, None, None), desired_input_layouts=(whole, None, None, None)
    )
    layer = {
        "input_layernorm": SequenceParallel(),
        "self_attn": gather,
        **{f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"},
        **{
            f"self_attn.{name}_norm": SequenceParallel(sequence_dim=2, use_local_output=True) for name in "qk"
        },
        "self_attn.o_proj": RowwiseParallel(output_layouts=row),
        "post_attention_layernorm": SequenceParallel(),
        "mlp": PrepareModuleInput(input_layouts=(row,), desired_input_layouts=(whole,)),
        **{f"mlp.{name}_proj": ColwiseParallel() for name in ("gate", "up")},
        "mlp.down_proj": RowwiseParallel(output_layouts=row),
    }
    plan = {
        "model.embed_tokens": RowwiseParallel(input_layouts=whole, output_layouts=row),
        **{
            f"model.layers.{i}.{name}": style
            for i in range(config.num_hidden_layers)
            for name, style in layer.items()
        },
        "model.norm": SequenceParallel(),
    }
    if not config.tie_word_embeddings:
        plan["lm_head"] = ColwiseParallel()
    parallelize_module(model, mesh, plan)
    # A tensor still on its way would enter a compiled block, whose gradient then misses the embedding (torch 2.13).
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: output.clone())


def divided_cross_entropy(hidden: DTensor, weight: DTensor, targets: Tensor, ignore: int) -> Tensor:
    """Cross-entropy in nats, summed over the targets that count, where `weight` [V, D] is cut along V.

    hidden [B, T, D]: cut along T. targets [B, T], the same everywhere. Each process scores its own part of the
    vocabulary; only the greatest score, the sum of exponentials and the target's score of each place travel.
    """
    mesh = weight.device_mesh
    hidden = hidden.redistribute(placements=[Replicate()])
    local = hidden.to_local(grad_placements=[Partial()])  # every part of the vocabulary adds to its gradient
    matrix = weight.to_local()
    scores = torch.nn.functional.linear(local, matrix.to(local.dtype)).float()

    def over_all(part: Tensor) -> Tensor:
        return DTensor.from_local(part, mesh, [Partial()]).redistribute(placements=[Replicate()]).to_local()

    highest = scores.detach().amax(-1)
    highest = DTensor.from_local(highest, mesh, [Partial("max")]).full_tensor()
    total = over_all((scores - highest[..., None]).exp().sum(-1))
    first = mesh.get_local_rank() * len(matrix)  # equal parts: `divide` sees to it
    mine = (targets >= first) & (targets < first + len(matrix))
    place = torch.where(mine, targets - first, 0)
    chosen = over_all(scores.gather(-1, place[..., None])[..., 0] * mine)
    nats = total.log() + highest - chosen
    return (nats * (targets != ignore)).sum()
