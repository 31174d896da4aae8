"""Command-line flags and error exit shared by the programs of launch."""

import ast
import contextlib
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.tuple_parser import TupleParser

from launch.checkpoints.storage import silence_orbax
from launch.config import Config, check_config, flatten
from launch.mesh import expects_cpu
from launch.processes import cluster
from launch.processes.shared_progress import has_watchdog
from launch.processes.watchdog import dump_stacks_on_abort, supervise
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
  help_string='FILE.py[:ARG] with get_config(ARG), or a config.json.',
)
WORKDIR = flags.DEFINE_string(
  'workdir',
  '',
  'Folder of the run: its results, and the checkpoints it resumes from.',
)
CACHE = flags.DEFINE_string(
  'compilation_cache',
  os.environ.get('JAX_COMPILATION_CACHE_DIR', '~/.cache/jaxmix/xla'),
  'Folder of the compilation cache; empty to disable it.',
)
COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of process 0, if the cluster is not detected (docs/pods.md).',
)
PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Rank of this process, from 0; with --coordinator.'
)
NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Number of processes; with --coordinator.'
)
CLUSTER = (COORDINATOR, PROCESS_ID, NUM_PROCESSES)
PEER_TIMEOUT = flags.DEFINE_float(
  'peer_timeout',
  300.0,
  'Seconds after which a process that is silent, or behind others, has failed.',
  lower_bound=1.0,
  upper_bound=1e6,
)
ALLOWED = flags.DEFINE_list(
  'allow_resume_change',
  [],
  'Fields, such as epochs,optimizer.lr, that may change when a run resumes.',
)
DEBUG = flags.DEFINE_bool('debug', False, 'Print the traceback of an error.')


def train(argv: Sequence[str]) -> None:
  """Trains the run that the flags describe."""
  refuse_arguments(argv)
  workdir = open_workdir()
  check_config(CONFIG.value)
  process = cluster.process_info(
    COORDINATOR.value,
    PROCESS_ID.value,
    NUM_PROCESSES.value,
    PEER_TIMEOUT.value,
  )
  if process and not has_watchdog():
    sys.exit(supervise(process, workdir, PEER_TIMEOUT.value))
  with contextlib.ExitStack() as closing:
    if process:
      closing.enter_context(dump_stacks_on_abort(process, workdir))
      closing.enter_context(cluster.joined(process, PEER_TIMEOUT.value))
    task = load_task(CONFIG.value.task)
    metrics = fit(
      task, CONFIG.value, workdir, allow_resume_change=ALLOWED.value
    )
    if process:  # It shuts down together with the others.
      closing.enter_context(stop_requests()).ignore()
  if not process or not process.rank:
    log_line(show_metrics(metrics), sys.stdout)


def refuse_arguments(argv: Sequence[str]) -> None:
  """Raises ValueError for an argument that is not a flag."""
  if argv[1:]:
    raise ValueError(
      f'unknown argument {argv[1]!r}: flags begin with --, and a variant of '
      'the config follows a colon, --config=FILE.py:method=cutmix'
    )


def _refuse_cluster() -> None:
  for flag in CLUSTER:
    if flag.value is not None:
      raise ValueError(
        f'--{flag.name}={flag.value} is a flag of launch.main: this command '
        'runs in one process; omit the flag'
      )


def open_workdir() -> pathlib.Path:
  """Returns the folder that --workdir names; it need not exist yet.

  Raises:
    ValueError: there is no path, or part of it is not a folder.
  """
  # Path('') would be the current folder.
  if not WORKDIR.value.strip():
    raise ValueError('--workdir is required: the folder of the run')
  workdir = pathlib.Path(WORKDIR.value)
  try:
    for path in (workdir, *workdir.parents):
      if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise ValueError(f'--workdir={workdir}: {path} is not a folder')
  except OSError as error:
    raise ValueError(f'--workdir={workdir}: {error.strerror}') from error
  return workdir


def enable_compilation_cache(folder: str) -> None:
  """Makes jax cache compiled programs in `folder`; '' disables the cache."""
  path = folder and str(pathlib.Path(folder).expanduser())
  jax.config.update('jax_compilation_cache_dir', path or None)
  # The default excludes what compiled within a second: most of a start.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Parses the flags and runs `main`; prints one line about an error, exits."""

  def run_main(argv):
    if expects_cpu():
      keep_freed_memory()
    enable_compilation_cache(CACHE.value)
    try:
      if main is not train:
        _refuse_cluster()
      main(argv)
    except Exception as error:
      if DEBUG.value:
        traceback.print_exc()
      if cluster.is_peer_failure(error):
        # The watchdog reports which peer failed.
        log_line(f'a collective failed: {" ".join(str(error).split())}')
        exit_process(ExitCode.PEER)
      rank = jax.process_index() if cluster.is_joined() else 0
      crash = f'crash-{rank}.txt' if rank else 'crash.txt'
      exit_process(report_error(error, pathlib.Path(WORKDIR.value, crash)))
    finally:
      flush_streams()

  def exit_process(code: int) -> NoReturn:
    if cluster.is_joined():
      # sys.exit would wait for peers, which wait for this process.
      flush_streams()
      os._exit(code)
    sys.exit(code)

  app.run(run_main, flags_parser=parse_flags)


