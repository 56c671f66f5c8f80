"""The topology file: what ships is what the seed asks for, profiles share processes, and faults come all at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.job import Service
from app.routing_rules import Action
from app.settings import Settings
from app.topology import DEFAULT_FILE, Address, Profile, Server, Topology, load

SHIPPED = DEFAULT_FILE.read_text(encoding="utf-8")
FIVE = (Service.AUTH, Service.MODEL, Service.CHAT, Service.CACHE, Service.QUEUE)

Loader = Callable[..., tuple[Settings, Topology]]


@pytest.fixture
def load_edited(tmp_path: Path) -> Loader:
    """Load the shipped file after replacing some texts in it, with some environment."""
    def loader(edits: dict[str, str] | None = None, **environ: str) -> tuple[Settings, Topology]:
        text = SHIPPED
        for old, new in (edits or {}).items():
            assert old in text, f"the shipped file no longer says {old!r}"
            text = text.replace(old, new)
        file = tmp_path / "topology.toml"
        file.write_text(text, encoding="utf-8")
        return load({"TANDEM_TOPOLOGY": str(file), **environ})

    return loader


@pytest.fixture
def faults(load_edited: Loader) -> Callable[..., list[str]]:
    """Load an edited file and return what it is refused for."""
    def refused(edits: dict[str, str] | None = None, **environ: str) -> list[str]:
        with pytest.raises(SettingsError) as refusal:
            load_edited(edits, **environ)
        return refusal.value.faults

    return refused


def shipped(profile: str = "") -> Topology:
    return load({"TANDEM_PROFILE": profile})[1]


def pins(server: Server) -> dict[str, tuple[int, ...]]:
    return {worker.name: worker.processors for worker in server.workers}


# -- what ships


def test_the_shipped_topology_pins_the_services_to_the_seeds_processors() -> None:
    first, second = shipped().servers

    assert pins(first) == {"auth": (1,), "model": (2,), "chat": (3,), "cache": (4,), "queue": (5,)}
    assert pins(second) == {"auth": (6,), "model": (7,), "chat": (8,), "cache": (9,), "queue": (10,)}
    for server in (first, second):
        assert tuple(worker.services for worker in server.workers) == tuple((service,) for service in FIVE)


@pytest.mark.parametrize(("signal", "normal", "alert", "action"), [
    ("cpu_percent", 70, 80, Action.FAILOVER), ("memory_percent", 75, 85, Action.FAILOVER),
    ("response_s", 1, 2, Action.INVESTIGATE), ("error_percent", 1, 5, Action.FAILOVER),
    ("concurrent_users", 1000, 1500, Action.SCALE_UP)])
def test_the_shipped_thresholds_are_the_seeds(signal: str, normal: float, alert: float, action: Action) -> None:
    threshold = shipped().rules.thresholds[signal]

    assert (threshold.normal, threshold.alert, threshold.action) == (normal, alert, action)
    assert threshold.for_s > 0
    assert threshold.hold_s > threshold.for_s, "an alert should be slower to close than to open"


def test_no_other_thresholds_ship() -> None:
    assert len(shipped().rules.thresholds) == 5


def test_the_shipped_topology_is_two_servers_in_parallel_each_with_an_address_of_its_own() -> None:
    topology = shipped()

    assert topology.profile is Profile.PARALLEL
    assert [server.name for server in topology.servers] == ["server-1", "server-2"]
    assert len({topology.entry, topology.flower, *(server.gateway for server in topology.servers)}) == 4


def test_the_shipped_settings_are_the_defaults() -> None:
    assert load({})[0] == Settings()


# -- profiles and lookups


def test_the_standard_profile_is_the_first_server_only() -> None:
    assert shipped("standard").servers == shipped().servers[:1]


def test_the_simplified_profile_runs_all_services_in_one_worker_on_the_same_processors() -> None:
    topology = shipped("simplified")

    assert len(topology.servers) == 2
    for server, full in zip(topology.servers, shipped().servers, strict=True):
        (worker,) = server.workers
        assert (worker.name, worker.services) == ("all", FIVE)
        assert worker.processors == tuple(sorted(p for one in full.workers for p in one.processors))
        assert worker.concurrency == sum(one.concurrency for one in full.workers)


def test_the_environment_names_the_profile_over_the_file(load_edited: Loader) -> None:
    edits = {'profile = "parallel"': 'profile = "simplified"'}

    assert load_edited(edits)[1].profile is Profile.SIMPLIFIED
    assert load_edited(edits, TANDEM_PROFILE="standard")[1].profile is Profile.STANDARD


def test_a_server_is_added_with_one_block(load_edited: Loader) -> None:
    block = """[[servers]]
name = "server-3"
port = 8083
processors = { auth = "P11", model = ["P12", "P13"], chat = "P14", cache = "P15", queue = "P16" }

