"""The one type of all values that the operators keep in Flink's state: bytes, stored as they are.

`Types.PRIMITIVE_ARRAY(Types.BYTE())` does not work as keyed state in thread mode: PyFlink 2.3 converts it number by
number in a Python loop, fails where there is no value yet, and hands Java a tuple of numbers instead of a byte array.
`Types.PICKLED_BYTE_ARRAY()` pickles. A type that PyFlink does not know is stored with the same Java serializer as a
pickled array, and its value is passed on untouched.
"""

from __future__ import annotations

from pyflink.common.typeinfo import TypeInformation

__all__ = ["StateBytes"]


class StateBytes(TypeInformation):  # type: ignore[misc]
    """Bytes as a value of keyed state, in thread mode only."""
