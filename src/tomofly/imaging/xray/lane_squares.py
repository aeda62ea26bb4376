"""Squares of values turned about their diagonal, in the processor's vector registers.

One value at a time, turning a projection's rows into lanes costs as much as filtering them.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tomofly.imaging.xray.registers import ALIGNMENT, FLOAT, WHOLE, data, vector_at

SIDE = 16
"""Values along either side of a square: a register."""

_VECTOR = ir.VectorType(FLOAT, SIDE)


def _exchanged(builder: Any, upper: Any, lower: Any, apart: int) -> tuple[Any, Any]:
    """Exchange the off-diagonal pieces, ``apart`` wide, of two rows that are so far from each other."""
    # The second vector's lanes count on from the first's.
    first = [lane + SIDE - apart if lane & apart else lane for lane in range(SIDE)]
    second = [lane + SIDE if lane & apart else lane + apart for lane in range(SIDE)]
    masks = (ir.Constant(ir.VectorType(WHOLE, SIDE), mask) for mask in (first, second))
    above, below = (builder.shuffle_vector(upper, lower, mask) for mask in masks)
    return above, below


def _turn_square(
    _typing: Any, out: Any, _at: Any, _out_stride: Any, rows: Any, _first: Any, _stride: Any
) -> Any:
    signature = types.void(out, types.intp, types.intp, rows, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out_v, at, out_stride, rows_v, first, stride = arguments
        target = data(context, builder, signature.args[0], out_v)
        source = data(context, builder, signature.args[3], rows_v)

        def place(base: Any, start: Any, step: Any, number: int) -> Any:
            return vector_at(builder, base, builder.add(start, builder.mul(step, step.type(number))), _VECTOR)

        square = [
            builder.load(place(source, first, stride, number), align=ALIGNMENT) for number in range(SIDE)
        ]
        for apart in (1, 2, 4, 8):
            for number in range(SIDE):
                if not number & apart:
                    pair = _exchanged(builder, square[number], square[number | apart], apart)
                    square[number], square[number | apart] = pair
        for number, row in enumerate(square):
            builder.store(row, place(target, at, out_stride, number), align=ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


turn_square: Any = intrinsic(_turn_square)
"""turn_square(out, at, out_stride, rows, first, stride): turn a square of ``SIDE`` values.

out[at + j·out_stride + i] = rows[first + i·stride + j], for i and j below ``SIDE``; both arrays are float32,
contiguous and read flat, and nobody checks an index. For compiled code only.
"""