[settings]
"""
    _, topology = load_edited({"[settings]\n": block})

    server = topology.server("server-3")
    assert (server.gateway, server.gateway_processes) == (Address("127.0.0.1", 8083), 1)
    assert pins(server)["model"] == (12, 13)


def test_asking_for_a_server_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"no server 'server-9'.*there are: server-1, server-2"):
        shipped().server("server-9")
    with pytest.raises(SettingsError, match=r"profile standard.*there are: server-1$"):
        shipped("standard").server("server-2")


def test_settings_of_the_file_are_overridden_by_the_environment(load_edited: Loader) -> None:
    edits = {'engine = "torch"': 'engine = "scripted"\nlease_s = 20.0'}

    settings, _ = load_edited(edits, TANDEM_LEASE_S="30")
    assert (settings.engine, settings.lease_s) == ("scripted", 30.0)


# -- faults


def test_faults_of_the_settings_and_of_the_topology_are_listed_together(faults: Callable[..., list[str]]) -> None:
    found = faults({'engine = "torch"': 'engine = "vllm"', "port = 8082": "port = 8081", '"P7"': '"P2"',
                    "normal = 70.0": "normal = 90.0", 'action = "scale-up"': 'action = "panic"'},
                   TANDEM_PROFILE="both", TANDEM_LEESE_S="3")

    assert found == [
        "TANDEM_LEESE_S is not a setting; did you mean lease_s?",
        "engine must be torch, openai or scripted; got 'vllm'",
        "profile must be one of standard, parallel, simplified, cloud; got 'both'",
        "the processor P2 is used twice",
        "the address 127.0.0.1:8081 is used twice",
        "[thresholds] cpu_percent: normal must be below alert; got 90.0 and 80.0",
        "[thresholds] concurrent_users: action must be one of failover, investigate, scale-up; got 'panic'",
    ]


@pytest.mark.parametrize(("old", "new", "fault"), [
    ('name = "server-2"', 'name = "server-1"', "the server name server-1 is used twice"),
    ("port = 8082", "port = 8081", "the address 127.0.0.1:8081 is used twice"),
    ("port = 8082", "port = 8080", "the address 127.0.0.1:8080 is used twice"),  # the entry's
    ("port = 5555", "port = 8081", "the address 127.0.0.1:8081 is used twice"),  # Flower's and a gateway's
    ('chat = "P8"', 'chat = "P3"', "the processor P3 is used twice"),
    ('chat = "P8"', 'chat = ["P8", "P8"]', "the processor P8 is used twice")])
@pytest.mark.parametrize("profile", list(Profile))
def test_a_name_an_address_or_a_processor_can_be_used_once_in_every_profile(
        faults: Callable[..., list[str]], old: str, new: str, fault: str, profile: Profile) -> None:
    assert faults({old: new}, TANDEM_PROFILE=profile) == [fault]


@pytest.mark.parametrize(("old", "new", "fault"), [
    ('profile = "parallel"', 'profiel = "parallel"', "the file: profiel is not known; there are: cloud, entry,"),
    ("[entry] ", "[door] ", "the file: door is not known"),
    ("port = 5555", "prot = 5555", "[flower]: prot is not known"),
    ("port = 8082", "port = 8082\ncolour = 1", "[[servers]] block 2: colour is not known"),
    ("concurrency = 32,", "concurency = 8,", "[services] chat: concurency is not known"),
    ("[services]", "[services]\nmail = { concurrency = 1 }", "[services]: mail is not known"),
    ('auth = "P6"', 'auth = "P6", mail = "P11"', "[[servers]] block 2: processors: mail is not known"),
    ("hold_s = 300.0", "hold = 300.0", "[thresholds] concurrent_users: hold is not known")])
def test_an_unknown_key_is_refused_with_the_ones_there_are(
        faults: Callable[..., list[str]], old: str, new: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults({old: new}))


@pytest.mark.parametrize(("old", "new", "fault"), [
    ("port = 8080", "port = 0", "[entry]: port must be a whole number above 0; got 0"),
    ("port = 8080", "port = 65536", "[entry]: port must be at most 65535; got 65536"),
    ("port = 8080", "port = true", "[entry]: port must be a whole number above 0; got True"),
    ('host = "127.0.0.1"\nport = 5555', "host = 1\nport = 5555", "[flower]: host must be text; got 1"),
    ("concurrency = 32,", "concurrency = 0.5,", "[services] chat: concurrency must be a whole number above 0"),
    ('model = "P2"', 'model = "CPU2"', "[[servers]] block 1: processors.model must be a label"),
    ('model = "P2"', 'model = "P0"', "[[servers]] block 1: processors.model must be a label"),
    ('model = "P2"', "model = []", "[[servers]] block 1: processors.model must be a label"),
    ('model = "P2", ', "", "[[servers]] block 1: processors.model must be a label"),
    ('name = "server-2"', 'name = "Server 2"', "[[servers]] block 2: name must be lower-case"),
    ("alert = 80.0", 'alert = "80"', "[thresholds] cpu_percent: alert must be a number, 0 or above; got '80'"),
    ("alert = 80.0", "alert = nan", "[thresholds] cpu_percent: alert must be a number, 0 or above; got nan"),
    ("alert = 80.0", "alert = 70.0", "[thresholds] cpu_percent: normal must be below alert; got 70.0 and 70.0"),
    ("for_s = 30.0", "for_s = -1", "[thresholds] response_s: for_s must be a number, 0 or above; got -1")])
def test_a_value_out_of_range_is_refused_with_what_was_given(
        faults: Callable[..., list[str]], old: str, new: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults({old: new}))


@pytest.mark.parametrize(("text", "fault"), [
    ("", "there must be at least one [[servers]] block"),
    ("servers = []", "there must be at least one [[servers]] block"),
    ("servers = [1]", "there must be at least one [[servers]] block"),
    ("settings = 3", "the file: the table settings is missing"),
    ("", "the file: the table thresholds is missing")])
def test_a_file_with_parts_missing_or_of_another_shape_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "topology.toml"
    file.write_text(text)

    with pytest.raises(SettingsError) as refusal:
        load({"TANDEM_TOPOLOGY": str(file)})
    assert fault in refusal.value.faults
    assert not any("used twice" in found for found in refusal.value.faults), "a fault that is none"


@pytest.mark.parametrize("content", [b"profile = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "topology.toml"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match=str(file)):
        load({"TANDEM_TOPOLOGY": str(file)})


def test_a_file_that_is_not_there_is_refused_with_the_variable_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read \(No such file.*\); set TANDEM_TOPOLOGY"):
        load({"TANDEM_TOPOLOGY": str(tmp_path / "none.toml")})
