"""A row read at evenly spaced places, by linear interpolation, and added to a row of a slice.

Places less than a column apart that are read together lie in two neighbouring registers: with AVX-512 one
instruction picks sixteen of them, where reading each from memory takes several times as long. Other
processors read from memory.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils as untyped_cgutils
from numba.core import config as untyped_config
from numba.extending import intrinsic

from tomofly.imaging.xray.registers import ALIGNMENT, FAST, FLOAT, WHOLE, data, everywhere, vector_at

cgutils: Any = untyped_cgutils
_config: Any = untyped_config

FloatArray = npt.NDArray[np.float32]

LANES = 16
MARGIN = 2 * LANES + 1
"""Values beyond a row's end that may be read, though nothing is made of them."""

_VECTOR, _INDICES = ir.VectorType(FLOAT, LANES), ir.VectorType(WHOLE, LANES)
_PICK = "llvm.x86.avx512.vpermi2var.ps.512"


def _can_pick() -> bool:
    # Numba may be told to compile for another processor than this one.
    told = _config.CPU_NAME or _config.CPU_FEATURES
    return not told and bool(binding.get_host_cpu_features().get("avx512f", False))


PICKS = _can_pick()
"""Whether compiled code may pick values from registers here."""


def _picked(builder: Any, line: Any, origin: Any, slope: Any) -> Any:
    """Read sixteen places origin + slope·lane of a line, which must lie on it where they are wanted."""
    lanes = ir.Constant(_VECTOR, [float(lane) for lane in range(LANES)])
    along = builder.fmul(everywhere(builder, slope, _VECTOR), lanes)
    position = builder.fadd(everywhere(builder, origin, _VECTOR), along)
    column = builder.fptosi(position, _INDICES)
    ends = [builder.extract_element(column, WHOLE(lane)) for lane in (0, LANES - 1)]
    low = builder.select(builder.icmp_signed("<", *ends), *ends)
    low = builder.select(builder.icmp_signed(">", low, WHOLE(0)), low, WHOLE(0))
    tables = []
    for part in range(2):
        at = builder.add(low, WHOLE(part * LANES))
        table = vector_at(builder, line, builder.sext(at, ir.IntType(64)), _VECTOR)
        tables.append(builder.load(table, align=ALIGNMENT))
    pick = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR, _INDICES, _VECTOR]), _PICK
    )
    index = builder.sub(column, everywhere(builder, low, _INDICES))
    above = builder.add(index, ir.Constant(_INDICES, [1] * LANES))
    below_v, above_v = (builder.call(pick, [tables[0], which, tables[1]]) for which in (index, above))
    upper = builder.fsub(position, builder.sitofp(column, _VECTOR))
    return builder.fadd(below_v, builder.fmul(upper, builder.fsub(above_v, below_v), flags=FAST), flags=FAST)


def _add_picked(_typing: Any, total: Any, _count: Any, line: Any, _origin: Any, _slope: Any) -> Any:
    signature = types.void(total, types.intp, line, types.float32, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total_v, count, line_v, origin, slope = arguments
        target_base = data(context, builder, signature.args[0], total_v)
        line_base = data(context, builder, signature.args[2], line_v)

        def add(start: Any, done: Any = None) -> None:
            """Add sixteen values from ``start`` on, but for the first ``done`` of them."""
            first = builder.fadd(origin, builder.fmul(slope, builder.sitofp(start, FLOAT)))
            values = _picked(builder, line_base, first, slope)
            if done is not None:
                lanes = ir.Constant(_INDICES, list(range(LANES)))
                done_lanes = everywhere(builder, builder.trunc(done, WHOLE), _INDICES)
                fresh = builder.icmp_signed(">=", lanes, done_lanes)
                values = builder.select(fresh, values, ir.Constant(_VECTOR, [0.0] * LANES))
            target = vector_at(builder, target_base, start, _VECTOR)
            held = builder.load(target, align=ALIGNMENT)
            builder.store(builder.fadd(held, values, flags=FAST), target, align=ALIGNMENT)

        width = count.type(LANES)
        whole = builder.sdiv(count, width)
        with cgutils.for_range(builder, whole) as loop:
            add(builder.mul(loop.index, width))
        rest = builder.sub(count, builder.mul(whole, width))
        with builder.if_then(builder.icmp_signed(">", rest, rest.type(0))):
            # The last sixteen once more, less those that have been added.
            add(builder.sub(count, width), builder.sub(width, rest))
        return context.get_dummy_value()

    return signature, generate


_add_picked_places: Any = intrinsic(_add_picked)


@njit(cache=True, nogil=True, fastmath=True)
def add_read(total: FloatArray, line: FloatArray, origin: np.float32, slope: np.float32) -> None:
    """Add to total[i] what ``line`` is at origin + slope·i, each value read from memory."""
    for i in range(total.shape[0]):
        position = origin + slope * np.float32(i)
        column = np.uint32(np.int32(position))
        upper = position - np.float32(column)
        below = line[column]
        total[i] += below + upper * (line[column + np.uint32(1)] - below)


@njit(cache=True, nogil=True)
def add_picked(total: FloatArray, line: FloatArray, origin: np.float32, slope: np.float32) -> None:
    """Do the same with AVX-512, from registers, where ``PICKS``."""
    if total.shape[0] < LANES:
        add_read(total, line, origin, slope)
        return
    _add_picked_places(total, total.shape[0], line, origin, slope)


add_along = add_picked if PICKS else add_read
"""add_along(total, line, origin, slope): total[i] += line at origin + slope·i, between its columns linearly.

Both are float32 and contiguous; slope lies between -1 and 1, all places on the line, and ``MARGIN`` values
follow its last column. For compiled code; nobody checks an index.
"""
