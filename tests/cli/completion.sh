#!/usr/bin/env bash
# What bash offers with the completion script that the program prints.
# usage: completion.sh LONGSPAN
set -euo pipefail
longspan=$1
failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$longspan" help bash >"$work/longspan.bash"
bash -n "$work/longspan.bash"
source "$work/longspan.bash"
mkdir "$work/models"
touch "$work/models.txt"
compopt() { :; }  # works only while bash completes

offered() {  # the words of a command line, the last one begun
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  _longspan
  local IFS=$'\n'
  LC_ALL=C sort <<<"${COMPREPLY[*]}" | paste -sd ' '
}
expect() {  # what must be offered, the words
  local wanted=$1 got
  shift
  got=$(offered "$@")
  [ "$got" = "$wanted" ] || { echo "FAILED: $*: expected \"$wanted\", got \"$got\"" >&2; failures=$((failures + 1)); }
}

complete -p longspan | grep -q _longspan
expect "batch bench bench-serve" longspan b
expect "--help" longspan --h
expect "gsm8k" longspan eval g
expect "--max-queued-requests" longspan serve --max-q
expect "" longspan plan --max-q
expect "auto" longspan generate --dtype a
expect "bf16" longspan generate --dtype = b
expect "auto bf16 f32 int8" longspan generate --dtype ""
expect "--port" longspan serve --dtype f32 --por
expect "off" longspan batch --self-check ""
expect "$work/models" longspan serve -m "$work/mod"
expect "$work/models $work/models.txt" longspan batch -i "$work/mod"
expect "" longspan generate -p "-"
expect "man" longspan help ma
expect "zsh" longspan help z
exit $((failures > 0))
