"""Sweep plan: the entries of a sweep, and the numbers of a paper for them."""

import collections
import json
import pathlib
import re
from typing import NamedTuple


class SweepPlan(NamedTuple):
  """The content of sweep.json, which `launch.sweep` writes.

  Attributes:
    planned: the number of runs of each entry; the entries are in order and
      named without their seeds.
    paper: the numbers of a paper, by entry and metric.
    note: a remark on the numbers of the paper; may be empty.
    baseline: the option that marks the entries to which step times are
      relative, such as 'method=none'; may be empty.
  """

  planned: dict[str, int]
  paper: dict[str, dict[str, float]]
  note: str = ''
  baseline: str = ''

  def baseline_of(self, entry: str) -> str:
    """Returns the baseline of an entry; empty if the sweep names none.

    >>> plan = SweepPlan({}, {}, baseline='method=none')
    >>> plan.baseline_of('depth=2,method=fmix')
    'depth=2,method=none'
    """
    option = self.baseline.partition('=')[0]
    parts = entry.split(',')
    others = [x for x in parts if x.partition('=')[0] != option]
    if not self.baseline or len(others) == len(parts):
      return ''
    return ','.join(self.baseline if x not in others else x for x in parts)


def read_sweep_plan(folder: pathlib.Path) -> SweepPlan:
  """Reads `folder/sweep.json`; an empty plan if the file does not exist.

  Raises:
    ValueError: it is invalid; names the file.
  """
  path = folder / 'sweep.json'
  if not path.exists():
    return SweepPlan({}, {})
  try:
    content = json.loads(path.read_text())
    planned = collections.Counter(map(without_seed, content['entries']))
    paper = {
      entry: {metric: float(value) for metric, value in metrics.items()}
      for entry, metrics in content['paper'].items()
    }
    # Files of older versions have neither.
    note, baseline = content.get('note', ''), content.get('baseline', '')
    if not isinstance(note, str) or not isinstance(baseline, str):
      raise TypeError('note and baseline must be strings')
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is invalid: {error!r}') from error
  return SweepPlan(dict(planned), paper, note, baseline)


def without_seed(entry: str) -> str:
  """Returns the name of a sweep entry without its seed.

  >>> without_seed('method=none,seed=1')
  'method=none'
  """
  parts = [x for x in entry.split(',') if not re.fullmatch(r'seed=\d+', x)]
  return ','.join(parts) or 'all seeds'
