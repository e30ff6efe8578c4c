#!/bin/sh
# completion.zsh, where there is a zsh; else exits with 77.
# usage: completion_zsh.sh LONGSPAN
command -v zsh >/dev/null || { echo "SKIPPED: zsh is not here"; exit 77; }
exec zsh -f "$(dirname "$0")/completion.zsh" "$1"
