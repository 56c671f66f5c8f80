"""A webhook's URL leads to the public network, or is refused before anything is written."""

from dataclasses import replace

import pytest

from app.errors import InvalidInput
from app.settings import Settings
from app.webhooks import check_url

PRIVATE = [
    "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://0/",
    "http://127.0.0.1./", "http://10.1.2.3/", "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/",
    "http://169.254.169.254/latest", "http://0.0.0.0/", "http://224.0.0.1/", "http://255.255.255.255/", "http://[::1]/",
    "http://[::]/", "http://[::ffff:10.0.0.1]/", "http://[::7f00:1]/", "http://[fe80::1]/", "http://[fc00::1]/",
    "http://[fec0::1]/", "http://[ff02::1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://localhost/",
    "http://LOCALHOST:8000/", "http://hooks.localhost/", "http://localhost./", "http://ip6-loopback/"]

GOOD = ["https://example.com", "https://example.com/a%20b?c=d&e=[f]", "http://example.com:8080/x", "https://8.8.8.8/x",
        "https://[2606:4700::1111]:8443/x", "https://xn--bcher-kva.example/x", "https://under_score.example./",
        "HTTPS://EXAMPLE.COM/", "https://[2002:808:808::]/", "https://[::ffff:8.8.8.8]/", "https://notlocalhost/"]

BAD = ["example.com", "ftp://example.com/", "file:///etc/passwd", "//example.com/", "https://", "https:///path",
       "https://user@example.com/", "https://user:secret@example.com/", "https://example.com/#part", "https://example.com:0/",
       "https://example.com:99999/", "https://example.com:x/", "https://exa mple.com/", "https://example.com/\n",
       "https://example.com\\@10.0.0.1/", "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/", "https://[::1/",
       "https://a..b/", "https://-a.example/", "https://[fe80::1%25eth0]/", f"https://example.com/{'x' * 2048}", ""]


@pytest.mark.parametrize("url", GOOD)
def test_a_url_of_the_public_network_is_taken(url: str) -> None:
    check_url(url, Settings())


@pytest.mark.parametrize("url", PRIVATE)
def test_a_url_that_leads_inside_is_refused_unless_the_setting_allows_it(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_url(url, Settings())
    assert refusal.value.pointer == "/webhook_url"

    check_url(url, replace(Settings(), webhook_private=True))


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_url_of_a_webhook_is_refused_whatever_the_setting(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_url(url, replace(Settings(), webhook_private=True))
    assert refusal.value.pointer == "/webhook_url"
    assert "secret" not in str(refusal.value)
