"""Secrets are found in the forms in which people type them; placeholders, variables and paths are none."""

from __future__ import annotations

import random
import string

import pytest

from overseer_training.data.sources.corpus import fill, load_families
from overseer_training.guards.secrets import PLACEHOLDER, find_secret, remove_secrets

FORMS = (
    "export API_KEY={}",
    "mysql -u root -p{} shop",
    "curl -u admin:{} https://example.org/api",
    "curl -H 'Authorization: Bearer {}' https://example.org",
    "git clone https://bot:{}@git.example.org/a.git",
    "sshpass -p {} ssh host",
    "DB_PASSWORD='{}' ./run.sh",
    "docker run -e POSTGRES_PASSWORD={} postgres",
    "vault login --token={}",
    "echo 'password: {}' >> config.yaml",
)


@pytest.mark.parametrize("form", FORMS)
def test_generated_passwords_are_found(form: str) -> None:
    rng = random.Random(form)
    values = ["".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(8, 40))) for _ in range(100)]
    values += ["Tr0ub4dor$3", "pa{ss}w0rd", "corr<ct-horse", "a%b!c#d?e"]
    missed = [value for value in values if find_secret(form.format(value)) is None]
    assert not missed


@pytest.mark.parametrize("first", "$@&[{<~\\^/-")
@pytest.mark.parametrize(
    "form", ["mysql -p'{}' db", "sshpass -p '{}' ssh h", "./tool --password='{}'", "echo '{}' | sudo -S ls"]
)
def test_a_password_in_single_quotes_may_begin_with_any_sign(first: str, form: str) -> None:
    """Was taken for a variable, a placeholder, an option or a path, and stored."""
    assert remove_secrets(form.format(f"{first}k3V9x")).text == form.format(PLACEHOLDER)


@pytest.mark.parametrize("first", "@&[{<~^/-")
def test_in_double_quotes_only_a_variable_is_none(first: str) -> None:
    assert remove_secrets(f'mysql -p"{first}k3V9" db').text == f'mysql -p"{PLACEHOLDER}" db'
    sql = "mysql -e \"ALTER USER a IDENTIFIED BY '{}'\""
    assert remove_secrets(sql.format(f"{first}k3V9")).text == sql.format(PLACEHOLDER)


@pytest.mark.parametrize(
    "token",
    [
        "AKIA" + "ABCDEFGH12345678",
        "ghp_" + "a1B2" * 9,
        "xoxb-" + "123456789012-abcdef",
        "sk-" + "proj-" + "abcd1234" * 4,
        "hf_" + "AbCd" * 8,
        "-----BEGIN " + "OPENSSH PRIVATE KEY-----",
    ],
)
def test_tokens_are_found_by_their_form(token: str) -> None:
    assert find_secret(f"echo {token}") is not None


@pytest.mark.parametrize(
    "command",
    [
        "export API_KEY=$API_KEY",
        "mysql -u root -p",
        'curl -H "Authorization: Bearer $TOKEN" https://example.org',
        "passwd alice",
        "ssh-keygen -t ed25519 -f ~/.ssh/id_ed25519",
        "curl -u user https://example.org",
        "grep -i password /var/log/auth.log",
        "cat /etc/passwd",
        "mysqldump --password=<password> shop",
        "mysqldump --password='<password>' shop",
        "./tool --token '/run/secrets/token'",
        "./tool --password '{{ vault_password }}'",
        'mysql -p"$PASS" -e "ALTER USER a IDENTIFIED BY \'$NEW\'"',
        'mysql -p"$(pass show x)" && sh -c "mysqldump -p\'${PASS}\' shop"',
        'echo "$PASS" | sudo -S ls',
        "sed -i 's/password=.*/password='$PASS'/' app.ini",
        'grep -oP \'"access_token":"\\K[^"]+\' answer.json',
    ],
)
def test_harmless_commands_stay(command: str) -> None:
    assert find_secret(command) is None


def test_only_commands_of_the_corpus_that_show_a_secret_are_found() -> None:
    found = {family.name for family in load_families() if find_secret(fill(family.command, family.slots[0]))}
    assert found == {"curl-bearer-token", "docker-run-env-variable", "nmcli-wifi-connect"}
