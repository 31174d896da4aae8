"""Detection of failed peers, with a simulated clock and no processes."""

import pytest

from launch.processes import heartbeats
from launch.processes.heartbeats import Heartbeat, PeerMonitor, find_failed_peer
from launch.processes.shared_progress import Mark
from launch.shell.exit_codes import ExitCode

TIMEOUT = 10.0


def heartbeat(number, count=0, *, dispatching=True, token='a', **fields):
  mark = Mark(count, 4 * count, dispatching)
  return Heartbeat(token, 'run', number, 'host', 7, mark, **fields)


def simulate(seconds, *processes):
  """Returns the first failure within `seconds`, or None; looks every second.

  A process is a function from the time to its heartbeat, or None.
  """
  monitors = [PeerMonitor(0.0) for _ in processes]
  for now in range(seconds + 1):
    for monitor, process in zip(monitors, processes, strict=True):
      monitor.update(process(now), float(now))
    failed = find_failed_peer(monitors, float(now), TIMEOUT)
    if failed is not None:
      return failed
  return None


def failed_rank(seconds, *processes):
  failed = simulate(seconds, *processes)
  return None if failed is None else failed[0]


def healthy(now):
  return heartbeat(now, now)


def test_a_healthy_process_has_not_failed():
  assert simulate(100, healthy, healthy, healthy) is None


def test_a_process_that_never_joins_fails_after_the_timeout():
  assert simulate(10, healthy, lambda now: None) is None
  assert failed_rank(11, healthy, lambda now: None) == 1


def follow(*given):
  """Returns what a process reads of process 0, looking every second."""
  first = PeerMonitor(0.0, known=False)
  for now, one in enumerate(given):
    first.update(one, float(now))
  return first.heartbeat


def test_a_heartbeat_of_an_earlier_run_is_ignored():
  old = heartbeat(500, 90, exit_code=0, token='old')
  assert follow(old, old, old) is None
  new = heartbeat(1, 0, token='new')
  assert follow(old, old, new) == new
  assert follow(None, None, new) == new


def test_a_run_that_is_ending_is_not_joined():
  old = [heartbeat(n, 90, token='old') for n in (5, 6)]
  assert follow(old[0], old[1]._replace(failure_reason='rank 1')) is None
  assert follow(old[0], old[1]._replace(exit_code=6)) is None


def test_a_process_that_falls_silent_has_failed():
  def silent(now):
    return healthy(min(now, 20))

  assert failed_rank(31, healthy, silent) == 1
  assert simulate(30, healthy, silent) is None


def test_an_idle_process_that_others_wait_for_has_failed():
  def idle(now):
    return heartbeat(now, min(now, 20))

  # The others wait for it at the next mark.
  def waiting(now):
    return heartbeat(now, min(now, 21))

  assert failed_rank(31, waiting, idle, waiting) == 1
  assert simulate(30, waiting, idle, waiting) is None


def test_a_busy_process_may_be_behind_for_longer():
  """It may compile what the others have in a cache."""

  def compiling(now):
    return heartbeat(now, min(now, 20), cpu_seconds=0.5 * now)

  def waiting(now):
    return heartbeat(now, min(now, 21))

  assert simulate(119, waiting, compiling) is None
  assert failed_rank(121, waiting, compiling) == 1


def test_a_little_processor_time_is_idle():
  def dozing(now):
    return heartbeat(now, min(now, 20), cpu_seconds=0.05 * now)

  def waiting(now):
    return heartbeat(now, min(now, 21))

  assert failed_rank(31, waiting, dozing) == 1


def test_a_stopped_process_has_failed_even_if_no_other_is_ahead():
  def stopped(now):
    return heartbeat(now, min(now, 20), stopped=now > 20)

  def waiting(now):
    return heartbeat(now, min(now, 20))

  assert failed_rank(31, waiting, stopped) == 1


