"""The guard of a trainer that is one of several: it runs beside it, not in it.

A process whose peer is gone waits for it in a collective, for ever if the peer
is only asleep; and jax aborts where its coordinator is lost. So each trainer is
a child of a process that uses no device, passes on signals, tells the other
guards how the trainer does, and ends it when process 0 says that one is lost.
"""

import contextlib
import ctypes
import faulthandler
import functools
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

from launch.processes import heartbeats
from launch.processes.cluster import ProcessInfo
from launch.processes.heartbeats import Heartbeat, PeerMonitor
from launch.processes.shared_progress import SharedProgress, shared
from launch.shell.console import log_line
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.shell.signals import StopSignals, resume_hint, stop_requests
from launch.workdir.lock import hold_lock

# Of the timeout: how often guards look; and no more or less often than this.
_LOOKS = 1 / 40
_SECONDS = (0.1, 5.0)
_SIGNALS = 0.1  # seconds between two looks at signals
_PR_SET_PDEATHSIG = 1
_OWN_END = 2  # seconds that a trainer has to end by itself
_DUMPING = 5  # and to write where it is


def supervise(
  member: ProcessInfo, workdir: pathlib.Path, timeout: float
) -> int:
  """Runs the command of this process again as a trainer, and watches over it.

  Args:
    member: who this is.
    workdir: shared by all processes.
    timeout: seconds after which a peer that shows no sign of life, or is behind
      the others, is lost.

  Returns:
    The exit code: that of the trainer, or `Exit.PEER`.

  Raises:
    ValueError: another process is of this rank, or trains here.
    OSError: the workdir takes no files.
  """
  with contextlib.ExitStack() as closing:
    if member.rank == 0:
      closing.enter_context(hold_lock(workdir))
    with classify_errors(ExitCode.DISK):
      folder = heartbeats.folder_of(workdir)
    if member.rank:
      # One whose peers are gone may still be about to see that.
      name = f'{member.rank}.lock'
      closing.enter_context(hold_lock(folder, name=name, seconds=timeout))
    stacks = _stacks(folder, member.rank)
    stacks.unlink(missing_ok=True)
    descriptor, variables = shared()
    closing.callback(os.close, descriptor)
    stop = closing.enter_context(stop_requests())
    stop.hold(silent=True)  # The trainer tells.
    trainer = subprocess.Popen(
      [sys.executable, *sys.orig_argv[1:]],
      env=os.environ | variables,
      pass_fds=[descriptor],
      # Ctrl-C in a terminal comes once: by way of this process.
      start_new_session=True,
      preexec_fn=functools.partial(_die_with, os.getpid()),
    )
    try:
      watch = _Watch(
        member, folder, timeout, trainer, SharedProgress(descriptor)
      )
      return watch.until_the_end(stop, stacks)
    finally:
      trainer.kill()
      trainer.wait()


def _die_with(guard: int) -> None:
  """Has this process end with its parent, as far as the system can."""
  with contextlib.suppress(OSError, AttributeError):  # Linux alone has it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
  if os.getppid() != guard:
    os._exit(128 + signal.SIGKILL)


@contextlib.contextmanager
def watched(member: ProcessInfo, workdir: pathlib.Path) -> Iterator[None]:
  """Has a trainer leave traces if its guard ends it."""
  with _stacks(heartbeats.folder_of(workdir), member.rank).open('w') as file:
    faulthandler.enable(file)
    try:
      yield
    finally:
      faulthandler.enable(sys.__stderr__ or 2)


def _stacks(folder: pathlib.Path, rank: int) -> pathlib.Path:
  return folder / f'{rank}.stacks'


