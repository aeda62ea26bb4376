"""The dates that microscope programs write into mdoc files, in the forms and languages seen."""

import re
import unicodedata
from datetime import datetime

# the first three or four letters of a month, without accents, in the languages of Windows at microscopes
_MONTHS = (
    "jan gen ene sty led",
    "feb fev lut uno fevr",
    "mar mrz mrt maer bre",
    "apr abr avr kwi dub",
    "may mai maj mei mag kve",
    "jun giu juin cze cvn",
    "jul lug juil lip cvc",
    "aug ago aou sie srp",
    "sep set wrz zar",
    "oct okt ott out paz rij",
    "nov lis",
    "dec dez dic des gru pro",
)
_MONTH_OF = {word: number for number, words in enumerate(_MONTHS, start=1) for word in words.split()}
_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d+))?\s*(?i:([ap])\.?m\.?)?")
_PARTS = re.compile(r"\d+|[^\W\d_]+")


def parse_date(text: str, *, year_first: bool = False) -> datetime | None:
    """Read a date and time of the microscope's computer (no zone), or None when it is in no known form.

    Known: 30-Nov-15 and 11-Aug-2023, with the month in eleven languages, 2023-05-01 and 2023-May-01,
    ISO 8601, 01.05.2023, 01/05/2023 (day first, but month first where AM or PM follows, as in the United
    States), and 2023年5月1日; then the time. Two digits of a year are from 1970 to 2069. ``year_first``:
    30-Nov-15 is a day in 2030, as in older files of Tomography 5.
    """
    time = _TIME.search(text)
    if not time:
        return None
    day = _day(text[: time.start()], month_first=time[5] is not None, year_first=year_first)
    if day is None:
        return None
    hour = int(time[1])
    if time[5]:
        hour = hour % 12 + (12 if time[5].lower() == "p" else 0)
    microsecond = int((time[4] or "0").ljust(6, "0")[:6])
    try:
        return datetime(*day, hour, int(time[2]), int(time[3]), microsecond)
    except ValueError:
        return None


def _day(text: str, *, month_first: bool, year_first: bool) -> tuple[int, int, int] | None:
    numbers = [part for part in _PARTS.findall(text) if part.isdecimal()]
    month = next((found for part in _PARTS.findall(text) if (found := _month(part))), None)
    if month is not None and len(numbers) == 2:
        digits = [len(number) for number in numbers]
        leads = digits[0] == 4 or (year_first and max(digits) == 2)
        year, day = numbers if leads else reversed(numbers)
        return _year(year), month, int(day)
    if month is not None or len(numbers) != 3:
        return None
    if len(numbers[0]) == 4:
        return int(numbers[0]), int(numbers[1]), int(numbers[2])
    first, second = int(numbers[0]), int(numbers[1])
    if (month_first and first <= 12) or second > 12:
        first, second = second, first
    return _year(numbers[2]), second, first


def _month(word: str) -> int | None:
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", word.lower()) if not unicodedata.combining(letter)
    )
    return _MONTH_OF.get(plain[:4]) or _MONTH_OF.get(plain[:3])


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) > 2:
        return year
    return year + (2000 if year < 70 else 1900)
