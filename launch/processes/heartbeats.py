"""What the processes of a run tell each other, and who of them is lost.

Each writes a file `workdir/peers/<rank>.json`, its beat, again and again. The
workdir is a folder that all share anyway, and a file outlives its process. That
of process 0 has the verdict, which it alone gives: n processes read 2n files.
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

# Whoever uses so much of a core compiles or reads, and may be behind the others
# for so many timeouts.
_BUSY, _LONGER = 0.1, 10
_SIZE = 1024  # bytes of a beat, or a few more
# Ends that need no culprit: done, or stopped as all are.
_FINE = {0, *(128 + n for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))}
# Ends that a lost peer brings about, also by way of jax, which aborts.
_VICTIM = {ExitCode.PEER, 128 + signal.SIGABRT}


class Heartbeat(NamedTuple):
  """The state of a process, as its guard tells it.

  Attributes:
    token: another for each start of the process.
    run: the token of process 0, whose run this is; empty until it is known.
    number: counts on as long as the guard lives.
    host: the machine.
    pid: of the trainer.
    mark: the last of the trainer.
    stopped: whether a signal has stopped it, and none has had it go on.
    cpu: seconds of processor time that the trainer has used.
    ended: its exit code (128 + n for signal n), None while it runs.
    verdict: of process 0: why the run ends; empty while it goes on.
  """

  token: str
  run: str
  number: int
  host: str
  pid: int
  mark: Mark
  stopped: bool = False
  cpu: float = 0.0
  ended: int | None = None
  verdict: str = ''


def write(folder: pathlib.Path, rank: int, beat: Heartbeat) -> None:
  """Writes the beat of a process over the one before.

  In place, and not by way of another name, which clients of a network file
  system may be slow to see; and of one size, which a full disk still takes.

  Raises:
    OSError: the folder takes no files.
  """
  text = json.dumps(beat._asdict()).ljust(_SIZE).encode()
  file = os.open(folder / f'{rank}.json', os.O_WRONLY | os.O_CREAT, 0o644)
  try:
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
  finally:
    os.close(file)


def read(folder: pathlib.Path, rank: int) -> Heartbeat | None:
  """Returns the beat of a process, None if there is none that can be read."""
  with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
    fields = json.loads((folder / f'{rank}.json').read_text())
    return Heartbeat(**fields | {'mark': Mark(*fields['mark'])})
  return None


class PeerMonitor:
  """What one process has seen of another since it began to look."""

  def __init__(self, now: float, *, known: bool = True):
    """Begins to look, at `now` seconds by any clock.

    Args:
      now: seconds.
      known: whether all beats are of this run. If not, what is there first may
        be of one before, until it changes.
    """
    self._known, self._first, self._looked = known, None, False
    self.beat: Heartbeat | None = None
    self.last = self.marked = self.ended = self.busy = now
    self.calls, self.longest = 0, 0.0
    self.anew = False

  def see(self, beat: Heartbeat | None, now: float) -> None:
    """Takes in what was read at `now`."""
    if not self._looked:
      self._first, self._looked = None if self._known else beat, True
    if beat is None or beat in (self.beat, self._first):
      return
    before = self.beat
    if before is None:
      if not self._known and (beat.verdict or beat.ended is not None):
        return  # The run before comes to its end.
      self.marked = self.ended = now
    else:
      if beat.mark.count != before.mark.count:
        if before.mark.calling:
          self.calls += 1
          self.longest = max(self.longest, now - self.marked)
        self.marked = now
      if beat.ended != before.ended:
        self.ended = now
      # Not by a thread that looks after something now and then.
      if beat.cpu - before.cpu > _BUSY * (now - self.last):
        self.busy = now
      self.anew |= beat.token != before.token
    self.beat, self.last = beat, now

  def patience(self, timeout: float) -> float:
    """Seconds that it may be at one place, by how long its calls were."""
    # The first call has to be compiled, and the second waits for the first.
    if self.calls < 2:
      return _LONGER * timeout
    return max(timeout, 3 * self.longest)


def find_failed_peer(
  peers: Sequence[PeerMonitor], now: float, timeout: float
) -> tuple[int, str] | None:
  """Says which process ends the run, and why.

  Args:
    peers: all processes, by rank.
    now: by the clock of `Peer.see`.
    timeout: seconds.

  Returns:
    `(rank, reason)`, the reason as what follows "rank 3"; -1 if it is no one
    process. None: none is lost.
  """
  for rank, peer in enumerate(peers):
    ended = peer.beat and peer.beat.ended
    if peer.anew:
      return rank, 'was started anew, while others went on'
    if ended is not None and ended not in _FINE | _VICTIM:
      return rank, f'ended with {_code(ended)}'
  # What follows is known once it has been so for a while: whoever seems to
  # have ended badly may have done so because of another.
  for rank, peer in enumerate(peers):
    if now - peer.last <= timeout:
      continue
    if peer.beat is None:
      return rank, (
        f'has not joined in {timeout:g} s; see that it is started, and that '
        '--workdir is one folder that all processes share'
      )
    if peer.beat.ended is None:
      return rank, f'was not heard of for {timeout:g} s'
  for rank, peer in enumerate(peers):
    if peer.beat and peer.beat.stopped and now - peer.marked > timeout:
      return rank, f'is stopped, and has been for {timeout:g} s'
  return _stuck(peers, now, timeout)


def _stuck(
  peers: Sequence[PeerMonitor], now: float, timeout: float
) -> tuple[int, str] | None:
  running, gone = [], []
  for rank, peer in enumerate(peers):
    if peer.beat is None:
      return None
    ended = peer.beat.ended is not None
    (gone if ended else running).append((rank, peer, peer.beat))
  # Who was lost first, and not who has told so.
  gone.sort(key=lambda x: (x[2].ended == ExitCode.PEER, x[1].ended))
  for rank, peer, beat in gone:
    if now - peer.ended > timeout and (running or beat.ended in _VICTIM):
      return rank, f'ended with {_code(beat.ended or 0)}, and others did not'
  if not running:
    return None
  ahead = max(beat.mark.count for _, _, beat in running)
  rank, peer, beat = min(running, key=lambda x: (x[2].mark.count, x[0]))
  if beat.mark.count < ahead:
    still = now - max(peer.marked, peer.busy)
    if still > peer.patience(timeout):
      return rank, f'is asleep: it did nothing for {still:.0f} s, others wait'
    still = now - peer.marked
    if still > _LONGER * peer.patience(timeout):
      return rank, f'is behind the others for {still:.0f} s'
    return None
  still = now - max(peer.marked for _, peer, _ in running)
  calling = all(p.calls > 1 and beat.mark.calling for _, p, beat in running)
  if calling and still > max(p.patience(timeout) for _, p, _ in running):
    return -1, (
      f'no process has done a step for {still:.0f} s: a device or the network '
      'hangs'
    )
  return None


def _code(code: int) -> str:
  with contextlib.suppress(ValueError):
    if code > 128:
      return signal.Signals(code - 128).name
    return f'exit code {code} ({ExitCode(code).name}), see what it printed'
  return f'exit code {code}'


def folder_of(workdir: pathlib.Path) -> pathlib.Path:
  """Makes the folder of the beats of a run.

  Raises:
    OSError: it cannot be made.
  """
  folder = workdir / 'peers'
  os.makedirs(folder, exist_ok=True)
  return folder
