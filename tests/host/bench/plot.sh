#!/bin/sh
# build/bench-host.dat to a picture: how far each row is from its bar. POSIX sh and gnuplot.
set -eu
directory=$1
if ! command -v gnuplot >/dev/null 2>&1; then
    echo "bench: no picture, gnuplot is not there (package gnuplot-nox)"
    exit 0
fi
rows=$(wc -l <"$directory/bench-host.dat")
for kind in svg png; do
    gnuplot -e "directory = '$directory'; kind = '$kind'; rows = $rows" \
        "$(dirname "$0")/plot.gp"
done
echo "bench: $directory/bench-host.svg, $directory/bench-host.png"
