# SPDX-License-Identifier: Apache-2.0
"""One operation, one file: its tasks and ``get_flow()``."""
