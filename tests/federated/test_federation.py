"""A server and sites, each a process, over 127.0.0.1: the mean, and what happens when one fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from headrace.errors import ModelError, SettingError
from headrace.machine import free_port
from headrace.model.federated import LEARNED
from headrace.trainer.recipes._federation import average_with_others
from tests.federated.site import ABOUT, FLOWER, START, learn, settings, text_config, texts

ROOT = Path(__file__).parents[2]
needs_flower = pytest.mark.skipif(not FLOWER.exists(), reason="`make flower` installs it")

# Writes a certificate of 127.0.0.1, signed by itself, and its key.
SIGN = """
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "headrace")])
here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
now = datetime.now(UTC)
made = (
    x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    .add_extension(here, critical=False).sign(key, hashes.SHA256())
)
Path(sys.argv[1]).write_bytes(made.public_bytes(Encoding.PEM))
form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
Path(sys.argv[2]).write_bytes(key.private_bytes(*form))
"""


class Federation:
    """Its server, and sites that are started one by one in folders 0, 1, …"""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        command = [str(FLOWER), "-m", "headrace.cli", "federated", "--once"]
        self.server = self._start(*command, "--address", self.address, *options)
        self.sites: list[subprocess.Popen[str]] = []

    def join(self, *hows: str) -> None:
        for how in hows:
            number = len(self.sites)
            (self.folder / str(number)).mkdir()
            command = [sys.executable, "-m", "tests.federated.site", self.address, str(number)]
            self.sites.append(self._start(*command, str(self.folder / str(number)), how))

    def ended(self) -> list[tuple[int, str]]:
        """Exit code and last line of standard error, of the server and the sites."""
        found = []
        for process in (self.server, *self.sites):
            _, said = process.communicate(timeout=90)
            found.append((process.returncode, (said.splitlines() or [""])[-1]))
        return found

    def found(self, number: int) -> tuple[int, dict[str, Any]]:
        rounds, matrices = json.loads((self.folder / str(number) / "found.json").read_text())
        return rounds, matrices

    def _start(self, *command: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def close(self) -> None:
        for process in (self.server, *self.sites):
            process.kill()
            process.communicate()


@pytest.fixture
def federate(tmp_path: Path) -> Iterator[Any]:
    made: list[Federation] = []

    def start(*options: str) -> Federation:
        made.append(Federation(tmp_path, *options))
        return made[-1]

    yield start
    for one in made:
        one.close()


@needs_flower
def test_sites_with_other_texts_get_the_weighed_mean_of_their_adapters(
    federate: Any, tmp_path: Path
) -> None:
    """The same rounds, one site after the other in this process, averaged by NumPy."""
    federation = federate("--rounds", "2")
    federation.join("text", "text")
    expected = naive(rounds=2)
    assert [code for code, _ in federation.ended()] == [0, 0, 0]
    for number in range(2):
        found = load_file(tmp_path / str(number) / "adapter_model.safetensors")
        assert found.keys() == expected.keys()
        for name, matrix in expected.items():
            np.testing.assert_allclose(found[name], matrix, rtol=0.02, atol=2e-4, err_msg=name)
        assert max(abs(found[name]).max() for name in found if name.endswith(LEARNED)) > 1e-3


def naive(rounds: int) -> dict[str, Any]:
    import torch

    from headrace.model.text.adapter import Adapter, Training, new_adapter
    from headrace.trainer.recipes._text import _Parts

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = text_config(None)
        how = Training("", config.rank, config.alpha, config.lora_lr, config.head_lr, 1, 32, 0)
        parts = [_Parts(texts(number), config) for number in range(2)]
        heads = [one.standard(one.states, one.learned) for one in parts]
        start = new_adapter(how)
        shared = start.arrays()
        for number in range(1, rounds + 1):
            made, counts = [], []
            for at, one in enumerate(parts):
                begun = Adapter.of(shared, start.description)
                adapter, heads[at] = one._train_once(
                    replace(how, only_b=True, seed=number), heads[at], begun, lambda *_: None
                )
                made.append(adapter.arrays())
                counts.append(int(one.learned.sum()))
            shared = {
                name: np.average([one[name] for one in made], axis=0, weights=counts).astype("f4")
                for name in shared
            }
    finally:
        torch.set_num_threads(before)
    return shared


@needs_flower
def test_a_site_that_is_killed_is_left_out(federate: Any) -> None:
    federation = federate("--sites", "3", "--least", "2")
    federation.join("learns", "learns", "dies")
    (server, *sites) = federation.ended()
    assert server[0] == 0
    assert [code for code, _ in sites] == [0, 0, -9]
    weighed = [(10 * 1 + 20 * 2 + 30 * 3) / 60, (10 * 1 + 20 * 2) / 30, (10 * 1 + 20 * 2) / 30]
    for number in range(2):
        rounds, matrices = federation.found(number)
        assert rounds == 3
        np.testing.assert_allclose(matrices["l.lora_B.weight"], sum(weighed), rtol=1e-6)
        np.testing.assert_array_equal(matrices["l.lora_A.weight"], START["l.lora_A.weight"])


@needs_flower
@pytest.mark.parametrize("how", ["dies", "hangs", "spoils"])
def test_too_few_sites_are_one_clear_error_for_all(federate: Any, how: str) -> None:
    federation = federate("--round-s", "4")
    federation.join("learns", how)
    if how == "hangs":
        federation.sites[0].wait(60)
        federation.sites[1].kill()
    server, site, _ = federation.ended()
    at = 1 if how == "spoils" else 2
    said = f"federation: round {at}: 1 of 2 sites answered, at least 2 must"
    assert server == (1, f"headrace: {said}")
    assert site == (1, said)


@needs_flower
def test_another_base_is_refused_by_its_site(federate: Any) -> None:
    federation = federate()
    federation.join("learns", "another base")
    ended = federation.ended()
    assert [code for code, _ in ended] == [1, 1, 1]
    told = [said for _, said in ended[1:] if "must be the same" in said]
    assert len(told) == 1
    assert "federation: base must be the same at all sites, got" in told[0]


@needs_flower
def test_a_server_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ModelError, match=f"the server at {address} cannot be reached"):
        average_with_others(settings(address, wait_s=0.1), START, ABOUT, learn(0, "learns"))


@needs_flower
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sites", "2", "--least", "3"], "--least: must be at most --sites, 2, got 3"),
        (["--address", "0.0.0.0:9092"], "--address: must be on this machine, such as 127.0.0.1"),
        (["--key", __file__], "--authority, --certificate and --key: must be given together"),
    ],
)
def test_what_a_server_may_not_is_said(options: list[str], said: str) -> None:
    command = [str(FLOWER), "-m", "headrace.cli", "federated", *options]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"headrace: {said}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"server": "10.0.0.1:9092"}, "federation.server: must be on this machine"),
        ({"server": "here"}, "federation.server: must be host:port, got 'here'"),
        ({"certificate": "none.pem"}, "federation.certificate: must be a file, got 'none.pem'"),
    ],
)
def test_what_a_site_may_not_is_said(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        average_with_others(settings("127.0.0.1:1", **given), START, ABOUT, learn(0, "learns"))


@needs_flower
def test_messages_can_be_encrypted(federate: Any, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run([FLOWER, "-c", SIGN, certificate, key], check=True)
    pem = [f"--authority={certificate}", f"--certificate={certificate}", f"--key={key}"]
    federation = federate("--rounds", "1", *pem)
    federation.join(str(certificate), str(certificate))
    assert [code for code, _ in federation.ended()] == [0, 0, 0]
    assert federation.found(0) == federation.found(1)


def test_a_python_without_flower_says_so() -> None:
    alone = settings("127.0.0.1:1", python=sys.executable)
    with pytest.raises(
        ModelError, match=r"No module named .*needs `pip install 'headrace\[federated\]'`"
    ):
        average_with_others(alone, START, ABOUT, learn(0, "learns"))
