#!/usr/bin/env bash
# The real program on the CANN simulator: exit codes, messages and time limits under a file of faults, traces.
# usage: simulator.sh SOURCE_DIR LONGSPAN SIMULATOR_FOLDER
set -uo pipefail
model=$1/models/recall-moe
longspan=$2
export ASCEND_HOME_PATH=$3/8.5 ASCEND_OPP_PATH=/opt/simulated/opp
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CANN_SIM_FAULTS=$work/faults.txt
failures=0
# what, exit code, words of the message; then flags; the rules come from standard input
expect() {
  local what=$1 code=$2 says=$3
  shift 3
  cat >"$CANN_SIM_FAULTS"
  "$longspan" generate --backend ascend -m "$model" -p "The code word" --max-tokens 2 --max-total-tokens 4096 \
    -q "$@" >"$work/out" 2>"$work/err"
  local got=$?
  [ $got = "$code" ] && { [ -z "$says" ] || grep -qF -- "$says" "$work/err"; } && return
  echo "FAILED: $what: exit code $got (expected $code), no '$says' in:"
  cat "$work/err"
  failures=$((failures + 1))
}
nothing() { expect "$1" 0 "" "${@:2}" <<<"# no rule"; }

nothing "no faults"
expect "a rule with a mistake" 2 "faults.txt:2: 'explode' is none of" <<<$'# comment\naclnnMm explode'
expect "no memory" 4 "aclrtMalloc failed with 207001" <<<"aclrtMalloc nth 5 no-memory"
expect "a launch that fails" 5 "aclnnMm: fails because a rule wants it to" <<<"aclnnMm nth 7 fail 507899"
expect "a rank that is late" 5 "notify wait time-out after 1 s; ranks that never came: 1 of 2" \
  --cp 2 --min-tokens-per-rank 0 --comm hccl --comm-timeout 1 <<<"HcclAllGather device 1 nth 2 stall 5000"
CANN_SIM_SYNC_LIMIT_MS=4000 expect "a kernel that hangs" 5 "not done after 4000 ms; the stream stands at aclnnSwiGlu" \
  <<<"aclnnSwiGlu nth 2 stall 9000"

# A trace of each card is written when the program ends, although it never calls aclFinalize.
for card in A2 A3; do
  CANN_SIM_CARD=$card CANN_SIM_TRACE=$work/trace.json nothing "a trace for $card" --cp 2 --min-tokens-per-rank 0 --comm hccl
  grep -q "device 1 ($card, modelled)" "$work/trace.json" && python3 -m json.tool "$work/trace.json" >/dev/null && continue
  echo "FAILED: no trace of two cards $card"
  failures=$((failures + 1))
done
CANN_SIM_CARD=A1 expect "an unknown card" 2 "CANN_SIM_CARD='A1' is none of A2, A3" <<<"# no rule"
CANN_SIM_TRACE=/no/such/folder/trace.json expect "a trace that can't be written" 0 "/no/such/folder/trace.json can't be written" <<<"# no rule"

# What the start refuses, plan refuses, too.
plan() {
  local says=$1
  shift
  "$longspan" plan --backend ascend -m "$model" --lengths 500 "$@" >"$work/out" 2>"$work/err"
  local got=$?
  [ $got = "$([ -z "$says" ] && echo 0 || echo 2)" ] && grep -qF -- "$says" "$work/err" "$work/out" && return
  echo "FAILED: plan $*: exit code $got, no '$says' in:"
  cat "$work/err"
  failures=$((failures + 1))
}
echo "# no rule" >"$CANN_SIM_FAULTS"
plan "" --cp 2 --kv shard
plan "only --comm hccl gives each rank one" --cp 2 --kv shard --comm threads
plan "attn_tp must be 1 (is 2)" --tp 2 --cp 1 --comm threads
ASCEND_HOME_PATH=$3/8.3 plan "lacks; looked in libopapi.so; use --kv replicate" --cp 2 --kv shard
exit $((failures > 0))
