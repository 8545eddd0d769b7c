#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# probe.sh FEATURE OUT COMPILER...: which form a feature has in the kernel that the command compiles
# for. FEATURE is a folder with one file per form; exactly one of them must compile, or the kernel is
# not known and the build ends. OUT is written: #define EBB_HAVE_FORM 1.
#
# That something is *not* there is also shown by compiling: "enum { NAME };" fails where a function
# or a constant NAME is declared, and a structure fails that has a member twice (-fms-extensions:
# members of an embedded structure count).
feature=$1 out=$2
shift 2
dir=${out%/*}/try-$(basename "$feature")
found=
rm -rf "$out" "$dir"
mkdir -p "$dir" || exit 1
for form in "$feature"/*.c; do
	name=$(basename "$form" .c)
	"$@" -fms-extensions -Wno-missing-prototypes -Wno-missing-declarations \
		-Werror=implicit-function-declaration -Werror=incompatible-pointer-types \
		-Werror=int-conversion -Werror=return-type \
		-c -o "$dir/$name.o" "$form" >"$dir/$name.log" 2>&1 &
done
wait
for form in "$feature"/*.c; do
	name=$(basename "$form" .c)
	[ ! -f "$dir/$name.o" ] || found="$found $name"
done
# shellcheck disable=SC2086 # names without blanks
set -- $found
if [ $# = 1 ]; then
	echo "#define EBB_HAVE_$(echo "$1" | tr '[:lower:]' '[:upper:]') 1" >"$out"
	rm -rf "$dir"
	exit 0
fi
name=$(basename "$feature")
if [ $# = 0 ]; then
	echo "ebb: this kernel's $name is of no form that is known; what the compiler said of each:" >&2
	for form in "$dir"/*.log; do
		echo "--- $name/$(basename "$form" .log).c" >&2
		grep -m 4 -iE 'error' "$form" >&2 || head -n 4 "$form" >&2
	done
else
	echo "ebb: this kernel's $name seems to have several forms at once:$found" >&2
fi
echo "ebb: it needs a file in kmod/compat/probes/$name (see kmod/compat/probe.sh)" >&2
rm -rf "$dir"
exit 1
