"""The guided-diffusion U-Net against a plain rendering of the same network: time and peak memory of one call.

    python -m benchmarks networks [--model ffhq256] [--size 256] [--repeats 3] [--threads 1] [--gradient]

Both networks share one set of random weights. The plain one is built from textbook modules: NCHW tensors, einsum
attention, nearest-neighbour doubling before the convolution, nothing in place. Calls alternate in one process, and the
least processor time of each counts, so that other work on the machine weighs on both alike. Peak memory is what the
resident set gains during a call, measured in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from daps_priors.published.adm import ADM, Architecture
from daps_priors.published.ddpm import ARCHITECTURES

PROMISED = 1.3


class PlainResBlock(nn.Module):
    """x -> skip(x) + conv(silu(norm(conv(resample(silu(norm(x)))))))."""

    def __init__(self, inside: int, outside: int, width: int, resample: str, scale_shift: bool) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, outside * (1 + scale_shift)))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outside), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outside, outside, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)
        self.resample = {
            "up": nn.Upsample(scale_factor=2, mode="nearest"),
            "down": nn.AvgPool2d(2),
            "": nn.Identity(),
        }[resample]

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Apply the block."""
        h = self.in_layers[2](self.resample(self.in_layers[1](self.in_layers[0](x))))
        modulation = self.emb_layers(e)[:, :, None, None]
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](self.out_layers[2](self.out_layers[1](h)))
        else:
            h = self.out_layers(h + modulation)
        return self.skip_connection(self.resample(x)) + h


class PlainAttention(nn.Module):
    """Attention as two products with the whole matrix of weights between them."""

    def __init__(self, channels: int, heads: int, new_order: bool) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        batch, channels = x.shape[:2]
        qkv = self.qkv(self.norm(x.flatten(2)))
        if self.new_order:
            q, k, v = (part.reshape(batch * self.heads, -1, qkv.shape[2]) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.reshape(batch * self.heads, -1, qkv.shape[2]).chunk(3, dim=1)
        weights = torch.einsum("bct,bcs->bts", q / q.shape[1] ** 0.25, k / k.shape[1] ** 0.25).softmax(-1)
        h = torch.einsum("bts,bcs->bct", weights, v).reshape(batch, channels, -1)
        return x + self.proj_out(h).reshape(x.shape)


class PlainADM(nn.Module):
    """The textbook rendering of `ADM`, with the same state dict."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width, widths = 4 * arch.num_channels, arch.widths
        self.arch = arch
        self.time_embed = nn.Sequential(
            nn.Linear(arch.num_channels, width), nn.SiLU(), nn.Linear(width, width)
        )
        ch, skips = widths[0], [widths[0]]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(arch.in_channels, ch, 3, padding=1)])])

        def block(inside: int, outside: int, resample: str = "") -> PlainResBlock:
            return PlainResBlock(inside, outside, width, resample, arch.use_scale_shift_norm)

        def attention(channels: int) -> PlainAttention:
            return PlainAttention(channels, arch.heads(channels), arch.use_new_attention_order)

        for level, out in enumerate(widths):
            for _ in range(arch.num_res_blocks):
                layers: list[nn.Module] = [block(ch, out)]
                ch = out
                if arch.attends(level):
                    layers.append(attention(ch))
                self.input_blocks.append(nn.ModuleList(layers))
                skips.append(ch)
            if level + 1 < len(widths):
                self.input_blocks.append(nn.ModuleList([block(ch, ch, "down")]))
                skips.append(ch)
        self.middle_block = nn.ModuleList([block(ch, ch), attention(ch), block(ch, ch)])
        self.output_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for i in range(arch.num_res_blocks + 1):
                layers = [block(ch + skips.pop(), out)]
                ch = out
                if arch.attends(level):
                    layers.append(attention(ch))
                if level and i == arch.num_res_blocks:
                    layers.append(block(ch, ch, "up"))
                self.output_blocks.append(nn.ModuleList(layers))
        last = arch.in_channels * (1 + arch.learn_sigma)
        self.out = nn.Sequential(nn.GroupNorm(32, ch), nn.SiLU(), nn.Conv2d(ch, last, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in x [B, C, H, W] at times t [B]."""
        half = self.arch.num_channels // 2
        angles = t[:, None] * 10000.0 ** (-torch.arange(half) / half)
        e = self.time_embed(torch.cat((angles.cos(), angles.sin()), dim=1))
        skips = []
        for layers in self.input_blocks:
            x = self._apply(layers, x, e)
            skips.append(x)
        x = self._apply(self.middle_block, x, e)
        for layers in self.output_blocks:
            x = self._apply(layers, torch.cat((x, skips.pop()), dim=1), e)
        return self.out(x)

    @staticmethod
    def _apply(layers: nn.Module, x: Tensor, e: Tensor) -> Tensor:
        for layer in layers.children():
            x = layer(x, e) if isinstance(layer, PlainResBlock) else layer(x)
        return x


def build(kind: str, arch: Architecture) -> nn.Module:
    """Return one of the two networks with the same frozen random weights."""
    with torch.device("meta"):
        model = ADM(arch) if kind == "adm" else PlainADM(arch)
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in sorted(model.state_dict().items()):
        r = torch.empty(value.shape).uniform_(-1, 1, generator=generator)
        weights[name] = r / value[0].numel() ** 0.5 if value.ndim > 1 else r * 0.1 + name.endswith("weight")
    model.load_state_dict(weights, assign=True)
    model.requires_grad_(False).eval()
    return model.to(memory_format=torch.channels_last) if kind == "adm" else model


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(call: Callable[[], object]) -> int:
    """Return how much the resident set gains at most during a call, sampled every half millisecond."""
    call()
    start = most = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.0005):
            most = max(most, resident())

    thread = threading.Thread(target=watch)
    thread.start()
    call()
    done.set()
    thread.join()
    return most - start


