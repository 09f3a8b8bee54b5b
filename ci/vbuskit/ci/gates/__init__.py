# SPDX-License-Identifier: MIT
"""One module a verb of `vbuskit gate`; `vbuskit.ci.commands.gate` has the table."""
