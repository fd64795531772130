# SPDX-License-Identifier: Apache-2.0
"""libvirt's XML: by libvirt's own schemas, and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from volume_rbd.compute import xml

# Of the package libvirt0.
SCHEMAS = Path('/usr/share/libvirt/schemas')
UUID = '457eb676-33da-42ec-9a8c-9293d545c337'
HOSTS = (('10.0.0.1', '6789'), ('fd00::1', '6789'), ('mon.c', '6790'))
DIR = xml.Pool('base', 'dir', path='/var/lib/nova/instances/_base')
RBD = xml.Pool('disks', 'rbd', UUID, source='vms', hosts=HOSTS, user='nova',
               secret_uuid=UUID)


def check(text: str, schema: str) -> None:
    parsed = etree.RelaxNG(etree.parse(str(SCHEMAS / schema)))
    parsed.assertValid(etree.fromstring(text))


def check_disk(text: str) -> None:
    """In a domain, as small as one can be."""
    check(f"""<domain type='qemu'><name>guest</name><memory>1</memory>
        <os><type>hvm</type></os><devices>{text}</devices></domain>""",
          'domain.rng')


@pytest.mark.parametrize('pool', [
    DIR, RBD, xml.Pool('open', 'rbd', source='vms', hosts=HOSTS)])
def test_a_pool_is_read_as_it_was_written(pool: xml.Pool) -> None:
    text = xml.build_pool(pool)
    check(text, 'storagepool.rng')
    assert xml.read_pool(text) == pool


def test_a_refresh_of_rbd_counts_no_objects() -> None:
    root = etree.fromstring(xml.build_pool(RBD))
    assert root.find('refresh/volume').get('allocation') == 'capacity'


def test_ipv6_has_no_brackets_because_libvirt_puts_them_there() -> None:
    pool = xml.Pool('disks', 'rbd', source='vms', hosts=(('[::1]', '6789'),))
    assert xml.read_pool(xml.build_pool(pool)).hosts == (('::1', '6789'),)
    text = xml.build_network_disk('vms/a', [('[::1]', '6789')], 'vda')
    assert etree.fromstring(text).find('source/host').get('name') == '::1'
    check_disk(text)


@pytest.mark.parametrize('backing', [
    None, xml.Backing('/var/lib/nova/instances/_base/a', 'raw')])
def test_a_volume_is_read_as_it_was_written(backing: xml.Backing | None
                                            ) -> None:
    text = xml.build_volume('a_disk', 'qcow2', 1 << 30, backing=backing)
    check(text, 'storagevol.rng')
    assert xml.read_volume(text) == xml.Volume(
        'a_disk', '', 'qcow2', 1 << 30, 0, backing)


def test_a_file_has_an_owner_and_no_other_reader() -> None:
    text = xml.build_volume('a_disk', 'raw', 1 << 30, owner=(64055, 107))
    check(text, 'storagevol.rng')
    found = etree.fromstring(text).find('target/permissions')
    assert [(each.tag, each.text) for each in found] == [
        ('mode', '0600'), ('owner', '64055'), ('group', '107')]


def test_the_format_of_a_backing_file_is_never_guessed() -> None:
    with pytest.raises(ValueError, match='needs a format'):
        xml.build_volume('a', 'qcow2', 1, backing=xml.Backing('/a'))


def test_a_volume_as_libvirt_shows_one() -> None:
    assert xml.read_volume("""
        <volume type='file'>
          <name>u_disk</name>
          <key>/disks/u_disk</key>
          <capacity unit='bytes'>20971520</capacity>
          <allocation unit='bytes'>200704</allocation>
          <physical unit='bytes'>196616</physical>
          <target>
            <path>/disks/u_disk</path>
            <format type='qcow2'/>
          </target>
          <backingStore>
            <path>/base/img</path>
            <format type='raw'/>
          </backingStore>
        </volume>""") == xml.Volume(
        'u_disk', '/disks/u_disk', 'qcow2', 20971520, 200704,
        xml.Backing('/base/img', 'raw'))


def test_an_empty_backing_store_ends_the_chain() -> None:
    assert xml.read_volume(
        '<volume><name>a</name><backingStore/></volume>').backing is None


def test_a_secret_is_read_as_it_was_written_and_is_kept_private() -> None:
    secret = xml.Secret(UUID, f'client.nova {UUID}')
    text = xml.build_secret(secret)
    check(text, 'secret.rng')
    assert xml.read_secret(text) == secret
    root = etree.fromstring(text)
    assert (root.get('private'), root.get('ephemeral')) == ('yes', 'no')


def test_a_disk_in_a_pool_of_files() -> None:
    text = xml.build_volume_disk('disks', 'u_disk', 'qcow2', 'vda')
    check_disk(text)
    root = etree.fromstring(text)
    assert root.get('type') == 'volume'
    assert dict(root.find('source').attrib) == {
        'pool': 'disks', 'volume': 'u_disk'}
    assert root.find('driver').get('type') == 'qcow2'
    assert dict(root.find('target').attrib) == {'dev': 'vda', 'bus': 'virtio'}


def test_a_disk_in_rbd_names_all_monitors_and_its_secret() -> None:
    text = xml.build_network_disk('vms/u_disk', HOSTS, 'sdb', 'scsi',
                                  user='nova', secret_uuid=UUID)
    check_disk(text)
    root = etree.fromstring(text)
    assert root.get('type') == 'network'
    assert root.find('driver').get('type') == 'raw'
    assert [(host.get('name'), host.get('port'))
            for host in root.findall('source/host')] == list(HOSTS)
    assert root.find('source/auth').get('username') == 'nova'
    assert dict(root.find('source/auth/secret').attrib) == {
        'type': 'ceph', 'uuid': UUID}


def test_a_cluster_without_cephx_needs_no_secret() -> None:
    text = xml.build_network_disk('vms/a', HOSTS, 'vda')
    check_disk(text)
    assert etree.fromstring(text).find('source/auth') is None


def test_what_is_no_xml_in_a_name_is_text_in_it() -> None:
    text = xml.build_network_disk("vms/<a>&'b", HOSTS, 'vda')
    assert etree.fromstring(text).find('source').get('name') == "vms/<a>&'b"