class _ConfigParser(flags.ArgumentParser):
  """Reads the config that --config names; executes only a .py file."""

  def __init__(self, python: flags.ArgumentParser):
    self._python = python

  def parse(self, argument: str) -> Config:
    config = self._read(argument)
    for word in flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False):
      _check_field(config, word)
    return config

  def _read(self, argument: str) -> Config:
    path, colon, _ = argument.partition(':')
    if path.endswith('.py'):
      return self._python.parse(argument)
    if not path.endswith('.json'):
      raise ValueError('must be FILE.py[:ARG] or FILE.json')
    if colon:
      raise ValueError('a .json config takes no argument: omit the colon')
    return ConfigDict(config_file.read(pathlib.Path(path))).lock()


class _ValueParser(flags.ArgumentParser):
  """Parses the value of a config field; an error says what it must be."""

  def __init__(self, parser: flags.ArgumentParser, allowed: str):
    self._parser, self._allowed = parser, allowed

  def parse(self, argument: Any) -> Any:
    try:
      return self._parser.parse(argument)
    except (TypeError, ValueError):
      raise ValueError(f'must be {self._allowed}') from None


class _TupleParser(TupleParser):
  """Parses `1,2`, `('a', 'b')` and `a,b`."""

  def parse(self, argument: Any) -> tuple[Any, ...]:
    if isinstance(argument, str):
      try:
        argument = ast.literal_eval(argument)
      except (ValueError, SyntaxError):
        argument = tuple(argument.split(','))
    is_sequence = isinstance(argument, list | tuple)
    return tuple(argument) if is_sequence else (argument,)


flags.FLAGS['config'].parser = _ConfigParser(flags.FLAGS['config'].parser)
for _type, _parser in {
  bool: _ValueParser(flags.BooleanParser(), 'True or False'),
  int: _ValueParser(flags.IntegerParser(), 'an integer'),
  float: _ValueParser(flags.FloatParser(), 'a number'),
  tuple: _TupleParser(),
}.items():
  config_flags.register_flag_parser_for_type(_type, _parser)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the flags; exits after --help and after an error.

  Returns:
    The arguments that are not flags.
  """
  if any(re.fullmatch('--?(h|help|helpshort)', x) for x in argv[1:]):
    # absl would show none of these flags, and exit with an error.
    log_line(_help(), sys.stdout)
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)
    if CONFIG.value is None:
      raise ValueError('--config is required: FILE.py[:ARG], or a config.json')
    CONFIG.value.lock()  # Raises if the file could not be read.
    flag = flags.FLAGS['config']
    path = config_flags.get_config_filename(flag).partition(':')[0]
    overrides = config_flags.get_override_values(flag)
    if path.endswith('.json') and 'task' not in overrides:
      task = flatten(CONFIG.value).get('task')
      if isinstance(task, str):  # Otherwise `check_config` rejects it.
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
  """Returns the description of the program and of its flags."""
  modules = [x for x in flags.FLAGS.flags_by_module_dict() if 'launch.' in x]
  description = sys.modules['__main__'].__doc__ or ''
  return ''.join([description, *map(flags.FLAGS.module_help, modules)])


def _check_field(config: Config, word: str) -> None:
  """Raises flags.Error for a flag of a field that the config does not have."""
  # ml_collections would follow --config.to_dict.__globals__ to any object.
  flag = re.match(r'--?(?:no)?config\.([^=]*)', word)
  if not flag:
    return
  value, path = config, 'config'
  *blocks, field = flag[1].split('.')
  for i, name in enumerate((*blocks, field)):
    if not hasattr(value, 'keys'):
      raise flags.Error(f'{path}={value!r} is not a block of fields')
    if name not in value:
      raise flags.Error(
        f'{path}.{name} is not a known field; the fields of {path} are '
        f'{", ".join(sorted(value))}'
        + '. No flag adds a block of fields: write it in the config file'
        * (i < len(blocks))
      )
    value, path = value[name], f'{path}.{name}'
  if hasattr(value, 'keys') and '{' not in word:
    raise flags.Error(f'{path} is a block of fields; set {path}.<field>')


def _flag_message(error: Exception) -> str:
  """Returns the message for an error of parsing the flags."""
  if isinstance(error, LookupError | AttributeError):
    return f'the config file raised {error!r}'
  if 'is not supported for overriding' in str(error):
    return str(error).partition('. ')[0]  # The rest is about the API.
  if isinstance(error, OSError):
    return str(error).splitlines()[-1].strip()
  if 'Error whilst parsing config file' in str(error):
    # ml_collections puts what get_config raised into the text of a traceback.
    while isinstance(error.__context__, Exception):
      error = error.__context__
  value = re.fullmatch('flag --(config[.][^=]+)=(.*): (.*)', str(error), re.S)
  return f'{value[1]}={value[2]!r}: {value[3]}' if value else str(error)
