# Runs inside the bubblewrap sandbox, as its first program: unpacks the fixture, runs the command without privileges,
# and writes everything that it left as one tar stream to standard output. Arguments: time limit (s), output limit (bytes).
time_limit=$1 output_limit=$2
exec 3>&1 >/dev/null 2>&1 </dev/null
mkdir -p /run/result
[ -e /run/fixture.tar ] && tar -xpf /run/fixture.tar -C /
cd /home/user
unset OLDPWD

unprivileged() {
  setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs -- "$@"
}
run() {
  unprivileged timeout -k 1 "$time_limit" bash -c ". $1" 3>&-
}

for earlier in /run/input/before-*; do
  [ -e "$earlier" ] && run "$earlier"
done
rm -f /run/result/*
if grep -q . /run/input/live; then
  unprivileged bash -c '. /run/input/live' 3>&-
  sleep 0.05  # processes of the fixture get their names before anyone looks
fi
run /run/input/command >/run/result/stdout 2>/run/result/stderr
echo $? >/run/result/exit_code
grep -q . /run/input/live && ps -eo pid=,args= | awk -v own=$$ '$1 > 2 && $1 != own && $2 !~ /^(ps|awk)$/ { sub(/^ *[0-9]+ /, ""); print }' >/run/result/processes
for stream in stdout stderr; do
  truncate -c -s "<$output_limit" /run/result/$stream
done
cd /
tar --sort=name --format=gnu --exclude=etc/alternatives --exclude=etc/ld.so.cache --exclude=etc/magic \
  --exclude=etc/perl --exclude=etc/java -cf - run/result home/user etc var srv opt tmp >&3
