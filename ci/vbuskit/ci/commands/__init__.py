# SPDX-License-Identifier: MIT
"""One module a subcommand; `vbuskit.ci.cli` has the table."""
