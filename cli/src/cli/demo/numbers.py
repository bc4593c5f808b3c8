"""Telephone numbers that belong to nobody: ranges that regulators keep for fiction and tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# 555-0100 to 555-0199 of every area code (NANPA), with the zone that most of the area lives in.
AREA_CODES = {
    "America/New_York": (
        "201 202 203 207 212 215 216 220 223 227 229 234 239 240 252 267 272 276 283 301 302 304 305 315 "
        "317 321 326 330 332 336 339 347 351 352 380 386 401 404 407 410 412 413 419 434 440 443 445 448 "
        "463 470 475 478 484 508 513 516 517 518 540 551 561 567 570 571 585 586 603 607 609 610 614 616 "
        "617 631 646 678 680 681 689 703 704 706 716 717 718 724 727 732 734 740 743 754 757 762 765 770 "
        "772 774 781 786 802 803 804 810 813 814 828 838 843 845 848 854 856 857 860 862 863 864 878 904 "
        "908 910 912 914 917 919 929 934 937 941 943 947 948 954 959 973 978 980 984 989"
    ),
    "America/Chicago": (
        "205 210 214 217 218 224 225 228 251 254 256 262 281 309 312 314 316 318 319 320 325 331 334 337 "
        "346 361 402 405 409 414 417 430 432 464 469 479 501 504 507 512 515 531 534 539 557 563 572 573 "
        "580 608 612 615 618 620 629 630 636 641 651 660 662 682 708 712 713 715 726 730 731 737 763 769 "
        "773 779 806 815 816 817 830 832 847 870 872 901 903 913 918 920 931 936 938 940 945 952 956 972 "
        "975 979 985"
    ),
    "America/Denver": "303 307 385 406 435 505 575 719 720 801 970 983",
    "America/Phoenix": "480 520 602 623 928",
    "America/Los_Angeles": (
        "206 209 213 253 279 310 323 341 350 360 408 415 424 425 442 503 509 510 530 559 562 564 619 626 "
        "628 650 657 661 669 702 707 714 725 747 760 775 805 818 820 831 840 858 909 916 925 949 951 971"
    ),
    "Pacific/Honolulu": "808",
    "America/Anchorage": "907",
    "America/Toronto": (
        "226 249 289 343 365 367 416 418 437 438 450 514 519 548 579 581 613 647 705 807 819 873 905"
    ),
    "America/Winnipeg": "204 431",
    "America/Edmonton": "403 587 780 825",
    "America/Vancouver": "236 250 604 672 778",
    "America/Halifax": "782 902",
    "America/Regina": "306 639",
    "America/St_Johns": "709",
}


@dataclass(frozen=True, slots=True)
class Number:
    """An address and where it is."""

    e164: str
    zone: str
    country: str


def north_america() -> Iterator[Number]:
    """Area code after area code, so that a few numbers already come from many zones."""
    areas = [(code, zone) for zone, codes in AREA_CODES.items() for code in codes.split()]
    for line in range(100):
        for code, zone in areas:
            yield Number(f"+1{code}5550{100 + line}", zone, "North America")


def united_kingdom() -> Iterator[Number]:
    """Ofcom: 07700 900000 to 900999."""
    for line in range(1000):
        yield Number(f"+447700900{line:03}", "Europe/London", "United Kingdom")


def germany() -> Iterator[Number]:
    """Bundesnetzagentur: (0)30 23125 000 to 999."""
    for line in range(1000):
        yield Number(f"+493023125{line:03}", "Europe/Berlin", "Germany")


def australia() -> Iterator[Number]:
    """ACMA: 0491 570 006, 156 to 159 and 737."""
    for line in ("006", "156", "157", "158", "159", "737"):
        yield Number(f"+61491570{line}", "Australia/Sydney", "Australia")


def france() -> Iterator[Number]:
    """Arcep: 06 39 98 00 00 to 99."""
    for line in range(100):
        yield Number(f"+336399800{line:02}", "Europe/Paris", "France")


ABROAD = {united_kingdom: 0.06, germany: 0.05, france: 0.01, australia: 0.001}
"""How much of a list each country is, as long as its numbers last; the rest is North America."""

MOST = sum(len(codes.split()) for codes in AREA_CODES.values()) * 100
"""How many different numbers a list can have without running out."""


def numbers(count: int) -> list[Number]:
    """That many different ones, from several countries and zones."""
    found: list[Number] = []
    for country, share in ABROAD.items():
        found += [number for number, _ in zip(country(), range(round(count * share)), strict=False)]
    found += [number for number, _ in zip(north_america(), range(count - len(found)), strict=False)]
    return found
