"""Sheet of queries and their nearest images: Figure 2 of the paper.

Requires matplotlib (extra `plots`).
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxretrieval.report import fonts

_GREEN, _GREY = '#1a9641', '#808080'


class Row(NamedTuple):
  """A row of a sheet.

  Attributes:
    title: line above the text, e.g. 'de · rank 3 of 1,000'.
    text: the query.
    images: PIL images, nearest first.
    correct: index of the correct image; None if it is not among them.
    target: the correct image, shown beside the text; None shows none.
    notes: text below each image; empty shows none.
  """

  title: str
  text: str
  images: Sequence[Any]
  correct: int | None = None
  target: Any = None
  notes: Sequence[str] = ()


def draw(
  path: pathlib.Path,
  rows: Sequence[Row],
  *,
  title: str,
  font: str | os.PathLike[str] | None = None,
) -> None:
  """Draws Figure 2: queries and nearest images, the correct one framed green.

  Args:
    path: path of the PNG file.
    rows: at least one row; all have the same number of images.
    title: title of the figure.
    font: see `fonts.families`.

  Raises:
    ValueError: `rows` is empty.
  """
  from matplotlib.figure import Figure
  from matplotlib.layout_engine import ConstrainedLayoutEngine

  if not rows:
    raise ValueError('rows is empty: give at least one query')
  chosen = fonts.families([row.text for row in rows], font)
  targets = any(row.target is not None for row in rows)
  columns = 1 + targets + max(len(row.images) for row in rows)
  engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
  figure = Figure(
    figsize=(3.0 + 1.5 * (columns - 1), 1.62 * len(rows) + 0.6), layout=engine
  )
  grid = figure.subplots(
    len(rows),
    columns,
    squeeze=False,
    width_ratios=[2.0, *[1.0] * (columns - 1)],
  )
  for cells, row in zip(grid, rows, strict=True):
    for cell in cells:
      cell.set(xticks=[], yticks=[])
      cell.spines[:].set_visible(False)
    cells[0].text(0, 0.94, row.title, fontsize=10, weight='bold', va='top')
    text = fonts.wrap(fonts.drawable(row.text, chosen), 38, 6)
    cells[0].text(
      0, 0.77, text, fontsize=9.5, va='top', family=chosen, linespacing=1.25
    )
    if targets and row.target is not None:
      # A line above each new target.
      cells[0].spines['top'].set(visible=True, color=_GREY, linewidth=1)
      _show(cells[1], row.target)
      cells[1].spines[:].set(visible=True, color=_GREY, linestyle=':')
    for i, image in enumerate(row.images):
      cell = cells[1 + targets + i]
      _show(cell, image)
      if i == row.correct:
        cell.spines[:].set(visible=True, color=_GREEN, linewidth=4)
      if row.notes:
        cell.set_xlabel(row.notes[i], fontsize=8)
  first = grid[0]
  if targets:
    first[1].set_title('target', fontsize=10)
  for i, cell in enumerate(first[1 + targets :], 1):
    cell.set_title(str(i), fontsize=10)
  figure.suptitle(title, fontsize=12)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120)


def _show(axes: Any, image: Any) -> None:
  axes.imshow(image)
  axes.set_anchor('N')
