#!/bin/sh
# Runs a job that loses itself: it must end with exit code 5, and no test of any process may have failed.
output=$("$@" 2>&1)
code=$?
if [ $code != 5 ] || echo "$output" | grep -q 'FAILED\|Failure'; then
  echo "$output"
  echo "exit code $code, expected 5"
  exit 1
fi
