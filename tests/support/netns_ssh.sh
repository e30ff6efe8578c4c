#!/bin/sh
# netns_agent.sh for a "host" that is as strange as one over ssh: it gets none of the caller's variables (but what
# sanitizers want), and does not see the caller's TMPDIR, which must be named.
# usage: netns_ssh.sh HOST COMMAND...
agent=$(dirname "$0")/netns_agent.sh
kept=$(env | grep -E '^PATH=|^[A-Z]+SAN_OPTIONS=')
exec unshare --mount sh -c 'mount -t tmpfs tmpfs "$0" && exec env -i "$@"' "$TMPDIR" $kept "$agent" "$@"
