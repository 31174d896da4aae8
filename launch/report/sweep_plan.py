"""What a sweep is to come to: its rows, and what a paper says of them."""

import collections
import json
import pathlib
import re
from typing import NamedTuple


class Sweep(NamedTuple):
  """What a folder of `launch.sweep` should come to hold.

  Attributes:
    planned: rows without their seeds, in order: how many runs of each.
    paper: by row and metric, what a paper says.
    note: what else is to be known of the paper's numbers; may be empty.
    baseline: the option of the rows that others cost more or less than, such as
      'method=none'; may be empty.
  """

  planned: dict[str, int]
  paper: dict[str, dict[str, float]]
  note: str = ''
  baseline: str = ''

  def baseline_of(self, row: str) -> str:
    """The row that `row` is compared with; empty if the sweep names none.

    >>> Sweep({}, {}, baseline='method=none').baseline_of('depth=2,method=fmix')
    'depth=2,method=none'
    """
    option = self.baseline.partition('=')[0]
    parts = row.split(',')
    others = [x for x in parts if x.partition('=')[0] != option]
    if not self.baseline or len(others) == len(parts):
      return ''
    return ','.join(self.baseline if x not in others else x for x in parts)


def read_sweep(folder: pathlib.Path) -> Sweep:
  """Reads `folder/sweep.json`; empty if there is none.

  Raises:
    ValueError: it is broken; names it.
  """
  path = folder / 'sweep.json'
  if not path.exists():
    return Sweep({}, {})
  try:
    content = json.loads(path.read_text())
    planned = collections.Counter(map(without_seed, content['rows']))
    paper = {
      row: {metric: float(value) for metric, value in metrics.items()}
      for row, metrics in content['paper'].items()
    }
    # Those of an older version have neither.
    note, baseline = content.get('note', ''), content.get('baseline', '')
    if not isinstance(note, str) or not isinstance(baseline, str):
      raise TypeError('note and baseline must be texts')
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is broken: {error!r}') from error
  return Sweep(dict(planned), paper, note, baseline)


def without_seed(row: str) -> str:
  """The name of a row of a sweep, for all of its seeds.

  >>> without_seed('method=none,seed=1')
  'method=none'
  """
  parts = [x for x in row.split(',') if not re.fullmatch(r'seed=\d+', x)]
  return ','.join(parts) or 'all seeds'
