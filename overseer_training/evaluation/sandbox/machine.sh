# Builds what every sandboxed machine has in /etc, /var, /srv and /opt, the same on every host. Fixtures add the home directory.
cat >/etc/passwd <<'EOF'
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
postgres:x:105:110:PostgreSQL:/var/lib/postgresql:/bin/bash
sshd:x:104:65534::/run/sshd:/usr/sbin/nologin
user:x:1000:1000:User,,,:/home/user:/bin/bash
alice:x:1001:1001:Alice Moreau:/home/alice:/bin/bash
deploy:x:1002:1002:Deployment:/srv/deploy:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
EOF
cat >/etc/group <<'EOF'
root:x:0:
adm:x:4:user
sudo:x:27:user,alice
www-data:x:33:deploy
docker:x:998:user
user:x:1000:
alice:x:1001:
deploy:x:1002:
developers:x:1100:user,alice,deploy
nogroup:x:65534:
EOF
cat >/etc/hosts <<'EOF'
127.0.0.1	localhost
127.0.1.1	workstation
192.168.1.10	db01.example.lan db01
192.168.1.11	web01.example.lan web01
::1	localhost ip6-localhost
EOF
echo workstation >/etc/hostname
printf 'nameserver 192.168.1.1\nnameserver 9.9.9.9\nsearch example.lan\n' >/etc/resolv.conf
cat >/etc/os-release <<'EOF'
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
EOF
cat >/etc/fstab <<'EOF'
# <file system> <mount point> <type> <options> <dump> <pass>
UUID=1c0f /      ext4 errors=remount-ro 0 1
UUID=77aa /boot  ext2 defaults          0 2
UUID=9b2e none   swap sw                0 0
EOF
printf '/bin/sh\n/bin/bash\n/usr/bin/zsh\n' >/etc/shells
printf 'ssh\t22/tcp\ndomain\t53/udp\nhttp\t80/tcp\nhttps\t443/tcp\npostgresql\t5432/tcp\nmysql\t3306/tcp\nredis\t6379/tcp\n' >/etc/services
printf 'SHELL=/bin/sh\n17 * * * * root run-parts /etc/cron.hourly\n25 6 * * * root run-parts /etc/cron.daily\n' >/etc/crontab
printf 'Welcome to workstation\n' >/etc/motd
mkdir -p /etc/ssh /etc/nginx/sites-available /etc/nginx/sites-enabled /etc/cron.daily /etc/apt/sources.list.d /etc/systemd/system /etc/default
printf 'Port 22\nPermitRootLogin no\n#PasswordAuthentication yes\nX11Forwarding yes\n' >/etc/ssh/sshd_config
printf 'user www-data;\nworker_processes auto;\nevents { worker_connections 768; }\nhttp { include /etc/nginx/sites-enabled/*; }\n' >/etc/nginx/nginx.conf
printf 'server {\n  listen 80;\n  server_name example.lan;\n  root /var/www/html;\n}\n' >/etc/nginx/sites-available/default
ln -s ../sites-available/default /etc/nginx/sites-enabled/default
printf '#!/bin/sh\nlogrotate /etc/logrotate.conf\n' >/etc/cron.daily/logrotate
chmod 755 /etc/cron.daily/logrotate
printf 'deb http://deb.example.org/debian bookworm main\n' >/etc/apt/sources.list
mkdir -p /var/log/nginx /var/log/apt /var/www/html /var/cache/apt/archives /var/lib/postgresql /var/backups /var/tmp /var/spool/cron /var/mail
for day in 20 21 22; do
  printf 'Nov %s 03:12:01 workstation CRON[812]: (root) CMD (run-parts /etc/cron.daily)\n' "$day"
  printf 'Nov %s 08:01:44 workstation kernel: [ 12.3] usb 1-1: new high-speed USB device\n' "$day"
  printf 'Nov %s 09:30:10 workstation systemd[1]: Started nginx.service.\n' "$day"
  printf 'Nov %s 14:05:59 workstation app[2210]: ERROR connection to db01 timed out\n' "$day"
  printf 'Nov %s 14:06:03 workstation app[2210]: WARNING retrying in 5 s\n' "$day"
done >/var/log/syslog
for number in 1 2 3 4 5 6; do
  printf 'Nov 21 0%s:11:02 workstation sshd[9%s1]: Failed password for root from 203.0.113.%s port 5%s022 ssh2\n' "$number" "$number" "$((number % 3 + 7))" "$number"
done >/var/log/auth.log
printf 'Nov 21 07:20:00 workstation sshd[977]: Accepted publickey for alice from 192.168.1.44 port 50122 ssh2\n' >>/var/log/auth.log
printf 'Nov 21 07:21:30 workstation sudo: alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/apt update\n' >>/var/log/auth.log
for number in 1 2 3 4 5 6 7 8; do
  status=200; [ $((number % 3)) = 0 ] && status=404; [ "$number" = 8 ] && status=500
  printf '203.0.113.%s - - [21/Nov/2026:10:0%s:00 +0000] "GET /page%s.html HTTP/1.1" %s %s512\n' "$((number % 4))" "$number" "$((number % 5))" "$status" "$number"
done >/var/log/nginx/access.log
printf '2026/11/21 10:08:00 [error] 31#31: *8 upstream timed out while reading response\n' >/var/log/nginx/error.log
printf 'Nov 22 07:00:00 workstation kernel: [    0.000000] Linux version 6.1.0-18-amd64\nNov 22 07:00:09 workstation kernel: [ 9.1] EXT4-fs (sda1): mounted filesystem\n' >/var/log/kern.log
printf '2026-11-20 10:00:01 install curl:amd64 <none> 7.88.1\n2026-11-21 11:30:00 upgrade openssl:amd64 3.0.14 3.0.15\n' >/var/log/dpkg.log
cp /var/log/syslog /var/log/syslog.1
printf '<html><body><h1>It works</h1></body></html>\n' >/var/www/html/index.html
mkdir -p /srv/deploy/releases/2026-10-01 /srv/deploy/releases/2026-11-15 /srv/backup /opt/tools/bin /var/log/journal
printf '#!/bin/sh\necho hello from a tool\n' >/opt/tools/bin/hello
chmod 755 /opt/tools/bin/hello
touch -d '3 days ago' /var/log/syslog.1 /var/log/dpkg.log
touch -d '40 days ago' /srv/deploy/releases/2026-10-01 /etc/fstab
touch -d '10 days ago' /etc/nginx/nginx.conf /etc/ssh/sshd_config
