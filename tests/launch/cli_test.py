import pytest
from absl import flags

from launch import cli
from tests.faults.trainer import ROOT, TOY

# ml_collections imports config files that way.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')


@pytest.fixture
def arguments(argv, tmp_path, monkeypatch):
  """`arguments(*flags)`: those of a run of the toy task in tmp_path/w."""
  monkeypatch.chdir(ROOT)
  return lambda *more: argv(
    f'--config={TOY}', f'--workdir={tmp_path / "w"}', *more
  )


@pytest.mark.parametrize(
  'flag, name',
  [
    ('--config.optimizer.lrr=1', 'config.optimizer.lrr is'),
    ('--config.evals.fgsm.epsilon=1', 'config.evals is'),
    ('--config.optimizer.lr.x=1', 'config.optimizer.lr=0.1 is'),
    ('--config.optimizer=adam', 'config.optimizer.<field>'),
    ('--config.to_dict.__globals__=1', 'config.to_dict is'),
    ('--config.batch_size=many', "config.batch_size='many': "),
    ('--config.batch_size=16.5', "config.batch_size='16.5': "),
    ('--config.epochs=x', "config.epochs='x': "),
    ('--config.tensorboard=x', "config.tensorboard='x': "),
    ('--peer_timeout=0', 'peer_timeout'),
    ('--config=x.yaml', '.json'),
    ('--config=x.json:small', '.json'),
    ('--workdirs=x', 'workdirs'),
  ],
)
def test_an_invalid_flag_is_one_line(flag, name, arguments, capsys):
  with pytest.raises(SystemExit) as ended:
    cli.parse_flags(arguments(flag))
  assert ended.value.code == 8
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: ') and name in line


def test_a_missing_config_is_told_by_its_flag(argv, capsys):
  with pytest.raises(SystemExit) as ended:
    cli.parse_flags(argv('--workdir=w'))
  assert ended.value.code == 8
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: --config ')


@pytest.mark.parametrize(
  'text, value',
  [
    ('en,de', ('en', 'de')),
    ("('en','de')", ('en', 'de')),
    ("['en', 'de']", ('en', 'de')),
    ('en', ('en',)),
    ('1,2.5', (1, 2.5)),
    ('3', (3,)),
    ('()', ()),
  ],
)
def test_a_tuple_needs_no_quotes(text, value, argv, monkeypatch):
  monkeypatch.chdir(ROOT)
  config = 'configs/retrieval_quickstart.py'
  flag = f'--config.evals.test.languages={text}'
  cli.parse_flags(argv(f'--config={config}', '--workdir=w', flag))
  assert cli.CONFIG.value.evals.test.languages == value


def test_help_shows_the_flags_and_is_no_error(argv, capsys, monkeypatch):
  monkeypatch.setattr('__main__.__doc__', 'The program.', raising=False)
  with pytest.raises(SystemExit) as ended:
    cli.parse_flags(argv('-h'))
  assert ended.value.code == 0
  captured = capsys.readouterr()
  assert not captured.err and captured.out.startswith('The program.')
  for name in ('config', 'workdir', 'allow_resume_change'):
    assert f'  --{name}: ' in captured.out


@pytest.mark.parametrize(
  'given, name',
  [
    (['--config.optimizer.lr=nan'], 'config.optimizer.lr'),
    (['--process_id=0'], '--coordinator'),
    (
      ['--coordinator=here', '--process_id=0', '--num_processes=2'],
      '--coordinator',
    ),
    (['--workdir='], '--workdir is required'),
    ([f'--workdir={ROOT / "README.md"}/w'], 'README.md'),
  ],
)
def test_an_invalid_value_starts_no_run(given, name, arguments, tmp_path):
  flags.FLAGS(arguments(*given))
  with pytest.raises(ValueError, match=name):
    cli.train([])
  assert not list(tmp_path.iterdir())


def test_an_argument_that_is_not_a_flag_is_refused():
  with pytest.raises(ValueError, match='method=cutmix'):
    cli.refuse_arguments(['launch.main', 'method=cutmix'])
