"""What is written down for the compiler by hand: words for values in the processor's vector registers."""

from typing import Any

from llvmlite import ir

FLOAT, WHOLE = ir.FloatType(), ir.IntType(32)
FAST = ("fast",)
ALIGNMENT = 4  # bytes: rows lie anywhere


def everywhere(builder: Any, value: Any, kind: Any) -> Any:
    """Give a vector of this kind with ``value`` in each lane."""
    nothing = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(nothing, value, WHOLE(0))
    first = ir.Constant(ir.VectorType(WHOLE, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, nothing, first)


def data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Point at the first value of an array. Raises TypeError, when compiling, where it has gaps."""
    if kind.layout != "C":
        raise TypeError(f"values that follow each other are needed, not {kind}")
    return context.make_array(kind)(context, builder, array).data


def vector_at(builder: Any, base: Any, index: Any, kind: Any) -> Any:
    """Point at a vector of this kind that begins with value ``index``."""
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())
