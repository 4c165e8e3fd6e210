"""The commit that this package was built from: `git archive` and scripts/hatch_build.py write it here."""

COMMIT = "$Format:%H$"
