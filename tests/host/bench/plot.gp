# Called by plot.sh with: directory, kind (svg, png), rows. Columns of the data: name, distance to
# the bar (1 is on it, more is missed), whether it holds.
height = 110 + 24 * rows
if (kind eq "svg") {
    set terminal svg size 1000, height font "sans,12" background "white"
} else {
    set terminal pngcairo size 1000, height font "sans,10"
}
set output directory . "/bench-host." . kind
set title "make bench-host: how far from the bar"
set xlabel "times the bar (left of the line holds)"
set logscale x 10
set xrange [0.01:*]
set yrange [rows - 0.4:-0.6]
set lmargin 52
set ytics nomirror scale 0
set grid xtics
unset key
set arrow from 1, graph 0 to 1, graph 1 nohead front lw 2 lc rgb "#303030"
set style fill solid
data = directory . "/bench-host.dat"
plot data using (sqrt(0.01 * $2)):0:(0.01):2:($0 - 0.35):($0 + 0.35):($3 == 1 ? 0x2e8b57 : 0xc0392b):ytic(1) \
    with boxxyerror lc rgb variable
