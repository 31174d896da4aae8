import os
import signal
import subprocess
import sys
import time

import pytest

from launch.shell.signals import stop_requests

BOTH = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize('number', BOTH)
def test_a_deferred_signal_is_recorded_and_the_handler_is_restored(number):
  before = signal.getsignal(number)
  with stop_requests() as stop:
    assert stop() is None
    stop.defer()
    os.kill(os.getpid(), number)
    assert stop() == number
  assert signal.getsignal(number) == before


@pytest.mark.parametrize('number', BOTH)
def test_with_nothing_to_save_a_signal_raises_system_exit(number):
  with pytest.raises(SystemExit) as exited, stop_requests():
    os.kill(os.getpid(), number)
    time.sleep(1)
  assert exited.value.code == 128 + number


def test_a_program_ends_even_where_an_exception_would_be_lost():
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
  assert 'SIGINT' in done.stderr and 'Traceback' not in done.stderr
  assert sys.executable in done.stderr, 'no command to resume'


def test_a_lost_terminal_stops_a_program_unless_sighup_is_ignored():
  end = 'os.kill(os.getpid(), signal.SIGHUP)'
  default = 'signal.signal(signal.SIGHUP, signal.SIG_DFL)'
  assert run([end], before=default).returncode == 129
  ignored = 'signal.signal(signal.SIGHUP, signal.SIG_IGN)'
  done = run([end, 'print("still here")'], before=ignored)
  assert (done.returncode, done.stdout) == (0, 'still here\n'), done.stderr


def test_interruptible_work_is_interrupted_at_once():
  with stop_requests() as stop:
    stop.defer()
    assert stop.or_none(lambda: 7) == 7

    def work():
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(1)
      raise AssertionError('it was not interrupted')

    assert stop.or_none(work) is None
    assert stop() == signal.SIGTERM
    assert stop.or_none(lambda: 7) is None, 'the signal was forgotten'


def test_a_nested_block_is_the_same_and_defers_nothing_afterwards():
  with stop_requests() as outer:
    with stop_requests() as inner:
      assert inner is outer
      inner.defer()
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


def test_a_third_interrupt_ends_the_process_at_once():
  interrupt = 'os.kill(os.getpid(), signal.SIGINT)'
  still_here = 'print("still here", flush=True)'
  done = run(['stop.defer()', *[interrupt, still_here] * 3])
  assert done.returncode == 130, done.stderr
  assert done.stdout == 'still here\n' * 2


def test_a_process_that_never_gets_back_to_python_is_ended():
  # It blocks in C, as in a long compilation, on a mutex that it locks twice.
  done = run(
    before='import launch.shell.signals as s; s._GRACE = 0.3',
    body=[
      'import ctypes, threading',
      'end = lambda: os.kill(os.getpid(), signal.SIGTERM)',
      'threading.Timer(.2, end).start()',
      'mutex = ctypes.create_string_buffer(64)',
      'for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)',
    ],
  )
  assert done.returncode == 143, done.stderr
  assert 'SIGTERM' in done.stderr


def test_a_process_that_is_about_to_end_is_not_ended_by_a_second_signal():
  end = 'os.kill(os.getpid(), signal.SIGTERM)'
  last = f'import atexit; atexit.register(lambda: {end} or print("left"))'
  done = run([last, 'stop.ignore()', end, 'time.sleep(.1)', 'sys.exit(143)'])
  assert (done.returncode, done.stdout) == (143, 'left\n'), done.stderr
