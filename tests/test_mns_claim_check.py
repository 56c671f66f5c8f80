"""Bodies too long for a message: what goes into the store comes back unharmed, or there is an error that says why not."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.mns_server.objects import ObjectServer
from routing.mns.claim_check import BodyMissing, BodyTampered, NoStore, pack, reference, unpack
from routing.mns.credentials import StaticProvider
from routing.mns.errors import BadBody, Refused, TooLarge
from routing.mns.stores import ObjectMissing, ObjectNameBad, StoreUnavailable, open_store

LIMIT = 400
CHINESE = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF))
NAME = "queue/0123abcd"


class Shelf:
    """A store in memory that can be looked into."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """As Store."""
        self.objects[name] = data

    def get(self, name: str) -> bytes:
        """As Store."""
        if name not in self.objects:
            raise ObjectMissing(f"no object {name}")
        return self.objects[name]

    def delete(self, name: str) -> None:
        """As Store."""
        self.objects.pop(name, None)


@given(body=st.text() | CHINESE | st.text(min_size=LIMIT), limit=st.integers(200, 2000))
def test_every_body_comes_back_and_the_message_keeps_to_the_limit(body: str, limit: int) -> None:
    shelf = Shelf()
    packed = pack(body, limit=limit, store=shelf, name=NAME)
    assert len(packed.encode()) <= limit
    assert unpack(packed, shelf) == body
    assert (packed == body) is (len(body.encode()) <= limit) is (not shelf.objects) is (reference(packed) is None)


@pytest.mark.parametrize("letter", ["a", "é", "中", "😀"])
def test_the_limit_is_one_of_bytes_and_a_body_of_just_that_size_fits(letter: str) -> None:
    shelf, size = Shelf(), len(letter.encode())
    fits = letter * (LIMIT // size)
    assert pack(fits, limit=len(fits.encode()), store=shelf, name=NAME) == fits
    assert not shelf.objects
    longer = fits + letter
    assert reference(pack(longer, limit=len(fits.encode()), store=shelf, name=NAME)) == NAME
    assert shelf.objects == {NAME: longer.encode()}


def test_a_reference_is_small_and_names_the_object_its_size_and_its_digest() -> None:
    shelf = Shelf()
    packed = pack("长" * 100_000, limit=LIMIT, store=shelf, name="x" * 200)
    assert len(packed) < LIMIT
    assert json.loads(packed).keys() == {"ref", "sha256", "size"}
    assert json.loads(packed)["size"] == 300_000
    shelf.delete(reference(packed) or "")
    assert not shelf.objects


def test_a_body_that_reads_like_a_reference_comes_back_as_the_body_it_is() -> None:
    shelf = Shelf()
    body = pack("x" * 1000, limit=LIMIT, store=shelf, name="other/object")
    packed = pack(body, limit=LIMIT, store=shelf, name=NAME)
    assert reference(packed) == NAME
    assert unpack(packed, shelf) == body
    with pytest.raises(TooLarge):
        pack(body, limit=LIMIT, store=None, name=NAME)


@pytest.mark.parametrize("altered", [b"y" * 1000, b"x" * 999, b"x" * 1001, b"", b"\xff" * 1000],
                         ids=["other bytes", "shorter", "longer", "nothing", "no text"])
def test_an_object_that_someone_altered_is_refused(altered: bytes) -> None:
    shelf = Shelf()
    packed = pack("x" * 1000, limit=LIMIT, store=shelf, name=NAME)
    shelf.objects[NAME] = altered
    with pytest.raises(BodyTampered, match=f"{NAME} in .* is not the body that was put there: {len(altered)} bytes"):
        unpack(packed, shelf)


def test_a_forged_reference_to_what_is_no_text_is_refused() -> None:
    shelf, data = Shelf(), b"\xff\xfe"
    shelf.put(NAME, data)
    forged = json.dumps({"ref": NAME, "sha256": hashlib.sha256(data).hexdigest(), "size": 2}, separators=(",", ":"))
    with pytest.raises(BodyTampered, match="is no text"):
        unpack(forged, shelf)


def test_an_object_that_is_gone_makes_a_body_that_nobody_can_have() -> None:
    shelf = Shelf()
    packed = pack("x" * 1000, limit=LIMIT, store=shelf, name=NAME)
    shelf.delete(NAME)
    with pytest.raises(BodyMissing, match=f"of 1000 bytes is not to be had: no object {NAME}") as raised:
        unpack(packed, shelf)
    assert isinstance(raised.value, BadBody)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", ".ssh/id", "a//b"])
def test_a_reference_that_leads_out_of_the_store_is_neither_read_nor_deleted(name: str) -> None:
    forged = json.dumps({"ref": name, "sha256": "0" * 64, "size": 3}, separators=(",", ":"))
    shelf = Shelf()
    shelf.objects[name] = b"abc"
    with pytest.raises(BodyMissing, match="no name of an object"):
        unpack(forged, shelf)
    assert reference(forged) is None


def test_without_a_store_a_long_body_is_refused_with_the_figures_and_what_to_set() -> None:
    with pytest.raises(TooLarge, match=r"a body of 401 bytes does not fit: a message takes 400. Set a store"):
        pack("x" * 401, limit=400, store=None, name=NAME)


def test_a_receiver_without_a_store_says_what_to_set_and_the_message_is_not_at_fault() -> None:
    packed = pack("x" * 1000, limit=LIMIT, store=Shelf(), name=NAME)
    with pytest.raises(NoStore, match=f"body of 1000 bytes lies in a store, as {NAME}, and no store is set here") as raised:
        unpack(packed, None)
    assert isinstance(raised.value, Refused)
    assert not isinstance(raised.value, BadBody)


def test_a_limit_that_not_even_a_reference_keeps_to_leaves_nothing_in_the_store() -> None:
    shelf = Shelf()
    with pytest.raises(TooLarge, match="not even the reference"):
        pack("x" * 1000, limit=50, store=shelf, name=NAME)
    with pytest.raises(ObjectNameBad):
        pack("x" * 1000, limit=LIMIT, store=shelf, name="../up")
    assert not shelf.objects


def test_a_store_that_is_away_is_passed_on_as_worth_another_try() -> None:
    class Away(Shelf):
        def put(self, name: str, data: bytes) -> None:
            raise StoreUnavailable(f"away: {name} {len(data)}")

        def get(self, name: str) -> bytes:
            raise StoreUnavailable(f"away: {name}")

    packed = pack("x" * 1000, limit=LIMIT, store=Shelf(), name=NAME)
    with pytest.raises(StoreUnavailable):
        pack("x" * 1000, limit=LIMIT, store=Away(), name=NAME)
    with pytest.raises(StoreUnavailable):
        unpack(packed, Away())


def test_sixty_thousand_chinese_characters_go_by_way_of_oss() -> None:
    body = json.dumps({"prompt": "请解释量子纠缠。" * 7500}, ensure_ascii=False)
    with ObjectServer("127.0.0.1", 0, None, [("id", "secret", "")]) as objects:
        store = open_store(f"oss://bodies/tandem?region=cn-hangzhou&endpoint=http://127.0.0.1:{objects.port}",
                           StaticProvider("id", "secret"))
        packed = pack(body, limit=49152, store=store, name=NAME)
        assert len(packed) < LIMIT
        assert unpack(packed, store) == body
