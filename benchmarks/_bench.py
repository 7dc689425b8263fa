"""The harness: callables timed side by side in one process, a report as text, JSON, Markdown and a picture.

Calls are interleaved, so that a noisy minute hits all of them alike; what is compared are medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import gridfield

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SHARE = 0.1  # seconds that a quick callable is repeated for in each round


# ---- timing ---------------------------------------------------------------------------------------------------------
def interleave(
    functions: dict[str, Callable[[], Any]],
    budget: float,
    least: int = 3,
    most: int = 10_000,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call of each function, called in turn, round after round, until the budget (s) is spent.

    In a round each function runs for `SHARE` seconds, at least once, so that the quick ones are called more often.
    At least `least` rounds, whatever the budget; call everything once before, as warm-up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    rounds, began, longest = 0, time.perf_counter(), 0.0
    while rounds < least or time.perf_counter() - began + longest < budget:
        start = time.perf_counter()
        for name, f in functions.items():
            gc.collect()
            stop, calls = time.perf_counter() + SHARE, 0
            while calls == 0 or (time.perf_counter() < stop and calls < most):
                t = clock()
                f()
                seconds[name].append(clock() - t)
                calls += 1
        longest = max(longest, time.perf_counter() - start)
        rounds += 1
    return seconds


def difference(ours: Any, theirs: Any) -> float:
    """Greatest difference between two arrays, or two tuples of them, relative to the greatest number."""
    if isinstance(ours, tuple):
        return max(difference(a, b) for a, b in zip(ours, theirs, strict=True))
    a, b = (np.asarray(x) if np.asarray(x).dtype.kind in "fc" else np.asarray(x, float) for x in (ours, theirs))
    return float(np.abs(a.reshape(b.shape) - b).max() / np.abs(b).max())


@dataclass(frozen=True)
class Case:
    """One thing to compute, by us and by a peer; both return what they computed."""

    name: str
    peer: str
    target: float  # how many times faster we are to be
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    tolerance: float = 1e-3
    least: int = 3  # rounds
    note: str = ""


def options(description: str | None) -> argparse.Namespace:
    """What every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write table and picture to docs/, too")
    return parser.parse_args()


