# SPDX-License-Identifier: Apache-2.0
"""What is written for Cinder and RabbitMQ, and what is waited for."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from volume_rbd import exception
from volume_rbd.sandbox import (
    caps,
    cinder,
    cinder_config,
    config,
    parts,
    rabbitmq,
    wsgi,
)
from volume_rbd.sandbox.cinder_config import BACKENDS
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.rabbitmq import RabbitMQ
from volume_rbd.sandbox.state import State
from volume_rbd.sandbox.supervisor import Supervisor

_PORTS = {'mon_v2': 20001, 'mon_v1': 20002, 'mariadb': 20003,
          'keystone': 20004, 'glance': 20005, 'rabbitmq': 20006,
          'rabbitmq_nodes': 20007, 'epmd': 20008, 'cinder': 20009}


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, tmp_path / 'run')


@pytest.fixture
def state():
    return State('a', Options(cinder=True), dict(_PORTS), '/run/a')


def _parse(text):
    parser = configparser.RawConfigParser(default_section='-')
    parser.read_string(text)
    return parser


# -- cinder.conf ----------------------------------------------------------

def test_the_backends_differ_in_driver_pool_and_optimisation(layout, state):
    conf = _parse(cinder_config.render(layout, state))
    assert conf['DEFAULT']['enabled_backends'] == 'stock,off,on'
    stock, off, on = (dict(conf[name]) for name in BACKENDS)
    assert stock['volume_driver'].startswith('cinder.')
    assert off['volume_driver'] == on['volume_driver'] == (
        'volume_rbd.cinder.RBDDriver')
    assert len({stock['rbd_pool'], off['rbd_pool'], on['rbd_pool']}) == 3
    assert on['enable_clone_optimization'] == 'true'
    assert 'enable_clone_optimization' not in off
    assert set(off) == set(stock)


def test_every_backend_has_a_pool_that_is_made(layout, state):
    pools = {backend.pool for backend in BACKENDS.values()}
    assert pools == set(caps.get_volume_pools(state.options))


def test_hypervisors_get_the_narrow_user(layout, state):
    conf = _parse(cinder_config.render(layout, state))
    user = conf['on']['rbd_attach_user']
    allowed = caps.get_client_caps(state.options)[f'client.{user}']
    assert 'profile rbd pool=images' not in allowed['osd'].split(', ')
    assert 'profile rbd-read-only pool=images' in allowed['osd']
    assert 'profile rbd pool=volumes' in allowed['osd'].split(', ')
    assert conf['off'].get('rbd_attach_user') is None


def test_cinder_demands_service_tokens_and_sends_its_own(layout, state):
    conf = _parse(cinder_config.render(layout, state))
    authentication = conf['keystone_authtoken']
    assert authentication['service_token_roles_required'] == 'true'
    assert conf['service_user']['send_service_user_token'] == 'true'
    assert 'region_name' not in conf['service_user']
    assert conf['glance']['password'] == state.passwords['cinder']


def test_nothing_is_kept_outside_of_the_sandbox(layout, state):
    conf = _parse(cinder_config.render(layout, state))
    for section, option in (('DEFAULT', 'state_path'),
                            ('DEFAULT', 'image_conversion_dir'),
                            ('oslo_concurrency', 'lock_path')):
        assert conf[section][option].startswith(str(layout.folder))
    assert conf['coordination']['backend_url'].startswith(
        f'file://{layout.folder}')


def test_no_helper_needs_sudo(layout, state):
    conf = _parse(cinder_config.render(layout, state))
    for section in ('cinder_sys_admin', 'privsep_osbrick'):
        assert conf[section]['helper_command'].endswith('/privsep-helper')


def test_options_of_a_backend_concern_the_volume_service_only(layout, state):
    before = cinder_config.render_common(layout, state)
    state.cinder_overrides = {'off': {'rbd_pool': 'volumes-stock'}}
    assert cinder_config.render_common(layout, state) == before
    assert _parse(cinder_config.render(layout, state))['off'][
        'rbd_pool'] == 'volumes-stock'


def test_a_backend_can_be_added(layout, state):
    state.cinder_overrides = {
        'DEFAULT': {'enabled_backends': 'on, second'},
        'second': {'rbd_pool': 'volumes'}}
    assert cinder_config.get_enabled(layout, state) == ['on', 'second']
    assert 'second' not in _parse(cinder_config.render_common(layout, state))


def test_an_option_can_be_removed(layout, state):
    state.cinder_overrides = {'on': {'rbd_attach_user': None}}
    conf = _parse(cinder_config.render(layout, state))
    assert 'rbd_attach_user' not in conf['on']


# -- RabbitMQ -------------------------------------------------------------

@pytest.fixture
def broker(layout, state):
    return RabbitMQ(layout, state, Supervisor(state, layout.folder, print),
                    print)


def test_the_broker_listens_on_loopback_and_ports_of_its_own(broker):
    environment = broker._get_environment()
    assert 'listeners.tcp.1 = 127.0.0.1:20006' in broker._render_config()
    assert environment['ERL_EPMD_ADDRESS'] == '127.0.0.1'
    assert environment['ERL_EPMD_PORT'] == '20008'
    assert 'inet_dist_use_interface {127,0,0,1}' in environment['ERL_AFLAGS']
    assert 'inet_dist_listen_max 20007' in environment['ERL_AFLAGS']


def test_the_broker_keeps_nothing_in_var_or_etc(broker):
    environment = broker._get_environment()
    paths = [value for value in environment.values()
             if value.startswith('/') and value != '/dev/null']
    assert len(paths) >= 7
    for path in paths:
        assert path.startswith(str(broker._layout.folder))


def test_no_secret_is_in_the_brokers_environment(broker, state):
    text = repr(broker._get_environment())
    assert state.passwords['rabbitmq'] not in text
    assert state.passwords['erlang'] not in text


def test_a_node_has_a_name_that_erlang_takes(layout, state):
    state.name = 'my.sand-box'
    broker = RabbitMQ(layout, state, Supervisor(state, layout.folder, print),
                      print)
    assert broker._get_environment()['RABBITMQ_NODENAME'] == (
        'sandbox_my_sand_box@localhost')


def test_the_transport_is_the_broker(state):
    assert rabbitmq.get_url(state) == (
        f'rabbit://openstack:{state.passwords["rabbitmq"]}'
        '@127.0.0.1:20006//')


def test_a_broker_that_is_away_is_an_oserror(state):
    state.ports['rabbitmq'] = 1
    with pytest.raises(OSError):
        rabbitmq.count_consumers(state, ['q'])


# -- the processes --------------------------------------------------------

@pytest.mark.parametrize(('is_eventlet', 'value'),
                         [(True, 'false'), (False, 'true')])
def test_the_threading_mode_is_said_to_every_process(
        is_eventlet, value, layout, state):
    state.options = Options(cinder=True, cinder_eventlet=is_eventlet)
    built = parts.Parts(layout, state, print)
    assert built.cinder._get_environment()[
        'OS_CINDER_DISABLE_EVENTLET_PATCHING'] == value


def test_cinder_has_the_driver_of_whoever_started_it(layout, state):
    environment = parts.Parts(layout, state, print).cinder._get_environment()
    assert (Path(environment['PYTHONPATH']) / 'volume_rbd' / 'sandbox'
            / 'cinder.py').samefile(cinder.__file__)


def test_the_api_is_told_its_configuration_without_an_argument(layout):
    spec = wsgi.prepare(
        layout, 'cinder-api', application='m:a', port=20009, workers=2,
        threads=8, environment={}, config='', folder=layout.folder,
        arguments=['--config-file', '/x/cinder.conf'])
    settings: dict[str, object] = {}
    text = (layout.folder / 'gunicorn.conf.py').read_text()
    exec(text.replace('sys.argv[1:]', 'argv'), settings)
    assert settings['argv'] == ['--config-file', '/x/cinder.conf']
    assert len(spec.command) == 1


@pytest.fixture
def service(layout, state):
    layout.logs.mkdir()
    return parts.Parts(layout, state, print).cinder


def test_a_backend_that_did_not_load_is_counted_in_this_run_only(
        service, layout, state):
    log = layout.log(cinder.VOLUME)
    log.write_text('Volume service sandbox@on failed to start.\n')
    state.log_marks[cinder.VOLUME] = log.stat().st_size
    assert service._count_failed({'on', 'off'}) == 0
    with log.open('a') as stream:
        stream.write('Volume service sandbox@off failed to start.\n')
    assert service._count_failed({'on', 'off'}) == 1
    assert service._count_failed({'on'}) == 0


def test_without_a_log_nothing_has_failed(service):
    assert service._count_failed({'on'}) == 0


def test_nothing_is_waited_for_while_a_part_is_down(service):
    service.wait_known()
    service.wait_connected()


# -- options and environment ----------------------------------------------

def test_a_lone_cluster_has_no_cinder():
    with pytest.raises(exception.ConfigurationError, match='no Cinder'):
        Options(ceph_only=True, cinder=True)


def test_the_environment_names_cinder_and_its_configuration(layout, state):
    values = config.get_environment(layout, state, 'member')
    assert values['CINDER'] == 'http://127.0.0.1:20009/v3'
    assert values['CINDER_CONF'] == str(layout.cinder_conf)
    assert values['OS_VOLUME_API_VERSION']


def test_without_cinder_nothing_is_said_of_it(layout, state):
    state.options = Options()
    values = config.get_environment(layout, state, 'member')
    assert not {'CINDER', 'CINDER_CONF'} & set(values)
    assert 'client.hypervisor' not in caps.get_client_caps(state.options)
    assert not any('cinder' in name
                   for name in parts.get_process_names(state))


def test_what_depends_on_others_is_stopped_first(state):
    names = parts.get_process_names(state)
    assert names.index('epmd') < names.index('rabbitmq') < names.index(
        'cinder-api') < names.index('cinder-volume')
