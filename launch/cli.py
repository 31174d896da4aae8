"""The command line: its flags, and how a program of this package ends."""

import contextlib
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from launch.checkpoints.storage import silence_orbax
from launch.config import Config, check_config, flatten
from launch.mesh import expects_cpu
from launch.processes import cluster
from launch.processes.shared_progress import has_watchdog
from launch.processes.watchdog import supervise, watched
from launch.shell.console import flush_streams, log_line
from launch.shell.exit_codes import EXPECTED, ExitCode, report_error
from launch.shell.malloc import keep_freed_memory
from launch.shell.signals import stop_requests
from launch.task import load_task
from launch.train.loop import fit
from launch.train.progress import show_metrics
from launch.workdir import config_file

CONFIG = config_flags.DEFINE_config_file(
  'config',
  help_string='FILE.py[:ARG] with get_config(ARG), or a config.json of a run.',
)
WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of the run: results, and what it goes on from.',
  required=True,
)
CACHE = flags.DEFINE_string(
  'compilation_cache',
  os.environ.get('JAX_COMPILATION_CACHE_DIR', '~/.cache/jaxmix/xla'),
  'Folder of compiled programs; empty to keep none.',
)
COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of process 0, where no cluster says so (docs/pods.md).',
)
PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Which process this is, from 0; with --coordinator.'
)
NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many processes train; with --coordinator.'
)
CLUSTER = (COORDINATOR, PROCESS_ID, NUM_PROCESSES)
PEER_TIMEOUT = flags.DEFINE_float(
  'peer_timeout',
  300.0,
  'Seconds after which a process that is silent, or behind others, is lost.',
  lower_bound=1.0,
  upper_bound=1e6,
)
ALLOWED = flags.DEFINE_list(
  'allow_resume_change',
  [],
  'Fields such as epochs,optimizer.lr that may differ in a run that goes on.',
)
DEBUG = flags.DEFINE_bool('debug', False, 'Show where an error came from.')
flags.mark_flag_as_required('config')


def train(argv: Sequence[str]) -> None:
  """Trains what the flags say."""
  refuse_arguments(argv)
  workdir = open_workdir()
  check_config(CONFIG.value)
  member = cluster.find(
    COORDINATOR.value,
    PROCESS_ID.value,
    NUM_PROCESSES.value,
    PEER_TIMEOUT.value,
  )
  if member and not has_watchdog():
    sys.exit(supervise(member, workdir, PEER_TIMEOUT.value))
  with contextlib.ExitStack() as leaving:
    if member:
      leaving.enter_context(watched(member, workdir))
      leaving.enter_context(cluster.joined(member, PEER_TIMEOUT.value))
    task = load_task(CONFIG.value.task)
    metrics = fit(
      task, CONFIG.value, workdir, allow_resume_change=ALLOWED.value
    )
    if member:  # It leaves together with the others.
      leaving.enter_context(stop_requests()).ignore()
  if not member or not member.rank:
    log_line(show_metrics(metrics), sys.stdout)


def refuse_arguments(argv: Sequence[str]) -> None:
  """Raises ValueError if there are arguments that are no flags."""
  if argv[1:]:
    raise ValueError(
      f'unknown argument {argv[1]!r}: flags begin with --, and a variant of '
      'the config follows a colon, --config=FILE.py:method=cutmix'
    )


def _refuse_cluster() -> None:
  for flag in CLUSTER:
    if flag.value is not None:
      raise ValueError(
        f'--{flag.name}={flag.value}: only launch.main is one of several '
        'processes that do one thing; leave it out'
      )


def open_workdir() -> pathlib.Path:
  """Returns the folder that --workdir names; it need not be there yet.

  Raises:
    ValueError: it cannot be a folder.
  """
  # Path('') would be the folder that people happen to be in.
  if not WORKDIR.value.strip():
    raise ValueError('--workdir is empty: name the folder of the run')
  workdir = pathlib.Path(WORKDIR.value)
  try:
    for path in (workdir, *workdir.parents):
      if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise ValueError(f'--workdir={workdir}: {path} is not a folder')
  except OSError as error:
    raise ValueError(f'--workdir={workdir}: {error.strerror}') from error
  return workdir