def main(arguments: list[str]) -> int:
    """Print both networks' time and memory, and their ratios; return 1 where ours is not as fast as promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", choices=sorted(ARCHITECTURES), default="ffhq256")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gradient", action="store_true", help="also the gradient by the input")
    parser.add_argument("--memory-of", choices=["adm", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    arch = ARCHITECTURES[options.model]
    x = torch.randn(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([300.0])

    def call(model: nn.Module) -> Tensor:
        with torch.set_grad_enabled(options.gradient):
            leaf = x.clone().requires_grad_(options.gradient)
            y = model(leaf, t)
            return torch.autograd.grad(y.square().sum(), leaf)[0] if options.gradient else y

    if options.memory_of:
        model = build(options.memory_of, arch)
        print(peak(lambda: call(model)))
        return 0
    models = {kind: build(kind, arch) for kind in ("plain", "adm")}
    results = {kind: call(model) for kind, model in models.items()}
    difference = (results["adm"] - results["plain"]).abs().max() / results["plain"].abs().max()
    seconds = dict.fromkeys(models, float("inf"))
    for _ in range(options.repeats):
        for kind, model in models.items():
            start = time.process_time()
            call(model)
            seconds[kind] = min(seconds[kind], time.process_time() - start)
    command = [sys.executable, "-m", "benchmarks", "networks", *arguments, "--memory-of"]
    memory = {k: int(subprocess.run([*command, k], check=True, capture_output=True).stdout) for k in models}
    for kind in models:
        print(f"{kind:6} {seconds[kind]:8.3f} s  {memory[kind] / 2**20:8.1f} MiB")
    ratio = seconds["plain"] / seconds["adm"]
    print(
        f"{ratio:.2f} times faster, {memory['adm'] / memory['plain']:.2f} of the memory, "
        f"largest difference {float(difference):.1e} of the maximum"
    )
    return int(ratio < PROMISED or memory["adm"] >= memory["plain"])
