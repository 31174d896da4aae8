import pytest

from launch.shell.exit_codes import (
  ExitCode,
  classify_errors,
  exit_code,
  report_error,
)


@pytest.mark.parametrize(
  'error, code',
  [
    (ValueError('x'), ExitCode.CONFIG),
    (OSError('x'), ExitCode.DISK),
    (FloatingPointError('x'), ExitCode.NUMERICS),
    (TypeError('x'), ExitCode.BUG),
  ],
)
def test_the_type_of_an_error_gives_the_default_code(error, code):
  assert exit_code(error) == code


@pytest.mark.parametrize(
  'error, code',
  [
    (OSError('x'), ExitCode.DATA),
    (ValueError('x'), ExitCode.DATA),
    (ValueError('config.seed=x'), ExitCode.CONFIG),
    (FloatingPointError('x'), ExitCode.NUMERICS),
    (TypeError('x'), ExitCode.BUG),
  ],
)
def test_an_error_in_a_block_has_the_code_of_the_block(error, code):
  with pytest.raises(type(error)), classify_errors(ExitCode.DATA):
    raise error
  assert exit_code(error) == code


def test_a_bug_is_reported_with_its_place_and_its_traceback(tmp_path, capsys):
  crash = tmp_path / 'crash.txt'
  try:
    raise TypeError('first\nsecond')
  except TypeError as error:
    assert report_error(error, crash) == ExitCode.BUG
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: TypeError at exit_codes_test.py:')
  assert str(crash) in line and 'Traceback' in crash.read_text()
