"""Decide whether a linear layer is the same map as a Conv3d whose stride equals its kernel.

Both are affine maps of a flattened patch of K = C·T·P·P values, so the question is decided, not
sampled: they are equal if they agree on a basis and at zero. Sampled patches then show that the
arithmetic of this device stays within its a-priori error bound.
"""

from __future__ import annotations

import contextlib
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.errors import DeviceError

FINITE, LAYOUT, NUMERICS = "finite", "layout", "numerics"

_CHUNK_PATCHES = 128
_CHUNK_CHANNELS = 128
_SPEED_PATCHES = 256
_SMALLEST_NORMAL = 2.0**-126  # of float32 and bfloat16
_SPEED_RUNS = 9
_TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_HUGE = torch.finfo(torch.float64).max  # stands for an infinite error: JSON has none
_SEED = 20_20_5  # any fixed number: the same input must give the same report

# Mean and standard deviation of an RGB pixel in GLM-V's image processors (those of CLIP).
_PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
_PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class LayerError:
    """Largest error of a layer against float64.

    `max_abs` is that of ordinary patches, `max_over_bound` the largest fraction of its bound over
    all patches, extreme ones included.
    """

    max_abs: float
    max_over_bound: float


@dataclass(frozen=True)
class Environment:
    """What the check ran on."""

    device: str
    device_name: str
    torch: str
    cudnn: str | None


@dataclass(frozen=True)
class Equivalence:
    """Outcome of the check for one patch embedding: equal if `failure` is None.

    `failed_step` says which step that was: finite, layout or numerics. `warning` is about this
    machine's Conv3d, not about the checkpoint. The times are medians in seconds for
    `speed_patches` patches.
    """

    failure: str | None
    failed_step: str | None
    warning: str | None
    dtype: str
    basis_patches: int
    sampled_patches: int
    linear: LayerError | None
    conv3d: LayerError | None
    environment: Environment
    speed_patches: int = _SPEED_PATCHES
    linear_s: float | None = None
    conv3d_s: float | None = None


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises `DeviceError` where it is not.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not known", hint="use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device {name!r} is not there: {count} CUDA devices found",
                hint="use --device cpu, or install a torch build that finds the GPU",
            )
    return device


