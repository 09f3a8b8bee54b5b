# SPDX-License-Identifier: MIT
"""The command line, the pipeline, the ISO, the report."""
