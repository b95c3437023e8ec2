"""Databases: statements that lose data or give rights away, wherever on the command line they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import documents_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask
from overseer_training.guards.wrappers import printed_by

CLIENTS = (
    *(
        "mysql",
        "mariadb",
        "psql",
        "sqlite3",
        "sqlite",
        "mongo",
        "mongosh",
        "redis-cli",
        "valkey-cli",
        "influx",
        "cqlsh",
        "duckdb",
    ),
    *(
        "clickhouse-client",
        "clickhouse",
        "cockroach",
        "sqlcmd",
        "sqlplus",
        "isql",
        "usql",
        "pgcli",
        "mycli",
        "litecli",
        "neo4j",
        "arangosh",
    ),
    *(
        "etcdctl",
        "bq",
        "snowsql",
        "trino",
        "hive",
        "beeline",
        "couchbase-cli",
        "surreal",
        "turso",
        "wrangler",
        "mysqlsh",
        "cypher-shell",
    ),
)
LOSES = re.compile(
    r"\bdrop\s+(?:database|schema|table|user|role|index|view|column|keyspace|collection|measurement|owned|function|if)\b|\btruncate\b|\bflush(?:all|db)\b"
    r"|\bdelete\s+from\b(?!.*\bwhere\b)|\bupdate\s+[\w.`\"]+\s+set\b(?!.*\bwhere\b)|\bshutdown\b|\bdrop(?:Database|Table|Column)?\s*\(|\bdeleteMany\s*\(\s*\{\s*\}"
    r"|\bremove\s*\(\s*\{?\s*\}?\s*\)|\bdebug\s+segfault\b|\bdel\s+['\"]{0,2}\s*--prefix|\bdetach\s+delete\b|\bscript\s+flush\b|\breset\s+master\b",
    re.IGNORECASE | re.DOTALL,
)
GIVES = re.compile(
    r"\bgrant\s+(?:all|super|.*\bwith\s+grant)|\bsuperuser\b|\bconfig\s+set\b|\bslaveof\b|\breplicaof\b|\bmodule\s+load\b|\balter\s+(?:user|role)\b"
    r"|\bcreateUser\s*\(.*root|\bset\s+password\b|\bidentified\s+by\b",
    re.IGNORECASE | re.DOTALL,
)
RUNS = re.compile(
    r"\bprogram\b\s*'|(?:^|[\s;'\"])(?:\\!|\.shell\b|\.system\b|system\s)|xp_cmdshell|into\s+(?:out|dump)file|\beval\b\s+['\"]?.*os\.",
    re.IGNORECASE,
)


@rule(*CLIENTS)
def _statements(call: Call, folder: str) -> Iterator[Verdict]:
    texts = [" ".join(call.texts), *(document.text for document in documents_of(call))]
    if call.source is not None:
        texts.append(
            printed_by(call.source) or " ".join((*call.source.texts, *(d.text for d in documents_of(call.source))))
        )
    for text in texts:
        if LOSES.search(text):
            yield ask("data goes that cannot be brought back")
        if GIVES.search(text):
            yield ask("it gives rights on the database away")
        if RUNS.search(text):
            yield ask("the database program would run commands of the system")


@rule("dropdb", "dropuser", "mysqladmin", "mongorestore", "pg_restore", "rabbitmqctl", "pg_resetwal", "pg_dropcluster", "redis-server", "kafka-topics.sh", "influxd", "curl", "http", "xh")  # fmt: skip
def _tools(call: Call, folder: str) -> Iterator[Verdict]:
    patterns = {
        "dropdb": r"", "dropuser": r"", "mysqladmin": r"\bdrop\b|\bshutdown\b|flush-privileges", "mongorestore": r"--drop", "pg_restore": r"--clean|(?:^|\s)-\w*c\b",
        "rabbitmqctl": r"\breset\b|force_reset|delete_|purge|add_user|set_permissions|stop_app", "pg_resetwal": r"", "pg_dropcluster": r"",
        "kafka-topics.sh": r"--delete", "influxd": r"restore",
        "curl": r"\bDELETE\b.*(?:/_all|/\*|:\d+/?(?:\s|$)|/_\w+/?\s*$)", "http": r"^DELETE\b.*(?:/_all|/\*)", "xh": r"^DELETE\b.*(?:/_all|/\*)",
    }  # fmt: skip
    if call.name in patterns and re.search(patterns[call.name], " ".join(call.texts)):
        yield ask("data goes that cannot be brought back")
