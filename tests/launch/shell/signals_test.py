import os
import signal
import subprocess
import sys
import time

import pytest

from launch.shell.signals import stop_requests

BOTH = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize('number', BOTH)
def test_a_held_signal_is_noted_and_the_old_handler_comes_back(number):
  before = signal.getsignal(number)
  with stop_requests() as stop:
    assert stop() is None
    stop.hold()
    os.kill(os.getpid(), number)
    assert stop() == number
  assert signal.getsignal(number) == before


@pytest.mark.parametrize('number', BOTH)
def test_with_nothing_to_save_a_signal_raises_system_exit(number):
  with pytest.raises(SystemExit) as exited, stop_requests():
    os.kill(os.getpid(), number)
    time.sleep(1)
  assert exited.value.code == 128 + number


def test_a_program_ends_even_where_an_error_would_be_lost():
  done = run(
    [
      'import weakref',
      'class Thing: pass',
      'thing = Thing()',
      'end = lambda _: os.kill(os.getpid(), signal.SIGINT)',
      'seen = weakref.ref(thing, end)',
      'del thing',
      'print("still here")',
    ]
  )
  assert (done.returncode, done.stdout) == (130, ''), done.stderr
  said = 'stopped by SIGINT with nothing to save; to go on: '
  assert done.stderr.startswith(said) and 'Traceback' not in done.stderr


def test_a_terminal_that_is_gone_stops_a_program_unless_it_may_not():
  end = 'os.kill(os.getpid(), signal.SIGHUP)'
  default = 'signal.signal(signal.SIGHUP, signal.SIG_DFL)'
  assert run([end], before=default).returncode == 129
  ignored = 'signal.signal(signal.SIGHUP, signal.SIG_IGN)'
  done = run([end, 'print("still here")'], before=ignored)
  assert (done.returncode, done.stdout) == (0, 'still here\n'), done.stderr


def test_an_interruptible_part_is_left_at_once():
  with stop_requests() as stop:
    stop.hold()
    assert stop.or_none(lambda: 7) == 7

    def work():
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(1)
      raise AssertionError('it was not left')

    assert stop.or_none(work) is None
    assert stop() == signal.SIGTERM
    assert stop.or_none(lambda: 7) is None, 'the signal is forgotten'


def test_within_another_it_is_the_same_and_holds_nothing_afterwards():
  with stop_requests() as outer:
    with stop_requests() as inner:
      assert inner is outer
      inner.hold()
    with pytest.raises(SystemExit):
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(1)


def run(body, before=''):
  program = f'import os, signal, sys, time\n{before}\n'
  program += 'from launch.shell.signals import stop_requests\n'
  program += 'with stop_requests(at_once=True) as stop:\n'
  program += ''.join(f'  {line}\n' for line in body)
  return subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )


def test_a_third_interrupt_leaves_at_once():
  interrupt = 'os.kill(os.getpid(), signal.SIGINT)'
  still_here = 'print("still here", flush=True)'
  done = run(['stop.hold()', *[interrupt, still_here] * 3])
  assert done.returncode == 130, done.stderr
  assert done.stdout == 'still here\n' * 2


def test_a_process_that_never_gets_back_to_python_is_ended():
  # In C for good, as in a long compilation: a mutex that it locks twice.
  started = time.monotonic()
  done = run(
    [
      'import ctypes, threading',
      'end = lambda: os.kill(os.getpid(), signal.SIGTERM)',
      'threading.Timer(.2, end).start()',
      'mutex = ctypes.create_string_buffer(64)',
      'for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)',
    ]
  )
  assert done.returncode == 143, done.stderr
  assert 'stopped by SIGTERM with nothing to save' in done.stderr
  assert 2 < time.monotonic() - started < 10


def test_a_process_that_is_about_to_end_is_not_ended_by_a_second_signal():
  end = 'os.kill(os.getpid(), signal.SIGTERM)'
  last = f'import atexit; atexit.register(lambda: {end} or print("left"))'
  done = run([last, 'stop.ignore()', end, 'time.sleep(.1)', 'sys.exit(143)'])
  assert (done.returncode, done.stdout) == (143, 'left\n'), done.stderr
