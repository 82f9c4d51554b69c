"""Accelerators by name, for plans on paper: what their data sheets promise, and a price to reckon with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One accelerator: dense bfloat16 peak in FLOP/s, memory in bytes, US dollars an hour."""

    name: str
    peak: float
    memory: float
    price: float


# Peaks and memory are the data sheets' (nvidia.com, "A100", "H100" and "H200 Tensor Core GPU", SXM form; H100
# and H200 print the peak with sparsity, twice the dense one). Prices are assumptions, not offers.
DEVICES = {
    "a100": Device("A100 SXM 80 GB", 312e12, 80e9, 1.5),
    "h100": Device("H100 SXM", 989e12, 80e9, 2.5),
    "h200": Device("H200 SXM", 989e12, 141e9, 3.0),
}