def load_tensor(content: bytes, *, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Make a tensor on the CPU that shares the bytes of a shard; `dtype` is BF16, F16 or F32.

    It must not be written to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # says that the bytes are not writable
        return torch.frombuffer(content, dtype=_TORCH_DTYPES[dtype]).reshape(shape)


def load_bias(content: bytes | None, *, dtype: str) -> Tensor | None:
    """Make the bias `[O]` of its bytes, None where there is none."""
    if content is None:
        return None
    return load_tensor(content, dtype=dtype, shape=(-1,))


def check_equivalence(
    kernel: Tensor, weight: Tensor, *, bias: Tensor | None, device: torch.device
) -> Equivalence:
    """Compare the Conv3d of `kernel` `[O, C, T, P, P]` with the linear layer of `weight` `[O, K]`.

    All three tensors are on the CPU and of one dtype (bfloat16, float16 or float32); `bias` is
    `[O]` and belongs to both layers.
    """
    environment = describe_environment(device)
    dtype = str(weight.dtype).removeprefix("torch.")
    mismatch = _find_shape_mismatch(kernel, weight)
    early_failure = mismatch or _find_not_finite(weight=weight, bias=bias)
    if early_failure:
        early_step = LAYOUT if mismatch else FINITE
        return Equivalence(early_failure, early_step, None, dtype, 0, 0, None, None, environment)
    with torch.inference_mode(), full_precision():
        layers = Layers(kernel.to(device), weight.to(device), bias=_to(bias, device))
        failure, conv3d_is_exact = _compare_on_basis(layers, kernel)
        sampled_patches, linear, conv3d = _measure_errors(layers, kernel, bias)
        linear_s, conv3d_s = (
            _median_time(layer, layers.random_patches(_SPEED_PATCHES), device)
            for layer in (layers.linear, layers.conv3d)
        )
    step = LAYOUT if failure else None
    if failure is None and not linear.max_over_bound <= 1:
        step, failure = (
            NUMERICS,
            f"linear layer exceeds its error bound {linear.max_over_bound:.3g} times",
        )
    conv3d_is_right = conv3d_is_exact and conv3d.max_over_bound <= 1
    return Equivalence(
        failure=failure,
        failed_step=step,
        warning=None if conv3d_is_right else _broken_conv3d(environment, conv3d, conv3d_is_exact),
        dtype=dtype,
        basis_patches=weight.shape[1],
        sampled_patches=sampled_patches,
        linear=linear,
        conv3d=conv3d,
        environment=environment,
        linear_s=linear_s,
        conv3d_s=conv3d_s,
    )


class Layers:
    """Both layers on one device; each maps patches `[N, K]` to embeddings `[N, O]`."""

    def __init__(self, kernel: Tensor, weight: Tensor, *, bias: Tensor | None) -> None:
        self.kernel, self.weight, self.bias = kernel, weight, bias

    def linear(self, patches: Tensor, *, with_bias: bool = True) -> Tensor:
        """Multiply by the weight `[O, K]`."""
        return functional.linear(patches, self.weight, self.bias if with_bias else None)

    def conv3d(self, patches: Tensor, *, with_bias: bool = True) -> Tensor:
        """Convolve each patch with the kernel `[O, C, T, P, P]`, which it meets once."""
        shape = self.kernel.shape[1:]
        volumes = patches.view(-1, *shape)
        bias = self.bias if with_bias else None
        return functional.conv3d(volumes, self.kernel, bias, stride=shape[1:]).flatten(1)

    def random_patches(self, count: int) -> Tensor:
        """Make patches `[count, K]` of standard normal values, the same each time."""
        generator = torch.Generator().manual_seed(_SEED)
        patches = torch.randn(count, self.weight.shape[1], generator=generator)
        return patches.to(self.weight)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Keep TF32 and reduced-precision sums out of the comparison, and put all back afterwards."""
    matmul = torch.backends.cuda.matmul
    precision = torch.get_float32_matmul_precision()
    reduced = matmul.allow_bf16_reduced_precision_reduction
    reduced_fp16 = matmul.allow_fp16_reduced_precision_reduction
    torch.set_float32_matmul_precision("highest")
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        matmul.allow_bf16_reduced_precision_reduction = reduced
        matmul.allow_fp16_reduced_precision_reduction = reduced_fp16


def _find_shape_mismatch(kernel: Tensor, weight: Tensor) -> str | None:
    expected = (kernel.shape[0], math.prod(kernel.shape[1:]))
    if tuple(weight.shape) == expected and weight.dtype == kernel.dtype:
        return None
    found = f"{weight.dtype} {list(weight.shape)}"
    return f"linear weight is {found}, expected {kernel.dtype} {list(expected)}"


def _find_not_finite(**tensors: Tensor | None) -> str | None:
    for name, tensor in tensors.items():
        if tensor is not None and not (finite := tensor.isfinite()).all():
            index = (~finite).nonzero()[0].tolist()
            return f"{name} is {tensor[tuple(index)].item()} at {index}"
    return None


def _kernel_indices(numbers: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
    """Split patch numbers k into c, t, i, j; torch.unravel_index would import 30 MB for it."""
    _, _, frames, height, width = shape
    row, j = numbers // width, numbers % width
    frame, i = row // height, row % height
    return frame // frames, frame % frames, i, j


def _compare_on_basis(layers: Layers, kernel: Tensor) -> tuple[str | None, bool]:
    """Put every one-hot patch, and zero, through both layers.

    The one-hot patch k = ((c·T + t)·P + i)·P + j must give column `kernel[:, c, t, i, j]`, picked
    by index. Returns what is wrong with the linear layer, if anything, and whether Conv3d is exact
    here.
    """
    columns = math.prod(kernel.shape[1:])
    conv3d_is_exact = True
    for start in range(0, columns, _CHUNK_PATCHES):
        numbers = torch.arange(start, min(start + _CHUNK_PATCHES, columns))
        c, t, i, j = _kernel_indices(numbers, kernel.shape)
        expected = kernel[:, c, t, i, j].T
        patches = functional.one_hot(numbers, columns).to(layers.weight)
        output = layers.linear(patches, with_bias=False).cpu()
        if (differs := _differs(output, expected)).any():
            row, channel = differs.nonzero()[0].tolist()
            place = ", ".join(str(index[row].item()) for index in (c, t, i, j))
            return (
                f"column {start + row} of the linear weight is not kernel[:, {place}] "
                f"(first at output channel {channel})",
                conv3d_is_exact,
            )
        conv3d_output = layers.conv3d(patches, with_bias=False).cpu()
        conv3d_is_exact = conv3d_is_exact and not _differs(conv3d_output, expected).any()
    at_zero = layers.linear(layers.weight.new_zeros(1, columns)).cpu()[0]
    expected = torch.zeros(()) if layers.bias is None else layers.bias.cpu()
    if _differs(at_zero, expected.to(at_zero)).any():
        return "the zero patch does not give the bias", conv3d_is_exact
    return None, conv3d_is_exact


def _differs(output: Tensor, expected: Tensor) -> Tensor:
    """Compare bit for bit, but for what no sum of products keeps, and mark what differs.

    That is the sign of zero, and numbers that are subnormal in float32, which some units flush to
    zero (VDPBF16PS always does). The bytes of the weights are proven by their hash all the same.
    """
    are_tiny = (output.abs() < _SMALLEST_NORMAL) & (expected.abs() < _SMALLEST_NORMAL)
    return (output != expected) & ~are_tiny


def _sample_patches(kernel: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Make patches `[N, K]` of the kernel's dtype: ordinary (random, of images) and extreme."""
    generator = torch.Generator().manual_seed(_SEED)
    columns = math.prod(kernel.shape[1:])
    normal = torch.randn(256, columns, generator=generator)
    images = _image_patches(tuple(kernel.shape[1:]), generator)
    extremes = torch.cat([normal[:8].sign(), torch.ones(1, columns), -torch.ones(1, columns)])
    # No partial sum may leave the range of the dtype, nor the result.
    row_sums = kernel.flatten(1).abs().sum(dim=1, dtype=torch.float32)
    largest_bias = 0.0 if bias is None else float(bias.abs().max())
    limits = torch.finfo(kernel.dtype)
    room = max(limits.max / 4 - largest_bias, 1.0)
    large = min(limits.max / 4, room / max(float(row_sums.max()), limits.tiny))
    ordinary = torch.cat([normal, images])
    extreme = torch.cat([extremes * large, extremes * limits.tiny])
    return ordinary.to(kernel.dtype), extreme.to(kernel.dtype)


def _image_patches(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Cut synthetic images, normalised as the processors do, into patches `[N, C·T·P·P]`."""
    channels, frames, patch, _ = shape
    side = 4 * patch
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    gradient = (x + y) / 2
    checker = ((x * 16).floor() + (y * 16).floor()) % 2
    noise = torch.rand(side, side, generator=generator)
    text = ((y * 24).floor() % 3 < 2) * (torch.rand(side, side, generator=generator) < 0.4).float()
    images = torch.stack([gradient, checker, noise, text])[:, None].expand(-1, channels, -1, -1)
    mean = torch.tensor([_PIXEL_MEAN[c % 3] for c in range(channels)]).view(-1, 1, 1)
    std = torch.tensor([_PIXEL_STD[c % 3] for c in range(channels)]).view(-1, 1, 1)
    normalised = (images - mean) / std
    grid = normalised.unfold(2, patch, patch).unfold(3, patch, patch)  # [4, C, 4, 4, P, P]
    still = grid.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[:, :, None]  # [N, C, 1, P, P]
    return still.expand(-1, -1, frames, -1, -1).flatten(1)


def _measure_errors(
    layers: Layers, kernel: Tensor, bias: Tensor | None
) -> tuple[int, LayerError, LayerError]:
    """Measure the linear layer and Conv3d, in this order, on sampled patches.

    Returns how many patches were sampled, and the largest error of each layer.
    """
    bias64 = torch.zeros(len(kernel)).double() if bias is None else bias.double()
    max_abs, max_ratio, count = [0.0, 0.0], [0.0, 0.0], 0
    ordinary, extreme = _sample_patches(kernel, bias)
    for patches in (*ordinary.split(_CHUNK_PATCHES), extreme):
        count += len(patches)
        on_device = patches.to(layers.weight.device)
        for which, layer in enumerate((layers.linear, layers.conv3d)):
            error, ratio = largest_error(layer(on_device).cpu(), patches, kernel, bias64)
            max_ratio[which] = max(max_ratio[which], ratio)
            if patches is not extreme:
                max_abs[which] = max(max_abs[which], error)
    linear, conv3d = (LayerError(*pair) for pair in zip(max_abs, max_ratio, strict=True))
    return count, linear, conv3d


def largest_error(
    output: Tensor, patches: Tensor, kernel: Tensor, bias64: Tensor
) -> tuple[float, float]:
    """Compare an output `[N, O]` with float64; return the largest error, and error over bound.

    The bound of each element is `2·u·(|y|+|b|) + γ_n·(|x|·|W|ᵀ + |b|) + s + n·λ`: u is the unit
    roundoff of the output's dtype, s its smallest subnormal, γ_n = n·u32 / (1 - n·u32) with
    n = K + 1 and u32 = 2⁻²⁴ that of the float32 sums, λ = 2⁻¹²⁶ what a sum may lose in each step
    where the hardware flushes subnormals to zero, as VDPBF16PS does (Higham, Accuracy and Stability
    of Numerical Algorithms, §2.1 and §3.1). Output channels go through in blocks, which keeps the
    float64 copies small.
    """
    patches64 = patches.double()
    limits = torch.finfo(output.dtype)
    u, smallest = limits.eps / 2, limits.tiny * limits.eps
    n, u32 = patches.shape[1] + 1, 2.0**-24
    gamma = n * u32 / (1 - n * u32)
    largest = largest_ratio = 0.0
    for start in range(0, len(kernel), _CHUNK_CHANNELS):
        block = slice(start, start + _CHUNK_CHANNELS)
        weight64, b = kernel[block].flatten(1).double(), bias64[block]
        exact = patches64 @ weight64.T + b
        magnitude = patches64.abs() @ weight64.abs().T + b.abs()
        bound = (
            2 * u * (exact.abs() + b.abs()) + gamma * magnitude + smallest + n * _SMALLEST_NORMAL
        )
        error = (output[:, block].double() - exact).abs().nan_to_num(nan=_HUGE, posinf=_HUGE)
        largest = max(largest, error.max().item())
        largest_ratio = max(largest_ratio, (error / bound).clamp(max=_HUGE).max().item())
    return largest, largest_ratio


def _median_time(layer: Callable[[Tensor], Tensor], patches: Tensor, device: torch.device) -> float:
    times = []
    for _ in range(_SPEED_RUNS + 1):
        wait_for(device)
        start = time.perf_counter()
        layer(patches)
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first run warms up


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)


def describe_environment(device: torch.device) -> Environment:
    """Name a device and the versions that compute on it."""
    on_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_cuda else _cpu_name()
    version = torch.backends.cudnn.version() if on_cuda else None
    return Environment(str(device), name, torch.__version__, _cudnn_version(version))


def _cpu_name() -> str:
    """Name the CPU's model where the system says it, and its architecture elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _cudnn_version(number: int | None) -> str | None:
    """Spell cuDNN's version number: 91500 is 9.15.0, and before version 9, 8902 is 8.9.2."""
    if not number:
        return None
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _broken_conv3d(environment: Environment, error: LayerError, is_exact: bool) -> str:
    what = "exceeds its error bound" if is_exact else "does not give its own columns back"
    cudnn = f", cuDNN {environment.cudnn}" if environment.cudnn else ""
    return (
        f"Conv3d on this machine {what} ({error.max_over_bound:.3g} times the bound; "
        f"torch {environment.torch}{cudnn}): the checkpoint is fine, the original layer is not"
    )
