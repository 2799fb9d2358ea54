#!/bin/sh
# Which tools Limpid needs, which of them are there, and how to get the rest.
#
#   tools/doctor.sh report          what is there and what is missing, one line each
#   tools/doctor.sh need GROUP...   install what the groups lack, or print the one line to type
#
# POSIX sh and nothing else: this is what runs before anything is installed.
set -u

# group, what to look for, package. A name is a command, a path is a file; "c:" is asked of gcc.
tools() {
    cat <<'LIST'
python python3 python3
build make make
build gcc gcc
build ld binutils
build nasm nasm
build grub-mkrescue grub-common
build /usr/lib/grub/i386-pc/moddep.lst grub-pc-bin
build /usr/lib/grub/x86_64-efi/moddep.lst grub-efi-amd64-bin
build xorriso xorriso
build mformat mtools
hosted c:stdio.h libc6-dev
run qemu-system-x86_64 qemu-system-x86
uefi /usr/share/OVMF/OVMF_CODE*.fd ovmf
model spin spin
fuzz clang clang
fuzz /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a libclang-rt-dev
lint clang-format clang-format
gdb gdb gdb
plot gnuplot gnuplot-nox
LIST
}

have() {
    case $1 in
    c:*) printf '#include <%s>\n' "${1#c:}" | gcc -E -x c - >/dev/null 2>&1 ;;
    /*) # unquoted on purpose: a pattern; the first match is enough
        set -- $1
        [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# The packages that the groups in $1 lack, on one line.
missing() {
    tools | while read -r group what package; do
        case " $1 " in
        *" $group "*) have "$what" || printf '%s ' "$package" ;;
        esac
    done
}

report() {
    lacking=0
    for group in python build hosted run uefi model fuzz lint gdb plot; do
        case $group in
        python) why="every make goal" ;;
        build) why="the kernel, the guests, the ISO" ;;
        hosted) why="make test-host, make test" ;;
        run) why="make run, make test" ;;
        uefi) why="FIRMWARE=uefi, make test" ;;
        model) why="make model, make test" ;;
        fuzz) why="make fuzz" ;;
        lint) why="make lint, make fmt" ;;
        gdb) why="make gdb, make test" ;;
        plot) why="the picture of make bench-host; it does without" ;;
        esac
        printf '%s: %s\n' "$group" "$why"
        while read -r of what package; do
            [ "$of" = "$group" ] || continue
            if have "$what"; then
                printf '  there    %s\n' "$what"
            elif [ "$group" = plot ]; then
                printf '  not there, optional  %s (package %s)\n' "$what" "$package"
            else
                printf '  MISSING  %s (package %s)\n' "$what" "$package"
                lacking=1
            fi
        done <<LIST
$(tools)
LIST
    done
    [ -w /dev/kvm ] && echo "/dev/kvm: there (only for ACCEL=kvm)" ||
        echo "/dev/kvm: not there (only ACCEL=kvm wants it)"
    if [ $lacking = 1 ]; then
        echo "To get the rest:"
        echo "  $(line "$(missing 'python build hosted run uefi model fuzz lint gdb')")"
    else
        echo "Everything is there."
    fi
}

line() {
    echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends $1"
}

install() { # packages; what makes us root is in $as_root
    # Word splitting wanted: a list of packages, a prefix of no or two words.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
        install -y --no-install-recommends $1 </dev/null
}

need() {
    lack=$(missing "$*")
    [ -n "$lack" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "doctor: missing, by the name of their Debian packages: $lack" >&2
        return 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        echo "doctor: some tools are missing. Type this, then try again:" >&2
        echo "  $(line "$lack")" >&2
        return 1
    fi
    echo "doctor: installing $lack"
    log=$(mktemp) || return 1
    # A fresh machine has no package lists, an old one stale ones: in both cases update, once.
    if ! { ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 && install "$lack" >"$log" 2>&1; } &&
        ! { $as_root apt-get -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 </dev/null &&
            install "$lack" >>"$log" 2>&1; }; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        echo "doctor: apt-get failed. By hand:" >&2
        echo "  $(line "$lack")" >&2
        return 1
    fi
    rm -f "$log"
    lack=$(missing "$*")
    [ -z "$lack" ] && return 0
    echo "doctor: still missing after the installation: $lack" >&2
    return 1
}

verb=${1:-report}
[ $# -gt 0 ] && shift
case $verb in
report) report ;;
need) need "$@" ;;
*)
    echo "doctor: '$verb'? Expected 'report' or 'need GROUP...'." >&2
    exit 2
    ;;
esac
