# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from tests.unit.compute.conftest import DISK, Compute
from volume_rbd import exception
from volume_rbd.compute import migration

SECRET = '457eb676-33da-42ec-9a8c-9293d545c337'
OTHER = '0a0d6b1c-0a5e-4b37-9a57-6c8d5f2e7f11'

GUEST = f"""\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <!-- <source protocol='rbd' name='x'><host name='10.0.0.1'/></source> -->
  <name>gäst</name>
  <devices>
    <disk type='network' device='disk'>
      <driver name="qemu" type='raw'/>
      <source protocol='rbd' name='vms/{DISK}' index='1'>
        <host name='10.0.0.1' port='6789'/>
        <host name='10.0.0.2' port='6789'></host>
        <auth username='nova'><secret type='ceph' uuid='{SECRET}'/></auth>
      </source>
      <backingStore/>
    </disk>
    <disk type='network' device='disk'>
      <auth username='cinder'><secret type='ceph' uuid='{OTHER}'/></auth>
      <source protocol='rbd' name='volumes/x'>
        <host name='10.0.0.1' port='6789'/>
      </source>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='nbd' name='y'><host name='10.0.0.1' port='1'/></source>
    </disk>
    <disk type='network' device='cdrom'>
      <source protocol='rbd' name='vms/plain'><host name='[fe::1]'/></source>
    </disk>
    <disk type='file' device='disk'><source file='/x'/></disk>
  </devices>
  <qemu:commandline><qemu:arg value='-x'/></qemu:commandline>
</domain>
"""
MONITORS = [('10.0.9.1', '6789'), ('fe::9', '6789')]
NEW = ("<host name='10.0.9.1' port='6789'/>\n        "
       "<host name='fe::9' port='6789'/>")


def test_every_rbd_image_of_a_guest_is_found() -> None:
    found = list(migration.find_sources(GUEST.encode()))

    assert [(source.name, source.monitors, source.secret_uuid)
            for source in found] == [
        (f'vms/{DISK}', [('10.0.0.1', '6789'), ('10.0.0.2', '6789')],
         SECRET),
        ('volumes/x', [('10.0.0.1', '6789')], OTHER),
        ('vms/plain', [('fe::1', '6789')], None)]


def test_the_monitors_and_nothing_else_are_other_ones() -> None:
    done = migration.rewrite_monitors(
        GUEST, MONITORS, lambda source: source.secret_uuid == SECRET)

    old = GUEST[GUEST.index('<host name=\'10.0.0.1\' port=\'6789\'/>\n'):
                GUEST.index('</host>') + len('</host>')]
    assert done == GUEST.replace(old, NEW, 1)


def test_what_is_not_ours_stays_byte_by_byte() -> None:
    assert migration.rewrite_monitors(
        GUEST, MONITORS, lambda source: False) == GUEST


def test_a_disk_that_names_no_monitor_stays_so() -> None:
    xml = "<disk><source protocol='rbd' name='vms/a'/></disk>"
    assert migration.rewrite_monitors(xml, MONITORS,
                                      lambda source: True) == xml


@pytest.mark.parametrize('xml', [
    '', 'no XML', '<domain>', '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_what_is_no_xml_is_refused(xml: str) -> None:
    with pytest.raises(exception.InvalidInput, match='XML'):
        migration.rewrite_monitors(xml, MONITORS, lambda source: True)


def test_a_disk_is_known_by_the_secret_of_its_cluster(compute: Compute
                                                      ) -> None:
    compute.configure(secret_uuid=SECRET)
    compute.world.ceph.monitors = ['10.0.9.1:6789', '[fe::9]:6789']
    with compute.disks() as disks:
        done = disks.migrate_xml(GUEST)
    # The one in the comment, and that of cinder's secret.
    assert done.count("name='10.0.0.1'") == GUEST.count(
        "name='10.0.0.1'") - 1
    assert done.count(NEW) == 1
    assert "<host name='[fe::1]'/>" in done


def test_or_by_one_of_its_monitors(compute: Compute) -> None:
    compute.world.ceph.monitors = ['10.0.0.1:6789']
    with compute.disks() as disks:
        done = disks.migrate_xml(GUEST)
    assert '10.0.0.2' not in done
    assert done.count("<host name='10.0.0.1' port='6789'/>") == 2


def test_another_cluster_on_the_same_hosts_is_not_ours(compute: Compute
                                                       ) -> None:
    compute.world.ceph.monitors = ['10.0.0.1:6790']
    with compute.disks() as disks:
        assert disks.migrate_xml(GUEST) == GUEST


def test_without_a_secret_it_is_known_by_being_there(compute: Compute
                                                     ) -> None:
    compute.vms.create('plain', 4096)
    with compute.disks() as disks:
        done = disks.migrate_xml(GUEST)
    assert done == GUEST.replace("<host name='[fe::1]'/>",
                                 "<host name='127.0.0.1' port='6789'/>")
