"""What compilers that look into functions are told about ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def static(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function from static arguments to static results: torch.compile calls it instead of tracing it.

    The attribute is the one that torch.compiler.assume_constant_result sets.
    """
    f._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return f


def recipe(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function over a face, so that AutoGraph (TensorFlow) runs it as it stands instead of rewriting it.

    The attribute is the one that tf.autograph.experimental.do_not_convert sets.
    """
    f.autograph_info__ = None  # type: ignore[attr-defined]
    return f
