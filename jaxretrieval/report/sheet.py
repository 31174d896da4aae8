"""A sheet of queries and their nearest images: Figure 2 of the paper.

Needs matplotlib, of the extra `plots`.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxretrieval.report import fonts

_RIGHT, _WANTED = '#1a9641', '#808080'


class Row(NamedTuple):
  """A row of a sheet.

  Attributes:
    head: what stands above the text, e.g. 'de · rank 3 of 1,000'.
    text: the query.
    images: PIL images, nearest first.
    right: which of them is the right one; None if it is not among them.
    wanted: the right image, to be shown beside the text; None shows none.
    notes: below each image; empty shows none.
  """

  head: str
  text: str
  images: Sequence[Any]
  right: int | None = None
  wanted: Any = None
  notes: Sequence[str] = ()


def draw(
  path: pathlib.Path,
  rows: Sequence[Row],
  *,
  title: str,
  font: str | os.PathLike[str] | None = None,
) -> None:
  """Draws Figure 2: queries and their nearest images, the right one in green.

  Args:
    path: of the PNG.
    rows: all with the same number of images, at least one row.
    title: above all.
    font: see `fonts.families`.

  Raises:
    ValueError: no rows.
  """
  from matplotlib.figure import Figure
  from matplotlib.layout_engine import ConstrainedLayoutEngine

  if not rows:
    raise ValueError('a sheet needs at least one query')
  chosen = fonts.families([row.text for row in rows], font)
  wanted = any(row.wanted is not None for row in rows)
  columns = 1 + wanted + max(len(row.images) for row in rows)
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
    cells[0].text(0, 0.94, row.head, fontsize=10, weight='bold', va='top')
    text = fonts.wrap(fonts.drawable(row.text, chosen), 38, 6)
    cells[0].text(
      0, 0.77, text, fontsize=9.5, va='top', family=chosen, linespacing=1.25
    )
    if wanted and row.wanted is not None:
      # A rule above each new image that is looked for.
      cells[0].spines['top'].set(visible=True, color=_WANTED, linewidth=1)
      _show(cells[1], row.wanted)
      cells[1].spines[:].set(visible=True, color=_WANTED, linestyle=':')
    for i, image in enumerate(row.images):
      cell = cells[1 + wanted + i]
      _show(cell, image)
      if i == row.right:
        cell.spines[:].set(visible=True, color=_RIGHT, linewidth=4)
      if row.notes:
        cell.set_xlabel(row.notes[i], fontsize=8)
  first = grid[0]
  if wanted:
    first[1].set_title('wanted', fontsize=10)
  for i, cell in enumerate(first[1 + wanted :], 1):
    cell.set_title(str(i), fontsize=10)
  figure.suptitle(title, fontsize=12)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=120)


def _show(axes: Any, image: Any) -> None:
  axes.imshow(image)
  axes.set_anchor('N')
