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
from tomofly.imaging.xray.registers import ALIGNMENT, FAST, FLOAT, data, everywhere, vector_at

cgutils: Any = untyped_cgutils

_VECTOR = ir.VectorType(FLOAT, LANES)
_TOGETHER = 4  # rows that are summed at once, so that what is loaded serves each of them


def _row(builder: Any, base: Any, index: Any) -> Any:
    """Point at row ``index`` of rows of lanes, as one vector."""
    return vector_at(builder, base, builder.mul(index, index.type(LANES)), _VECTOR)


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
        base = data(context, builder, signature.args[2], rows_v)
        weight_base = data(context, builder, signature.args[5], weights_v)
        target = _row(builder, data(context, builder, signature.args[0], out_v), at_v)
        total = cgutils.alloca_once(builder, _VECTOR)
        builder.store(builder.load(target, align=ALIGNMENT), total)
        with cgutils.for_range(builder, count_v) as loop:
            index = builder.add(first_v, builder.mul(loop.index, step_v))
            row = builder.load(_row(builder, base, index), align=ALIGNMENT)
            weight = builder.load(builder.gep(weight_base, [builder.add(begin_v, loop.index)]))
            part = builder.fmul(row, everywhere(builder, weight, _VECTOR), flags=FAST)
            builder.store(builder.fadd(builder.load(total), part, flags=FAST), total)
        builder.store(builder.load(total), target, align=ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


def _add_two_rows(_typing: Any, out: Any, _at: Any, rows: Any, _first: Any, _lower: Any, _upper: Any) -> Any:
    signature = types.void(out, types.intp, rows, types.intp, types.float32, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, at_v, rows_v, first_v, lower_v, upper_v = arguments
        base = data(context, builder, signature.args[2], rows_v)
        target = _row(builder, data(context, builder, signature.args[0], out_v), at_v)
        total = builder.load(target, align=ALIGNMENT)
        for offset, weight in ((0, lower_v), (1, upper_v)):
            index = builder.add(first_v, first_v.type(offset))
            row = builder.load(_row(builder, base, index), align=ALIGNMENT)
            part = builder.fmul(row, everywhere(builder, weight, _VECTOR), flags=FAST)
            total = builder.fadd(total, part, flags=FAST)
        builder.store(total, target, align=ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


def _add_four(
    _typing: Any, out: Any, _at: Any, _apart: Any, rows: Any, _first: Any, _step: Any, weights: Any,
    _begin: Any, _shift: Any, _count: Any,
) -> Any:  # fmt: skip
    place = types.intp
    signature = types.void(out, place, place, rows, place, place, weights, place, place, place)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, at, apart, rows_v, first, step, weights_v, begin, shift, count = arguments
        base = data(context, builder, signature.args[3], rows_v)
        weight_base = data(context, builder, signature.args[6], weights_v)
        out_base = data(context, builder, signature.args[0], out_v)
        targets, totals, begins = [], [], []
        for number in range(_TOGETHER):
            nth = at.type(number)
            targets.append(_row(builder, out_base, builder.add(at, builder.mul(apart, nth))))
            totals.append(cgutils.alloca_once(builder, _VECTOR))
            builder.store(builder.load(targets[-1], align=ALIGNMENT), totals[-1])
            begins.append(builder.add(begin, builder.mul(shift, nth)))
        with cgutils.for_range(builder, count) as loop:
            index = builder.add(first, builder.mul(loop.index, step))
            row = builder.load(_row(builder, base, index), align=ALIGNMENT)
            for total, begins_at in zip(totals, begins, strict=True):
                weight = builder.load(builder.gep(weight_base, [builder.add(begins_at, loop.index)]))
                part = builder.fmul(row, everywhere(builder, weight, _VECTOR), flags=FAST)
                builder.store(builder.fadd(builder.load(total), part, flags=FAST), total)
        for target, total in zip(targets, totals, strict=True):
            builder.store(builder.load(total), target, align=ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


def _decaying_step(builder: Any, row: Any, running: Any, decays: Any, gains: Any) -> Any:
    """Run two decaying sums on by one row, and give them times their gains."""
    told = None
    for held, decay, gain in zip(running, decays, gains, strict=True):
        kept = builder.fmul(decay, builder.load(held), flags=FAST)
        builder.store(builder.fadd(row, kept, flags=FAST), held)
        part = builder.fmul(gain, builder.load(held), flags=FAST)
        told = part if told is None else builder.fadd(told, part, flags=FAST)
    return told


def _pair(builder: Any, base: Any) -> list[Any]:
    """Load two values, each into all lanes."""
    places = (builder.gep(base, [ir.IntType(64)(number)]) for number in range(2))
    return [everywhere(builder, builder.load(place), _VECTOR) for place in places]


def _windowed_rows(
    _typing: Any, out: Any, rows: Any, taps: Any, _reach: Any, decays: Any, gains: Any, _columns: Any
) -> Any:
    signature = types.void(out, rows, taps, types.intp, decays, gains, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, rows_v, taps_v, reach, decays_v, gains_v, columns = arguments
        kinds = signature.args
        target_base = data(context, builder, kinds[0], out_v)
        base = data(context, builder, kinds[1], rows_v)
        tap_base = data(context, builder, kinds[2], taps_v)
        decays = _pair(builder, data(context, builder, kinds[4], decays_v))
        gains = _pair(builder, data(context, builder, kinds[5], gains_v))
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        one = columns.type(1)

        def from_the_end(count: Any) -> Any:
            return builder.sub(builder.sub(columns, one), count)

        running = [cgutils.alloca_once_value(builder, zero) for _ in range(2)]
        with cgutils.for_range(builder, columns) as loop:
            index = from_the_end(loop.index)
            row = builder.load(_row(builder, base, index), align=ALIGNMENT)
            told = _decaying_step(builder, row, running, decays, gains)
            builder.store(told, _row(builder, target_base, index), align=ALIGNMENT)
        for held in running:
            builder.store(zero, held)
        total = cgutils.alloca_once(builder, _VECTOR)
        with cgutils.for_range(builder, columns) as loop:
            target = _row(builder, target_base, loop.index)
            row = builder.load(_row(builder, base, loop.index), align=ALIGNMENT)
            told = _decaying_step(builder, row, running, decays, gains)
            builder.store(builder.fadd(builder.load(target, align=ALIGNMENT), told, flags=FAST), total)
            low = _larger(builder, builder.sub(loop.index, reach), columns.type(0))
            high = _smaller(builder, builder.add(builder.add(loop.index, reach), one), columns)
            first_tap = builder.add(builder.sub(low, loop.index), reach)
            with cgutils.for_range(builder, builder.sub(high, low)) as taps_loop:
                near = builder.load(_row(builder, base, builder.add(low, taps_loop.index)), align=ALIGNMENT)
                tap = builder.load(builder.gep(tap_base, [builder.add(first_tap, taps_loop.index)]))
                part = builder.fmul(near, everywhere(builder, tap, _VECTOR), flags=FAST)
                builder.store(builder.fadd(builder.load(total), part, flags=FAST), total)
            builder.store(builder.load(total), target, align=ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _smaller(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


# For compiled code only. ``out`` and ``rows`` are C-contiguous (row, lane), float32, and must not overlap;
# ``weights`` is read flat; nobody checks an index.

# add_rows(out, at, rows, first, step, weights, begin, count):
# out[at] += Σ weights[begin + i]·rows[first + i·step], i < count.
add_rows: Any = intrinsic(_add_rows)
# add_two_rows(out, at, rows, first, lower, upper): out[at] += lower·rows[first] + upper·rows[first + 1].
add_two_rows: Any = intrinsic(_add_two_rows)
# add_four(out, at, apart, rows, first, step, weights, begin, shift, count): add_rows for four rows of out at
# once, at + n·apart, whose weights begin at begin + n·shift.
add_four: Any = intrinsic(_add_four)
# windowed_rows(out, rows, taps, reach, decays, gains, columns), with two decays and gains:
# out[i] = Σ taps[k]·rows[i + k - reach] + Σ_j gains[j]·(F_j + B_j)[i], with
# F_j[i] = rows[i] + decays[j]·F_j[i - 1] and B_j the same from the end; beyond the ends are zeros.
windowed_rows: Any = intrinsic(_windowed_rows)
