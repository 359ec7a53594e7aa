#!/usr/bin/env bash
# torch 2.14.1 on a CPU: the gradient of batch norm is wrong, without a word, for a batch of one image.
#
# Behaviour: BatchNorm2d's backward gives wrong numbers, in training and in evaluation mode, float32 and float64, where the
#   batch is one image, the input lies channel by channel, and the gradient comes with its channels side by side, as it
#   does from attention over the map's cells. With two images, a channels_last input or a contiguous gradient it is right.
# Likely guess: how a gradient lies in memory changes nothing.
# Seen on 2026-12-01, Python 3.11, CPU, torch 2.14.1:
#   1 image: off by 6.1 (4.7 in another run)
#   2 images: off by 0.0
# So in detcfg: detcfg/layers/tokens.py makes the gradient contiguous, and the test of several processes holds every experiment's
#   gradients of one image at a time against those of a batch.
#
# Installs into a temporary folder (several GB); exit status 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.14.1" "numpy==2.4.6"

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch

torch.manual_seed(0)
norm = torch.nn.BatchNorm2d(32).eval()


def gradient(x, out):
    """What `norm` passes on of the gradient of its output."""
    x = x.clone().requires_grad_()
    norm(x).backward(out)
    return x.grad


def error(images):
    """Between the gradient of an output whose channels lie side by side and that of the same numbers, contiguous."""
    x, out = torch.randn(images, 32, 8, 8), torch.randn(images, 32, 8, 8)
    cells = out.flatten(2).transpose(1, 2).contiguous()
    return (gradient(x, cells.transpose(1, 2).unflatten(2, (8, 8))) - gradient(x, out)).abs().max().item()


one, two = error(1), error(2)
print(f"1 image: off by {one:.1f}")
print(f"2 images: off by {two:.1f}")
if not (one > 1 and two == 0):
    sys.exit("the behaviour has changed")
PYTHON
