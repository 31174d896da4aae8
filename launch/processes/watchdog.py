"""Watchdog: the parent of a trainer that is one process of several.

A process whose peer failed waits for it in a collective, forever if the peer
only hangs; and jax aborts if its coordinator is lost. So each trainer is a
child of a process that uses no device, forwards signals, publishes how the
trainer is doing (`launch.processes.heartbeats`), and ends it when process 0
reports that a peer failed.
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
from typing import TYPE_CHECKING

from launch.processes import heartbeats
from launch.processes.heartbeats import Heartbeat, PeerMonitor
from launch.processes.shared_progress import SharedProgress, create_memory
from launch.shell.console import log_line
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.shell.signals import StopSignals, resume_hint, stop_requests
from launch.workdir.lock import hold_lock

if TYPE_CHECKING:  # It imports jax.
  from launch.processes.cluster import ProcessInfo

# Seconds between two heartbeats, as a fraction of the timeout and its limits.
_INTERVAL_FRACTION = 1 / 40
_INTERVAL_LIMITS = (0.1, 5.0)
_SIGNAL_INTERVAL = 0.1  # seconds between two checks for signals
_PR_SET_PDEATHSIG = 1
_EXIT_SECONDS = 2  # that a trainer has to end by itself
_DUMP_SECONDS = 5  # that it has to write its stack traces


def supervise(
  process: 'ProcessInfo', workdir: pathlib.Path, timeout: float
) -> int:
  """Runs the command of this process again as a trainer, and supervises it.

  Args:
    process: this process.
    workdir: shared by all processes.
    timeout: seconds after which a peer that sends no heartbeat, or is behind
      the others, has failed.

  Returns:
    The exit code: that of the trainer, or `ExitCode.PEER`.

  Raises:
    ValueError: another process has this rank, or trains in the workdir.
    OSError: the workdir cannot be written.
  """
  with contextlib.ExitStack() as closing:
    if process.rank == 0:
      closing.enter_context(hold_lock(workdir))
    with classify_errors(ExitCode.DISK):
      folder = heartbeats.make_folder(workdir)
    if process.rank:
      # A process of an earlier run may not have noticed yet that it failed.
      name = f'{process.rank}.lock'
      closing.enter_context(hold_lock(folder, name=name, seconds=timeout))
    stacks = _stacks_path(folder, process.rank)
    stacks.unlink(missing_ok=True)
    descriptor, variables = create_memory()
    closing.callback(os.close, descriptor)
    stop = closing.enter_context(stop_requests())
    stop.defer(silent=True)  # The trainer prints the line.
    trainer = subprocess.Popen(
      [sys.executable, *sys.orig_argv[1:]],
      env=os.environ | variables,
      pass_fds=[descriptor],
      # Ctrl-C in a terminal reaches the trainer once, through this process.
      start_new_session=True,
      preexec_fn=functools.partial(_end_with_parent, os.getpid()),
    )
    try:
      progress = SharedProgress(descriptor)
      watchdog = _Watchdog(process, folder, timeout, trainer, progress)
      return watchdog.run(stop, stacks)
    finally:
      trainer.kill()
      trainer.wait()


def _end_with_parent(parent: int) -> None:
  """Makes this process end with its parent, if the system supports it."""
  with contextlib.suppress(OSError, AttributeError):  # Linux only
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
  if os.getppid() != parent:
    os._exit(128 + signal.SIGKILL)


@contextlib.contextmanager
def dump_stacks_on_abort(
  process: 'ProcessInfo', workdir: pathlib.Path
) -> Iterator[None]:
  """Makes a trainer write its stack traces if its watchdog ends it."""
  path = _stacks_path(heartbeats.make_folder(workdir), process.rank)
  with path.open('w') as file:
    faulthandler.enable(file)
    try:
      yield
    finally:
      faulthandler.enable(sys.__stderr__ or 2)


def _stacks_path(folder: pathlib.Path, rank: int) -> pathlib.Path:
  return folder / f'{rank}.stacks'


class _Watchdog:
  """Supervises a trainer and its peers from start to end."""

  def __init__(
    self,
    process: 'ProcessInfo',
    folder: pathlib.Path,
    timeout: float,
    trainer: 'subprocess.Popen[bytes]',
    progress: SharedProgress,
  ):
    self._process, self._folder, self._timeout = process, folder, timeout
    self._trainer, self._progress = trainer, progress
    self._started = time.monotonic()
    # Process 0 monitors all, and all others monitor process 0.
    self._peers = [PeerMonitor(self._started, known=False)]
    if process.rank == 0:
      self._peers = [PeerMonitor(self._started) for _ in range(process.count)]
    token = uuid.uuid4().hex
    self._heartbeat = Heartbeat(
      token=token,
      run='' if process.rank else token,
      number=0,
      host=socket.gethostname(),
      pid=trainer.pid,
      mark=progress.read(),
    )

  def run(self, stop: StopSignals, stacks: pathlib.Path) -> int:
    """Supervises the trainer to its end; returns the exit code."""
    low, high = _INTERVAL_LIMITS
    interval = min(max(_INTERVAL_FRACTION * self._timeout, low), high)
    forwarded, deadline = False, None
    while True:
      failure_reason = self._exchange_heartbeats()
      code = self._heartbeat.exit_code
      # The trainer ended by itself, and not because a peer failed.
      if code is not None and code not in (ExitCode.PEER, 128 + signal.SIGABRT):
        if failure_reason or stop() or not self._must_be_reported():
          return code
      if failure_reason:
        return self._end_trainer(failure_reason, stacks)
      if code is not None:
        if stop():
          return ExitCode.PEER
        # If process 0 is the one that failed, nobody reports a reason.
        deadline = deadline or time.monotonic() + 1.5 * self._timeout
        if self._process.rank and time.monotonic() > deadline:
          return self._end_trainer('a collective failed', stacks)
      end, before = time.monotonic() + interval, self._trainer.returncode
      while time.monotonic() < end and self._trainer.poll() == before:
        if stop() and not forwarded and before is None:
          self._trainer.send_signal(stop() or signal.SIGTERM)
          forwarded = True
        time.sleep(min(_SIGNAL_INTERVAL, interval))

  def _must_be_reported(self) -> bool:
    """Returns whether others have yet to read how the trainer ended."""
    if self._process.rank:
      late = time.monotonic() - self._started > self._timeout
      return not (self._heartbeat.run or late)
    others = [peer.heartbeat for peer in self._peers[1:]]
    return any(other is None or other.exit_code is None for other in others)

  def _exchange_heartbeats(self) -> str:
    """Reads the heartbeats of others and writes that of this process.

    Returns:
      Why the run has failed; empty if it has not.
    """
    now, rank = time.monotonic(), self._process.rank
    code = self._trainer.poll()
    heartbeat = self._heartbeat._replace(
      number=self._heartbeat.number + 1,
      mark=self._progress.read(),
      stopped=code is None and _is_stopped(self._trainer.pid),
      cpu_seconds=_cpu_seconds(self._trainer.pid),
      exit_code=code if code is None or code >= 0 else 128 - code,
    )
    for other, peer in enumerate(self._peers):
      read = (
        heartbeat if other == rank else heartbeats.read(self._folder, other)
      )
      if rank == 0 and read is not None and read.run != heartbeat.run:
        read = None  # It is of an earlier run.
      peer.update(read, now)
    first = self._peers[0]
    if rank == 0 and not heartbeat.failure_reason:
      failed = heartbeats.find_failed_peer(self._peers, now, self._timeout)
      reason = self._sentence(*failed) if failed else ''
      heartbeat = heartbeat._replace(failure_reason=reason)
    elif not heartbeat.run and first.heartbeat is not None:
      heartbeat = heartbeat._replace(run=first.heartbeat.token)
    self._heartbeat = heartbeat
    # If the disk cannot be written for long, this process counts as failed.
    with contextlib.suppress(OSError):
      heartbeats.write(self._folder, rank, heartbeat)
    if rank == 0:
      return heartbeat.failure_reason
    reason = first.heartbeat.failure_reason if first.heartbeat else ''
    if reason and not first.restarted:
      return reason
    if first.restarted or now - first.last_seen > self._timeout:
      failed = heartbeats.find_failed_peer(self._peers, now, self._timeout)
      return self._sentence(*failed or (0, 'ended while the others did not'))
    return ''

  def _sentence(self, rank: int, reason: str) -> str:
    if rank < 0:
      return reason
    heartbeat = self._peers[rank].heartbeat
    if heartbeat is None:
      return f'rank {rank} {reason}'
    return (
      f'rank {rank} (process {heartbeat.pid} on {heartbeat.host}) {reason}; '
      f'its last step was {heartbeat.mark.step}'
    )

  def _end_trainer(self, failure_reason: str, stacks: pathlib.Path) -> int:
    """Ends the trainer, which cannot continue without its peer."""
    # It may be about to end by itself, for the same reason or for another.
    with contextlib.suppress(subprocess.TimeoutExpired):
      code = self._trainer.wait(_EXIT_SECONDS)
      if code not in (ExitCode.PEER, -signal.SIGABRT):
        self._exchange_heartbeats()
        return self._heartbeat.exit_code or 0
    step = self._progress.read().step
    text = f'{failure_reason}. Rank {self._process.rank} was at step {step}'
    if self._trainer.poll() is None:
      # The stack traces of faulthandler are enough: no core dump.
      with contextlib.suppress(OSError, ValueError, AttributeError):
        resource.prlimit(self._trainer.pid, resource.RLIMIT_CORE, (0, 0))
      self._trainer.send_signal(signal.SIGCONT)
      self._trainer.send_signal(signal.SIGABRT)
      try:
        self._trainer.wait(_DUMP_SECONDS)
      except subprocess.TimeoutExpired:
        self._trainer.kill()
        self._trainer.wait()
    if stacks.exists() and stacks.stat().st_size:
      text += f'; its stack traces are in {stacks}'
    hint = resume_hint()
    log_line(f'error: {text}. {hint[0].upper()}{hint[1:]}')
    return ExitCode.PEER


def _is_stopped(pid: int) -> bool:
  options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
  with contextlib.suppress(ChildProcessError):
    return os.waitid(os.P_PID, pid, options) is not None
  return False


def _cpu_seconds(pid: int) -> float:
  """Returns the CPU time of all threads of a process; 0 where unknown."""
  with contextlib.suppress(OSError, ValueError, IndexError):
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    # The name, in brackets, may contain spaces.
    fields = stat.rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
  return 0.0
