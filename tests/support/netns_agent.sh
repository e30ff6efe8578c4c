#!/bin/sh
# mpirun's plm_rsh_agent for "hosts" that are network namespaces: runs the command in the namespace of that name, which
# takes the name as its host's.
# usage: netns_agent.sh HOST COMMAND...
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"
