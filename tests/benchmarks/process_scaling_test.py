import json

import pytest

from benchmarks import process_scaling as bench
from benchmarks.harness.timing import Times
from benchmarks.sides import process_runs as runs
from jaxretrieval.feature_sets import feature_set


def test_the_first_records_are_left_out():
  records = [{'time/examples_per_s': rate} for rate in (1.0, 9.0, 5.0, 7.0)]
  records.insert(2, {'test/accuracy': 0.5})
  assert runs.rate(''.join(f'{json.dumps(x)}\n' for x in records)) == 7


@pytest.mark.parametrize('processes', bench.PROCESSES)
def test_every_process_gets_its_rank(tmp_path, processes):
  case = runs.Case(runs.DIGITS, 64, processes)
  commands = runs.command(case, '', tmp_path / 'a' / 'b', 1234)
  ranks = [[x for x in words if 'process_id' in x] for words in commands]
  if processes == 1:
    assert ranks == [[]] and not any('coordinator' in x for x in commands[0])
    return
  assert ranks == [[f'--process_id={rank}'] for rank in range(processes)]
  assert all(f'--num_processes={processes}' in words for words in commands)


def test_the_runs_of_a_table_divide_evenly():
  for rows in bench.cases().values():
    for case in rows.values():
      assert case.batch % runs.VIRTUAL_DEVICES == 0
      assert runs.STEPS[case.net] % runs.CALL[case.net] == 0
      assert runs.VIRTUAL_DEVICES % (case.processes * case.devices) == 0


def test_a_line_for_every_case():
  seconds = {'1 process': [0.02, 0.01, 0.01], '2 processes': [0.01, 0.01, 0.02]}
  lines = bench.table_lines(Times(seconds))
  assert lines[2] == '| 1 process | 100 | 50 to 100 |  |'
  assert lines[3].startswith('| 2 processes | 100 | 50 to 100 | 1.00 (')


def test_the_features_have_the_dimensions_of_coco(tmp_path):
  folder = runs.write_features(str(tmp_path))
  info = feature_set.read_info(folder)
  assert (info.image_dim, info.text_dim) == (2048, 512)
  assert info.splits['train']['captions'] == {'en': 1024}


@pytest.mark.slow
def test_a_failing_run_reports_its_output(tmp_path):
  case = runs.Case(runs.DIGITS, 6)
  with pytest.raises(RuntimeError, match='virtual_devices'):
    runs.run(case, '', tmp_path / 'a' / 'run')
