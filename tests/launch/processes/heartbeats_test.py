"""Who is lost, by what is seen: a clock that the test moves, no processes."""

import pytest

from launch.processes import heartbeats
from launch.processes.heartbeats import Heartbeat, PeerMonitor, find_failed_peer
from launch.processes.shared_progress import Mark
from launch.shell.exit_codes import ExitCode

TIMEOUT = 10.0


def beat(number, count=0, *, ended=None, calling=True, token='a', **fields):
  mark = Mark(count, 4 * count, calling)
  return Heartbeat(token, 'run', number, 'host', 7, mark, ended=ended, **fields)


def watch(seconds, *stories):
  """What is judged after so many seconds; looks once a second.

  A story gives the beat of a process at each second, or None.
  """
  everyone = [PeerMonitor(0.0) for _ in stories]
  for now in range(seconds + 1):
    for peer, story in zip(everyone, stories, strict=True):
      peer.see(story(now), float(now))
    verdict = find_failed_peer(everyone, float(now), TIMEOUT)
    if verdict is not None:
      return verdict
  return None


def well(now):
  return beat(now, now)


def test_who_does_well_is_not_lost():
  assert watch(100, well, well, well) is None


def test_who_never_comes_is_lost_after_the_timeout():
  assert watch(10, well, lambda now: None) is None
  rank, reason = watch(11, well, lambda now: None) or (None, '')
  assert rank == 1 and 'has not joined in 10 s' in reason


def follow(*beats):
  """What a process makes of the file of process 0, looking once a second."""
  first = PeerMonitor(0.0, known=False)
  for now, one in enumerate(beats):
    first.see(one, float(now))
  return first.beat


def test_a_file_of_a_run_before_is_nobody():
  old = beat(500, 90, ended=0, token='old')
  assert follow(old, old, old) is None
  new = beat(1, 0, token='new')
  assert follow(old, old, new) == new
  assert follow(None, None, new) == new


def test_a_run_that_is_ending_is_not_joined():
  old = [beat(n, 90, token='old') for n in (5, 6)]
  assert follow(old[0], old[1]._replace(verdict='rank 1 is asleep')) is None
  assert follow(old[0], old[1]._replace(ended=6)) is None


def test_who_falls_silent_is_lost():
  silent = watch(31, well, lambda now: well(min(now, 20)))
  assert silent == (1, 'was not heard of for 10 s')
  assert watch(30, well, lambda now: well(min(now, 20))) is None


def test_who_lives_and_does_nothing_is_asleep():
  def asleep(now):
    return beat(now, min(now, 20))

  # The others wait for it at the next mark.
  def waiting(now):
    return beat(now, min(now, 21))

  rank, reason = watch(31, waiting, asleep, waiting) or (None, '')
  assert rank == 1 and 'asleep' in reason
  assert watch(30, waiting, asleep, waiting) is None


def test_who_is_behind_and_computes_may_take_longer():
  """One has to compile what the others have in a cache."""

  def compiling(now):
    return beat(now, min(now, 20), cpu=0.5 * now)

  def waiting(now):
    return beat(now, min(now, 21))

  assert watch(119, waiting, compiling) is None
  rank, reason = watch(121, waiting, compiling) or (None, '')
  assert rank == 1 and 'is behind the others for 101 s' in reason


def test_a_little_now_and_then_is_sleep():
  def dozing(now):
    return beat(now, min(now, 20), cpu=0.05 * now)

  def waiting(now):
    return beat(now, min(now, 21))

  assert watch(31, waiting, dozing) is not None


def test_who_is_stopped_is_lost_even_if_nobody_is_ahead():
  def stopped(now):
    return beat(now, min(now, 20), stopped=now > 20)

  def waiting(now):
    return beat(now, min(now, 20))

  assert watch(31, waiting, stopped) == (1, 'is stopped, and has been for 10 s')


