import json

from launch.report.groups import group_runs
from launch.report.runs import find_runs
from tests.launch.report.main_test import write_run


def sweep(folder, rows, paper=None, seed=0, **fields):
  """A folder of a sweep over seeds 0 and 1, of which one has been run."""
  folder.mkdir()
  names = [f'{row},seed={number}' for row in rows for number in range(2)]
  content = {'rows': names, 'paper': paper or {}}
  (folder / 'sweep.json').write_text(json.dumps(content))
  for row in rows:
    name, _, value = row.partition('=')
    fields |= {name: value, 'seed': seed}
    write_run(folder / f'{row},seed={seed}', [0.5], **fields)


def found(*folders):
  groups = group_runs(find_runs(folders).runs, folders)
  assert len({group.name for group in groups}) == len(groups), groups
  return {group.name: group for group in groups}


def counts(*folders):
  return {
    name: (len(group.runs), group.planned)
    for name, group in found(*folders).items()
  }


def test_runs_of_one_config_are_one_group(tmp_path):
  for seed in range(3):
    write_run(tmp_path / str(seed), [0.5], seed=seed)
  assert counts(tmp_path) == {tmp_path.name: (3, 0)}


def test_folders_named_like_rows_need_no_sweep(tmp_path):
  for method in ('none', 'cutmix'):
    for seed in (0, 1):
      folder = tmp_path / f'method={method},seed={seed}'
      write_run(folder, [0.5], mix={'candidates': [method]}, seed=seed)
  assert counts(tmp_path) == {'method=cutmix': (2, 0), 'method=none': (2, 0)}


def test_a_folder_too_many_takes_no_name_from_the_others(tmp_path):
  paper = {'method=b': {'test/accuracy': 0.25}}
  sweep(tmp_path / 'w', ['method=a', 'method=b'], paper)
  write_run(tmp_path / 'w' / 'try', [0.5], method='a', batch_size=3)
  groups = found(tmp_path / 'w')
  assert counts(tmp_path / 'w') == {
    'method=a': (1, 2),
    'method=b': (1, 2),
    'try': (1, 0),
  }
  assert groups['method=b'].paper == {'test/accuracy': 0.25}
  assert groups['try'].paper == {}
  # Two of them are told apart by what differs between these two alone.
  write_run(tmp_path / 'w' / 'more', [0.5], method='a', batch_size=5)
  assert list(found(tmp_path / 'w'))[2:] == ['batch_size=5', 'batch_size=3']


def test_an_old_run_of_a_row_is_called_by_where_it_lies(tmp_path):
  paper = {'method=a': {'test/accuracy': 0.25}}
  sweep(tmp_path / 'w', ['method=a'], paper)
  old = tmp_path / 'w' / 'old' / 'method=a,seed=0'
  write_run(old, [0.5], method='a', epochs=3.0)
  groups = found(tmp_path / 'w')
  assert list(groups) == ['method=a', f'{old.parent}/method=a']
  assert groups['method=a'].paper and not groups[f'{old.parent}/method=a'].paper


def test_two_sweeps_keep_their_rows_and_papers(tmp_path):
  x, y = tmp_path / 'x', tmp_path / 'y'
  sweep(x, ['method=a', 'method=b'], {'method=a': {'test/accuracy': 0.25}})
  sweep(y, ['method=a'], {'method=a': {'test/accuracy': 0.75}}, epochs=3.0)
  groups = found(x, y)
  assert list(groups) == ['method=a', 'method=b', f'{y}/method=a']
  assert groups['method=a'].paper == {'test/accuracy': 0.25}
  assert groups[f'{y}/method=a'].paper == {'test/accuracy': 0.75}


def test_halves_of_one_sweep_are_one(tmp_path):
  x, y = tmp_path / 'x', tmp_path / 'y'
  sweep(x, ['method=a', 'method=b'])
  sweep(y, ['method=a', 'method=b'], seed=1)
  (x / 'method=b,seed=0').rename(tmp_path / 'gone')
  assert counts(x, y) == {'method=a': (2, 2), 'method=b': (1, 2)}


def test_what_was_changed_between_two_seeds_is_shown(tmp_path):
  sweep(tmp_path / 'w', ['method=a', 'method=b'])
  folder = tmp_path / 'w' / 'method=a,seed=1'
  write_run(folder, [0.5], method='a', optimizer={'lr': 0.2}, seed=1)
  assert counts(tmp_path / 'w') == {
    'method=a, optimizer.lr=0.1': (1, 2),
    'method=a, optimizer.lr=0.2': (1, 2),
    'method=b': (1, 2),
  }


def test_a_seed_more_joins_its_row_wherever_it_lies(tmp_path):
  sweep(tmp_path / 'w', ['method=a'])
  write_run(tmp_path / 'elsewhere', [0.5], method='a', seed=7)
  folders = tmp_path / 'elsewhere', tmp_path / 'w'
  assert counts(*folders) == {'method=a': (2, 2)}


def test_a_folder_given_twice_counts_once(tmp_path):
  sweep(tmp_path / 'w', ['method=a'])
  inner = tmp_path / 'w' / 'method=a,seed=0'
  assert counts(tmp_path / 'w', inner) == {'method=a': (1, 2)}


def test_a_copy_of_a_run_counts_once_and_a_repetition_twice(tmp_path):
  write_run(tmp_path / 'method=a,seed=0', [0.5], method='a')
  write_run(tmp_path / 'copy' / 'method=a,seed=0', [0.5], method='a')
  assert counts(tmp_path) == {'method=a': (1, 0)}
  write_run(tmp_path / 'again' / 'method=a,seed=0', [0.75], method='a')
  assert counts(tmp_path) == {'method=a': (2, 0)}
