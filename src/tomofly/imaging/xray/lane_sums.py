"""Weighted sums of rows of lanes, kept in the processor's vector registers.

The compiler will not keep the sums of a loop over arrays in registers where it cannot prove that the arrays
are apart, and tests that at run time for every row. Here the sum is written down for it: load ``LANES``
values, add weight times row for each row, store.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic

from tomofly.imaging.xray.blocks import LANES

cgutils: Any = untyped_cgutils

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_FAST = ("fast",)
_ALIGNMENT = 4  # bytes: rows lie anywhere


def _row(builder: Any, base: Any, index: Any) -> Any:
    """Point at row ``index`` of rows of lanes, as one vector."""
    start = builder.mul(index, index.type(LANES))
    return builder.bitcast(builder.gep(base, [start]), _VECTOR.as_pointer())


def _everywhere(builder: Any, value: Any) -> Any:
    """Give a vector of ``value`` in each lane."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), mask)


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


def _add_rows(
    _typing: Any,
    out: Any,
    _at: Any,
    rows: Any,
    _first: Any,
    _step: Any,
    weights: Any,
    _begin: Any,
    _count: Any,
) -> Any:
    signature = types.void(out, types.intp, rows, types.intp, types.intp, weights, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, at_v, rows_v, first_v, step_v, weights_v, begin_v, count_v = arguments
        base = _data(context, builder, signature.args[2], rows_v)
        weight_base = _data(context, builder, signature.args[5], weights_v)
        target = _row(builder, _data(context, builder, signature.args[0], out_v), at_v)
        total = cgutils.alloca_once(builder, _VECTOR)
        builder.store(builder.load(target, align=_ALIGNMENT), total)
        with cgutils.for_range(builder, count_v) as loop:
            index = builder.add(first_v, builder.mul(loop.index, step_v))
            row = builder.load(_row(builder, base, index), align=_ALIGNMENT)
            weight = builder.load(builder.gep(weight_base, [builder.add(begin_v, loop.index)]))
            part = builder.fmul(row, _everywhere(builder, weight), flags=_FAST)
            builder.store(builder.fadd(builder.load(total), part, flags=_FAST), total)
        builder.store(builder.load(total), target, align=_ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


def _add_two_rows(_typing: Any, out: Any, _at: Any, rows: Any, _first: Any, _lower: Any, _upper: Any) -> Any:
    signature = types.void(out, types.intp, rows, types.intp, types.float32, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, at_v, rows_v, first_v, lower_v, upper_v = arguments
        base = _data(context, builder, signature.args[2], rows_v)
        target = _row(builder, _data(context, builder, signature.args[0], out_v), at_v)
        total = builder.load(target, align=_ALIGNMENT)
        for offset, weight in ((0, lower_v), (1, upper_v)):
            index = builder.add(first_v, first_v.type(offset))
            row = builder.load(_row(builder, base, index), align=_ALIGNMENT)
            part = builder.fmul(row, _everywhere(builder, weight), flags=_FAST)
            total = builder.fadd(total, part, flags=_FAST)
        builder.store(total, target, align=_ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


def _add_decaying(
    _typing: Any, out: Any, rows: Any, _first: Any, _step: Any, _count: Any, _decay: Any, _gain: Any
) -> Any:
    signature = types.void(out, rows, types.intp, types.intp, types.intp, types.float32, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, rows_v, first_v, step_v, count_v, decay_v, gain_v = arguments
        base = _data(context, builder, signature.args[1], rows_v)
        target_base = _data(context, builder, signature.args[0], out_v)
        decays, gains = _everywhere(builder, decay_v), _everywhere(builder, gain_v)
        running = cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, count_v) as loop:
            index = builder.add(first_v, builder.mul(loop.index, step_v))
            row = builder.load(_row(builder, base, index), align=_ALIGNMENT)
            kept = builder.fmul(decays, builder.load(running), flags=_FAST)
            builder.store(builder.fadd(row, kept, flags=_FAST), running)
            target = _row(builder, target_base, index)
            part = builder.fmul(gains, builder.load(running), flags=_FAST)
            builder.store(
                builder.fadd(builder.load(target, align=_ALIGNMENT), part, flags=_FAST),
                target,
                align=_ALIGNMENT,
            )
        return context.get_dummy_value()

    return signature, generate


# For compiled code only. ``out`` and ``rows`` are C-contiguous (row, lane), float32, and must not overlap;
# ``weights`` is read flat; nobody checks an index.

# add_rows(out, at, rows, first, step, weights, begin, count):
# out[at] += Σ weights[begin + i]·rows[first + i·step], i < count.
add_rows: Any = intrinsic(_add_rows)
# add_two_rows(out, at, rows, first, lower, upper): out[at] += lower·rows[first] + upper·rows[first + 1].
add_two_rows: Any = intrinsic(_add_two_rows)
# add_decaying(out, rows, first, step, count, decay, gain):
# out[i] += gain·F[i], F[i] = rows[i] + decay·F[i - step], for ``count`` rows i = first, first + step, ...
add_decaying: Any = intrinsic(_add_decaying)
