#!/usr/bin/env zsh
# What zsh offers with the completion script that the program prints: a shell in a terminal of its own completes, and
# writes what it would show to a file.
# usage: completion.zsh LONGSPAN
set -eu
zmodload zsh/zpty
typeset longspan=$1 work=$(mktemp -d) way
typeset -i failures=0
TRAPEXIT() { rm -rf $work; }
mkdir $work/functions $work/models
touch $work/models.txt
$longspan help zsh >$work/functions/_longspan
zsh -n $work/functions/_longspan

cat >$work/setup <<SETUP
PROMPT= RPROMPT= LISTMAX=1000
fpath=($work/functions \$fpath)
autoload -Uz compinit
compinit -u -D
[[ \$way == sourced ]] && unfunction _longspan && source <($longspan help zsh)
zstyle ':completion:*' completer _complete
compadd() {  # what -A, -D and -O ask for is not for showing
  if [[ \${@[1,(i)(-|--)]} == *-(A|D|O)\ * ]]; then
    builtin compadd "\$@"
    return
  fi
  typeset -a hits
  builtin compadd -A hits "\$@"
  (( \$#hits )) && print -rl -- \$hits >>$work/offered
  builtin compadd "\$@"
}
complete-and-tell() {
  zle complete-word
  : >$work/done
}
zle -N complete-and-tell
bindkey '^I' complete-and-tell
bindkey '^U' kill-whole-line
: >$work/ready
SETUP

await() {
  repeat 600; do
    [[ -e $1 ]] && return
    sleep 0.05
  done
  print -u2 "FAILED: zsh does not answer"
  exit 1
}
open_shell() {
  rm -f $work/ready
  zpty shell "way=$1 TERM=dumb HOME=$work zsh -f -i"
  zpty -w shell "source $work/setup"
  await $work/ready
}
offered() {
  rm -f $work/done $work/offered
  : >$work/offered
  zpty -w -n shell $'\C-u'"$1"$'\t'
  await $work/done
  sort -u $work/offered | paste -sd ' '
}
expect() {  # what must be offered, the line
  local got
  got=$(offered $2) || exit 1
  [[ $got == $1 ]] && return
  print -u2 "FAILED ($way): $2: expected \"$1\", got \"$got\""
  failures+=1
}

for way in autoloaded sourced; do
  open_shell $way
  expect "batch bench bench-serve" "longspan b"
  expect "--help" "longspan --h"
  expect "gsm8k" "longspan eval g"
  expect "--max-queued-requests" "longspan serve --max-q"
  expect "" "longspan plan --max-q"
  expect "auto" "longspan generate --dtype a"
  expect "bf16" "longspan generate --dtype=b"
  expect "auto bf16 f32 int8" "longspan generate --dtype "
  expect "--port" "longspan serve --dtype f32 --por"
  expect "--api-key" "longspan serve --api-key a --api-k"
  expect "off" "longspan batch --self-check "
  expect "models" "longspan serve -m $work/mod"
  expect "models models.txt" "longspan batch -i $work/mod"
  expect "" "longspan generate -p "
  expect "man" "longspan help ma"
  expect "serve" "longspan help ser"
  zpty -d shell
done
exit $(( failures > 0 ))
