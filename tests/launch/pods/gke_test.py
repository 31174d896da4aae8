"""The files of GKE, filled in and checked against a schema of the API."""

import re
import string

import pytest
import yaml

from launch.shell.exit_codes import ExitCode
from tests.launch.pods.files import PODS, RESTART, documented


def filled(name, **chosen):
  text = (PODS / name).read_text()
  variables = documented(text)
  assert chosen.keys() <= variables.keys()
  body = '\n'.join(x for x in text.splitlines() if not x.startswith('#'))
  used = set(re.findall(r'\$\{(\w+)\}', body))
  assert used == variables.keys(), 'the listed variables are not those used'
  made = string.Template(body).safe_substitute(variables | chosen)
  assert '${' not in made
  return yaml.safe_load(made)


class Fields(dict):
  """Fields of an object by name; names that end in ? are optional."""


NAME = re.compile(r'[a-z]([-a-z0-9]*[a-z0-9])?')  # DNS-1035
VOLUME = Fields(
  {
    'name': NAME,
    'persistentVolumeClaim?': Fields({'claimName': NAME}),
    'emptyDir?': Fields({'medium': {'Memory'}}),
  }
)
POD = Fields(
  {
    'restartPolicy': {'Never', 'OnFailure'},
    'terminationGracePeriodSeconds': int,
    'automountServiceAccountToken': bool,
    'nodeSelector': Fields({'cloud.google.com/gke-nodepool': str}),
    'securityContext': Fields(
      {
        'runAsNonRoot': bool,
        'runAsUser': int,
        'fsGroup': int,
        'fsGroupChangePolicy': {'OnRootMismatch', 'Always'},
      }
    ),
    'containers': [
      Fields(
        {
          'name': NAME,
          'image': str,
          'args': [str],
          'resources': Fields({'limits': Fields({'nvidia.com/gpu': int})}),
          'volumeMounts': [Fields({'name': NAME, 'mountPath': str})],
        }
      )
    ],
    'volumes': [VOLUME],
  }
)
JOB = Fields(
  {
    'completionMode': {'Indexed', 'NonIndexed'},
    'completions': int,
    'parallelism': int,
    'backoffLimit': int,
    'podFailurePolicy': Fields(
      {
        'rules': [
          Fields(
            {
              'action': {'FailJob', 'FailIndex', 'Ignore', 'Count'},
              'onExitCodes': Fields(
                {
                  'containerName?': NAME,
                  'operator': {'In', 'NotIn'},
                  'values': [int],
                }
              ),
            }
          )
        ]
      }
    ),
    'template': Fields({'spec': POD}),
  }
)
# The fields of a JobSet that we use, as kubernetes-sigs/jobset defines them in
# v1alpha2: the CRD of its commit 01078527, and the Go types of the newer commit
# 0336a8fd (0.11 or later), which only allow more. Any other field is an error.
JOBSET = Fields(
  {
    'apiVersion': {'jobset.x-k8s.io/v1alpha2'},
    'kind': {'JobSet'},
    'metadata': Fields({'name': NAME}),
    'spec': Fields(
      {
        'network': Fields(
          {'enableDNSHostnames': bool, 'publishNotReadyAddresses': bool}
        ),
        'failurePolicy': Fields(
          {
            'maxRestarts': int,
            'restartStrategy': {'Recreate', 'BlockingRecreate'},
            'rules': [
              Fields(
                {
                  'name': re.compile(r'[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?'),
                  'action': {
                    'FailJobSet',
                    'RestartJobSet',
                    'RestartJobSetAndIgnoreMaxRestarts',
                  },
                  'onJobFailureReasons': [
                    {
                      'BackoffLimitExceeded',
                      'DeadlineExceeded',
                      'FailedIndexes',
                      'MaxFailedIndexesExceeded',
                      'PodFailurePolicy',
                    }
                  ],
                }
              )
            ],
          }
        ),
        'replicatedJobs': [
          Fields(
            {
              'name': NAME,
              'replicas': int,
              'template': Fields({'spec': JOB}),
            }
          )
        ],
      }
    ),
  }
)
CLAIM = Fields(
  {
    'apiVersion': {'v1'},
    'kind': {'PersistentVolumeClaim'},
    'metadata': Fields({'name': NAME}),
    'spec': Fields(
      {
        'accessModes': [{'ReadWriteMany'}],
        'storageClassName': str,
        'resources': Fields(
          {'requests': Fields({'storage': re.compile(r'\d+[GT]i')})}
        ),
      }
    ),
  }
)


