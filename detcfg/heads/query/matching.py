"""One set of pairs for all layers of a decoder, out of the matchings of each."""

from __future__ import annotations

import numpy as np
import torch

from detcfg.boxes.assigners.hungarian import Pairs


def union(pairs: Pairs) -> Pairs:
    """For each query that any set matches, the object that most sets match it with, as one set.

    D-FINE's union (Peng et al., 2024, https://arxiv.org/abs/2410.13842): several queries may keep one object. Follows
    `_get_go_indices` in zoo/dfine/dfine_criterion.py of Peterande/D-FINE, among equals too: they come in the order in which
    torch's sort leaves them on a CPU, which is not that of queries and objects where an image has more than 16 pairs.
    """
    chosen = [np.zeros((0, 3), dtype=np.int64)]
    for image in np.unique(pairs.images):
        here = pairs.images == image
        rows = np.stack([pairs.images[here], pairs.queries[here], pairs.objects[here]], axis=1)
        unique, counts = np.unique(rows, axis=0, return_counts=True)
        unique = unique[np.asarray(torch.as_tensor(counts).argsort(descending=True))]
        _, first = np.unique(unique[:, 1], return_index=True)
        chosen.append(unique[np.sort(first)])
    together = np.concatenate(chosen)
    return Pairs(np.zeros(len(together), dtype=np.int64), *together.T)
