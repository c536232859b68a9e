#!/usr/bin/env bash
# Frouros 0.9.0: the longer a stream was steady, the later its PageHinkley sees a change.
#
# Expected: Page (1954), whom its documentation names, compares how far the sum of deviations has risen above
# its lowest value so far. Each steady step lowers the sum by delta and its lowest value with it, so a change
# is seen after as many values whether the stream was steady for a hundred values or for fifty thousand.
# Actual: the sum itself is compared with lambda. What steady values took off must be made up first.
#
# Seen on 2026-11-30, values of 0.6 after n values of 0.2 until drift is told (delta 0.005, lambda 20, alpha
# 0.9999), and where the detector's own sum_ has risen by lambda above its lowest value:
#       n  told  risen
#     100    69     66
#    1000    64     52
#   10000   131     50
#   50000   176     50
#
# It fails when that changes. Run it with bash; it needs Python 3.11 to 3.13 and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check frouros==0.9.0

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

from frouros.detectors.concept_drift import PageHinkley, PageHinkleyConfig

LAMBDA = 20.0


def delays(steady):
    detector = PageHinkley(
        PageHinkleyConfig(delta=0.005, lambda_=LAMBDA, alpha=0.9999, min_num_instances=30)
    )
    lowest, risen = 0.0, None
    for place in range(steady + 1000):
        detector.update(value=0.2 if place < steady else 0.6)
        lowest = min(lowest, detector.sum_)
        if risen is None and detector.sum_ - lowest > LAMBDA:
            risen = place - steady
        if detector.drift:
            return place - steady, risen
    return None, risen


found = {steady: delays(steady) for steady in (100, 1000, 10000, 50000)}
print("    n  told  risen")
for steady, (told, risen) in found.items():
    print(f"{steady:5}  {told:4}  {risen:5}")
if found != {100: (69, 66), 1000: (64, 52), 10000: (131, 50), 50000: (176, 50)}:
    sys.exit("this has changed since 2026-11-30")
PYTHON
