"""For which shapes are a row's bits the same whatever is computed beside it? What `twofold/models/invariance.py` finds.

    python benchmarks/batch_invariance.py                  # this machine, its threads, about a minute
    OMP_NUM_THREADS=1 python benchmarks/batch_invariance.py --seconds 60

Matrix products: the numbers of rows M whose first rows differ from those of a product with 1,024 rows; only
multiples of what `product_rows` found are used. Attention: random heads, widths and lengths, each query in a long
prefill, in another company and beside padding, against the query alone; both with the padding that is used
(`attention_shapes`) and with plain multiples of 16, to show what its rule is for.
"""

from __future__ import annotations

import argparse
import random
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.models.invariance import attention_shapes, product_rows, same_bits

ROW_COUNTS = [*range(1, 70), 100, 128, 132, 256, 260, 512, 700, 1000]
PRODUCTS = [(48, 32), (128, 256), (128, 768), (384, 128), (128, 2048), (256, 1536), (768, 256), (2048, 768)]


def products(dtype: torch.dtype) -> list[int]:
    """Row counts that change a row's bits in some product."""
    found: set[int] = set()
    for inner, outer in PRODUCTS:
        x, w = torch.randn(1024, inner).to(dtype), torch.randn(outer, inner).to(dtype)
        whole = F.linear(x, w)
        found |= {m for m in ROW_COUNTS if not torch.equal(F.linear(x[:m].clone(), w), whole[:m])}
    return sorted(found)


def attend(
    q_KQGC: Tensor, k_KSC: Tensor, v_KSC: Tensor, start: int, keys: int, beside: int, rows: int
) -> Tensor:
    """Attention [K, Q, G, C] of the queries at `start` onwards to the first `keys` keys (what they do not see
    is masked), beside so many equal sequences: as `paged_attention.attend` does it."""
    K, Q, G, C = q_KQGC.shape
    q_KRC = F.pad(q_KQGC.reshape(K, Q * G, C), (0, 0, 0, -Q * G % rows))
    sees = (start + torch.arange(q_KRC.shape[1]) // G).clamp(max=start + Q - 1)
    mask = torch.zeros(len(sees), keys, dtype=q_KQGC.dtype)
    mask.masked_fill_(torch.arange(keys) > sees[:, None], float("-inf"))
    beside += beside * K == 1 and torch.get_num_threads() > 1
    q, k, v = (x.expand(beside, -1, -1, -1) for x in (q_KRC, k_KSC[:, :keys], v_KSC[:, :keys]))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0, :, : Q * G].view(K, Q, G, C)


def attention(dtype: torch.dtype, seconds: float, found: bool) -> tuple[int, int]:
    """How many queries were compared, and how many differed, when keys are padded as was `found` to do, or to
    multiples of 16."""
    compared = differed = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        K, G, C = (
            random.choice([1, 2, 4, 8]),
            random.choice([1, 2, 3, 4, 8]),
            random.choice([16, 32, 64, 128]),
        )
        length = random.choice([random.randint(17, 120), random.randint(100, 600), random.randint(400, 2000)])
        Q = min(random.choice([4, 12, 32, 64, 128]), length)
        k, v = (torch.randn(K, 2560, C).to(dtype) for _ in range(2))
        shapes = attention_shapes(k, C, False)
        padded = shapes.padded_keys if found else sixteens
        q = torch.randn(K, Q, G, C).to(dtype)
        together = attend(q, k, v, length - Q, padded(length), 1, shapes.rows)
        for i in random.sample(range(Q), min(Q, 4)):
            one, at = q[:, i : i + 1], length - Q + i
            alone = attend(one, k, v, at, padded(at + 1), 1, shapes.rows)
            longest, beside = random.randint(at + 1, 2048), random.choice([2, 3, 8])
            crowd = attend(one, k, v, at, padded(longest), beside, shapes.rows)
            compared += 2
            differed += not torch.equal(alone, together[:, i : i + 1])
            differed += not torch.equal(alone, crowd)
    return compared, differed


def sixteens(count: int) -> int:
    return -(-count // 16) * 16


def main() -> None:
    """Print what holds here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each comparison of attention")
    options = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    for dtype in (torch.float32, torch.bfloat16):
        rows, like = products(dtype), torch.zeros(1, dtype=dtype)
        used = [m for m in rows if not m % product_rows(like)]
        print(f"{dtype}: products differ for M in {rows}; for multiples of {product_rows(like)}: {used}")
        print(f"{dtype}: the same bits are {'' if same_bits(like) else 'not '}promised here")
        for name, found in (("attention_shapes", True), ("multiples of 16", False)):
            compared, differed = attention(dtype, options.seconds, found)
            print(f"{dtype}: attention, {name}: {differed:,} of {compared:,} queries differ")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
