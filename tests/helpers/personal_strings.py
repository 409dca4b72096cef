"""Sentences with personal data, and sentences that only look so: what the detectors are measured on.

Written before the rules. Every second one of each kind is held out: the rules were adjusted on the others alone.
Telephone numbers are of the ranges that regulators keep for fiction where there are such; bank accounts, cards and
identity numbers are the standards' own examples; keys are drawn when they are asked for, so that none stands here.
"""

from __future__ import annotations

import hashlib
import string

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def drawn(length: int, alphabet: str = BASE62, salt: str = "") -> str:
    """Characters that look random, and are the same each time."""
    digits = "".join(hashlib.sha256(f"{salt}{i}".encode()).hexdigest() for i in range(length // 16 + 2))
    return "".join(alphabet[int(digits[3 * i : 3 * i + 3], 16) % len(alphabet)] for i in range(length))


def _jwt() -> str:
    return f"eyJhbGciOiJIUzI1NiJ9.eyJ{drawn(40)}.{drawn(43)}"


HELD: dict[str, list[tuple[str, str]]] = {
    "email": [
        ("write to {} about it", "jo.smith@example.com"),
        ("Mail:{}.", "a@example.org"),
        ("<{}> wrote:", "first.last+list@mail.example.co.uk"),
        ("mailto:{}?subject=Hi", "support-team@sub.example.net"),
        ("Contact ({}) before noon", "O'Brien@example.ie"),
        ("my address is {}, thanks", "user_name99@example.museum"),
        ("cc {}; bcc nobody", "x.y.z@example.travel"),
        ("From: Ann Lee <{}>", "ann_lee@uni.example.edu"),
        ("{} is mine", "7even@example.io"),
        ("'{}'", "UPPER.CASE@EXAMPLE.COM"),
        ("reach me at {}!", "me@my-company.example"),
        ("see {}\nor call", "josé@example.com"),
        ("\u4f60\u597d{}\u8c22\u8c22", "wei@example.cn"),
        ("login={}&x=1", "user@example.com"),
        ("email '{}' not found", "b.c-d@x.example.com"),
        ("({})", "no.reply@example.com"),
        ("ask jo at {}", "jo@xn--bcher-kva.example"),
        ("{},other", "q%w@example.com"),
        ("**{}**", "star@example.com"),
        ("she uses {} now", "jo (at) example (dot) com"),
        ("write: {}", "jo[at]example.com"),
        ("or {} instead", "jo AT example DOT org"),
        ("[{}](mailto:x)", "link@example.com"),
        ("to: {}", "müller@example.de"),
    ],
    "phone": [
        ("call {} now", "+1 202-555-0147"),
        ("Tel. {}", "(202) 555-0123"),
        ("my number is {}.", "202-555-0188"),
        ("text {}, please", "202.555.0199"),
        ("phone: {}", "+44 20 7946 0958"),
        ("ring me on {}", "020 7946 0123"),
        ("mobile {}", "07700 900123"),
        ("Mobil: {}", "+49 152 28817386"),
        ("Tel.: {}", "030/23125014"),
        ("Telefon {}", "+49 (0)30 23125-087"),
        ("appelle le {}", "+33 6 39 98 12 34"),
        ("au {} ce soir", "06 39 98 56 78"),
        ("tél. {}", "01.99.00.12.34"),
        ("call {} in Sydney", "+61 491 570 156"),
        ("call {} after six", "0491 570 006"),
        ("nummer {}", "+46 70 174 06 05"),
        ("ring {}", "070-174 06 07"),
        ("WhatsApp {}", "+353 20 915 0123"),
        ("({})", "+1-202-555-0110"),
        ("fax {}", "+12025550165"),
        ("tel:{}", "+442079460999"),
        ("call me: {}", "1-800-555-0199"),
        ("{} is my office", "(02) 5550 1234"),
        ("whatsapp me at {}", "+91 98765 43210"),
        ("my cell: {}", "2025550143"),
        ("number {}", "+39 06 5550 1234"),
    ],
    "iban": [
        ("IBAN {}", "GB82 WEST 1234 5698 7654 32"),
        ("pay to {}", "DE89370400440532013000"),
        ("to {} by Friday", "FR14 2004 1010 0505 0001 3M02 606"),
        ("account {}.", "CH93 0076 2011 6238 5295 7"),
        ("({})", "NL91ABNA0417164300"),
        ("IBAN:{}", "ES9121000418450200051332"),
        ("iban {}", "IT60 X054 2811 1010 0000 0123 456"),
        ("his is {}, ok?", "BE68 5390 0754 7034"),
        ("{}", "AT61 1904 3002 3457 3201"),
        ("konto {}", "SE45 5000 0000 0583 9825 7466"),
        ("til {}", "NO93 8601 1117 947"),
        ("DK: {}", "DK5000400440116243"),
        ("tili {}", "FI21 1234 5600 0007 85"),
        ("konto: {}", "PL61 1090 1014 0000 0712 1981 2874"),
        ("para {}", "PT50 0002 0123 1234 5678 9015 4"),
        ("send it to {}", "IE29 AIBK 9311 5212 3456 78"),
        ("LU {}", "LU28 0019 4006 4475 0000"),
        ("'{}'", "CZ65 0800 0000 1920 0014 5399"),
        ("lower case: {}", "de89 3704 0044 0532 0130 00"),
        ("dashes: {}", "DE89-3704-0044-0532-0130-00"),
    ],
    "card": [
        ("card {}", "4111 1111 1111 1111"),
        ("my Visa is {}", "4111111111111111"),
        ("MC {} exp 12/29", "5555-5555-5555-4444"),
        ("amex {}", "3782 822463 10005"),
        ("amex {} cvc 123", "378282246310005"),
        ("{} is the card", "6011 1111 1111 1117"),
        ("JCB {}", "3530111333300000"),
        ("charge {} twice", "4012-8888-8888-1881"),
        ("old visa {}", "4222222222222"),
        ("Diners {}", "3056 930902 5904"),
        ("new MC {}", "2223 0031 2200 3222"),
        ("card no. {}, thanks", "5105105105105100"),
        ("({})", "371449635398431"),
        ("card={}&", "6011000990139424"),
        ("pay with {}", "4000 0566 5566 5556"),
        ("debit {}", "5200828282828210"),
        ("union {}", "6200 0000 0000 0005"),
        ("number: {}.", "38520000023237"),
        ("dots {}", "4111.1111.1111.1111"),
        ("Maestro {}", "6759 6498 2643 8453"),
    ],
    "ip_address": [
        ("my IP is {}", "93.184.216.34"),
        ("{} - - [10/Oct/2000:13:55:36 -0700]", "151.101.1.140"),
        ("ping {} fails", "8.8.4.4"),
        ("from {}:", "140.82.121.4"),
        ("Received: from mail ([{}])", "208.67.222.222"),
        ("connect to {}:8080", "185.199.108.153"),
        ("http://{}/x", "172.217.16.142"),
        ("ip={}", "104.16.132.229"),
        ("blocked {}.", "9.9.9.9"),
        ("({})", "198.41.0.4"),
        ("addr {}", "2606:4700:4700::1111"),
        ("v6 {} up", "2001:4860:4860::8888"),
        ("[{}]:443", "2620:fe::fe"),
        ("from {},", "2a00:1450:4001:081b:0000:0000:0000:200e"),
        ("host {} down", "2a03:2880:f12f:83:face:b00c:0:25de"),
        ("peer={}", "::ffff:93.184.216.34"),
        ("route {}/24", "193.0.6.139"),
        ("A {} AAAA", "199.232.34.132"),
        ("was {} yesterday", "2001:67c:2e8:22::c100:68b"),
        ("login from {}\n", "212.58.244.70"),
    ],
    "api_key": [
        ("OPENAI_API_KEY={}", f"sk-{drawn(48, salt='a')}"),
        ("key {}", f"sk-proj-{drawn(60, salt='b')}"),
        ("token: {}", f"ghp_{drawn(36, salt='c')}"),
        ("git clone https://{}@github.com/a/b", f"github_pat_{drawn(22, salt='d')}_{drawn(59, salt='d2')}"),
        ("aws {}", f"AKIA{drawn(16, string.ascii_uppercase + '234567', 'e')}"),
        (
            "slack {}",
            f"xoxb-{drawn(12, string.digits, 'f')}-{drawn(12, string.digits, 'f2')}-{drawn(24, salt='f3')}",
        ),
        ("maps key={}&v=3", f"AIza{drawn(35, BASE62 + '_-', 'g')}"),
        ("stripe {}", f"sk_live_{drawn(24, salt='h')}"),
        ("HF_TOKEN={}", f"hf_{drawn(34, string.ascii_letters, 'i')}"),
        ("gitlab {}", f"glpat-{drawn(20, BASE62, 'j')}"),
        ("//registry.npmjs.org/:_authToken={}", f"npm_{drawn(36, salt='k')}"),
        ("mail {}", f"SG.{drawn(22, salt='l')}.{drawn(43, salt='l2')}"),
        ("Authorization: Bearer {}", _jwt()),
        ("anthropic {}", f"sk-ant-api03-{drawn(93, BASE62 + '_-', 'm')}"),
        ("upload with {}", f"pypi-AgEIcHlwaS5vcmc{drawn(120, BASE62 + '_-', 'n')}"),
        ("api_key = '{}'", drawn(40, salt="o")),
        ("secret: {}", drawn(32, salt="p")),
        ('"password": "{}"', drawn(24, BASE62 + "!%_-", "q")),
        ("access_token={}", drawn(64, "0123456789abcdef", "r")),
        ("bot {}", f"{drawn(9, '123456789', 's')}:AA{drawn(33, BASE62 + '_-', 's2')}"),
        ("do {}", f"dop_v1_{drawn(64, '0123456789abcdef', 't')}"),
        ("aws_secret_access_key = {}", drawn(40, BASE62 + "/+", "u")),
        ("x-api-key: {}", drawn(36, salt="v")),
        ("restricted {}", f"rk_live_{drawn(24, salt='w')}"),
    ],
    "national_id": [
        ("SSN {}", "078-05-1120"),
        ("my social is {}", "219-09-9999"),
        ("ssn: {}.", "123-45-6789"),
        ("({})", "111-22-3333"),
        ("social security number {}", "222-33-4444"),
        ("SSN={}", "333-22-4444"),
        ("SSN {}", "444 55 6666"),
        ("her ssn, {}", "555-12-3456"),
        ("CPF {}", "111.444.777-35"),
        ("cpf: {}", "529.982.247-25"),
        ("meu CPF é {}", "390.533.447-05"),
        ("DNI {}", "12345678Z"),
        ("dni: {}", "00000001R"),
        ("con DNI {}", "12345678-Z"),
        ("NIR {}", "2 55 08 14 168 025 38"),
        ("sécu {}", "1 84 12 76 451 089 46"),
        ("SSN {}", "123456789"),
        ("CPF {}", "11144477735"),
    ],
}
"""By type: a sentence, and the personal data in it."""

NOT_HELD: dict[str, list[str]] = {
    "version": [
        "Upgrade to version 1.2.3.4 first.", "Windows 10.0.19041.1 is old.", "Chrome/96.0.4664.110 Safari/537.36",
        "v2.14.0.1 fixes it", "pip install torch==2.9.1", "build 7.1.3.2 of the tool", "firmware 3.4.5.6 released",
        "jdk-11.0.2.9 and node 18.17.1", "see section 4.1.2.3 of the standard", "Release 12.1.0.2 (Oracle)",
        "libc 2.31-13+deb11u5", "schema 2024.10.01.2", "from 1.0.0.0 to 2.0.0.0 in the changelog", "CUDA 12.4.1",
        "chapter 1.1.1.1 says so", "kernel 5.15.0-91-generic",
    ],
    "isbn and article": [
        "ISBN 978-3-16-148410-0", "ISBN-10: 0-306-40615-2", "978-0-13-468599-1 is the book", "ISBN 0306406152",
        "ISSN 2049-3630", "doi:10.1000/182", "https://doi.org/10.1038/s41586-020-2649-2", "arXiv:1707.06347v2",
        "EAN 4006381333931", "UPC 0 36000 29145 2", "PMID 31452104", "ISBN 978 1 56619 909 4",
    ],
    "address of documentation or of no host": [
        "ping 127.0.0.1", "listen on 0.0.0.0:8765", "such as 192.0.2.1", "198.51.100.23 in the example",
        "203.0.113.7 is for documentation", "router at 192.168.1.1", "10.0.0.1/8", "172.16.4.2 inside",
        "netmask 255.255.255.0", "http://[::1]:8000", "2001:db8::1 in the manual", "fe80::1%eth0",
        "169.254.169.254", "224.0.0.1 multicast", "::", "fd00::42",
    ],
    "time and date": [
        "2026-11-28 10:15:00", "2026-11-28T10:15:00.123456+00:00", "at 12:30:45", "28.11.2026 at 10.15",
        "from 09:00 to 17:30", "Fri, 21 Nov 1997 09:55:06 -0600", "11/28/2026", "20261128101500", "1732788900",
        "1732788900123 ms", "1999-2026", "on 01.02.2003 and 04.05.2006", "12-31-1999", "10:15:30.250",
        "the 1990s, 2000s and 2010s", "2024-W48-5", "days 1-2-3, weeks 10-11-12", "score 3:2, sets 6:4 6:3 7:5",
    ],
    "order and tracking number": [
        "order 112-3456789-1234567", "Order #4521-9987", "invoice 2024-000123", "tracking 1Z999AA10123456784",
        "RMA 123-456", "ticket 20240312-00087", "case no. 12-345-678", "part no. 555-1234-A", "SKU 4110-2222-90",
        "parcel 00340434161094015902", "booking ABC123", "PO 4500012345", "serial 8374-2231-9982-1123",
        "customer 100200300", "item 1234-5678-9012-3456", "ref 978123456",
    ],
    "amount and measure": [
        "1,234,567.89 dollars", "1.234.567,89 EUR", "1 000 000 people", "about 12 345 678 rows", "$4,111.11",
        "3.141592653589793", "2.718281828459045235", "1e-10 to 1e10", "10^12 or 1000000000000", "0.000123456789",
        "299 792 458 m/s", "6.02214076e23", "population 331 449 281", "1 234 567 890 123", "50 000-60 000 a year",
        "EUR 12 500,00", "grew from 202 to 555 to 1999", "1080x1920, 2560x1440",
    ],
    "hash and id": [
        "commit a984a24f3c1e9b7d5a6f8e0c2b4d6a8c0e1f3a5b", "md5 d41d8cd98f00b204e9800998ecf8427e",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "550e8400-e29b-41d4-a716-446655440000", "p_0123456789 answered", "git show 3f5c9e1",
        "#ff8800 and #00ff88cc",
        "00:1A:2B:3C:4D:5E", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUA", "0x7ffe5367e044", "key = value",
        "ETag \"5d8c72a5edda8\"", "sk-learn is not a key", "hf_hub_download(repo_id)", "password: ********",
        "api_key = os.environ['API_KEY']", "secret: correcthorsebatterystaple", "token: your_token_here",
        "id 507f1f77bcf86cd799439011", "session 12345678-1234-1234-1234-123456789012",
    ],
    "at sign that is no address": [
        "@username on the site", "demo-policy@v000003", "@property above the def", "3 apples @ 2 dollars",
        "user@localhost", "git@github.com:org/name.git", "pkg@1.2.3", "x = a @ b.T", "meet me at example dot",
        "a@b", "ssh root@server", "look at that dot com boom", "org/name@main", "@media (max-width: 600px)",
    ],
    "digits in prose": [
        "call it 50-50", "dial 911 or 112", "area 51", "in 1984-1985", "pages 123-456", "07 was a good year",
        "room 020 is free", "between 100 and 2000", "ratio 16:9:4", "123 456 789", "the 555 timer IC",
        "numbers 1 2 3 4 5 6 7 8 9 10", "A4 is 210 x 297", "bus 202, 555 and 147", "+1 for this idea",
        "0800 hours",
        "1-2-3-4-5", "chess 1. e4 e5 2. Nf3", "2, 3, 5, 7, 11, 13, 17", "US GAAP 606-10-25",
        "level 12345678 reached", "01 02 03 04 05 06", "111 222 333 444", "zip 94107-1234",
    ],
}  # fmt: skip
"""By kind: sentences without personal data."""


def sentences(held_out: bool) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """(type, sentence, the personal data in it) and (kind, sentence without any): every second one of each."""
    held = [
        (kind, sentence.replace("{}", data), data)
        for kind, pairs in HELD.items()
        for sentence, data in pairs[held_out::2]
    ]
    return held, [(kind, sentence) for kind, all_of in NOT_HELD.items() for sentence in all_of[held_out::2]]
