import json

import pytest

from launch.writers import MetricWriter, final_metrics, read_metrics


def fill(workdir):
  writer = MetricWriter(workdir, 0, tensorboard=False)
  for step in (4, 8, 12):
    writer.write(step, step / 10, {'train/loss': 1.0, 'time/step_ms': 2.0})
    writer.write(step, step / 10, {'test/accuracy': 0.5}, final=step == 12)
  writer.close()


def test_rows_are_json_lines(tmp_path):
  fill(tmp_path)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(lines[1]) == {
    'step': 4,
    'epoch': 0.4,
    'test/accuracy': 0.5,
  }
  assert json.loads(lines[-1])['final'] is True
  assert final_metrics(tmp_path) == {'test/accuracy': 0.5}


def test_going_on_drops_what_will_come_again(tmp_path):
  fill(tmp_path)
  rows = read_metrics(tmp_path)
  MetricWriter(tmp_path, 8, tensorboard=False).close()
  # The evaluation of the step itself comes again, its training row does not.
  assert read_metrics(tmp_path) == rows[:3]
  assert final_metrics(tmp_path) is None


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
  fill(tmp_path)
  rows = read_metrics(tmp_path)
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 16, "epo')
  assert read_metrics(tmp_path) == rows
  writer = MetricWriter(tmp_path, 16, tensorboard=False)
  writer.write(16, 1.6, {'train/loss': 0.5})
  writer.close()
  assert read_metrics(tmp_path)[:-1] == rows


def test_a_row_is_on_disk_at_once(tmp_path):
  writer = MetricWriter(tmp_path, 0, tensorboard=False)
  writer.write(4, 0.4, {'train/loss': 1.0})
  assert len(read_metrics(tmp_path)) == 1, 'a crash would lose this row'
  writer.close()


def test_tensorboard_gets_the_same_numbers(tmp_path):
  pytest.importorskip('tensorboardX')
  accumulator = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator'
  )
  writer = MetricWriter(tmp_path, 0, tensorboard=True)
  writer.write(4, 0.4, {'test/accuracy': 0.25})
  writer.close()
  events = accumulator.EventAccumulator(str(tmp_path / 'tensorboard')).Reload()
  (event,) = events.Scalars('test/accuracy')
  assert (event.step, event.value) == (4, 0.25)
