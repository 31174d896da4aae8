import json

from launch.report.groups import group_runs
from launch.report.runs import find_runs
from tests.launch.report.cli_test import write_run


def sweep(folder, entries, paper=None, seed=0, **fields):
  """Writes a sweep over the seeds 0 and 1, of which one has been trained."""
  folder.mkdir()
  names = [f'{entry},seed={number}' for entry in entries for number in range(2)]
  content = {'entries': names, 'paper': paper or {}}
  (folder / 'sweep.json').write_text(json.dumps(content))
  for entry in entries:
    name, _, value = entry.partition('=')
    fields |= {name: value, 'seed': seed}
    write_run(folder / f'{entry},seed={seed}', [0.5], **fields)


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


def test_folders_named_like_entries_need_no_sweep(tmp_path):
  for method in ('none', 'cutmix'):
    for seed in (0, 1):
      folder = tmp_path / f'method={method},seed={seed}'
      write_run(folder, [0.5], mix={'candidates': [method]}, seed=seed)
  assert counts(tmp_path) == {'method=cutmix': (2, 0), 'method=none': (2, 0)}


def test_an_extra_folder_does_not_take_the_name_of_an_entry(tmp_path):
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
  # Two of them are named by the fields that differ between these two.
  write_run(tmp_path / 'w' / 'more', [0.5], method='a', batch_size=5)
  assert list(found(tmp_path / 'w'))[2:] == ['batch_size=5', 'batch_size=3']


def test_an_old_run_of_an_entry_is_named_by_its_folder(tmp_path):
  paper = {'method=a': {'test/accuracy': 0.25}}
  sweep(tmp_path / 'w', ['method=a'], paper)
  old = tmp_path / 'w' / 'old' / 'method=a,seed=0'
  write_run(old, [0.5], method='a', epochs=3.0)
  groups = found(tmp_path / 'w')
  assert list(groups) == ['method=a', f'{old.parent}/method=a']
  assert groups['method=a'].paper and not groups[f'{old.parent}/method=a'].paper


def test_two_sweeps_keep_their_entries_and_papers(tmp_path):
  x, y = tmp_path / 'x', tmp_path / 'y'
  sweep(x, ['method=a', 'method=b'], {'method=a': {'test/accuracy': 0.25}})
  sweep(y, ['method=a'], {'method=a': {'test/accuracy': 0.75}}, epochs=3.0)
  groups = found(x, y)
  assert list(groups) == ['method=a', 'method=b', f'{y}/method=a']
  assert groups['method=a'].paper == {'test/accuracy': 0.25}
  assert groups[f'{y}/method=a'].paper == {'test/accuracy': 0.75}


def test_two_parts_of_one_sweep_are_joined(tmp_path):
  x, y = tmp_path / 'x', tmp_path / 'y'
  sweep(x, ['method=a', 'method=b'])
  sweep(y, ['method=a', 'method=b'], seed=1)
  (x / 'method=b,seed=0').rename(tmp_path / 'gone')
  assert counts(x, y) == {'method=a': (2, 2), 'method=b': (1, 2)}


def test_fields_that_differ_between_two_seeds_are_shown(tmp_path):
  sweep(tmp_path / 'w', ['method=a', 'method=b'])
  folder = tmp_path / 'w' / 'method=a,seed=1'
  write_run(folder, [0.5], method='a', optimizer={'lr': 0.2}, seed=1)
  assert counts(tmp_path / 'w') == {
    'method=a, optimizer.lr=0.1': (1, 2),
    'method=a, optimizer.lr=0.2': (1, 2),
    'method=b': (1, 2),
  }


def test_a_further_seed_in_any_folder_joins_its_entry(tmp_path):
  sweep(tmp_path / 'w', ['method=a'])
  write_run(tmp_path / 'elsewhere', [0.5], method='a', seed=7)
  folders = tmp_path / 'elsewhere', tmp_path / 'w'
  assert counts(*folders) == {'method=a': (2, 2)}


def test_a_folder_given_twice_counts_once(tmp_path):
  sweep(tmp_path / 'w', ['method=a'])
  inner = tmp_path / 'w' / 'method=a,seed=0'
  assert counts(tmp_path / 'w', inner) == {'method=a': (1, 2)}


def test_a_copy_of_a_run_counts_once_and_a_repeated_run_twice(tmp_path):
  write_run(tmp_path / 'method=a,seed=0', [0.5], method='a')
  write_run(tmp_path / 'copy' / 'method=a,seed=0', [0.5], method='a')
  assert counts(tmp_path) == {'method=a': (1, 0)}
  write_run(tmp_path / 'again' / 'method=a,seed=0', [0.75], method='a')
  assert counts(tmp_path) == {'method=a': (2, 0)}