@pytest.mark.parametrize(
  'code, said',
  [(ExitCode.DATA, 'exit code 3 (DATA)'), (137, 'SIGKILL'), (2, 'exit code 2')],
)
def test_a_bad_end_is_seen_at_once(code, said):
  def ends(now):
    return beat(now, now, ended=code if now > 5 else None)

  rank, reason = watch(6, well, ends) or (None, '')
  assert rank == 1 and f'ended with {said}' in reason


def test_the_culprit_is_named_and_not_its_victims():
  """A machine is gone; the processes whose collectives fail end before that."""

  def victim(now):
    return beat(now, min(now, 20), ended=ExitCode.PEER if now > 21 else None)

  def gone(now):
    return well(min(now, 20))

  assert watch(29, victim, victim, gone) is None
  assert watch(31, victim, victim, gone) == (2, 'was not heard of for 10 s')


def test_victims_of_nobody_end_the_run_too():
  def victim(now):
    return beat(now, min(now, 20), ended=ExitCode.PEER if now > 21 else None)

  rank, reason = watch(33, well, victim) or (None, '')
  assert rank == 1 and 'others did not' in reason


@pytest.mark.parametrize('code', [0, 143, 130])
def test_who_has_ended_well_is_waited_for(code):
  def ends(now):
    return beat(min(now, 20), min(now, 20), ended=code if now > 19 else None)

  assert watch(20, ends, ends) is None
  assert watch(60, ends, ends) is None, 'all have ended, and well'
  rank, _ = watch(40, well, ends) or (None, '')
  assert rank == 1, 'the others go on, and will wait for it'


def test_a_process_that_is_started_again_cannot_join():
  def again(now):
    return beat(now, now, token='a' if now < 9 else 'b')

  assert watch(9, well, again) == (1, 'was started anew, while others went on')


def test_all_wait_for_a_device_that_hangs():
  def hanging(now):
    return beat(now, min(now, 20), calling=True)

  rank, reason = watch(31, hanging, hanging) or (None, '')
  assert rank == -1 and 'a device or the network hangs' in reason


def test_an_evaluation_may_take_its_time():
  def evaluating(now):
    return beat(now, min(now, 20), calling=False)

  assert watch(1000, evaluating, evaluating) is None


@pytest.mark.parametrize('seconds', [15, 30, 99])
def test_calls_that_are_long_may_be_long(seconds):
  def slow(now):
    return beat(now, now // seconds)

  def ahead(now):  # it is given the next call before the last has ended
    return beat(now, (now + 1) // seconds)

  assert watch(10 * seconds, slow, slow) is None
  assert watch(10 * seconds, slow, ahead) is None


def test_a_long_first_call_does_not_make_the_others_patient_for_ever():
  def hanging(now):
    return beat(now, 0 if now < 60 else min(now - 59, 5))

  # Three times the 60 seconds of the compilation.
  rank, _ = watch(300, hanging, hanging) or (None, '')
  assert rank == -1
  assert watch(240, hanging, hanging) is None


def test_beats_are_read_as_they_are_written(tmp_path):
  folder = heartbeats.folder_of(tmp_path)
  assert heartbeats.read(folder, 3) is None
  written = beat(5, 2, ended=143, verdict='rank 1 is asleep')
  heartbeats.write(folder, 3, written)
  assert heartbeats.read(folder, 3) == written


def test_a_short_beat_covers_a_long_one(tmp_path):
  folder = heartbeats.folder_of(tmp_path)
  heartbeats.write(folder, 0, beat(10**9, 10**9, verdict='a long one ' * 200))
  heartbeats.write(folder, 0, beat(1))
  assert heartbeats.read(folder, 0) == beat(1)


@pytest.mark.parametrize(
  'text', ['', '{"token": "a", "num', '[]', '{"mark": [1]}', 'null', '{}']
)
def test_half_a_beat_is_none(text, tmp_path):
  folder = heartbeats.folder_of(tmp_path)
  (folder / '0.json').write_text(text)
  assert heartbeats.read(folder, 0) is None
