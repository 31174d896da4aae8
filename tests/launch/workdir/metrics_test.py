import json

import pytest

from launch.workdir.metrics import MetricWriter, final_metrics, read_metrics


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
  del rows[-1]['final']  # The run goes on.
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


def test_rows_that_the_disk_does_not_take_are_written_later(tmp_path):
  told = []
  (tmp_path / 'config.json').write_text('{}')
  writer = MetricWriter(tmp_path, 0, tensorboard=False, tell=told.append)
  writer.write(4, 0.4, {'train/loss': 1.0})
  tmp_path.rename(tmp_path.with_name('away'))
  for step in (8, 12):
    writer.write(step, step / 10, {'train/loss': 1.0})
  with pytest.raises(FileNotFoundError):
    writer.sync()
  assert len(told) == 1 and 'wait in memory' in told[0]
  tmp_path.with_name('away').rename(tmp_path)
  writer.write(16, 1.6, {'train/loss': 1.0})
  writer.sync()
  assert [row['step'] for row in read_metrics(tmp_path)] == [4, 8, 12, 16]


@pytest.mark.parametrize('change', ['appended', 'cut', 'removed'])
def test_a_file_that_somebody_else_changed_is_written_again(tmp_path, change):
  (tmp_path / 'config.json').write_text('{}')
  told = []
  writer = MetricWriter(tmp_path, 0, tensorboard=False, tell=told.append)
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
  assert [row['step'] for row in read_metrics(tmp_path)] == [4, 8]
  aside = list(tmp_path.glob('metrics.jsonl.*'))
  assert len(aside) == len(told) == (change != 'removed')


def test_an_evaluation_that_will_not_come_again_is_kept(tmp_path):
  fill(tmp_path)
  rows = read_metrics(tmp_path)
  MetricWriter(tmp_path, 12, tensorboard=False, again=False).close()
  kept = read_metrics(tmp_path)
  assert len(kept) == len(rows) and 'final' not in kept[-1]
  assert final_metrics(tmp_path) is None
  MetricWriter(tmp_path, 12, tensorboard=False).close()
  assert read_metrics(tmp_path) == rows[:-1]


def test_tensorboard_without_room_stops_nothing(tmp_path, monkeypatch):
  board = pytest.importorskip('tensorboardX.event_file_writer')
  told = []
  writer = MetricWriter(tmp_path, 0, tensorboard=True, tell=told.append)

  def full(self, event):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(board.EventsWriter, 'write_event', full)
  for step in range(4, 84, 4):  # more than its queue would hold
    writer.write(step, step / 10, {'train/loss': 1.0})
  writer.close()
  assert len(told) == 1 and 'no more TensorBoard files' in told[0]
  assert len(read_metrics(tmp_path)) == 20


@pytest.mark.parametrize('line', ['[]', '3', '{"epoch": 1}', '{"step": "x"}'])
def test_a_line_that_is_no_row_is_left_out(tmp_path, line):
  fill(tmp_path)
  rows = read_metrics(tmp_path)
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write(line + '\n')
  assert read_metrics(tmp_path) == rows


def test_lines_that_are_no_rows_are_left_out_and_kept_aside(tmp_path):
  told = []
  writer = MetricWriter(tmp_path, 0, tensorboard=False)
  for step in (4, 8):
    writer.write(step, step / 10, {'train/loss': 1.0})
  writer.close()
  path = tmp_path / 'metrics.jsonl'
  cut = path.read_text() + '{"step": 9, "ep'
  path.write_text(cut)
  MetricWriter(tmp_path, 9, tensorboard=False, tell=told.append).close()
  assert not told, 'a last line cut short is no surprise'
  path.write_text('garbage\n' + path.read_text())
  before = path.read_bytes()
  MetricWriter(tmp_path, 9, tensorboard=False, tell=told.append).close()
  assert [row['step'] for row in read_metrics(tmp_path)] == [4, 8]
  (aside,) = tmp_path.glob('metrics.jsonl.*')
  assert aside.read_bytes() == before and str(aside) in told[0]
