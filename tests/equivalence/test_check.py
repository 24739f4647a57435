"""The check calls two layers equal exactly where they are, and names what is not."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear.equivalence.check import check_equivalence
from conv2linear.equivalence.device import resolve_device
from conv2linear.equivalence.layers import load_tensor
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.errors import DeviceError

CPU = torch.device("cpu")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
SHAPE = (24, 3, 2, 4, 4)  # embed dim, channels, temporal patch, patch, patch
AXES = dict(zip("ctij", range(1, 5), strict=True))

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_device = pytest.mark.parametrize(
    "device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.cuda)], ids=str
)


def make_kernel(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 0.02).to(dtype)


def make_bias(dtype: torch.dtype = torch.float32, size: int = SHAPE[0]) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3)).to(dtype)


def check(
    kernel: Tensor, weight: Tensor | None = None, *, bias: Any = "random", device: Any = CPU
) -> Equivalence:
    """Check a kernel against a weight, by default against the kernel itself, flattened."""
    weight = kernel.flatten(1) if weight is None else weight
    bias = make_bias(kernel.dtype, len(kernel)) if isinstance(bias, str) else bias
    return check_equivalence(kernel, weight, bias=bias, device=device)


def column_of(number: int, shape: tuple[int, ...] = SHAPE) -> str:
    """Spell where column `number` stands in the kernel; counted as an odometer counts."""
    place = list(itertools.product(*(range(size) for size in shape[1:])))[number]
    return f"kernel[:, {', '.join(map(str, place))}]"


# --- equal ----------------------------------------------------------------------------------------


@each_device
@each_dtype
def test_a_flattened_kernel_is_the_same_map(dtype: torch.dtype, device: torch.device) -> None:
    outcome = check(make_kernel(dtype), device=device)
    assert outcome.failure is None
    assert outcome.warning is None
    assert outcome.dtype == str(dtype).removeprefix("torch.")
    assert outcome.basis_patches == 3 * 2 * 4 * 4
    assert outcome.sampled_patches > 256
    assert outcome.linear is not None
    assert outcome.conv3d is not None
    assert 0 < outcome.linear.max_over_bound <= 1
    assert 0 < outcome.conv3d.max_over_bound <= 1
    assert outcome.environment.torch == torch.__version__
    assert outcome.environment.device == str(device)


@pytest.mark.cuda
@each_dtype
def test_the_real_shape_is_the_same_map_on_cuda(dtype: torch.dtype) -> None:
    outcome = check(make_kernel(dtype, (1536, 3, 2, 14, 14)), device=torch.device("cuda"))
    assert outcome.failure is None


@pytest.mark.parametrize("bias", ["random", "zeros", None])
def test_the_real_shape_is_the_same_map(bias: str | None) -> None:
    kernel = make_kernel(torch.bfloat16, (1536, 3, 2, 14, 14))
    zeros = torch.zeros(1536, dtype=torch.bfloat16)
    outcome = check(kernel, bias=zeros if bias == "zeros" else bias)
    assert outcome.failure is None
    assert outcome.warning is None
    assert outcome.basis_patches == 1176


@each_dtype
@pytest.mark.parametrize("shape", [(8, 3, 1, 16, 16), (5, 1, 3, 2, 2), (1, 1, 1, 1, 1)], ids=str)
def test_another_geometry_is_the_same_map(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    assert check(make_kernel(dtype, shape)).failure is None
    assert check(make_kernel(dtype, shape), bias=None).failure is None


@each_dtype
def test_weights_of_minus_zero_are_equal_to_themselves(dtype: torch.dtype) -> None:
    kernel = make_kernel(dtype)
    kernel.view(-1)[::3] = -0.0
    assert check(kernel).failure is None
    assert check(torch.full_like(kernel, -0.0), bias=None).failure is None


@each_device
@each_dtype
def test_subnormal_weights_are_the_same_map(dtype: torch.dtype, device: torch.device) -> None:
    limits = torch.finfo(dtype)
    kernel = make_kernel(dtype)
    kernel.view(-1)[::3] = limits.tiny * limits.eps  # the smallest there is
    kernel.view(-1)[1::3] = limits.tiny / 2
    assert (kernel != 0).all()
    outcome = check(kernel, device=device)
    assert outcome.failure is None


@each_dtype
def test_weights_and_biases_near_the_end_of_the_range_are_the_same_map(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    kernel = make_kernel(dtype).sign() * (largest / 1000)
    assert check(kernel, bias=make_bias(dtype).sign() * (largest / 8)).failure is None
    assert check(kernel * 0, bias=make_bias(dtype) * 0).failure is None


def test_the_same_input_gives_the_same_report() -> None:
    first, second = (
        dataclasses.replace(check(make_kernel()), linear_s=None, conv3d_s=None) for _ in range(2)
    )
    assert first == second


# --- planted faults -------------------------------------------------------------------------------


@each_device
@each_dtype
@pytest.mark.parametrize("axes", [*itertools.combinations("ctij", 2)], ids="".join)
def test_transposed_axes_are_found_and_named(
    axes: tuple[str, str], dtype: torch.dtype, device: torch.device
) -> None:
    kernel = make_kernel(dtype)
    weight = kernel.transpose(AXES[axes[0]], AXES[axes[1]]).flatten(1)
    first = int((weight != kernel.flatten(1)).any(dim=0).nonzero()[0])
    failure = check(kernel, weight, device=device).failure
    assert failure is not None
    assert failure.startswith(f"column {first} of the linear weight is not {column_of(first)}")


@pytest.mark.parametrize("order", [(0, 2, 3, 4, 1), (0, 3, 4, 1, 2), (0, 2, 1, 4, 3)], ids=str)
def test_another_order_of_axes_is_found(order: tuple[int, ...]) -> None:
    kernel = make_kernel()
    assert check(kernel, kernel.permute(order).flatten(1)).failure is not None


@each_device
@each_dtype
def test_one_flipped_bit_is_found_and_named(dtype: torch.dtype, device: torch.device) -> None:
    kernel = make_kernel(dtype)
    columns = kernel[0].numel()
    for bit in range(torch.iinfo(BITS[dtype]).bits):
        row, column = (7 * bit) % len(kernel), (29 * bit + 5) % columns
        weight = kernel.flatten(1).clone()
        mask = 1 << bit if bit < torch.iinfo(BITS[dtype]).bits - 1 else torch.iinfo(BITS[dtype]).min
        weight.view(BITS[dtype])[row, column] ^= mask
        failure = check(kernel, weight, device=device).failure
        assert failure is not None
        if weight.isfinite().all():
            assert failure.startswith(f"column {column} of the linear weight")
            assert failure.endswith(f"(first at output channel {row})")
            assert column_of(column) in failure
        else:
            assert f"at [{row}, {column}]" in failure


@each_dtype
def test_swapped_rows_are_found_and_named(dtype: torch.dtype) -> None:
    kernel = make_kernel(dtype)
    weight = kernel.flatten(1).clone()
    weight[[5, 17]] = weight[[17, 5]]
    failure = check(kernel, weight).failure
    assert failure is not None
    assert failure.startswith("column 0 of the linear weight")
    assert failure.endswith("(first at output channel 5)")


def test_swapped_columns_are_found_in_the_last_block_too() -> None:
    kernel = make_kernel(torch.bfloat16, (8, 3, 2, 14, 14))
    weight = kernel.flatten(1).clone()
    weight[:, [1174, 1175]] = weight[:, [1175, 1174]]
    failure = check(kernel, weight).failure
    assert failure is not None
    assert failure.startswith("column 1174 of the linear weight is not kernel[:, 2, 1, 13, 12]")


@each_device
@each_dtype
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_found_and_named(
    value: float, dtype: torch.dtype, device: torch.device
) -> None:
    kernel = make_kernel(dtype)
    kernel.view(-1)[200] = value
    assert check(kernel, device=device).failure == f"weight is {value} at {[200 // 96, 200 % 96]}"
    bias = make_bias(dtype)
    bias[11] = value
    assert check(make_kernel(dtype), bias=bias, device=device).failure == f"bias is {value} at [11]"


def test_a_kernel_that_is_not_finite_where_the_weight_is_is_found() -> None:
    kernel = make_kernel()
    weight = kernel.flatten(1).clone()
    kernel.view(-1)[0] = float("nan")
    assert check(kernel, weight).failure is not None


def test_another_dtype_is_found_and_named() -> None:
    kernel = make_kernel(torch.bfloat16)
    failure = check(kernel, kernel.flatten(1).half()).failure
    assert failure is not None
    assert "torch.float16" in failure
    assert "torch.bfloat16" in failure


@pytest.mark.parametrize("shape", [(96, 24), (24, 95), (24, 3, 32), (23, 96)], ids=str)
def test_another_shape_is_found_and_named(shape: tuple[int, ...]) -> None:
    failure = check(make_kernel(), torch.zeros(shape)).failure
    assert failure is not None
    assert str(list(shape)) in failure
    assert "[24, 96]" in failure


# --- arithmetic that is broken -------------------------------------------------------------------


def is_dense(patches: Tensor) -> Tensor:
    """Tell for each patch whether it is neither one-hot nor zero."""
    return (patches != 0).sum(dim=1) > 1


def test_a_linear_layer_over_its_bound_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = functional.linear

    def inexact(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear(patches, weight, bias) * (1 + is_dense(patches)[:, None] * 1e-3)

    monkeypatch.setattr(functional, "linear", inexact)
    failure = check(make_kernel()).failure
    assert failure is not None
    assert failure.startswith("linear layer exceeds its error bound")


def test_a_linear_layer_that_forgets_the_bias_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = functional.linear
    monkeypatch.setattr(functional, "linear", lambda x, weight, bias=None: linear(x, weight))
    assert check(make_kernel()).failure == "the zero patch does not give the bias"


def test_a_linear_layer_that_gives_nan_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = functional.linear

    def broken(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = linear(patches, weight, bias)
        output[is_dense(patches)] = float("nan")
        return output

    monkeypatch.setattr(functional, "linear", broken)
    assert check(make_kernel()).failure is not None


@pytest.mark.parametrize("fault", ["swapped channels", "inexact", "nan", "zeros", "no bias"])
def test_a_broken_conv3d_is_a_warning_and_no_failure(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv3d = functional.conv3d

    def broken(x: Tensor, kernel: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
        output = conv3d(x, kernel, None if fault == "no bias" else bias, **options)
        return {
            "swapped channels": output.flip(1),
            "inexact": output * (1 + 1e-3 * is_dense(x.flatten(1)).view(-1, 1, 1, 1, 1)),
            "nan": output * float("nan"),
            "zeros": output * 0,
            "no bias": output,
        }[fault]

    monkeypatch.setattr(functional, "conv3d", broken)
    outcome = check(make_kernel())
    assert outcome.failure is None
    assert outcome.warning is not None
    assert outcome.warning.startswith("Conv3d on this machine")
    assert torch.__version__ in outcome.warning
    assert "the checkpoint is fine" in outcome.warning
    assert outcome.conv3d is not None
    assert outcome.conv3d.max_over_bound > 1


def test_the_error_that_is_reported_is_the_one_that_was_planted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exact(patches: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = patches.double() @ weight.double().T
        output = output if bias is None else output + bias.double()
        if len(patches) > 100 and is_dense(patches).all():
            output[3, 5] += 0.125
        return output.float()

    monkeypatch.setattr(functional, "linear", exact)
    outcome = check(make_kernel())
    assert outcome.linear is not None
    assert outcome.linear.max_abs == pytest.approx(0.125, rel=1e-4)
    assert outcome.linear.max_over_bound > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_error_stays_where_an_outside_computation_finds_it(dtype: torch.dtype) -> None:
    """numpy's float64 product of the same random patches gives an error of the same size."""
    kernel, bias = make_kernel(dtype), make_bias(dtype)
    patches = torch.randn(256, kernel[0].numel()).to(dtype)
    output = functional.linear(patches, kernel.flatten(1), bias).float().numpy()
    weight = kernel.flatten(1).float().numpy().astype(np.float64)
    exact = patches.float().numpy().astype(np.float64) @ weight.T + bias.float().numpy()
    outcome = check(kernel)
    assert outcome.linear is not None
    assert outcome.linear.max_abs == pytest.approx(np.abs(output - exact).max(), rel=1.0)


