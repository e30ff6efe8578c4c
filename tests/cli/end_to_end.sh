#!/usr/bin/env bash
# The real program on the model in the box: signals, broken files and pipes.
# usage: end_to_end.sh SOURCE_DIR LONGSPAN
set -uo pipefail
model=$1/models/recall-moe
longspan=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
expect() {  # what, wanted, got
  [ "$2" = "$3" ] && return
  echo "FAILED: $1: expected $2, got $3"
  failures=$((failures + 1))
}
lines() { grep -c . "$1"; }

"$longspan" generate -m "$model" -p "Hello" --max-tokens 2 >"$work/out" 2>"$work/err"
expect "generate" 0 $?
LONGSPAN_CHAT=maybe "$longspan" generate -m "$model" -p x >"$work/out" 2>"$work/err"
expect "a bad boolean in the environment" 2 $?
expect "its message" 1 "$(grep -c -- '--chat' "$work/err")"
"$longspan" generate -m "$model" -f "$model/demo/document.txt" --max-total-tokens 1000 >"$work/out" 2>"$work/err"
expect "a pool too small" 4 $?
expect "nothing on standard output before a refusal" 0 "$(wc -c <"$work/out")"
"$longspan" generate -m "$model" -p x >/dev/full 2>"$work/err"
expect "a full disk" 3 $?

# A serving layout as other engines' users type it, on CPU: the same tokens as on one rank.
ask() { "$longspan" generate -p "The code word" --max-tokens 8 --json -q "$@" 2>"$work/err" | sed 's/.*"token_ids":\(\[[^]]*\]\).*/\1/'; }
one=$(ask -m "$model" --dtype f32)
four=$(ask --model-path "$model" --trust-remote-code --mem-fraction-static 0.7 --max-running-requests 32 \
  --attention-backend cpu --tp-size 4 --moe-dp-size 2 --attn-cp-size 2 --cuda-graph-max-bs-decode 32 \
  --enable-prefill-context-parallel --dtype f32)
expect "tokens of the serving layout" "$one" "$four"
# The same layout scores 32 documents at a time as one rank does.
recall() {
  "$longspan" eval recall -m "$model" --lengths 1024 --limit 32 --parallel 32 --json -q "$@" 2>"$work/err" |
    sed 's/.*"total":32,"correct":\([0-9]*\).*/\1/'
}
score=$(recall)
[ -n "$score" ] || expect "a recall score" "some" "none"
expect "recall of the serving layout" "$score" "$(recall --tp-size 4 --moe-dp-size 2 --attn-cp-size 2)"
expect "int8 tokens at cp 1 and cp 3" "$(ask -m "$model" --dtype int8)" "$(ask -m "$model" --dtype int8 --cp 3)"
[ -n "$one" ] || expect "tokens" "some" "none"

# A first short request, then one that lasts: the interrupt comes when the first line is on disk.
printf '{"prompt":"a","max_tokens":1}\n{"prompt":"b","max_tokens":30000,"ignore_eos":true}\n' >"$work/in.jsonl"
"$longspan" batch -m "$model" -i "$work/in.jsonl" -o "$work/results.jsonl" -q &
pid=$!
for _ in $(seq 300); do [ -s "$work/results.jsonl" ] && break; sleep 0.1; done
kill -INT $pid
wait $pid
expect "an interrupt" 130 $?
expect "lines after an interrupt" 2 "$(lines "$work/results.jsonl")"
expect "finished lines after an interrupt" 1 "$(grep -c '"finish_reason":"length"' "$work/results.jsonl")"

# The weights shrink while they are in use: the embedding is read from the map in every step.
cp -r "$model" "$work/model"
"$longspan" batch -m "$work/model" -i "$work/in.jsonl" -o "$work/shrunk.jsonl" -q 2>"$work/err" &
pid=$!
for _ in $(seq 300); do [ -s "$work/shrunk.jsonl" ] && break; sleep 0.1; done
: >"$work/model/model.safetensors"
wait $pid
expect "weights that shrink while in use" 3 $?
expect "its message" 1 "$(grep -c 'became shorter' "$work/err")"

[ $failures -eq 0 ] && echo "end to end: as documented"
exit $failures
