"""What cannot be meant is refused before anybody is written to, or is thought to be."""

import pytest

from channel_sms.settings import Settings
from servicekit.settings import BadSettings

ACCOUNT = "AC" + "1" * 32
TWILIO = {"PARLEY_SMS_PROVIDER": "twilio"}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (TWILIO, "PARLEY_SMS_PROVIDER_URL='http://127.0.0.1:8110': twilio is at https://"),
        (TWILIO | {"PARLEY_SMS_PROVIDER_URL": "http://carrier:8110"}, "twilio is at https://api.twilio.com"),
        (TWILIO | {"PARLEY_SMS_PROVIDER_URL": "https://api.twilio.com"}, "PARLEY_SMS_ACCOUNT_SID='AC000"),
    ],
)
def test_twilio_is_not_taken_for_what_the_simulation_has(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=told):
        Settings.from_environment()


def test_twilio_with_an_account_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = TWILIO | {
        "PARLEY_SMS_PROVIDER_URL": "https://api.twilio.com",
        "PARLEY_SMS_ACCOUNT_SID": ACCOUNT,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().sms_account_sid == ACCOUNT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARLEY_SMS_FINGERPRINT_KEY", "too-short"),
        ("PARLEY_SMS_FINGERPRINT_KEY", "long enough but with spaces"),
        ("PARLEY_SMS_FINGERPRINT_KEYS_OTHER", "k" * 16 + ",too-short"),
        ("PARLEY_SMS_FINGERPRINT_KEYS_OTHER", "k" * 16 + ","),
    ],
)
def test_a_wrong_key_is_refused_and_not_shown(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=f"^{name}: a key has 16 to 200 characters") as refused:
        Settings.from_environment()
    assert value not in str(refused.value)


def test_keys_are_not_shown_where_settings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_SMS_FINGERPRINT_KEY", "k" * 16)
    monkeypatch.setenv("PARLEY_SMS_FINGERPRINT_KEYS_OTHER", "l" * 16 + "," + "m" * 16)
    settings = Settings.from_environment()
    assert not {"k" * 16, "l" * 16, "m" * 16} & set(repr(settings).replace(",", "'").split("'"))
    of = settings.fingerprints.all_of("+12165550100")
    assert (len(of), settings.fingerprints.of("+12165550100")) == (4, of[0])
