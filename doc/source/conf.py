# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration. The build needs no network."""

import logging
import pathlib
import sys
from importlib import metadata

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE / '_ext'), str(_ROOT)]

project = 'volume_rbd'
version = release = metadata.version('volume-rbd')
extensions = [
    'openstackdocstheme',
    'oslo_config.sphinxext',
    'reno.sphinxext',
    'generated',  # _ext/generated.py: what comes from the code itself
]
exclude_patterns = ['_ext', '_templates']
templates_path = ['_templates']
nitpicky = False

# -- how it looks -------------------------------------------------------------
html_theme = 'openstackdocs'
html_theme_options = {
    'analytics_tracking_code': '',
    'display_badge': False,
    'root_title': 'volume_rbd',
    'show_other_versions': False,
    'sidebar_mode': 'toctree',
}
html_static_path = ['_static']
html_css_files = ['house.css']
html_copy_source = False
html_show_sourcelink = False
openstackdocs_auto_name = False
openstackdocs_auto_version = False  # pbr's way needs a git checkout
openstackdocs_bug_project = ''
openstackdocs_pdf_link = False
openstackdocs_repo_name = ''
pygments_style = 'native'
smartquotes = False


class _WithoutGit(logging.Filter):
    """The theme wants a git checkout; an unpacked archive will do."""

    def filter(self, record: logging.LogRecord) -> bool:
        return 'gitsha' not in record.getMessage()


logging.getLogger('sphinx.openstackdocstheme.ext').addFilter(_WithoutGit())