def keep_programs(folder: str) -> None:
  """Has jax keep all that it compiles in `folder`; '' to keep nothing."""
  path = folder and str(pathlib.Path(folder).expanduser())
  jax.config.update('jax_compilation_cache_dir', path or None)
  # By default it leaves out what took less than a second: most of a start.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Parses the flags and runs `main`; errors are one line and an exit code."""

  def told(argv):
    if expects_cpu():
      keep_freed_memory()
    keep_programs(CACHE.value)
    try:
      if main is not train:
        _refuse_cluster()
      main(argv)
    except Exception as error:
      if DEBUG.value:
        traceback.print_exc()
      if cluster.is_lost_peer(error):
        # Who that is, the guard will tell.
        log_line(f'a collective failed: {" ".join(str(error).split())}')
        end(ExitCode.PEER)
      rank = jax.process_index() if cluster.is_joined() else 0
      crash = f'crash-{rank}.txt' if rank else 'crash.txt'
      end(report_error(error, pathlib.Path(WORKDIR.value, crash)))
    finally:
      flush_streams()

  def end(code: int) -> NoReturn:
    if cluster.is_joined():
      # Python's own end would wait for peers, which wait for this process.
      flush_streams()
      os._exit(code)
    sys.exit(code)

  app.run(told, flags_parser=_parse)


class _ConfigParser(flags.ArgumentParser):
  """Reads the config that --config names: as a program only a .py file."""

  def __init__(self, python: flags.ArgumentParser):
    self._python = python

  def parse(self, argument: str) -> Config:
    path, colon, _ = argument.partition(':')
    if path.endswith('.py'):
      return self._python.parse(argument)
    if not path.endswith('.json'):
      raise ValueError('a config is a FILE.py[:ARG] or a FILE.json')
    if colon:
      raise ValueError('a .json config has no variants: leave out the colon')
    return ConfigDict(config_file.read(pathlib.Path(path))).lock()


flags.FLAGS['config'].parser = _ConfigParser(flags.FLAGS['config'].parser)


def _parse(argv: Sequence[str]) -> list[str]:
  if any(re.fullmatch('--?(h|help|helpshort)', x) for x in argv[1:]):
    # absl would show no flag of ours, and call it a failure.
    log_line(_help(), sys.stdout)
    sys.exit(0)
  try:
    for argument in argv[1:]:
      _check_path(argument)
    rest = flags.FLAGS(argv)
    CONFIG.value.lock()  # Raises if the file could not be read.
    flag = flags.FLAGS['config']
    path = config_flags.get_config_filename(flag).partition(':')[0]
    given = config_flags.get_override_values(flag)
    if path.endswith('.json') and 'task' not in given:
      task = flatten(CONFIG.value).get('task')
      if isinstance(task, str):  # Else `check_config` refuses it.
        config_file.check_task(task)
  except (*EXPECTED, flags.Error, LookupError, AttributeError) as error:
    if any(flag.startswith('--debug') for flag in argv):
      traceback.print_exc()
    sys.exit(report_error(ValueError(_flag_message(error))))
  silence_orbax()
  if flags.FLAGS['verbosity'].using_default_value:
    flags.FLAGS.verbosity = logging.WARNING
  return rest


def _help() -> str:
  """What the program is, and its flags."""
  ours = [x for x in flags.FLAGS.flags_by_module_dict() if 'launch.' in x]
  texts = [sys.modules['__main__'].__doc__ or '']
  return ''.join([*texts, *map(flags.FLAGS.module_help, ours)])


def _check_path(argument: str) -> None:
  """Raises LookupError for a path through anything but fields."""
  # ml_collections would follow --config.to_dict.__globals__ to wherever.
  found = re.match(r'--?(?:no)?config\.([^=]*)', argument)
  if found and not re.fullmatch(r'[A-Za-z]\w*(\.[A-Za-z]\w*)*', found[1]):
    raise LookupError(found[1])


def _flag_message(error: Exception) -> str:
  if isinstance(error, LookupError | AttributeError):
    text = error
    while isinstance(text, Exception):
      text = text.args[0]
    return f'no such field of the config: {text}'
  if 'is not supported for overriding' in str(error):
    return str(error).partition('. ')[0]  # The rest is for programmers.
  if isinstance(error, OSError):
    return str(error).splitlines()[-1].strip()
  if 'Error whilst parsing config file' in str(error):
    # ml_collections hides what get_config raised in the text of a traceback.
    while isinstance(error.__context__, Exception):
      error = error.__context__
  return str(error)
