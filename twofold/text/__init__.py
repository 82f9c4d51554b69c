"""Documents in: sources, the held-out split, the village, token shards, packing."""
