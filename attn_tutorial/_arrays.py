"""What the array functions share: one definition for NumPy and torch, and errors in words."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_numpy_array, is_torch_array
from jaxtyping import Bool, Float

# Anything with a shape and a dtype that follows the Python array API standard.
Array = Any
FloatArray = Float[Array, "..."]
BoolArray = Bool[Array, "..."]


def library(array: Array) -> str:
    """The name of the library that an array belongs to."""
    if is_numpy_array(array):
        return "NumPy"
    return "torch" if is_torch_array(array) else type(array).__module__.split(".")[0]


def namespace(**arrays: Array) -> Any:
    """The one array library that all these arrays belong to; the names go into the errors."""
    for name, array in arrays.items():
        if not is_array_api_obj(array):
            raise TypeError(
                f"{name} must be a NumPy array or a torch tensor; got {type(array).__name__}"
            )
    libraries = {name: library(array) for name, array in arrays.items()}
    if len(set(libraries.values())) > 1:
        found = ", ".join(f"{name}: {where}" for name, where in libraries.items())
        raise TypeError(f"{_names(arrays)} must come from one array library; got {found}")
    return array_namespace(*arrays.values())


def check_floating(**arrays: Array) -> None:
    """Raise TypeError unless the arrays hold real floating-point numbers of one dtype."""
    xp = namespace(**arrays)
    for name, array in arrays.items():
        if not xp.isdtype(array.dtype, "real floating"):
            raise TypeError(
                f"{name} must hold floating-point numbers; got dtype {dtype_name(array)}. "
                "Convert it first, to float32 for example"
            )
    if len({array.dtype for array in arrays.values()}) > 1:
        found = ", ".join(f"{name}: {dtype_name(array)}" for name, array in arrays.items())
        raise TypeError(f"{_names(arrays)} must have one dtype; got {found}")


def check_axes(wanted: str, **arrays: Array) -> None:
    """Raise ValueError unless every array has two axes or more; `wanted` says which."""
    for name, array in arrays.items():
        if array.ndim < 2:
            raise ValueError(f"{name} must have shape {wanted}; got {tuple(array.shape)}")


def broadcast_leading(**arrays: Array) -> tuple[int, ...]:
    """The shape to which the arrays' leading axes (all but the last two) broadcast."""
    try:
        return np.broadcast_shapes(*(tuple(array.shape[:-2]) for array in arrays.values()))
    except ValueError:
        found = ", ".join(f"{name}: {tuple(array.shape)}" for name, array in arrays.items())
        raise ValueError(
            f"the leading axes of {_names(arrays)} must broadcast; got shapes {found}"
        ) from None


def wide_dtype(xp: Any, array: Array) -> Any:
    """The dtype to compute in: the array's own, but never less than float32.

    float16 overflows beyond 65504, which one dot product can reach.
    """
    return xp.result_type(array.dtype, xp.float32)


def dtype_name(array: Array) -> str:
    """`float32`, whichever library says it."""
    return str(array.dtype).removeprefix("torch.")


def _names(arrays: dict[str, Array]) -> str:
    *others, last = arrays
    return f"{', '.join(others)} and {last}" if others else last
