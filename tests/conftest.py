"""What every test may count on, however the suite was started."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)  # speed is never asserted in a test
settings.load_profile("shared machine")


def pytest_configure() -> None:
    """Signals are heard: nohup, and shells without job control, start programs that ignore some, and a run respects that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def no_keys_of_yours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests keeps their keys, audit log and keyring to themselves: models are signed with others, or not at all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERSEER_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
        patch.delenv("OVERSEER_PASSPHRASE", raising=False)
        yield


@pytest.fixture(autouse=True)
def no_keys_of_other_tests() -> Iterator[None]:
    """A process remembers the key that it signs models with; a test does not sign with what another one opened."""
    yield
    signatures = sys.modules.get("overseer_training.guards.signatures")
    if signatures is not None:
        signatures._open_signer.cache_clear()
