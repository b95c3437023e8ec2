# Runs inside the bubblewrap sandbox, as its process 1: unpacks the fixture, runs the command without privileges, and writes to
# standard output a line "EXIT_CODE TIMED_OUT", then everything that was left as one tar stream.
# Arguments: time limit (s), output limit (bytes), process limit, address space and file size limits (KiB).
# As process 1 with a privilege that the command lacks, it can neither be killed, stopped nor looked into by the command.
time_limit=$1 output_limit=$2 process_limit=$3 memory_limit=$4 file_limit=$5
exec 3>&1 >/dev/null 2>&1 </dev/null
echo 1000 >/proc/self/oom_score_adj  # where memory runs out, the kernel ends the sandbox and not us
mkdir -p /run/result
[ -e /run/fixture.tar ] && tar -xpf /run/fixture.tar -C /
cd /home/user
unset OLDPWD

# The process limit is set here and not by the parent: it then counts this sandbox, and not all processes of the user.
unprivileged() {
  (
    ulimit -c 0 -u "$process_limit" -v "$memory_limit" -f "$file_limit"
    exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs -- "$@" 3>&-
  )
}
run() {
  unprivileged timeout -k 1 "$time_limit" bash -c ". $1"
}

for earlier in /run/input/before-*; do
  [ -e "$earlier" ] && run "$earlier"
done
[ -d /run/result ] && [ ! -L /run/result ] || { rm -rf /run/result; mkdir /run/result; }
rm -rf /run/result/*
if grep -q . /run/input/live; then
  unprivileged timeout -k 1 "$time_limit" bash -c '. /run/input/live'
  sleep 0.05  # processes of the fixture get their names before anyone looks
fi
earlier_processes=" $(cd /proc && echo [0-9]*) "
started=${EPOCHREALTIME/./}
run /run/input/command >/run/result/stdout 2>/run/result/stderr
exit_code=$?
timed_out=0  # a command may end with 124 or 137 by itself, for example `timeout 1 sleep 2`
[ $((${EPOCHREALTIME/./} - started)) -ge $((time_limit * 1000000)) ] && case $exit_code in 124 | 137) timed_out=1 ;; esac
for attempt in {1..20}; do  # what it left in the background may finish: up to a second
  is_busy=
  for process in /proc/[0-9]*; do
    case $earlier_processes in *" ${process#/proc/} "*) ;; *) is_busy=1 ;; esac
  done
  [ $is_busy ] || break
  sleep 0.05
done
processes=
grep -q . /run/input/live && processes=$(ps -eo pid=,args= | awk '$1 != 1 && !/bash \/run\/inner.sh/ && $2 !~ /^(ps|awk)$/ { sub(/^ *[0-9]+ /, ""); print }')
kill -KILL -1  # nothing changes the tree while it is packed
[ -d /run/result ] && [ ! -L /run/result ] || { rm -rf /run/result; mkdir /run/result; }
for stream in stdout stderr calls; do
  truncate -c -s "<$output_limit" /run/result/$stream
done
rm -rf /run/result/processes
printf '%s\n' "$processes" >/run/result/processes
cd /
printf '%s %s\n' "$exit_code" "$timed_out" >&3
tar --sort=name --format=gnu --exclude=etc/alternatives --exclude=etc/ld.so.cache --exclude=etc/magic \
  --exclude=etc/perl --exclude=etc/java -cf - run/result home/user etc var srv opt tmp >&3