def mistakes(value, schema, where=''):
  """Returns the differences of a document from a schema, with their paths."""
  if isinstance(schema, Fields):
    if not isinstance(value, dict):
      return [f'{where} is {value!r}, not an object']
    names = {name.rstrip('?'): part for name, part in schema.items()}
    found = [f'{where}.{name} is unknown' for name in value.keys() - names]
    required = {name for name in schema if not name.endswith('?')}
    found += [f'{where}.{name} is missing' for name in required - value.keys()]
    for name in value.keys() & names.keys():
      found += mistakes(value[name], names[name], f'{where}.{name}')
    return found
  if isinstance(schema, list):
    if not isinstance(value, list):
      return [f'{where} is {value!r}, not a list']
    parts = [
      mistakes(x, schema[0], f'{where}[{i}]') for i, x in enumerate(value)
    ]
    return sum(parts, [])
  if isinstance(schema, set):
    fits = value in schema
  elif isinstance(schema, re.Pattern):
    fits = isinstance(value, str) and schema.fullmatch(value)
  else:
    fits = type(value) is schema
  return [] if fits else [f'{where} is {value!r}, not {schema}']


@pytest.mark.parametrize(
  'chosen',
  [
    {},
    {'NODES': '16', 'FLAGS': ''},
    {'FLAGS': '"--config.mix.weights=(3, 1)", --peer_timeout=60'},
  ],
)
def test_the_jobset_is_valid(chosen):
  made = filled('gke_jobset.yaml', **chosen)
  assert not mistakes(made, JOBSET)


def test_the_claim_is_valid():
  assert not mistakes(filled('gke_volume.yaml'), CLAIM)
  both = [(PODS / f'gke_{x}.yaml').read_text() for x in ('jobset', 'volume')]
  names = {documented(text)['CLAIM'] for text in both}
  assert len(names) == 1, f'two names of one volume: {names}'


def test_the_schema_detects_mistakes():
  made = filled('gke_jobset.yaml')
  made['spec']['maxRestarts'] = 3
  del made['spec']['replicatedJobs'][0]['name']
  made['spec']['failurePolicy']['restartStrategy'] = 'Never'
  made['spec']['failurePolicy']['maxRestarts'] = '3'
  assert len(mistakes(made, JOBSET)) == 4


def test_every_pod_is_a_process_that_knows_the_first():
  flags = '"--config.mix.weights=(3, 1)", --peer_timeout=60'
  made = filled('gke_jobset.yaml', NAME='run', NODES='16', FLAGS=flags)
  (replicated,) = made['spec']['replicatedJobs']
  job = replicated['template']['spec']
  pod = job['template']['spec']
  (container,) = pod['containers']
  assert (replicated['replicas'], job['completions'], job['parallelism']) == (
    1,
    16,
    16,
  )
  assert job['completionMode'] == 'Indexed', 'pods would have no index'
  # The host name of a pod is <set>-<job>-<job index>-<pod index>.<set>.
  host = f'run-{replicated["name"]}-0-0.run'
  args = dict(x.removeprefix('--').split('=', 1) for x in container['args'])
  assert args['coordinator'].split(':')[0] == host
  assert args['num_processes'] == '16'
  assert args['process_id'] == '$(JOB_COMPLETION_INDEX)'
  assert container['args'][-2:] == [
    '--config.mix.weights=(3, 1)',
    '--peer_timeout=60',
  ], 'FLAGS were changed'
  mounted = {x['name'] for x in container['volumeMounts']}
  assert mounted == {x['name'] for x in pod['volumes']}


def test_all_pods_restart_together_and_only_where_that_helps():
  made = filled('gke_jobset.yaml')
  (replicated,) = made['spec']['replicatedJobs']
  job = replicated['template']['spec']
  (rule,) = job['podFailurePolicy']['rules']
  container = job['template']['spec']['containers'][0]
  assert rule['onExitCodes']['containerName'] == container['name']
  values = rule['onExitCodes']['values']
  assert values == sorted(set(values)) and 0 not in values, 'Kubernetes refuses'
  assert not set(values) & {*RESTART, 129}, 'a run that can resume would end'
  codes = {int(code) for code in ExitCode} - set(RESTART)
  assert codes <= set(values), 'it would fail again'
  # A policy of exit codes needs these two; the failure informs the JobSet.
  assert job['template']['spec']['restartPolicy'] == 'Never'
  assert job['backoffLimit'] == 0, 'a single pod would be restarted'
  (failure,) = made['spec']['failurePolicy']['rules']
  assert failure['action'] == 'FailJobSet'
  assert failure['onJobFailureReasons'] == ['PodFailurePolicy']