def test_reduced_precision_is_off_during_the_check_and_back_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = set()
    linear = functional.linear

    def spy(*arguments: Any) -> Tensor:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        seen.add(
            (
                torch.get_float32_matmul_precision(),
                cudnn.allow_tf32,
                matmul.allow_bf16_reduced_precision_reduction,
                matmul.allow_fp16_reduced_precision_reduction,
            )
        )
        return linear(*arguments)

    monkeypatch.setattr(functional, "linear", spy)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    try:
        check(make_kernel())
        assert seen == {("highest", False, False, False)}
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32 == before[1]
        assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    finally:
        torch.set_float32_matmul_precision(before[0])


# --- devices and bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tpu", "mps", "meta", "", "cuda:x", "cpu0"])
def test_a_device_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


def test_a_cuda_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="'cuda:99' is not there") as caught:
        resolve_device("cuda:99")
    assert caught.value.hint is not None
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda' is not there: 0 CUDA devices"):
            resolve_device("cuda")


def test_auto_is_cuda_where_there_is_one_and_cpu_else() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == CPU


@each_dtype
def test_a_tensor_made_of_bytes_is_the_tensor_they_came_from(dtype: torch.dtype) -> None:
    name = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}[dtype]
    kernel = make_kernel(dtype)
    content = kernel.view(torch.uint8).numpy().tobytes()
    assert torch.equal(load_tensor(content, dtype=name, shape=SHAPE), kernel)
