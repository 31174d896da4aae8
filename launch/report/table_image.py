"""The table of a report as a picture."""

import pathlib
from collections.abc import Sequence

_SIZE = 10  # points of the letters
_LINE = 0.27  # inches from line to line
_GAP = 0.3  # inches between two columns
_MARGIN = 0.15  # inches around


def draw_table(lines: Sequence[Sequence[str]], path: pathlib.Path) -> None:
  """Draws the cells of a table: names to the left, numbers to the right.

  Args:
    lines: of cells; the first is the head.
    path: of the PNG file.

  Raises:
    ModuleNotFoundError: there is no matplotlib.
    OSError: the file cannot be written.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  # A name of a metric is wider than its numbers: in two lines it is less so.
  head = [cell.replace('/', '/\n', 1) for cell in lines[0]]
  figure = plt.figure(dpi=150)
  axis = figure.add_axes((0, 0, 1, 1))

  def put(x: float, y: float, cell: str, column: int, **style):
    return axis.text(
      x,
      y,
      cell,
      # Names are not formulas, whatever they have of `$`.
      parse_math=False,
      ha='right' if column else 'left',
      fontsize=_SIZE,
      **style,
    )

  def width(cell: str, column: int, **style) -> float:
    text = put(0, 0, cell, column, **style)
    extent = text.get_window_extent().width / figure.dpi
    text.remove()
    return extent

  widths = [
    max(
      width(head[column], column, weight='bold'),
      *(width(line[column], column) for line in lines[1:]),
      0,
    )
    for column in range(len(head))
  ]
  left = [_MARGIN + sum(widths[:i]) + _GAP * i for i in range(len(widths))]
  edges = [left[0], *(x + w for x, w in zip(left[1:], widths[1:], strict=True))]
  right = left[-1] + widths[-1] + _MARGIN
  top = _LINE * (len(lines) - 1) + 2 * _MARGIN
  rows = 1 + any('\n' in cell for cell in head)
  height = top + rows * _LINE
  figure.set_size_inches(right, height)
  axis.set(xlim=(0, right), ylim=(0, height))
  axis.axis('off')
  for column, (x, cell) in enumerate(zip(edges, head, strict=True)):
    y = top - _MARGIN / 2
    put(x, y, cell, column, va='bottom', weight='bold')
  for number, line in enumerate(lines[1:], 1):
    for column, (x, cell) in enumerate(zip(edges, line, strict=True)):
      y = top - _MARGIN - (number - 0.5) * _LINE
      put(x, y, cell, column, va='center_baseline')
  ends = [_MARGIN / 2, right - _MARGIN / 2]
  for y, thickness in (
    (height - _MARGIN / 2, 1.2),
    (top - _MARGIN, 0.6),
    (_MARGIN / 2, 1.2),
  ):
    axis.plot(ends, [y, y], color='black', linewidth=thickness)
  # Larger ones are not shown everywhere.
  figure.savefig(path, dpi=min(150, 20_000 / max(right, height)))
  plt.close(figure)