@dataclass(frozen=True)
class Row:
    """A case, measured."""

    case: str
    peer: str
    peer_ms: float
    ours_ms: float
    target: float
    difference: float
    peer_quartiles_ms: list[float]
    ours_quartiles_ms: list[float]
    peer_calls: int
    ours_calls: int
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster: ratio of the medians."""
        return self.peer_ms / self.ours_ms

    @property
    def met(self) -> bool:
        """Whether that is enough."""
        return self.ratio >= self.target


def measure(case: Case, budget: float) -> Row:
    """Check that both sides compute the same numbers, which warms them up, and time them."""
    error = difference(case.ours(), case.theirs())
    if not error <= case.tolerance:
        raise SystemExit(f"{case.name}: we and {case.peer} differ by {error:.2g}, more than {case.tolerance:.2g}")
    times = interleave({"ours": case.ours, "theirs": case.theirs}, budget, case.least)
    ours, theirs = ([1e3 * t for t in times[who]] for who in ("ours", "theirs"))
    return Row(
        case.name, case.peer, statistics.median(theirs), statistics.median(ours), case.target, error,
        np.quantile(theirs, (0.25, 0.75)).tolist(), np.quantile(ours, (0.25, 0.75)).tolist(),
        len(theirs), len(ours), case.note,
    )  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A number of its own, measured, that is to stay below a limit."""

    what: str
    value: float
    unit: str
    limit: float | None = None  # None: there for comparison
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value is within its limit."""
        return None if self.limit is None else self.value <= self.limit


# ---- the machine ----------------------------------------------------------------------------------------------------
def machine(packages: Iterable[str]) -> dict[str, Any]:
    """What the figures were measured on and with."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(
            map(str.strip, s.split(":", 1)) for s in info.read_text().split("\n\n")[0].splitlines() if ":" in s
        )
        name = fields.get("model name", name)
        if "cpu family" in fields:
            name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return {
        "cpu": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {"gridfield": gridfield.__version__} | {p: metadata.version(p) for p in packages},
        "clock_ghz": clock_ghz(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": time.strftime("%Y-%m-%d"),
    }


def clock_ghz() -> float:
    """Clock of one core under load: a chain of dependent one-cycle instructions (add, exclusive or), timed."""
    from numba import int64, njit

    @njit(int64(int64, int64, int64))
    def chain(n: int, a: int, b: int) -> int:
        x = a
        for _ in range(n):
            x = (x + a) ^ b
        return x

    n, seconds = 20_000_000, []
    for _ in range(9):
        t = time.thread_time()
        chain(n, 12345, 67890)
        seconds.append(time.thread_time() - t)
    return 2e-9 * n / min(seconds)


def fresh(name: str, *args: Any, **environment: str) -> Any:
    """Run a function of _fresh.py in a process of its own; what it returns."""
    command = [sys.executable, str(HERE / "_fresh.py"), name, json.dumps(args)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---- the report -----------------------------------------------------------------------------------------------------
def significant(x: float) -> str:
    """Three digits, without exponents."""
    digits = max(0, 2 - int(np.floor(np.log10(abs(x))))) if x else 0
    return f"{x:,.{digits}f}"


def verdict(met: bool | None) -> str:
    """A word for the last column."""
    return {True: "yes", False: "NO", None: ""}[met]


def as_text(rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    """Columns padded to one width, the first row a heading; `right`: columns of numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(r, widths, strict=True))
        )
        for r in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    """A Markdown table, the first row its heading."""
    rule = ["--:" if i in right else ":--" for i in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(r) + " |" for r in (rows[0], rule, *rows[1:]))


@dataclass
class Report:
    """Everything one script measured."""

    name: str
    title: str
    setting: str
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)  # heading: rows of text, the first a heading

    def case_table(self) -> list[list[str]]:
        """One row per case, with a heading."""
        head = ["case", "peer", "peer ms", "ours ms", "ratio", "target", "met?"]
        return [head] + [
            [r.case, r.peer, significant(r.peer_ms), significant(r.ours_ms), f"{significant(r.ratio)}×",
             f"{r.target:g}×", verdict(r.met)]
            for r in self.rows
        ]  # fmt: skip

    def figure_table(self) -> list[list[str]]:
        """One row per figure, with a heading."""
        head = ["figure", "measured", "unit", "at most", "met?"]
        return [head] + [
            [f.what, significant(f.value), f.unit, "" if f.limit is None else significant(f.limit), verdict(f.met)]
            for f in self.figures
        ]

    def notes(self) -> list[str]:
        """What has to be said about single rows, and how well the results agree."""
        notes = [
            f"{x.case if isinstance(x, Row) else x.what}: {x.note}." for x in (*self.rows, *self.figures) if x.note
        ]
        if not self.rows:
            return notes
        worst = max(r.difference for r in self.rows)
        return [*notes, f"Checked before timing: greatest relative difference from a peer {worst:.1g}."]

    def about(self) -> str:
        """The machine in a line."""
        m = self.machine
        packages = ", ".join(f"{k} {v}" for k, v in m["packages"].items())
        return (
            f"{m['cpu']}, {m['clock_ghz']:.2f} GHz measured, {m['cores']} cores; {m['system']}, Python {m['python']}, "
            f"{packages}; load average before the run {m['load_before']}; {m['date']}"
        )

    def text(self) -> str:
        """All of it, for a terminal."""
        parts = [f"{self.title}\n{self.setting}\n{self.about()}"]
        parts += [as_text(self.case_table(), (2, 3, 4, 5))] if self.rows else []
        parts += [as_text(self.figure_table(), (1, 3))] if self.figures else []
        parts += [f"{heading}\n{as_text(t, range(1, len(t[0])))}" for heading, t in self.tables.items()]
        return "\n\n".join([*parts, "\n".join(self.notes())])

    def markdown(self, picture: str) -> str:
        """All of it, for the documentation."""
        parts = [f"# {self.title}", self.setting]
        if self.rows:
            parts += [f"![How many times faster]({picture})", as_markdown(self.case_table(), (2, 3, 4, 5))]
        parts += [as_markdown(self.figure_table(), (1, 3))] if self.figures else []
        for heading, t in self.tables.items():
            parts += [f"## {heading}", as_markdown(t, range(1, len(t[0])))]
        return "\n\n".join([*parts, "\n".join(f"- {n}" for n in self.notes()), f"Measured on {self.about()}."]) + "\n"

    def plot(self, path: Path) -> None:
        """Ratios as bars on a logarithmic axis, their targets marked."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        good, bad, grey = "#2a6f97", "#c8553d", "#6b7280"
        fig, ax = plt.subplots(figsize=(9.5, 1.5 + 0.5 * len(self.rows)), layout="constrained")
        place = np.arange(len(self.rows))[::-1]
        ax.barh(place, [r.ratio for r in self.rows], 0.56, color=[good if r.met else bad for r in self.rows])
        targets = [r.target for r in self.rows]
        ax.vlines(targets, place - 0.36, place + 0.36, color="white", lw=4.5)
        ax.vlines(targets, place - 0.36, place + 0.36, color="black", lw=2, label="at least")
        greatest = max(max(r.ratio, r.target) for r in self.rows)
        least = min(1, 0.6 * min([r.ratio for r in self.rows] + targets))
        ax.set(xscale="log", xlim=(least, 4 * greatest), ylim=(-0.6, len(self.rows) - 0.4), yticks=[])
        for y, r in zip(place, self.rows, strict=True):
            ax.text(1.06 * max(r.ratio, r.target), y, f"{significant(r.ratio)}×", va="center", weight="bold")
            ax.annotate(r.case, (0, y), (-8, 0), ("axes fraction", "data"), "offset points", ha="right", va="bottom")
            ax.annotate(
                f"{r.peer}  {significant(r.peer_ms)} ms,  ours {significant(r.ours_ms)} ms",
                (0, y), (-8, -1), ("axes fraction", "data"), "offset points",
                ha="right", va="top", fontsize=8, color=grey,
            )  # fmt: skip
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}×")
        ax.grid(axis="x", color="#e5e7eb")
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.xaxis.set_minor_formatter("")  # of a short axis they are powers of ten
        ax.set_xlabel("times faster")
        if not all(r.met for r in self.rows):
            ax.barh([np.nan], [1], color=bad, label="slower than that")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
        fig.suptitle(self.title, x=0.01, ha="left", weight="bold")
        fig.savefig(path, dpi=150)
        plt.close(fig)

    def write(self, also: Path | None = None) -> None:
        """Text to the terminal; JSON, Markdown and a picture to results/, which git does not see; the last two also
        to also.md and also.png."""
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / ".gitignore").write_text("*\n")
        everything = asdict(self) | {
            "rows": [asdict(r) | {"ratio": r.ratio, "met": r.met} for r in self.rows],
            "figures": [asdict(f) | {"met": f.met} for f in self.figures],
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(everything, indent=1) + "\n")
        print(f"\n{self.text()}\n\nwritten: {RESULTS}/{self.name}.json")
        for place in filter(None, (RESULTS / self.name, also)):
            place.with_suffix(".md").write_text(self.markdown(f"{place.name}.png"))
            print(f"written: {place}.md")
            if self.rows:
                self.plot(place.with_suffix(".png"))
                print(f"written: {place}.png")