@pytest.mark.parametrize(
  'code, name',
  [(ExitCode.DATA, 'exit code 3 (DATA)'), (137, 'SIGKILL'), (2, 'exit code 2')],
)
def test_a_failure_is_detected_at_once(code, name):
  def ends(now):
    return heartbeat(now, now, exit_code=code if now > 5 else None)

  rank, reason = simulate(6, healthy, ends) or (None, '')
  assert rank == 1 and name in reason


def test_the_cause_is_named_and_not_its_consequences():
  """A machine is lost, and the collectives of the others fail before that."""

  def victim(now):
    return heartbeat(
      now, min(now, 20), exit_code=ExitCode.PEER if now > 21 else None
    )

  def gone(now):
    return healthy(min(now, 20))

  assert simulate(29, victim, victim, gone) is None
  assert failed_rank(31, victim, victim, gone) == 2


def test_a_failed_collective_without_a_known_cause_ends_the_run():
  def victim(now):
    return heartbeat(
      now, min(now, 20), exit_code=ExitCode.PEER if now > 21 else None
    )

  assert failed_rank(33, healthy, victim) == 1


@pytest.mark.parametrize('code', [0, 143, 130])
def test_a_process_that_succeeded_has_failed_only_if_others_continue(code):
  def ends(now):
    return heartbeat(
      min(now, 20), min(now, 20), exit_code=code if now > 19 else None
    )

  assert simulate(20, ends, ends) is None
  assert simulate(60, ends, ends) is None
  assert failed_rank(40, healthy, ends) == 1


def test_a_restarted_process_cannot_join():
  def again(now):
    return heartbeat(now, now, token='a' if now < 9 else 'b')

  assert failed_rank(9, healthy, again) == 1


def test_no_process_is_blamed_for_a_device_that_hangs():
  def hanging(now):
    return heartbeat(now, min(now, 20), dispatching=True)

  assert failed_rank(31, hanging, hanging) == -1


def test_an_evaluation_may_take_any_time():
  def evaluating(now):
    return heartbeat(now, min(now, 20), dispatching=False)

  assert simulate(1000, evaluating, evaluating) is None


@pytest.mark.parametrize('seconds', [15, 30, 99])
def test_dispatches_may_be_longer_than_the_timeout(seconds):
  def slow(now):
    return heartbeat(now, now // seconds)

  def ahead(now):  # the next dispatch is queued before the last has ended
    return heartbeat(now, (now + 1) // seconds)

  assert simulate(10 * seconds, slow, slow) is None
  assert simulate(10 * seconds, slow, ahead) is None


def test_a_long_first_dispatch_does_not_count_for_ever():
  def hanging(now):
    return heartbeat(now, 0 if now < 60 else min(now - 59, 5))

  # Three times the 60 seconds of the compilation.
  assert failed_rank(300, hanging, hanging) == -1
  assert simulate(240, hanging, hanging) is None


def test_heartbeats_are_read_as_they_are_written(tmp_path):
  folder = heartbeats.make_folder(tmp_path)
  assert heartbeats.read(folder, 3) is None
  written = heartbeat(5, 2, exit_code=143, failure_reason='rank 1')
  heartbeats.write(folder, 3, written)
  assert heartbeats.read(folder, 3) == written


def test_a_short_heartbeat_replaces_a_long_one(tmp_path):
  folder = heartbeats.make_folder(tmp_path)
  long = heartbeat(10**9, 10**9, failure_reason='a long one ' * 200)
  heartbeats.write(folder, 0, long)
  heartbeats.write(folder, 0, heartbeat(1))
  assert heartbeats.read(folder, 0) == heartbeat(1)


@pytest.mark.parametrize(
  'text', ['', '{"token": "a", "num', '[]', '{"mark": [1]}', 'null', '{}']
)
def test_an_incomplete_heartbeat_is_none(text, tmp_path):
  folder = heartbeats.make_folder(tmp_path)
  (folder / '0.json').write_text(text)
  assert heartbeats.read(folder, 0) is None
