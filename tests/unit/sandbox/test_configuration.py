# SPDX-License-Identifier: Apache-2.0
"""What is written for Ceph, Glance, Keystone and the command line."""

from __future__ import annotations

import base64
import configparser
import struct

import pytest

from volume_rbd.sandbox import (
    caps,
    ceph_files,
    config,
    files,
    glance,
    identity,
    mariadb,
    wsgi,
)
from volume_rbd.sandbox.layout import Layout
from volume_rbd.sandbox.options import Options
from volume_rbd.sandbox.state import State

_PORTS = {'mon_v2': 20001, 'mon_v1': 20002, 'mariadb': 20003,
          'keystone': 20004, 'glance': 20005}


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, tmp_path / 'run')


def _make_state(**options):
    return State('a', Options(**options), dict(_PORTS), '/run/a')


def _parse(text):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


# -- caps -----------------------------------------------------------------

def test_glance_may_read_volumes_by_default():
    assert caps.get_client_caps(Options())['client.glance'] == {
        'mon': 'profile rbd',
        'osd': 'profile rbd pool=images, profile rbd-read-only pool=volumes',
        'mgr': 'profile rbd pool=images',
    }


def test_a_switch_takes_the_read_on_volumes_away():
    narrow = caps.get_client_caps(
        Options(glance_reads_volumes=False, nova_reads_volumes=False))
    assert narrow['client.glance']['osd'] == 'profile rbd pool=images'
    assert 'volumes' not in narrow['client.nova']['osd']
    assert 'profile rbd-read-only pool=images' in narrow['client.nova']['osd']


def test_a_switch_lets_nova_write_images():
    wide = caps.get_client_caps(Options(nova_writes_images=True))
    assert wide['client.nova']['osd'] == (
        'profile rbd pool=vms, profile rbd pool=images, '
        'profile rbd-read-only pool=volumes')


def test_cinder_writes_in_every_pool():
    wide = caps.get_client_caps(Options())['client.cinder']
    for pool in caps.POOLS:
        assert f'profile rbd pool={pool}' in wide['osd']
        assert f'profile rbd pool={pool}' in wide['mgr']


def test_caps_become_arguments_of_ceph_auth_caps():
    assert caps.to_arguments({'mon': 'profile rbd', 'osd': 'allow r'}) == [
        'mon', 'profile rbd', 'osd', 'allow r']


# -- ceph -----------------------------------------------------------------

def test_a_key_has_the_form_of_a_cephx_secret():
    raw = base64.b64decode(ceph_files.make_key())
    kind, _seconds, _nanoseconds, length = struct.unpack('<hiih', raw[:12])
    assert (kind, length, len(raw)) == (1, 16, 28)


def test_the_monitor_has_addresses_of_both_protocols(layout):
    conf = _parse(ceph_files.render_conf(layout, _make_state()))
    assert conf['global']['mon host'] == (
        '[v2:127.0.0.1:20001,v1:127.0.0.1:20002]')


def test_cephx_is_on_everywhere(layout):
    conf = _parse(ceph_files.render_conf(layout, _make_state()))
    for who in ('cluster', 'service', 'client'):
        assert conf['global'][f'auth {who} required'] == 'cephx'


def test_the_osd_has_the_size_of_the_option(layout):
    conf = _parse(ceph_files.render_conf(
        layout, _make_state(osd_size_gib=3)))
    assert conf['osd']['bluestore block size'] == str(3 * 1024 ** 3)


def test_a_client_finds_its_keyring_by_its_name(layout):
    layout.ceph.mkdir()
    ceph_files.write_keyrings(layout, Options())
    for client in caps.get_client_caps(Options()):
        keyring = _parse(
            (layout.ceph / f'ceph.{client}.keyring').read_text())
        assert list(keyring[client]) == ['key']


def test_the_first_keyring_carries_keys_and_caps(layout):
    layout.ceph.mkdir()
    ceph_files.write_keyrings(layout, Options())
    initial = _parse((layout.ceph / 'initial.keyring').read_text())
    own = _parse((layout.ceph / 'ceph.client.glance.keyring').read_text())
    glance_section = initial['client.glance']
    assert glance_section['key'] == own['client.glance']['key']
    assert 'pool=images' in glance_section['caps osd']


def test_daemons_keep_their_keys_out_of_their_data(layout):
    conf = _parse(ceph_files.render_conf(layout, _make_state()))
    for kind in ('mon', 'mgr', 'osd'):
        assert not conf[kind]['keyring'].startswith(conf[kind][f'{kind} data'])


# -- glance ---------------------------------------------------------------

def test_glance_has_an_rbd_and_a_file_store(layout):
    sections = glance.get_sections(layout, _make_state())
    assert sections['DEFAULT']['enabled_backends'] == 'rbd:rbd,file:file'
    assert sections['glance_store']['default_backend'] == 'rbd'
    assert sections['rbd']['rbd_store_user'] == 'glance'


def test_glance_demands_service_tokens_of_services(layout):
    section = glance.get_sections(layout, _make_state())['keystone_authtoken']
    assert section['service_token_roles_required'] is True
    assert section['service_token_roles'] == 'service'


