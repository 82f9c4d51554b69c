"""One run on many processes: who they are, what they agree on, and where the weights lie.

`torchrun` starts the same command in every process. Each takes its share of a step's rows; the sum of the
gradients, the optimizer's step and the files are those of one process. With `shards` S, groups of S processes
hold one copy of the weights, gradients and optimizer state between them (fully sharded data parallelism); with
S = 1 each process has its own copy. Both are one mechanism: FSDP2 over a mesh of replicas times shards.
Sources: Rajbhandari et al. 2020 (arXiv 1910.02054), Zhao et al. 2023 (2304.11277).
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from twofold.errors import TwofoldError, UsageError
from twofold.files import read_json, write_json
from twofold.models.transformer import Transformer

T = TypeVar("T")
STARTERS = ".started-by.json"  # in a run's folder
TIMEOUT = timedelta(minutes=30)  # of one exchange: a rank may wait while the first prepares the data


@dataclass(frozen=True)
class Layout:
    """How a run is laid out over processes and memory. It changes no result, so a resume may change it."""

    shards: int = 1  # groups of processes that hold one copy of the weights between them
    tensor: int = 1  # processes of such a group, which divide each matrix product among them
    recompute: bool = False  # keep only each block's input, and compute the rest again in the backward pass


@dataclass(frozen=True)
class Ranks:
    """This process (`rank`) among those of the run (`world`); alone unless torchrun started it."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tensor: int = 1  # processes that compute the same rows together
    restarted: bool = False  # whether torchrun has started the processes again after one died

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    @property
    def share(self) -> int:
        """Which of the `shares` of the data is this process's."""
        return self.rank // self.tensor

    @property
    def shares(self) -> int:
        """How many shares the data are divided into."""
        return self.world // self.tensor

    def sum(self, *numbers: float) -> list[float]:
        """Each number summed over the shares of the data, exact up to 2^53."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return (total / self.tensor).tolist()

    def agree(self, value: Any) -> Any:
        """The first process's `value`, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def all(self, do: Callable[[], T]) -> list[T]:
        """What `do` returns in each process. A TwofoldError in one of them is raised in all."""
        if self.world == 1:
            return [do()]
        result, fault = None, None
        try:
            result = do()
        except TwofoldError as error:
            fault = error
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, (result, fault))
        for _, fault in found:
            if fault is not None:
                raise fault
        return [result for result, _ in found]

    def first_does(self, do: Callable[[], T]) -> T:
        """What `do` returns in the first process; the others wait for it."""
        return self.all(lambda: do() if self.first else None)[0]

    def began(self, run: Path) -> bool:
        """Whether torchrun started this run and now starts it again, for a process died."""
        path, now = run / STARTERS, self.all(_starter)
        return self.first_does(
            lambda: self.restarted and path.is_file() and not set(now).isdisjoint(read_json(path))
        )

    def begin(self, run: Path) -> None:
        """Note down in the run's folder who started it, for `began`: a folder that was refused is not theirs."""
        starters = self.all(_starter)
        if self.first and "TORCHELASTIC_RUN_ID" in os.environ:
            write_json(run / STARTERS, starters)

    def goes_on(self, run: Path, resume: bool) -> bool:
        """Whether this is the same run once more: by wish, or because torchrun started it again."""
        return self.agree(resume) or (self.began(run) and self.agree((run / "settings.json").is_file()))

    def rows(self, count: int) -> tuple[int, int]:
        """(first, number) of this process's share of `count` rows, which are the same number for all."""
        if count % self.shares:
            raise UsageError(
                f"{count} rows a step cannot be shared by {self.shares} processes. Choose --batch-rows as a "
                "multiple of the processes."
            )
        return self.share * (count // self.shares), count // self.shares


def _starter() -> str:
    """The torchrun of this node, which outlives the processes that it starts."""
    return f"{platform.node()} {os.getppid()}"


@cache
def join() -> Ranks:
    """Meet the other processes of this run, once: what torchrun says in the environment, or alone."""
    cuda = torch.cuda.is_available()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    turn = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if world == 1:
        return Ranks(device=torch.device("cuda" if cuda else "cpu"), restarted=turn > 0)
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    # Of exchanges that could be faster it speaks in every process, where nobody can do anything about it.
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    if not torch.distributed.is_initialized():  # Ray has done it
        store, rank, world = next(torch.distributed.rendezvous("env://", timeout=TIMEOUT))
        # The agent's store outlives a death, and may still know the dead one's address.
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            store = torch.distributed.PrefixStore(str(turn), store)
        torch.distributed.init_process_group(
            "nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=TIMEOUT
        )
    ranks = Ranks(torch.distributed.get_rank(), world, device)
    # Each node counts for itself: where a process died, but not where others were ended because of it.
    return replace(ranks, restarted=any(ranks.all(lambda: turn > 0)))


def leave() -> None:
    """Part from the others, all at the same time, at the end of a program of many processes: it ends here.

    Not by way of the interpreter's own end, in which torch 2.13 now and then aborts after gloo was used. Nothing
    happens where there was one process, or where whoever started them also ends them.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class Root(nn.Module):
    """The module that the processes share out: its forward pass is an objective's, so that the embedding and
    the last norm are whole for as long as the objective needs them."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: Callable[[Transformer, Any], Tensor], batch: Any) -> Tensor:
        """The objective's loss."""
        return objective(self.model, batch)


def spread(model: Transformer, ranks: Ranks, layout: Layout, seed: int = 0) -> Root | None:
    """Put the model where this process computes, in place, shared out among the processes; None when there is
    only one. One on the meta device gets its weights here: those of the seed, for any number of processes."""
    group = layout.shards * layout.tensor
    if layout.shards < 1 or layout.tensor < 1 or ranks.world % group:
        raise UsageError(
            f"{layout.shards} shards × {layout.tensor} for --tensor do not divide {ranks.world} processes. Choose "
            "divisors, and start as many processes as you mean (torchrun --nproc-per-node N -m twofold train …)."
        )
    fresh, root = model.output_weight.is_meta, None
    if not fresh:
        model.to(ranks.device)
    if layout.recompute:
        recompute_blocks(model)
    if ranks.world > 1:
        root = share_out(model, ranks, layout)
    if fresh:
        model.to_empty(device=ranks.device)
        for parameter, value in model.fresh(torch.Generator().manual_seed(seed)):
            put(parameter, value)
    return root


def share_out(model: Transformer, ranks: Ranks, layout: Layout) -> Root:
    """FSDP2 over replicas × shards: a unit for each block, and one for the rest; in each, matrices divided."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    shape = (ranks.world // (layout.shards * layout.tensor), layout.shards, layout.tensor)
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=("replica", "shard", "tensor"))
    if layout.tensor > 1:
        from twofold.training.tensor_parallel import divide

        divide(model, mesh["tensor"])
    root = Root(model)
    for module in (*model.model.layers, root):
        reshard = layout.shards > 1 and module is not root
        sharded = fully_shard(module, mesh=mesh["replica", "shard"], reshard_after_forward=reshard)
        sharded.set_gradient_divide_factor(1.0)  # losses are sums, divided by the whole batch's targets
        sharded.set_force_sum_reduction_for_comms(True)  # all that gloo can do
    return root


def part_of(tensor: Tensor) -> tuple[Tensor, tuple[int, ...], bool]:
    """(what this process holds of a tensor, where in the whole it begins, whether no process before it has the
    same)."""
    if not hasattr(tensor, "full_tensor"):
        return tensor, (0,) * tensor.ndim, join().first
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = tensor.device_mesh, tensor.placements
    _, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    copies = zip(mesh.get_coordinate(), placements, strict=True)
    return tensor.to_local(), tuple(offset), not any(i for i, placement in copies if placement.is_replicate())


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Copy the whole `value` into `target`, of which this process may hold a part."""
    local, offset, _ = part_of(target)
    local.copy_(value[tuple(slice(a, a + n) for a, n in zip(offset, local.shape, strict=True))])


def recompute_blocks(model: Transformer) -> None:
    """Keep the blocks' inputs alone for the backward pass. Source: Chen et al. 2016 (arXiv 1604.06174)."""
    from torch.utils.checkpoint import checkpoint

    for block in model.model.layers:
        forward = block.forward
        block.forward = lambda *inputs, forward=forward: checkpoint(forward, *inputs, use_reentrant=False)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is shared out, gathered from everyone, in every process; others as they are."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gathered(tensors: dict[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The whole of each tensor in the first process's memory, nothing in the others; one at a time passes by."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if ranks.first:
            found[name] = full.cpu().contiguous()
    return found
