"""Secrets of many kinds in the commands and requests in which people type them, drawn by a seed.

A kind has forms that the rules were written with and, behind `HELD_OUT`, forms that were set aside before.
"""

from __future__ import annotations

import base64
import dataclasses
import random
import string
from collections.abc import Callable, Iterator

Draw = Callable[[random.Random], str]
LETTERS = string.ascii_letters + string.digits
HOSTS = ("db1", "10.0.4.17", "shop.example.org", "git.example.org", "nas.lan", "mail2.example.net", "localhost")
USERS = ("root", "admin", "deploy", "anna", "bot", "postgres", "svc-backup", "wp")
NAMES = ("shop", "wiki", "reports", "orders", "home", "prod", "metrics")
WORDS = (
    "sunny",
    "Falcon",
    "winter",
    "Berlin",
    "coffee",
    "tiger",
    "Raven",
    "harbor",
    "Pluto",
    "maple",
    "summer",
    "Dragon",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A text with one secret in it."""

    kind: str
    text: str
    secret: str
    is_held_out: bool


def drawn(length: int, alphabet: str = LETTERS) -> Draw:
    return lambda rng: "".join(rng.choices(alphabet, k=length))


def password(rng: random.Random) -> str:
    """As people make them: words with numbers and signs, or drawn by a program; none that needs quotes in a shell."""
    word, other = rng.sample(WORDS, 2)
    return rng.choice(
        (
            f"{word}{rng.randint(10, 9999)}",
            f"{word}-{other}-{rng.randint(1, 99)}",
            f"{word}_{other}!",
            f"{word[0]}{other}@{rng.randint(1, 99)}x".replace("@", "%"),
            drawn(rng.randint(8, 24))(rng),
            drawn(rng.randint(12, 20), LETTERS + "+_.,^%")(rng),
        )
    ).lstrip("-.,+")


def quoted_password(rng: random.Random) -> str:
    """Passwords that stand in quotes, double ones around single ones too, so that none could be a variable."""
    return rng.choice(
        (
            f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randint(1, 99)}",
            drawn(14, LETTERS + "$&*()<>|;#!?")(rng).lstrip("#$(") + "a",
            f"{rng.choice(WORDS)}${rng.randint(10, 999)}&x",
            f"{rng.choice('@&[{<~^/-')}{rng.choice(WORDS)}{rng.randint(10, 9999)}",
        )
    )


def signed_password(rng: random.Random) -> str:
    """Passwords for single quotes that begin as variables, placeholders, options or paths do."""
    first = rng.choice("$@&[{<~\\^/-")
    return first + rng.choice(
        (f"{rng.choice(WORDS)}{rng.randint(10, 9999)}", drawn(10, LETTERS + "!+_.,^%&")(rng) + "a")
    )


def jwt(rng: random.Random) -> str:
    parts = [base64.urlsafe_b64encode(drawn(n)(rng).encode()).decode().rstrip("=") for n in (24, 60, 32)]
    return f"eyJ{parts[0]}.eyJ{parts[1]}.{parts[2]}"


def after(prefix: str, length: int, alphabet: str = LETTERS) -> Draw:
    return lambda rng: prefix + drawn(length, alphabet)(rng)


HEX = "0123456789abcdef"
BASE64 = LETTERS + "+/"
# kind -> (how the secret is drawn, forms with {s}, forms that are held out)
KINDS: dict[str, tuple[Draw, tuple[str, ...], tuple[str, ...]]] = {
    "MySQL password": (
        password,
        ("mysql -u {u} -p{s} {n}", "mysqldump -h {h} -u{u} -p{s} --all-databases > all.sql", "mysqladmin -u root password {s}"),
        ("mariadb --user={u} --password={s} -e 'show databases'", "sudo mysql -h {h} -u {u} -p'{s}' {n} < {n}.sql"),
    ),
    "PostgreSQL password": (
        password,
        ("PGPASSWORD={s} psql -h {h} -U {u} {n}", "psql postgresql://{u}:{s}@{h}:5432/{n}", "psql 'host={h} user={u} password={s} dbname={n}'"),
        ("export PGPASSWORD='{s}'; pg_dump -h {h} {n} | gzip > {n}.gz", "pg_restore -d postgres://{u}:{s}@{h}/{n} {n}.dump"),
    ),
    "SQL password": (
        quoted_password,
        ('mysql -e "CREATE USER {u} IDENTIFIED BY \'{s}\'"', 'sudo -u postgres psql -c "ALTER USER {u} WITH PASSWORD \'{s}\'"'),
        ('psql -c "CREATE ROLE {u} LOGIN PASSWORD \'{s}\';"', 'mysql -e "SET PASSWORD FOR {u} = PASSWORD(\'{s}\')"'),
    ),
    "Redis password": (
        password,
        ("redis-cli -h {h} -a {s} info", "redis-cli -u redis://:{s}@{h}:6379 ping", "redis-cli config set requirepass {s}"),
        ("redis-cli -a '{s}' --scan | head", "REDISCLI_AUTH={s} redis-cli dbsize"),
    ),
    "MongoDB password": (
        password,
        ("mongosh mongodb+srv://{u}:{s}@{h}/{n}", "mongodump -u {u} -p {s} --db {n}"),
        ("mongo --host {h} -u {u} --password {s} {n}", "mongoexport --uri=mongodb://{u}:{s}@{h}/{n} -c users"),
    ),
    "login of curl": (
        password,
        ("curl -u {u}:{s} https://{h}/api", "curl -s --user {u}:{s} -X POST https://{h}/restart", "wget --user={u} --password={s} https://{h}/a.iso"),
        ("curl -fsSLu '{u}:{s}' https://{h}/x -o x", "http -a {u}:{s} GET {h}/api", "wget --http-user={u} --http-password={s} https://{h}/b"),
    ),
    "password in an address": (
        password,
        ("git clone https://{u}:{s}@{h}/{n}.git", "curl ftp://{u}:{s}@{h}/a.txt", "rsync -a rsync://{u}:{s}@{h}/{n} ."),
        ("export DATABASE_URL=mysql://{u}:{s}@{h}/{n}", "celery -b amqp://{u}:{s}@{h}:5672// worker", "git remote set-url origin https://{u}:{s}@{h}/{n}.git"),
    ),
    "proxy password": (
        password,
        ("export http_proxy=http://{u}:{s}@{h}:3128", "curl -x http://{u}:{s}@{h}:8080 https://example.org"),
        ("curl --proxy-user {u}:{s} -x {h}:8080 https://example.org", "git config --global http.proxy http://{u}:{s}@{h}:3128"),
    ),
    "bearer token": (
        drawn(40),
        ("curl -H 'Authorization: Bearer {s}' https://{h}/api", 'curl -H "authorization: token {s}" https://{h}/user'),
        ("http GET {h}/api Authorization:'Bearer {s}'", "curl --oauth2-bearer {s} https://{h}/x", 'wget --header="Authorization: Bearer {s}" https://{h}/y'),
    ),
    "basic authorization": (
        lambda rng: base64.b64encode(f"{rng.choice(USERS)}:{password(rng)}".encode()).decode(),
        ("curl -H 'Authorization: Basic {s}' https://{h}/api",),
        ('curl --header "authorization: basic {s}" https://{h}/api',),
    ),
    "API key in a header": (
        drawn(32),
        ("curl -H 'X-Api-Key: {s}' https://{h}/v1/items", "curl --header 'PRIVATE-TOKEN: {s}' https://{h}/api/v4/projects"),
        ("curl -H 'X-Auth-Token: {s}' https://{h}/v2/servers", "curl -H 'apikey:{s}' https://{h}/rest/v1/x", "http {h}/x X-Vault-Token:{s}"),
    ),
    "API key in an address": (
        drawn(32, HEX),
        ("curl 'https://{h}/v1/weather?city=Bonn&appid={s}'", "wget 'https://{h}/data?api_key={s}'", "curl https://{h}/x?token={s}"),
        ("curl 'https://{h}/geo?key={s}&q=Bonn'", "curl 'https://{h}/hook?access_token={s}'", "curl 'https://{h}/dl?sig={s}&x=1'"),
    ),
    "JSON body": (
        password,
        ("curl -X POST https://{h}/login -d '{{\"user\":\"{u}\",\"password\":\"{s}\"}}'", "curl -d 'username={u}&password={s}' https://{h}/login"),
        ("curl --json '{{\"client_secret\": \"{s}\"}}' https://{h}/token", "http POST {h}/login username={u} password={s}"),
    ),
    "sshpass": (
        password,
        ("sshpass -p {s} ssh {u}@{h}", "sshpass -p '{s}' scp a.tar {u}@{h}:/srv"),
        ("SSHPASS={s} sshpass -e ssh {u}@{h} uptime", "sshpass -p{s} rsync -a /srv {u}@{h}:/b"),
    ),
    "password for sudo": (
        password,
        ("echo {s} | sudo -S apt update", "echo '{s}' | sudo -S -k systemctl restart {n}"),
        ("sudo -S reboot <<< {s}", "printf '%s\\n' '{s}' | sudo -S ls /root"),
    ),
    "account password": (
        password,
        ("echo '{u}:{s}' | sudo chpasswd", "echo -e '{s}\\n{s}' | passwd {u}", "useradd -m -p {s} {u}"),
        ("chpasswd <<< '{u}:{s}'", "sudo usermod --password {s} {u}", "echo {s} | passwd --stdin {u}"),
    ),
    "Samba password": (
        password,
        ("smbclient //{h}/{n} -U {u}%{s}", "mount -t cifs //{h}/{n} /mnt -o username={u},password={s}"),
        ("sudo mount.cifs //{h}/{n} /mnt -o user={u},pass={s}", "rpcclient -U '{u}%{s}' {h}"),
    ),
    "Docker login": (
        password,
        ("docker login -u {u} -p {s} {h}", "docker run -d -e POSTGRES_PASSWORD={s} postgres:16", "echo {s} | docker login -u {u} --password-stdin"),
        ("podman login --username {u} --password {s} {h}", "docker run --env MYSQL_ROOT_PASSWORD={s} mysql", "skopeo copy --src-creds {u}:{s} docker://{h}/a dir:a"),
    ),
    "Kubernetes secret": (
        password,
        ("kubectl create secret generic {n} --from-literal=password={s}", "helm install {n} bitnami/postgresql --set auth.postgresPassword={s}"),
        ("kubectl create secret docker-registry reg --docker-username={u} --docker-password={s}", "kubectl config set-credentials {u} --token={s}"),
    ),
    "Ansible and Terraform": (
        password,
        ("ansible-playbook site.yml -e ansible_become_pass={s}", "terraform apply -var 'db_password={s}'"),
        ("TF_VAR_admin_secret={s} terraform plan", "ansible all -m ping -e 'ansible_ssh_pass={s}'"),
    ),
    "Vault": (
        after("hvs.", 24),
        ("export VAULT_TOKEN={s}", "vault login {s}"),
        ("curl -H 'X-Vault-Token: {s}' http://{h}:8200/v1/sys/health", "vault token lookup {s}"),
    ),
    "value in Vault": (
        password,
        ("vault kv put secret/{n} password={s}",),
        ("vault write auth/userpass/users/{u} password={s}",),
    ),
    "AWS secret key": (
        drawn(40, BASE64),
        ("export AWS_SECRET_ACCESS_KEY={s}", "aws configure set aws_secret_access_key {s}"),
        ("AWS_SECRET_ACCESS_KEY={s} aws s3 ls", "s3cmd --secret_key={s} ls"),
    ),
    "AWS key id": (
        after("AKIA", 16, string.ascii_uppercase + "234567"),
        ("aws configure set aws_access_key_id {s}", "export AWS_ACCESS_KEY_ID={s}"),
        ("s3cmd --access_key {s} ls", "echo {s} >> keys.txt"),
    ),
    "Azure": (
        lambda rng: drawn(86, BASE64)(rng) + "==",
        ("az storage blob list --account-name {n} --account-key {s} -c a", "export AZURE_STORAGE_CONNECTION_STRING='DefaultEndpointsProtocol=https;AccountName={n};AccountKey={s};EndpointSuffix=core.windows.net'"),
        ("az acr login --name {n} --password {s}", "azcopy copy a.txt 'https://{n}.blob.core.windows.net/c?sv=2022&sig={s}'"),
    ),
    "Azure service principal": (
        after("8Q~", 34, LETTERS + "_.~"),
        ("az login --service-principal -u 3f2 -p {s} --tenant x.org",),
        ("export ARM_CLIENT_SECRET={s}",),
    ),
    "Google key": (
        after("AIza", 35, LETTERS + "_-"),
        ("curl 'https://maps.example.org/json?key={s}'", "export GEMINI_API_KEY={s}"),
        ("sed -i 's/KEY/{s}/' config.js",),
    ),
    "GitHub token": (
        after("ghp_", 36),
        ("git clone https://{s}@{h}/{n}.git", "export GH_TOKEN={s}", "gh auth login --with-token <<< {s}"),
        ("git clone https://x-access-token:{s}@{h}/{n}.git", "echo {s} > ~/.ghtoken"),
    ),
    "GitLab token": (
        after("glpat-", 20, LETTERS + "_-"),
        ("curl --header 'PRIVATE-TOKEN: {s}' https://{h}/api/v4/user", "glab auth login --token {s}"),
        ("git clone https://oauth2:{s}@{h}/{n}.git",),
    ),
    "Slack": (
        lambda rng: f"xoxb-{rng.randint(10**11, 10**12)}-{rng.randint(10**11, 10**12)}-{drawn(24)(rng)}",
        ("export SLACK_BOT_TOKEN={s}", "curl -F token={s} https://slack.com/api/files.upload"),
        ("slackcat --token {s} -c ops a.txt",),
    ),
    "Slack webhook": (
        lambda rng: f"T{drawn(8, string.ascii_uppercase)(rng)}/B{drawn(8, string.ascii_uppercase)(rng)}/{drawn(24)(rng)}",
        ("curl -d '{{\"text\":\"done\"}}' https://hooks.slack.com/services/{s}",),
        ("WEBHOOK=https://hooks.slack.com/services/{s} ./notify.sh",),
    ),
    "Telegram bot": (
        lambda rng: f"{rng.randint(10**9, 10**10 - 1)}:AA{drawn(33, LETTERS + '_-')(rng)}",
        ("curl https://api.telegram.org/bot{s}/getMe",),
        ("export TG_BOT={s}", "curl 'https://api.telegram.org/bot{s}/sendMessage?chat_id=1&text=up'"),
    ),
    "Discord webhook": (
        lambda rng: f"{rng.randint(10**17, 10**18)}/{drawn(68, LETTERS + '_-')(rng)}",
        ("curl -d content=up https://discord.com/api/webhooks/{s}",),
        ("curl -F file=@a.log https://discordapp.com/api/webhooks/{s}",),
    ),
    "Stripe": (
        after("sk_live_", 24),
        ("curl https://api.stripe.com/v1/charges -u {s}:", "stripe listen --api-key {s}"),
        ("STRIPE_KEY={s} node server.js",),
    ),
    "OpenAI key": (
        after("sk-proj-", 48, LETTERS + "_-"),
        ("export OPENAI_API_KEY={s}", "llm keys set openai --value {s}"),
        ("curl -H 'Authorization: Bearer {s}' https://{h}/v1/models",),
    ),
    "Anthropic key": (
        after("sk-ant-api03-", 80, LETTERS + "_-"),
        ("export ANTHROPIC_API_KEY={s}",),
        ("curl -H 'x-api-key: {s}' https://{h}/v1/messages",),
    ),
    "Hugging Face token": (
        after("hf_", 34),
        ("huggingface-cli login --token {s}", "export HF_TOKEN={s}"),
        ("git clone https://user:{s}@{h}/models/a",),
    ),
    "npm token": (
        after("npm_", 36),
        ("npm config set //registry.npmjs.org/:_authToken={s}", "echo '//registry.npmjs.org/:_authToken={s}' >> ~/.npmrc"),
        ("NPM_TOKEN={s} npm publish",),
    ),
    "PyPI token": (
        after("pypi-AgEIcHlwaS5vcmc", 60, LETTERS + "_-"),
        ("twine upload -u __token__ -p {s} dist/*",),
        ("UV_PUBLISH_TOKEN={s} uv publish", "poetry config pypi-token.pypi {s}"),
    ),
    "SendGrid": (
        lambda rng: f"SG.{drawn(22, LETTERS + '_-')(rng)}.{drawn(43, LETTERS + '_-')(rng)}",
        ("export SENDGRID_API_KEY={s}",),
        ("swaks --auth-user apikey --auth-password {s} --to a@example.org",),
    ),
    "DigitalOcean": (
        after("dop_v1_", 64, HEX),
        ("doctl auth init -t {s}", "export DO_TOKEN={s}"),
        ("echo {s} | doctl auth init",),
    ),
    "Grafana": (
        lambda rng: f"glsa_{drawn(32)(rng)}_{drawn(8, HEX)(rng)}",
        ("curl -H 'Authorization: Bearer {s}' http://{h}:3000/api/dashboards",),
        ("export GRAFANA={s}",),
    ),
    "JSON web token": (jwt, ("export JWT={s}", "curl -b 'session={s}' https://{h}/me"), ("jwt decode {s}", "curl -H 'Cookie: auth={s}' https://{h}/")),
    "private key": (
        lambda rng: "\n".join(drawn(64, BASE64)(rng) for _ in range(3)),
        ("echo '-----BEGIN OPENSSH PRIVATE KEY-----\n{s}\n-----END OPENSSH PRIVATE KEY-----' > key", "cat > id_rsa <<EOF\n-----BEGIN RSA PRIVATE KEY-----\n{s}\n-----END RSA PRIVATE KEY-----\nEOF"),
        ("printf -- '-----BEGIN PRIVATE KEY-----\n{s}\n-----END PRIVATE KEY-----' | ssh-add -",),
    ),
    "age and WireGuard keys": (
        lambda rng: rng.choice((f"AGE-SECRET-KEY-1{drawn(58, string.ascii_uppercase + '234567')(rng)}",)),
        ("echo {s} > key.txt",),
        ("SOPS_AGE_KEY={s} sops -d a.yaml",),
    ),
    "WireGuard private key": (
        lambda rng: drawn(43, BASE64)(rng) + "=",
        ("echo 'PrivateKey = {s}' >> /etc/wireguard/wg0.conf",),
        ("echo {s} | wg pubkey",),
    ),
    "archive password": (
        password,
        ("zip -P {s} -r a.zip docs", "7z x -p{s} a.7z", "unzip -P {s} a.zip"),
        ("7z a -p{s} -mhe=on b.7z docs", "zip -r --password {s} b.zip docs", "unrar x -p{s} a.rar"),
    ),
    "passphrase": (
        password,
        ("gpg --batch --passphrase {s} -c a.tar", "openssl enc -aes-256-cbc -pass pass:{s} -in a -out a.enc", "ssh-keygen -t ed25519 -N {s} -f key"),
        ("gpg --pinentry-mode loopback --passphrase='{s}' -d a.gpg", "openssl rsa -passin pass:{s} -in k.pem", "ssh-keygen -p -P {s} -N new -f key"),
    ),
    "backup passphrase": (
        password,
        ("RESTIC_PASSWORD={s} restic -r /backup snapshots", "export BORG_PASSPHRASE='{s}'", "echo -n {s} | cryptsetup open /dev/sdb1 data -"),
        ("BORG_PASSPHRASE={s} borg create /b::x ~", "RCLONE_CONFIG_PASS={s} rclone ls r:", "echo '{s}' | cryptsetup luksOpen /dev/sdb1 data"),
    ),
    "Wi-Fi": (
        password,
        ("nmcli device wifi connect Home password {s}", "wpa_passphrase Home {s} >> wpa.conf"),
        ("nmcli con modify Home wifi-sec.psk {s}", "iwctl --passphrase {s} station wlan0 connect Home"),
    ),
    "LDAP": (
        password,
        ("ldapsearch -x -D cn=admin,dc=x -w {s} -b dc=x", "ldappasswd -s {s} uid=a,dc=x"),
        ("ldapmodify -D cn=admin -w '{s}' -f a.ldif", "ldapwhoami -x -D cn=a -w {s}"),
    ),
    "web server passwords": (
        password,
        ("htpasswd -b /etc/nginx/.htpasswd {u} {s}", "htpasswd -bc .htpasswd {u} {s}", "wp user create anna a@example.org --user_pass={s}"),
        ("htpasswd -nb {u} {s}", "wp config create --dbname=x --dbuser=y --dbpass={s}", "htpasswd -bB users {u} {s}"),
    ),
    "remote desktops": (
        password,
        ("xfreerdp /u:{u} /p:{s} /v:{h}", "rdesktop -u {u} -p {s} {h}", "ipmitool -H {h} -U {u} -P {s} power status"),
        ("xfreerdp3 /v:{h} /u:{u} /p:'{s}'", "ipmitool -I lanplus -H {h} -U {u} -P '{s}' sol activate", "x11vnc -passwd {s}"),
    ),
    "message queues": (
        password,
        ("mosquitto_pub -h {h} -u {u} -P {s} -t a -m b", "rabbitmqctl add_user {u} {s}"),
        ("mosquitto_sub -u {u} --pw {s} -t '#'", "rabbitmqctl change_password {u} {s}", "influx -username {u} -password {s}"),
    ),
    "SNMP": (
        password,
        ("snmpwalk -v3 -u {u} -l authPriv -a SHA -A {s} -x AES -X priv1234 {h}", "snmpget -v 2c -c {s}x {h} sysUpTime.0"),
        ("snmpwalk -v3 -u {u} -X {s} {h}",),
    ),
    "other transfers": (
        password,
        ("lftp -u {u},{s} {h}", "lftp -e 'mirror' ftp://{u}:{s}@{h}", "RSYNC_PASSWORD={s} rsync -a {u}@{h}::b ."),
        ("ncftpget -u {u} -p {s} {h} . a", "lftp -u '{u},{s}' sftp://{h}", "svn co https://{h}/r --username {u} --password {s}"),
    ),
    "Java key store": (
        password,
        ("keytool -list -keystore a.jks -storepass {s}", "keytool -genkey -keypass {s} -alias a"),
        ("jarsigner -storepass {s} a.jar x", "openssl pkcs12 -export -passout pass:{s} -in a.pem -out a.p12"),
    ),
    "package indexes": (
        password,
        ("pip install --index-url https://{u}:{s}@{h}/simple a", "conan user -p {s} -r r {u}"),
        ("poetry config http-basic.r {u} {s}", "composer config http-basic.{h} {u} {s}", "helm repo add r https://{h} --username {u} --password {s}"),
    ),
    "variable": (
        password,
        ("export DB_PASSWORD={s}", "export API_SECRET='{s}'; ./run.sh", "SMTP_PASS={s} ./send.py", "set -x ADMIN_PASSWORD {s}", "sudo env APP_TOKEN={s} ./a"),
        ("declare -x MAIL_PASSWD={s}", "JWT_SECRET={s} npm start", "heroku config:set SECRET_KEY_BASE={s}", "fly secrets set DB_PASS={s}", "DJANGO_SECRET_KEY='{s}' ./manage.py check"),
    ),
    "configuration file": (
        password,
        ("echo 'password: {s}' >> config.yaml", "echo DB_PASS={s} >> .env", "sed -i 's/^password=.*/password={s}/' app.ini", "echo 'machine {h} login {u} password {s}' >> ~/.netrc"),
        ("cat > .env <<EOF\nSECRET_KEY={s}\nDEBUG=1\nEOF", "echo '{h}:5432:*:{u}:{s}' >> ~/.pgpass", "crudini --set a.ini db password {s}", "git config user.password {s}"),
    ),
    "request": (
        password,
        (
            "connect to mysql on {h} as {u} with password {s}", "set the password of {u} to {s}", "my wifi password is {s}, connect to Home",
            "log in to {h} with user {u} and password '{s}'", "why does mysql -u {u} -p{s} fail?", "the api key is {s}, list my servers",
        ),
        (
            "zip the folder docs with the password {s}", "change {u}'s password to {s}", "add a database user {u} (password: {s})", "use the token {s} to clone {n} from {h}",
            "don't echo it, but the root password is {s}", "mount //{h}/{n} as {u}, password {s}", "encrypt a.tar with passphrase {s}",
        ),
    ),
    "quoted password that begins with a sign": (
        signed_password,
        ("mysql -u {u} -p'{s}' {n}", "sshpass -p '{s}' ssh {u}@{h}", "./tool --password='{s}'", "export DB_PASSWORD='{s}'; ./run.sh"),
        ("curl -u '{u}:{s}' https://{h}/api", "echo '{s}' | sudo -S apt update", "chpasswd <<< '{u}:{s}'", "the password of {u} is '{s}'"),
    ),
}  # fmt: skip


def secret_cases(each: int, seed: int = 0) -> Iterator[Case]:
    """`each` texts of every form of every kind."""
    rng = random.Random(seed)
    for kind, (draw, forms, held_out) in KINDS.items():
        for form in (*forms, *held_out):
            for _ in range(each):
                secret = draw(rng)
                text = form.format(s=secret, h=rng.choice(HOSTS), u=rng.choice(USERS), n=rng.choice(NAMES))
                yield Case(kind, text, secret, form in held_out)
