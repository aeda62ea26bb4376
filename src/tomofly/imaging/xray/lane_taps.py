"""One sample spread over a square of cells of a grid, each a row of lanes, in vector registers.

Written down for the compiler, which cannot know that samples and grid are apart, and so would load the sample
again for every cell.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tomofly.imaging.xray.registers import ALIGNMENT, FAST, FLOAT, data, everywhere, vector_at

LANES = 16
"""Values that are spread together: a register, and a line of the cache."""

TAPS = 4
"""Cells along either side of the square."""

_VECTOR = ir.VectorType(FLOAT, LANES)


def _spread_sample(
    _typing: Any, grid: Any, _at: Any, _stride: Any, samples: Any, _index: Any, kernel: Any, _across: Any,
    _below: Any, _scale: Any,
) -> Any:  # fmt: skip
    place = types.intp
    signature = types.void(grid, place, place, samples, place, kernel, place, place, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        grid_v, at, stride, samples_v, index, kernel_v, across, below, scale = arguments
        kinds = signature.args
        cells = data(context, builder, kinds[0], grid_v)
        rows = data(context, builder, kinds[3], samples_v)
        table = data(context, builder, kinds[5], kernel_v)

        def lanes(base: Any, row: Any) -> Any:
            return vector_at(builder, base, builder.mul(row, row.type(LANES)), _VECTOR)

        def tap(line: Any, number: int) -> Any:
            start = builder.add(builder.mul(line, line.type(TAPS)), line.type(number))
            return builder.load(builder.gep(table, [start]))

        sample = builder.load(lanes(rows, index), align=ALIGNMENT)
        along = [tap(across, j) for j in range(TAPS)]
        for i in range(TAPS):
            down = builder.fmul(tap(below, i), scale, flags=FAST)
            first = builder.add(at, builder.mul(stride, stride.type(i)))
            for j in range(TAPS):
                weight = everywhere(builder, builder.fmul(down, along[j], flags=FAST), _VECTOR)
                target = lanes(cells, builder.add(first, first.type(j)))
                part = builder.fmul(weight, sample, flags=FAST)
                total = builder.fadd(builder.load(target, align=ALIGNMENT), part, flags=FAST)
                builder.store(total, target, align=ALIGNMENT)
        return context.get_dummy_value()

    return signature, generate


spread_sample: Any = intrinsic(_spread_sample)
"""spread_sample(grid, at, stride, samples, index, kernel, across, below, scale): add one sample to the grid.

``grid`` and ``samples`` are arrays of rows of lanes, contiguous; the square begins at row ``at`` of the grid
and goes on ``stride`` rows further down. Its weights are ``scale`` times line ``below`` of ``kernel`` (line,
tap) down and line ``across`` of it along.
"""
