"""The programs as subprocesses: what they import, and how they end."""

import subprocess
import sys

import pytest

from tests.faults import trainer

# Modules that are loaded before jax: in the programs until signals are handled,
# and in the watchdog.
EARLY = [
  'launch.main',
  'launch.sweep.__main__',
  'launch.evaluate.__main__',
  'launch.shell.exit_codes',
  'launch.processes.watchdog',
]


@pytest.mark.parametrize('module', EARLY)
def test_modules_that_are_loaded_early_do_not_import_jax(module):
  code = f'import sys, {module}\n'
  code += "print([x for x in ('jax', 'numpy', 'orbax') if x in sys.modules])"
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == '[]\n'


@pytest.mark.slow
@pytest.mark.parametrize(
  'program, arguments, code',
  [
    ('main', ['--help'], 0),
    ('main', [f'--config={trainer.TOY}', '--config.optimizer.lr=nan'], 8),
    ('sweep', [f'--config={trainer.TOY}', '--coordinator=here:1234'], 8),
    ('evaluate', [f'--config={trainer.TOY}'], 4),  # no run to evaluate
    ('report', ['nowhere'], 8),
    ('verify', ['nowhere'], 4),
  ],
)
def test_a_program_ends_with_its_exit_code_and_one_line(
  program, arguments, code, tmp_path
):
  workdir = [f'--workdir={tmp_path}'] if 'nowhere' not in arguments else []
  done = subprocess.run(
    [sys.executable, '-m', f'launch.{program}', *arguments, *workdir],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == code, done
  lines = done.stderr.splitlines()
  assert [x.partition(' ')[0] for x in lines] == ['error:'] * bool(code), done