def test_glance_has_a_place_for_its_locks(layout):
    sections = glance.get_sections(layout, _make_state())
    assert sections['oslo_concurrency']['lock_path']


@pytest.mark.parametrize('value', [True, False])
def test_options_reach_glance(value, layout):
    section = glance.get_sections(layout, _make_state(
        secure_hash=value, show_multiple_locations=value))['DEFAULT']
    assert section['do_secure_hash'] is value
    assert section['show_multiple_locations'] is value


def test_without_enabled_backends_the_old_options_still_serve(layout):
    sections = files.apply_overrides(
        glance.get_sections(layout, _make_state()),
        {'DEFAULT': {'enabled_backends': None}})
    assert 'enabled_backends' not in sections['DEFAULT']
    assert sections['glance_store']['default_store'] == 'rbd'
    assert sections['glance_store']['rbd_store_pool'] == 'images'


# -- gunicorn -------------------------------------------------------------

def test_a_service_is_started_without_arguments_or_secrets(layout):
    (layout.folder / 'glance').mkdir()
    spec = wsgi.prepare(
        layout, 'glance', application='m:a', port=20005, workers=2,
        threads=8, environment={'X': 'y'}, config='password = hush')
    settings: dict[str, object] = {}
    exec((layout.folder / 'glance' / 'gunicorn.conf.py').read_text(),
         settings)
    assert len(spec.command) == 1
    assert settings['bind'] == '127.0.0.1:20005'
    assert settings['control_socket_disable'] is True
    assert 'hush' not in repr((spec.command, spec.environment))


# -- the command line's configuration and the environment -----------------

def test_the_two_backends_differ_in_the_optimisation_only(layout):
    parsed = _parse(config.render(layout, _make_state()))
    assert parsed.defaults()['enabled_backends'] == 'ceph,optimized'
    assert parsed.defaults()['glance_api_servers'] == 'http://127.0.0.1:20005'
    ceph = dict(parsed['ceph'])
    optimized = dict(parsed['optimized'])
    assert ceph.pop('enable_clone_optimization') == 'false'
    assert optimized.pop('enable_clone_optimization') == 'true'
    assert ceph.pop('volume_backend_name') == 'ceph'
    assert optimized.pop('volume_backend_name') == 'optimized'
    assert ceph == optimized
    assert ceph['rbd_user'] == 'cinder'


def test_a_compute_agent_has_its_disks_in_a_pool_of_their_own(layout):
    parsed = _parse(config.render(layout, _make_state()))
    assert [parsed['libvirt'][name] for name in (
        'images_type', 'images_rbd_pool', 'rbd_user', 'images_rbd_ceph_conf')
        ] == ['rbd', 'vms', 'nova', str(layout.ceph_conf)]
    assert parsed.defaults()['instances_path'] == str(
        layout.folder / 'instances')


def test_the_service_sends_its_token(layout):
    state = _make_state()
    section = _parse(config.render(layout, state))['service_user']
    assert section['send_service_user_token'] == 'true'
    assert section['password'] == state.passwords['cinder']
    assert section['project_domain_name'] == 'Default'


def test_a_lone_cluster_has_no_glance(layout):
    state = _make_state(ceph_only=True)
    assert 'glance' not in _parse(config.render(layout, state))
    assert set(config.get_environment(layout, state, 'service')) == {
        'CEPH_CONF', 'VOLUME_RBD_CONFIG', 'SANDBOX'}


def test_the_environment_is_flat_and_complete(layout):
    values = config.get_environment(layout, _make_state(), 'service')
    assert all(isinstance(value, str) for value in values.values())
    assert values['OS_USERNAME'] == 'cinder'
    assert values['OS_AUTH_URL'] == 'http://127.0.0.1:20004/v3'
    assert values['GLANCE'] == 'http://127.0.0.1:20005'
    assert values['flow_connection'].startswith('mysql+pymysql://volume_rbd:')


@pytest.mark.parametrize(('role', 'project'), [
    ('member', 'demo'), ('other', 'other'), ('admin', 'admin'),
    ('nova', 'service')])
def test_every_user_has_a_project(role, project, layout):
    values = config.get_environment(layout, _make_state(), role)
    assert (values['OS_USERNAME'], values['OS_PROJECT_NAME']) == (
        role, project)


def test_an_unknown_role_is_a_key_error(layout):
    with pytest.raises(KeyError):
        config.get_environment(layout, _make_state(), 'nobody')


def test_the_volume_service_is_admin_and_service_and_users_are_not():
    assert set(identity.get_user('service').roles) == {'admin', 'service'}
    assert set(identity.get_user('member').roles) == {'member'}


def test_database_urls_carry_the_account_of_the_database():
    state = _make_state()
    url = mariadb.get_url(state, 'keystone')
    assert url == (f'mysql+pymysql://keystone:'
                   f'{state.passwords["db_keystone"]}@127.0.0.1:20003/'
                   'keystone?charset=utf8mb4')
