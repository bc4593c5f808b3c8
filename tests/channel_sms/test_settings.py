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
