"""docs/frameworks.md from a run of test_frameworks.py: a row per transformation, a column per framework."""
# ruff: noqa: E501 (lines of a page)

from pathlib import Path

HEAD = """# Frameworks

Every public function takes arrays of NumPy, PyTorch, JAX or TensorFlow and gives back the same; all arrays of a call belong
to one framework. Learnable fields are `gridfield.torch.SplineField` (a module), `gridfield.jax.SplineField` (a pytree) and
`gridfield.tensorflow.SplineField` (a Keras layer).

*This page is written by `make frameworks` from a run of `tests/test_frameworks.py`.* A tick stands for a test that passed
for each of {functions}: derivatives against finite differences in float64, everything else against NumPy. A number points
to what the framework cannot do.

"""

TAIL = """
## Good to know

- **Copies.** Contiguous arrays of NumPy, torch and JAX reach the kernels, and results of `sample` their caller, without a copy
  (a test compares addresses). {copies}
- **torch.** Eager calls are `autograd.Function`s, compiled ones a custom op `gridfield::<op>`, so that graphs do not break.
  Margins, `cval` and sizes of the grid are static: a new value makes a new graph; the number of points may vary. The table
  is of graphs by the `aot_eager` back end; `tests/test_torch_transforms.py` has what Inductor makes of them.
- **JAX.** float32 unless `jax_enable_x64` is on; without it, what is float64 elsewhere (integers, say) is float32. On CPUs an
  op is a call into our kernels on XLA's own buffers; on other devices, and in `jax.export`, the reference implementation in
  plain JAX, so that exported functions are self-contained and may have symbolic sizes. Every new `cval`, grid or shape is
  compiled anew, and kept. Ctrl-C during a compiled call comes out as JAX's error about a callback that was interrupted.
- **TensorFlow.** An op is a `tf.numpy_function` with a gradient of ours: no XLA (`jit_compile=True`), no SavedModel.
  `tf.vectorized_map` runs it in a while loop. Numbers of points and channels may be `None` while tracing; the grid's sizes
  must be known. AutoGraph leaves our functions as they are.
- **Half precision** is for real numbers: `nufft1` and `nufft2`, whose results are complex, have none.
- **Points.** `deform_points` and `invert_displacement` solve by as many steps as the numbers need: what traces or maps calls
  back into Python for that, one item after the other, so that there is no `jax.export`, and `torch.compile` breaks the graph.
  Two steps in the framework follow, which make first and second derivatives right, and no further ones.
- **Cells.** `binned_statistic` with the nearest kernel breaks the graph of `torch.compile`, as cells are compared with their
  edges outside of it; with any other kernel it does not.
- **Pairs.** `argmin`, `min` and `kneighbors` of `pairwise` break the graph of `torch.compile`; JAX traces them.
- **Fits.** `curve_fit` of equations goes under `jax.jit`, of functions in JAX under `jax.grad` and `vmap` outside of it; several
  models under `jax.grad` and `backward()`. `torch.compile` takes it without `fullgraph`. In TensorFlow, give tensors, not
  variables, under a tape.
- **Other devices.** torch and JAX use the reference implementation in plain array code, with one warning; TensorFlow copies
  to the CPU and back.
"""


def write(page, cells, noted):
    rows, columns, functions = (list(dict.fromkeys(c[i] for c in cells)) for i in (0, 1, 2))
    order = ["NumPy", "torch (autograd)", "torch.func", "JAX", "TensorFlow (eager)", "TensorFlow (tf.function)"]
    columns.sort(key=order.index)
    functions.sort(key=lambda f: (f.startswith("SplineField"), f))
    expected = {row: {what for name, _, what, _ in cells if name == row} for row in rows}  # integers: images only
    reasons = {}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in sorted(rows, key=_order(cells)):
        marks = []
        for column in columns:
            here = {what: reason for name, title, what, reason in cells if (name, title) == (row, column)}
            cannot = {reason for reason in here.values() if reason}
            numbers = [str(reasons.setdefault(r, len(reasons) + 1)) for r in sorted(cannot)]
            assert not here or set(here) >= expected[row], f"{row}, {column}: not all functions passed"
            marks.append(", ".join(numbers) if numbers else "✓" if here else "–")
        lines.append(f"| {row} | " + " | ".join(marks) + " |")
    footnotes = [f"{n}. {reason[0].upper() + reason[1:]}." for reason, n in reasons.items()]
    copies = "; ".join(n for n in noted if n.startswith("TensorFlow") and "copied" in n) + "."
    copies = "Results of prefilter, pad and of gradients in points are copied once in JAX. " + copies
    text = HEAD.format(functions=", ".join(f"`{f}`" for f in functions)) + "\n".join([*lines, "", *footnotes]) + "\n"
    Path(page).write_text(text + TAIL.format(copies=copies))


def _order(cells):
    from test_frameworks import TRANSFORMATIONS

    names = list(TRANSFORMATIONS)
    return names.index