class _Watch:
  """A trainer and its peers, from its start to its end."""

  def __init__(
    self,
    member: ProcessInfo,
    folder: pathlib.Path,
    timeout: float,
    trainer: 'subprocess.Popen[bytes]',
    pulse: SharedProgress,
  ):
    self._member, self._folder, self._timeout = member, folder, timeout
    self._trainer, self._pulse = trainer, pulse
    self._begun = time.monotonic()
    # Process 0 watches all, and all others watch it.
    self._peers = [PeerMonitor(self._begun, known=False)]
    if member.rank == 0:
      self._peers = [PeerMonitor(self._begun) for _ in range(member.count)]
    token = uuid.uuid4().hex
    self._beat = Heartbeat(
      token=token,
      run='' if member.rank else token,
      number=0,
      host=socket.gethostname(),
      pid=trainer.pid,
      mark=pulse.read(),
    )

  def until_the_end(self, stop: StopSignals, stacks: pathlib.Path) -> int:
    """Watches; returns the exit code of this process."""
    pause = min(max(_LOOKS * self._timeout, _SECONDS[0]), _SECONDS[1])
    told, deadline = False, None
    while True:
      verdict = self._look()
      code = self._beat.ended
      # How it went is known; or that of a peer is what it died of.
      if code is not None and code not in (ExitCode.PEER, 128 + signal.SIGABRT):
        if verdict or stop() or not self._is_waited_for():
          return code
      if verdict:
        return self._lost(verdict, stacks)
      if code is not None:
        if stop():
          return ExitCode.PEER
        # Process 0 may be what was lost, and then nobody gives a verdict.
        deadline = deadline or time.monotonic() + 1.5 * self._timeout
        if self._member.rank and time.monotonic() > deadline:
          return self._lost('a collective failed', stacks)
      end, before = time.monotonic() + pause, self._trainer.returncode
      while time.monotonic() < end and self._trainer.poll() == before:
        if stop() and not told and before is None:
          self._trainer.send_signal(stop() or signal.SIGTERM)
          told = True
        time.sleep(min(_SIGNALS, pause))

  def _is_waited_for(self) -> bool:
    """Whether others have yet to learn how the trainer has ended."""
    if self._member.rank:
      late = time.monotonic() - self._begun > self._timeout
      return not (self._beat.run or late)
    beats = [peer.beat for peer in self._peers[1:]]
    return any(beat is None or beat.ended is None for beat in beats)

  def _look(self) -> str:
    """Reads what the others say, tells them of this one; the verdict or ''."""
    now, rank = time.monotonic(), self._member.rank
    code = self._trainer.poll()
    ended = code if code is None or code >= 0 else 128 - code
    beat = self._beat._replace(
      number=self._beat.number + 1,
      mark=self._pulse.read(),
      stopped=code is None and _is_stopped(self._trainer.pid),
      cpu=_cpu_seconds(self._trainer.pid),
      ended=ended,
    )
    for other, peer in enumerate(self._peers):
      there = beat if other == rank else heartbeats.read(self._folder, other)
      if rank == 0 and there is not None and there.run != beat.run:
        there = None  # It is of a run before.
      peer.see(there, now)
    first = self._peers[0]
    if rank == 0 and not beat.verdict:
      found = heartbeats.find_failed_peer(self._peers, now, self._timeout)
      beat = beat._replace(verdict=self._sentence(*found) if found else '')
    elif not beat.run and first.beat is not None:
      beat = beat._replace(run=first.beat.token)
    self._beat = beat
    # A disk that takes no beat for long makes this process a lost one.
    with contextlib.suppress(OSError):
      heartbeats.write(self._folder, rank, beat)
    if rank == 0:
      return beat.verdict
    if first.beat is not None and first.beat.verdict and not first.anew:
      return first.beat.verdict
    if first.anew or now - first.last > self._timeout:
      found = heartbeats.find_failed_peer(self._peers, now, self._timeout)
      return self._sentence(*found or (0, 'has ended, and others have not'))
    return ''

  def _sentence(self, rank: int, reason: str) -> str:
    if rank < 0:
      return reason
    beat = self._peers[rank].beat
    if beat is None:
      return f'rank {rank} {reason}'
    where = f'rank {rank} (process {beat.pid} on {beat.host})'
    return f'{where} {reason}; it had done step {beat.mark.step}'

  def _lost(self, verdict: str, stacks: pathlib.Path) -> int:
    """Ends the trainer, which can do nothing without its peer."""
    # It may be about to end as its peer did, of what it has found too.
    with contextlib.suppress(subprocess.TimeoutExpired):
      if self._trainer.wait(_OWN_END) not in (ExitCode.PEER, -signal.SIGABRT):
        self._look()
        return self._beat.ended or 0
    step = self._pulse.read().step
    text = f'{verdict}. Rank {self._member.rank} was at step {step}'
    if self._trainer.poll() is None:
      # faulthandler writes where all threads are; that is enough of it.
      with contextlib.suppress(OSError, ValueError, AttributeError):
        resource.prlimit(self._trainer.pid, resource.RLIMIT_CORE, (0, 0))
      self._trainer.send_signal(signal.SIGCONT)
      self._trainer.send_signal(signal.SIGABRT)
      try:
        self._trainer.wait(_DUMPING)
      except subprocess.TimeoutExpired:
        self._trainer.kill()
        self._trainer.wait()
    if stacks.exists() and stacks.stat().st_size:
      text += f'; where it was is in {stacks}'
    log_line(f'error: {text}. {resume_hint()[0].upper()}{resume_hint()[1:]}')
    return ExitCode.PEER


def _is_stopped(pid: int) -> bool:
  look = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
  with contextlib.suppress(ChildProcessError):
    return os.waitid(os.P_PID, pid, look) is not None
  return False


def _cpu_seconds(pid: int) -> float:
  """Of a process with all its threads; 0 where nobody says."""
  with contextlib.suppress(OSError, ValueError, IndexError):
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    # The name before it may have spaces.
    fields = stat.rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
  return 0.0
