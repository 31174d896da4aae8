"""Image of the table of a report."""

import pathlib
from collections.abc import Sequence

_SIZE = 10  # font size in points
_LINE = 0.27  # line height in inches
_GAP = 0.3  # inches between columns
_MARGIN = 0.15  # inches around


def draw_table(lines: Sequence[Sequence[str]], path: pathlib.Path) -> None:
  """Draws the cells of a table: names left-aligned, numbers right-aligned.

  Args:
    lines: lines of cells; the first is the header.
    path: the PNG file to write.

  Raises:
    ModuleNotFoundError: matplotlib is not installed.
    OSError: the file cannot be written.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  # The name of a metric is wider than its numbers: it is split into two lines.
  header = [cell.replace('/', '/\n', 1) for cell in lines[0]]
  figure = plt.figure(dpi=150)
  axis = figure.add_axes((0, 0, 1, 1))

  def put(x: float, y: float, cell: str, column: int, **style):
    return axis.text(
      x,
      y,
      cell,
      # A `$` in a name does not begin a formula.
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
      width(header[column], column, weight='bold'),
      *(width(line[column], column) for line in lines[1:]),
      0,
    )
    for column in range(len(header))
  ]
  left = [_MARGIN + sum(widths[:i]) + _GAP * i for i in range(len(widths))]
  edges = [left[0], *(x + w for x, w in zip(left[1:], widths[1:], strict=True))]
  right = left[-1] + widths[-1] + _MARGIN
  top = _LINE * (len(lines) - 1) + 2 * _MARGIN
  header_lines = 1 + any('\n' in cell for cell in header)
  height = top + header_lines * _LINE
  figure.set_size_inches(right, height)
  axis.set(xlim=(0, right), ylim=(0, height))
  axis.axis('off')
  for column, (x, cell) in enumerate(zip(edges, header, strict=True)):
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
  # Some programs cannot show larger images.
  figure.savefig(path, dpi=min(150, 20_000 / max(right, height)))
  plt.close(figure)
