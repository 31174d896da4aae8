import json
from typing import Any

import pytest

from launch.workdir.metrics import MetricWriter, final_metrics, read_metrics
from tests.faults.memory import left_per_call


def fill(workdir):
  writer = MetricWriter(workdir, 0, tensorboard=False)
  for step in (4, 8, 12):
    writer.write(step, step / 10, {'train/loss': 1.0, 'time/step_ms': 2.0})
    writer.write(step, step / 10, {'test/accuracy': 0.5}, final=step == 12)
  writer.close()


def test_records_are_json_lines(tmp_path):
  fill(tmp_path)
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(lines[1]) == {
    'step': 4,
    'epoch': 0.4,
    'test/accuracy': 0.5,
  }
  assert json.loads(lines[-1])['final'] is True
  assert final_metrics(tmp_path) == {'test/accuracy': 0.5}


def test_resuming_drops_what_will_be_written_again(tmp_path):
  fill(tmp_path)
  records = read_metrics(tmp_path)
  MetricWriter(tmp_path, 8, tensorboard=False).close()
  # The evaluation of the step is repeated, its training record is not.
  assert read_metrics(tmp_path) == records[:3]
  assert final_metrics(tmp_path) is None


def test_a_line_that_a_crash_cut_short_is_skipped(tmp_path):
  fill(tmp_path)
  records = read_metrics(tmp_path)
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 16, "epo')
  assert read_metrics(tmp_path) == records
  writer = MetricWriter(tmp_path, 16, tensorboard=False)
  writer.write(16, 1.6, {'train/loss': 0.5})
  writer.close()
  del records[-1]['final']  # The run continues.
  assert read_metrics(tmp_path)[:-1] == records


def test_a_record_is_on_disk_at_once(tmp_path):
  writer = MetricWriter(tmp_path, 0, tensorboard=False)
  writer.write(4, 0.4, {'train/loss': 1.0})
  assert len(read_metrics(tmp_path)) == 1, 'a crash would lose this record'
  writer.close()


def test_tensorboard_gets_the_same_numbers(tmp_path):
  pytest.importorskip('tensorboardX')
  from tensorboardX.proto import event_pb2

  event_type: Any = getattr(event_pb2, 'Event')  # noqa: B009

  writer = MetricWriter(tmp_path, 0, tensorboard=True)
  writer.write(4, 0.4, {'test/accuracy': 0.25})
  writer.close()
  (path,) = (tmp_path / 'tensorboard').iterdir()
  content, events = path.read_bytes(), []
  while content:  # length, its checksum, event, its checksum
    size = int.from_bytes(content[:8], 'little')
    events.append(event_type.FromString(content[12 : 12 + size]))
    content = content[16 + size :]
  (event,) = [event for event in events if event.summary.value]
  (value,) = event.summary.value
  assert (event.step, value.tag) == (4, 'test/accuracy')
  assert value.simple_value == 0.25


def test_records_that_cannot_be_written_are_written_later(tmp_path):
  warnings = []
  (tmp_path / 'config.json').write_text('{}')
  writer = MetricWriter(tmp_path, 0, tensorboard=False, warn=warnings.append)
  writer.write(4, 0.4, {'train/loss': 1.0})
  tmp_path.rename(tmp_path.with_name('away'))
  for step in (8, 12):
    writer.write(step, step / 10, {'train/loss': 1.0})
  with pytest.raises(FileNotFoundError):
    writer.sync()
  assert len(warnings) == 1 and 'metrics' in warnings[0]
  tmp_path.with_name('away').rename(tmp_path)
  writer.write(16, 1.6, {'train/loss': 1.0})
  writer.sync()
  assert [record['step'] for record in read_metrics(tmp_path)] == [4, 8, 12, 16]


@pytest.mark.parametrize('change', ['appended', 'cut', 'removed'])
def test_a_file_that_another_process_changed_is_written_again(tmp_path, change):
  (tmp_path / 'config.json').write_text('{}')
  warnings = []
  writer = MetricWriter(tmp_path, 0, tensorboard=False, warn=warnings.append)
  writer.write(4, 0.4, {'train/loss': 1.0})
  path = tmp_path / 'metrics.jsonl'
  if change == 'appended':
    path.write_text(path.read_text() + '{"step": 5}\n')
  elif change == 'cut':
    path.write_text('')
  else:
    path.unlink()
  writer.write(8, 0.8, {'train/loss': 1.0})
  writer.sync()
  assert [record['step'] for record in read_metrics(tmp_path)] == [4, 8]
  backups = list(tmp_path.glob('metrics.jsonl.*'))
  assert len(backups) == len(warnings) == (change != 'removed')


def test_an_evaluation_that_is_not_repeated_is_kept(tmp_path):
  fill(tmp_path)
  records = read_metrics(tmp_path)
  MetricWriter(tmp_path, 12, tensorboard=False, again=False).close()
  kept = read_metrics(tmp_path)
  assert len(kept) == len(records) and 'final' not in kept[-1]
  assert final_metrics(tmp_path) is None
  MetricWriter(tmp_path, 12, tensorboard=False).close()
  assert read_metrics(tmp_path) == records[:-1]


def test_tensorboard_on_a_full_disk_stops_nothing(tmp_path, monkeypatch):
  board = pytest.importorskip('tensorboardX.event_file_writer')
  warnings = []
  writer = MetricWriter(tmp_path, 0, tensorboard=True, warn=warnings.append)

  def full(self, event):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(board.EventsWriter, 'write_event', full)
  for step in range(4, 84, 4):  # more than its queue would hold
    writer.write(step, step / 10, {'train/loss': 1.0})
  writer.close()
  assert len(warnings) == 1 and 'TensorBoard' in warnings[0]
  assert len(read_metrics(tmp_path)) == 20


@pytest.mark.parametrize('line', ['[]', '3', '{"epoch": 1}', '{"step": "x"}'])
def test_an_invalid_line_is_skipped(tmp_path, line):
  fill(tmp_path)
  records = read_metrics(tmp_path)
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write(line + '\n')
  assert read_metrics(tmp_path) == records


def test_invalid_lines_are_skipped_and_backed_up(tmp_path):
  warnings = []
  writer = MetricWriter(tmp_path, 0, tensorboard=False)
  for step in (4, 8):
    writer.write(step, step / 10, {'train/loss': 1.0})
  writer.close()
  path = tmp_path / 'metrics.jsonl'
  cut = path.read_text() + '{"step": 9, "ep'
  path.write_text(cut)
  MetricWriter(tmp_path, 9, tensorboard=False, warn=warnings.append).close()
  assert not warnings, 'the last line may be incomplete'
  path.write_text('garbage\n' + path.read_text())
  before = path.read_bytes()
  MetricWriter(tmp_path, 9, tensorboard=False, warn=warnings.append).close()
  assert [record['step'] for record in read_metrics(tmp_path)] == [4, 8]
  (backup,) = tmp_path.glob('metrics.jsonl.*')
  assert backup.read_bytes() == before and str(backup) in warnings[0]


def test_a_record_leaves_only_its_text_in_memory(tmp_path):
  writer = MetricWriter(tmp_path, 0, tensorboard=False)

  def write(number):
    writer.write(number, 0.5, {'train/loss': 1.25})

  leaked, _ = left_per_call(write, 200)
  writer.close()
  assert leaked < 150, f'{leaked:.0f} bytes remain after a record of 50'
