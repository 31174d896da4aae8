"""Heartbeats: files by which the processes of a run detect a failed peer.

The watchdog of each process keeps rewriting `workdir/peers/<rank>.json`. All
processes share the workdir anyway, and a file outlives its process. Only
process 0 decides that the run has failed, and its heartbeat says why: n
processes read 2n files.
"""

import contextlib
import json
import os
import pathlib
import signal
from collections.abc import Sequence
from typing import NamedTuple

from launch.processes.shared_progress import Mark
from launch.shell.exit_codes import ExitCode

# A process that uses this fraction of a core is compiling or reading, and may
# be behind the others for this many times the timeout.
_BUSY_FRACTION, _BUSY_FACTOR = 0.1, 10
_SIZE = 1024  # bytes to which a heartbeat is padded
# Exit codes that are no failure: success, or a stop that all processes share.
_SUCCESS = {
  0,
  *(128 + n for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
}
# Exit codes that are a consequence of a failed peer; jax aborts.
_CONSEQUENCE = {ExitCode.PEER, 128 + signal.SIGABRT}


class Heartbeat(NamedTuple):
  """The state of a process, as its watchdog reports it.

  Attributes:
    token: random, different at each start of the process.
    run: the token of process 0, which identifies the run; empty until known.
    number: increases as long as the watchdog lives.
    host: the machine.
    pid: the process id of the trainer.
    mark: the last mark of the trainer.
    stopped: whether the trainer is stopped (SIGSTOP).
    cpu_seconds: processor time that the trainer has used.
    exit_code: of the trainer (128 + n for signal n); None while it runs.
    failure_reason: of process 0: why the run has failed; empty otherwise.
  """

  token: str
  run: str
  number: int
  host: str
  pid: int
  mark: Mark
  stopped: bool = False
  cpu_seconds: float = 0.0
  exit_code: int | None = None
  failure_reason: str = ''


def write(folder: pathlib.Path, rank: int, heartbeat: Heartbeat) -> None:
  """Replaces the heartbeat of a process.

  The file is overwritten in place, because clients of a network file system may
  see a renamed file late, and padded, so that it fits on a full disk.

  Raises:
    OSError: the file cannot be written.
  """
  text = json.dumps(heartbeat._asdict()).ljust(_SIZE).encode()
  file = os.open(folder / f'{rank}.json', os.O_WRONLY | os.O_CREAT, 0o644)
  try:
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
  finally:
    os.close(file)


def read(folder: pathlib.Path, rank: int) -> Heartbeat | None:
  """Returns the heartbeat of a process; None if it is missing or incomplete."""
  with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
    fields = json.loads((folder / f'{rank}.json').read_text())
    return Heartbeat(**fields | {'mark': Mark(*fields['mark'])})
  return None


class PeerMonitor:
  """The observations that one process has made of another.

  Attributes:
    heartbeat: the newest; None before the first.
    last_seen: when it changed last. All times are seconds of one clock.
    last_mark: when the mark changed last.
    last_busy: when the process last used a core.
    ended_at: when the exit code appeared.
    dispatches: the number of dispatches that have returned.
    longest_dispatch: the seconds that the longest one took.
    restarted: whether the process was started again.
  """

  def __init__(self, now: float, *, known: bool = True):
    """Begins to observe at time `now`.

    Args:
      now: seconds.
      known: whether all heartbeats are of this run. Otherwise the first may be
        left over from an earlier run, and is ignored until it changes.
    """
    self._known, self._first, self._looked = known, None, False
    self.heartbeat: Heartbeat | None = None
    self.last_seen = self.last_mark = self.last_busy = self.ended_at = now
    self.dispatches, self.longest_dispatch = 0, 0.0
    self.restarted = False

  def update(self, heartbeat: Heartbeat | None, now: float) -> None:
    """Adds the heartbeat that was read at time `now`."""
    if not self._looked:
      self._first = None if self._known else heartbeat
      self._looked = True
    if heartbeat is None or heartbeat in (self.heartbeat, self._first):
      return
    before = self.heartbeat
    if before is None:
      ending = heartbeat.failure_reason or heartbeat.exit_code is not None
      if not self._known and ending:
        return  # The earlier run is ending.
      self.last_mark = self.ended_at = now
    else:
      if heartbeat.mark.count != before.mark.count:
        if before.mark.dispatching:
          self.dispatches += 1
          duration = now - self.last_mark
          self.longest_dispatch = max(self.longest_dispatch, duration)
        self.last_mark = now
      if heartbeat.exit_code != before.exit_code:
        self.ended_at = now
      # The little that background threads use does not count.
      used = heartbeat.cpu_seconds - before.cpu_seconds
      if used > _BUSY_FRACTION * (now - self.last_seen):
        self.last_busy = now
      self.restarted |= heartbeat.token != before.token
    self.heartbeat, self.last_seen = heartbeat, now

  def allowed_seconds(self, timeout: float) -> float:
    """Returns how long it may stay at one mark, given its dispatches so far."""
    # The first dispatch includes compilation, and the second waits for it.
    if self.dispatches < 2:
      return _BUSY_FACTOR * timeout
    return max(timeout, 3 * self.longest_dispatch)


def find_failed_peer(
  peers: Sequence[PeerMonitor], now: float, timeout: float
) -> tuple[int, str] | None:
  """Returns the process because of which the run has failed, and the reason.

  Args:
    peers: all processes, by rank.
    now: seconds, by the clock of `PeerMonitor.update`.
    timeout: seconds.

  Returns:
    `(rank, reason)`, where the reason is the predicate of a sentence about that
    rank; rank -1 if no single process is the cause. None if no process failed.
  """
  for rank, peer in enumerate(peers):
    code = peer.heartbeat and peer.heartbeat.exit_code
    if peer.restarted:
      return rank, 'was restarted while the others continued'
    if code is not None and code not in _SUCCESS | _CONSEQUENCE:
      return rank, f'ended with {_describe(code)}'
  # The other reasons must hold for a while: a process that seems to have failed
  # may have ended because of another one.
  for rank, peer in enumerate(peers):
    if now - peer.last_seen <= timeout:
      continue
    if peer.heartbeat is None:
      return rank, (
        f'has not joined within {timeout:g} s; check that it was started, and '
        'that all processes share the folder --workdir'
      )
    if peer.heartbeat.exit_code is None:
      return rank, f'has sent no heartbeat for {timeout:g} s'
  for rank, peer in enumerate(peers):
    stopped = peer.heartbeat and peer.heartbeat.stopped
    if stopped and now - peer.last_mark > timeout:
      return rank, f'has been stopped for {timeout:g} s'
  return _find_stuck_peer(peers, now, timeout)


def _find_stuck_peer(
  peers: Sequence[PeerMonitor], now: float, timeout: float
) -> tuple[int, str] | None:
  running, ended = [], []
  for rank, peer in enumerate(peers):
    if peer.heartbeat is None:
      return None
    group = running if peer.heartbeat.exit_code is None else ended
    group.append((rank, peer, peer.heartbeat))
  # The process that failed first, not one that reported the failure of a peer.
  ended.sort(key=lambda x: (x[2].exit_code == ExitCode.PEER, x[1].ended_at))
  for rank, peer, heartbeat in ended:
    waited_for = running or heartbeat.exit_code in _CONSEQUENCE
    if waited_for and now - peer.ended_at > timeout:
      code = _describe(heartbeat.exit_code or 0)
      return rank, f'ended with {code} while the others did not'
  if not running:
    return None
  ahead = max(heartbeat.mark.count for _, _, heartbeat in running)
  rank, peer, heartbeat = min(running, key=lambda x: (x[2].mark.count, x[0]))
  if heartbeat.mark.count < ahead:
    idle = now - max(peer.last_mark, peer.last_busy)
    if idle > peer.allowed_seconds(timeout):
      return rank, f'has been idle for {idle:.0f} s while the others wait'
    behind = now - peer.last_mark
    if behind > _BUSY_FACTOR * peer.allowed_seconds(timeout):
      return rank, f'has been behind the others for {behind:.0f} s'
    return None
  idle = now - max(peer.last_mark for _, peer, _ in running)
  in_dispatch = all(
    p.dispatches > 1 and b.mark.dispatching for _, p, b in running
  )
  allowed = max(p.allowed_seconds(timeout) for _, p, _ in running)
  if in_dispatch and idle > allowed:
    return -1, (
      f'no process has completed a step for {idle:.0f} s: a device or the '
      'network hangs'
    )
  return None


def _describe(code: int) -> str:
  """Returns a name of an exit code.

  >>> _describe(3)
  'exit code 3 (DATA), see its output'
  >>> _describe(137)
  'SIGKILL'
  """
  with contextlib.suppress(ValueError):
    if code > 128:
      return signal.Signals(code - 128).name
    return f'exit code {code} ({ExitCode(code).name}), see its output'
  return f'exit code {code}'


def make_folder(workdir: pathlib.Path) -> pathlib.Path:
  """Creates the folder of the heartbeats of a run, and returns its path.

  Raises:
    OSError: it cannot be created.
  """
  folder = workdir / 'peers'
  os.makedirs(folder, exist_ok=True)
  return folder
